"""``mllam-exps smoke``: the whole pipeline on one batch and one epoch, before a long job.

Dataset and graph are made as for the experiment itself, under its own run keys: what
they cost is not spent twice. Training and evaluation are shortened, under keys of their
own. Nothing is published; DVC and the workspace see nothing.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from mllam_exps import stages
from mllam_exps.attempts.driver import Driver
from mllam_exps.attempts.progress_line import duration
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import Workspace
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
    machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
    checks.check_environment(machine, workspace.origin)
    checks.check_parameters(workspace, machine)
    # The lock may describe another state of the files: every input is what its stage
    # makes of them as they are now.
    pipeline, store = open_pipeline(workspace, machine, as_it_lies=False, smoke=True)
    driver = Driver(workspace, machine, pipeline, store, publish=False)
    programs = stages.all_names()
    for stage in (s for s in pipeline.in_order() if s.split("@")[0] in programs):
        since = time.monotonic()
        if stage == "prepare_dataset":
            checks.check_sources(workspace, machine, pipeline.definition(stage).inputs)
        driver.drive(stage)
        print(f"{stage}: fine, {duration(time.monotonic() - since)}", file=sys.stderr)
    print(
        f"every stage works on {machine.name}; {duration(time.monotonic() - begun)}, nothing in the workspace changed"
    )
