"""What a stage asks of its machine's scheduler: the job of an attempt, or one that is only looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mllam_exps import schedulers
from mllam_exps.dvc.cache_place import cache_directory
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.machines import environment
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs import layout
from mllam_exps.schedulers import Job, JobRequest, Objection
from mllam_exps.stages.contract import Size

ONE_TASK = Size()


def request(
    workspace: Workspace,
    machine: Machine,
    stage: str,
    *,
    name: str,
    run: Path,
    number: int,
    comment: str,
    size: Size = ONE_TASK,
    memory: str | None = None,
    warned: bool = False,
    after: tuple[Job, ...] = (),
    environ: Mapping[str, str] = os.environ,
) -> JobRequest:
    """Return the request for attempt `number` at the run whose directory is `run`, which starts when `after` is done.

    The saving of an experiment starts however they have ended, and needs next to
    nothing. `memory` stands in the place of what the machine file says; `warned` tells
    whether it is of use to know of the time limit before.
    """
    resources = machine.resources_for(stage)
    if memory:
        resources = resources.model_copy(update={"memory": memory})
    python = str(environment.python(machine))
    command = [python, "-P", "-m", "mllam_exps.attempt", str(run), str(number)]
    directory = run / layout.ATTEMPTS / str(number)
    return JobRequest(
        name=name,
        argv=environment.wrap(machine, workspace.origin, command),
        command=command,
        prologue=environment.prologue(machine, workspace.origin),
        directory=directory,
        log=directory / layout.LOG,
        script=directory / layout.SCRIPT,
        environment=schedulers.child_environment(environ),
        resources=resources,
        warning=resources.warning_seconds if warned else None,
        nodes=size.nodes,
        tasks=size.devices,
        comment=comment,
        after=after,
        after_success=stage != SAVE,
    )


def example(
    workspace: Workspace, machine: Machine, stage: str, size: Size
) -> JobRequest:
    """Return a request as it would be made for a stage, for a run that does not exist."""
    store = workspace.store_directory(machine, cache_directory(workspace.origin))
    return request(
        workspace,
        machine,
        stage,
        name=f"{workspace.experiment}/{stage}-00000000",
        run=store / layout.RUNS / f"{stage}-{'0' * 32}",
        number=1,
        size=size,
        comment=f"as {stage} would be submitted; the zeros stand for what is known when it is",
    )


def objections(
    workspace: Workspace, machine: Machine, sizes: Mapping[str, Size]
) -> Iterator[tuple[str, Objection]]:
    """Ask the scheduler what it has against the jobs of stages, each kind once; yield stage and objection.

    Raises
    ------
    Uncertain
        If the scheduler does not answer.
    """
    scheduler = schedulers.get(machine.scheduler, workspace.origin)
    asked: list[tuple[object, int, int]] = []
    for stage, size in sizes.items():
        job = example(workspace, machine, stage, size)
        kind = (job.resources, job.nodes, job.tasks)
        if kind not in asked:
            asked.append(kind)
            if why := scheduler.objection(job):
                yield stage, why
