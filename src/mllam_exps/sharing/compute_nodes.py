"""Starts one small job, and compares what it sees with what this host sees: paths, clock, environment, GPUs."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mllam_exps import schedulers
from mllam_exps.attempts import job_request
from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.terminal import warn
from mllam_exps.machines import environment
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.runs.store import RunStore
from mllam_exps.schedulers import Job, JobRequest, Scheduler, Uncertain
from mllam_exps.sharing import seen
from mllam_exps.sharing.health import Sign, State
from mllam_exps.stages.contract import Size

PATIENCE = 300.0
"""Seconds for which the job is waited for."""
TIME_LIMIT = "0:05:00"
LOOK_AGAIN = 0.5
ANOTHER_TIME = 60.0
"""Seconds by which two clocks may differ: files are younger than they seem, and people are misled by logs."""
TOPIC = "compute node"


def signs(
    workspace: Workspace, machine: Machine, cache: Path, patience: float = PATIENCE
) -> Iterator[Sign]:
    """Start the job, wait for it, and say what it saw."""
    store = RunStore(workspace.store_directory(machine, cache))
    records.folder(store.directory)
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=store.directory))
    try:
        yield from _signs(workspace, machine, cache, folder, patience)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _signs(
    workspace: Workspace, machine: Machine, cache: Path, folder: Path, patience: float
) -> Iterator[Sign]:
    stage, gpus = _largest(workspace, machine)
    paths = _paths(workspace, machine, cache, folder)
    records.replace(
        folder / f"{seen.QUESTION}.json", {"paths": paths, "gpus": bool(gpus)}
    )
    here = _seen_here(machine, folder)
    request = _request(workspace, machine, stage, folder)
    scheduler = schedulers.get(machine.scheduler, workspace.origin)
    try:
        job = scheduler.submit(request)
    except Uncertain as doubt:
        yield Sign(TOPIC, State.NOTE, f"{machine.scheduler} did not answer: {doubt}")
        return
    except MllamError as error:
        yield Sign(TOPIC, State.WRONG, error.problem.sentence, error.problem.next)
        return
    why = _wait(scheduler, job, folder, patience)
    there = records.read(folder / "there.json", shape=seen.SEEN)
    if there is None:
        state = State.NOTE if why.startswith("still") else State.WRONG
        yield Sign(TOPIC, state, f"{job.label}: {why}")
        return
    yield from judged(here, there, gpus)


def _largest(workspace: Workspace, machine: Machine) -> tuple[str, str]:
    """Return the stage whose job is looked at, one with GPUs if there is one, and which GPUs it asks for."""
    found = [(name, _gpus(machine, name)) for name in checks.sizes_of(workspace)]
    return next((one for one in found if one[1]), (found or [("save", "")])[0])


def _gpus(machine: Machine, stage: str) -> str:
    resources = machine.resources_for(stage)
    gres = resources.gres if resources.gres and "gpu" in resources.gres else ""
    asked = resources.gpus or gres or ""
    return asked if str(asked) != "0" else ""


def _paths(
    workspace: Workspace, machine: Machine, cache: Path, folder: Path
) -> list[str]:
    """Return what a job needs to see; a folder that it writes to ends in ``/``."""
    paths = [
        f"{cache}/",
        f"{folder.parent}/",
        str(workspace.origin),
        str(environment.python(machine)),
    ]
    data = machine.paths.cartopy_data
    return [*paths, str(data)] if data else paths


def _seen_here(machine: Machine, folder: Path) -> Mapping[str, Any] | None:
    """Return what this host sees, with the Python that jobs use; None where that does not start."""
    command = [str(environment.python(machine)), "-P", "-m", seen.__name__]
    with suppress(OSError):
        subprocess.run(
            [*command, str(folder), "here"], capture_output=True, check=False
        )
    return records.read(folder / "here.json", shape=seen.SEEN)


def _request(
    workspace: Workspace, machine: Machine, stage: str, folder: Path
) -> JobRequest:
    """Return a job like a stage's, on one node, for some minutes."""
    like = job_request.example(workspace, machine, stage, Size())
    python = str(environment.python(machine))
    command = [python, "-P", "-m", seen.__name__, str(folder), "there"]
    resources = like.resources
    short = resources.model_copy(update={"time": TIME_LIMIT})
    if (resources.time_seconds or math.inf) > (short.time_seconds or 0):
        resources = short
    return dataclasses.replace(
        like,
        name=f"{workspace.experiment}/{folder.name.lstrip('.')}",
        command=command,
        argv=environment.wrap(machine, workspace.origin, command),
        directory=folder,
        log=folder / "log.txt",
        script=folder / "job.sh",
        resources=resources,
        warning=None,
        comment="mllam-exps doctor --deep",
    )


