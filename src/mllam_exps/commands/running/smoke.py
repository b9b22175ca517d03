"""``mllam-exps smoke``: the whole pipeline on one batch and one epoch, before a long job.

What a stage does not shorten, Neural-LAM's dataset and graph, is made as for the
experiment itself, under its own run key: what it costs is not spent twice. What is
shortened, training and evaluation, has keys of its own. A command of one's own is not
run: nothing says how it could be shortened. Nothing is published; DVC and the workspace
see nothing.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from mllam_exps import stages
from mllam_exps.attempts.driver import Driver
from mllam_exps.attempts.progress_line import duration
from mllam_exps.base.errors import UsageError
from mllam_exps.base.terminal import warn
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import Workspace, refuse_other_stages
from mllam_exps.preflight import checks
from mllam_exps.preflight.opened import open_pipeline


def smoke() -> None:
    """Run every stage that has a program, in order, and say how long each took.

    Raises
    ------
    MllamError
        Of the first stage that failed.
    """
    begun = time.monotonic()
    workspace = Workspace.here()
    refuse_other_stages(workspace.root)
    machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
    checks.check_environment(machine, workspace.origin)
    checks.check_parameters(workspace, machine)
    # The lock may describe another state of the files: every input is what its stage
    # makes of them as they are now.
    pipeline, store = open_pipeline(workspace, machine, as_it_lies=False, smoke=True)
    driver = Driver(workspace, machine, pipeline, store, publish=False)
    ours, others = _in_order(pipeline)
    for stage in ours:
        since = time.monotonic()
        definition = pipeline.definition(stage)
        program = stages.of(definition)
        checks.check_sources(workspace, machine, program, definition.inputs)
        driver.drive(stage)
        print(f"{stage}: fine, {duration(time.monotonic() - since)}", file=sys.stderr)
    what = f"every stage but {', '.join(others)}" if others else "every stage"
    took = duration(time.monotonic() - begun)
    print(f"{what} works on {machine.name}; {took}, nothing in the workspace changed")


def _in_order(pipeline: Pipeline) -> tuple[list[str], list[str]]:
    """Return the stages that a program of ours runs, and the others, which are named.

    Raises
    ------
    UsageError
        If all are others.
    """
    ours: list[str] = []
    others: list[str] = []
    for stage in pipeline.in_order():
        found = pipeline.stage(stage)
        if found.is_bookkeeping:
            continue
        if found.is_ours and stages.has_program(stage):
            ours.append(stage)
        else:
            others.append(stage)
    if not ours:
        raise UsageError(
            "there is no stage that a smoke run could shorten",
            "dvc.yaml",
            "each has a command of its own",
            "mllam-exps submit runs them in full",
        )
    if others:
        warn(
            f"note: a smoke run leaves out what has a command of its own: {', '.join(others)}"
        )
    return ours, others