def _wait(scheduler: Scheduler, job: Job, folder: Path, patience: float) -> str:
    """Wait until a job has ended, or for long enough, and cancel it then; say why it told nothing, if it did not."""
    warn(f"note: waiting for {job.label}, for {patience:.0f} s at most")
    until = time.monotonic() + patience
    state = scheduler.state(job)
    try:
        while time.monotonic() < until:
            if (folder / "there.json").exists():
                return ""
            if state.phase.ended:
                time.sleep(scheduler.settles)
                records.look_afresh(folder)
                state = scheduler.verdict(job)
                why = f"{state.reason}; " if state.reason else ""
                return f"it ended without a look: {why}{_last_line(folder)}"
            time.sleep(LOOK_AGAIN)
            records.look_afresh(folder)
            state = scheduler.state(job)
        why = f": {state.reason}" if state.reason else ""
        return f"still {state.phase.name.lower()} after {patience:.0f} s{why}"
    finally:
        if not state.phase.ended:
            with suppress(MllamError, Uncertain):
                scheduler.cancel(job)


def _last_line(folder: Path) -> str:
    with suppress(OSError):
        lines = records.read_own_bytes(folder / "log.txt").decode(errors="replace")
        if told := lines.strip().splitlines():
            return f"its log ends with: {told[-1]}"
    return "its log is empty"


def judged(
    here: Mapping[str, Any] | None, there: Mapping[str, Any], gpus: str
) -> Iterator[Sign]:
    """Compare what a job saw with what this host sees.

    Parameters
    ----------
    gpus : str
        What its stage asks for; empty for none.
    """
    node = there["host"]
    yield Sign(TOPIC, State.FINE, f"{node} runs jobs, with {there['cpus']} CPUs")
    for why, paths in (("is not there", "missing"), ("cannot be written to", "closed")):
        for path in there[paths]:
            way_out = "mllam-exps machine show: paths that all hosts see"
            yield Sign("paths", State.WRONG, f"{path} {why} on {node}", way_out)
    if not (there["missing"] or there["closed"]):
        what = f"{node} sees cache, run store, repository and programs"
        yield Sign("paths", State.FINE, what)
    yield _clock(there)
    if here is not None:
        yield _programs(here, there)
    if gpus:
        yield _devices(there, gpus)


def _clock(there: Mapping[str, Any]) -> Sign:
    ahead = there["ahead"]
    if abs(ahead) > ANOTHER_TIME:
        side = "ahead of" if ahead > 0 else "behind"
        what = f"{there['host']} is {abs(ahead):.0f} s {side} the file system: times in logs mislead"
        return Sign("clock", State.NOTE, what, "tell the site: chronyc tracking")
    return Sign("clock", State.FINE, f"{there['host']} and the file system agree")


def _programs(here: Mapping[str, Any], there: Mapping[str, Any]) -> Sign:
    node = there["host"]
    for what in ("python", "packages"):
        if here[what] != there[what]:
            told = f"{what} on {node} are not those that are here: {there[what]}, {here[what]}"
            way_out = "a venv that all hosts see (venv in the machine file)"
            return Sign("programs", State.WRONG, told, way_out)
    told = f"{node} has the same packages, Python {there['python']}"
    return Sign("programs", State.FINE, told)


def _devices(there: Mapping[str, Any], gpus: str) -> Sign:
    node, found = there["host"], there["gpus"]
    if found:
        return Sign("GPUs", State.FINE, f"PyTorch sees {found} on {node}, for {gpus}")
    what = f"PyTorch sees none on {node}, although {gpus} was asked for"
    way_out = "a build of torch with CUDA, or its driver: nvidia-smi in a job"
    return Sign("GPUs", State.WRONG, what, way_out)
