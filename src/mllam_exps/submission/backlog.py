"""Submits what waits in the store: experiments that did not fit when they were submitted, or whose submitter died.

Nobody waits for it. On Slurm the last job of each experiment calls it when it ends, and
so does each command of the user's. On a scheduler whose jobs cannot wait for one
another, one process on the host does, as long as there is work.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps import schedulers
from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.terminal import warn
from mllam_exps.machines import carried
from mllam_exps.machines.machine_files import Machine
from mllam_exps.runs.assess import assess
from mllam_exps.runs.locks import lock
from mllam_exps.runs.store import RunStore
from mllam_exps.schedulers.local import NAME_VARIABLE
from mllam_exps.submission import experiments
from mllam_exps.submission.experiments import Experiment

if TYPE_CHECKING:
    from mllam_exps.runs.job_quota import Room

PERIOD = 0.5
LONGEST_PERIOD = 5.0
NAMED = 3
"""Experiments that a message names; it counts the others."""


def waiting(store: RunStore) -> list[Experiment]:
    """Return this user's experiments that nobody is at work to finish, oldest first."""
    found = [e for e in experiments.unsaved(store) if e.is_mine]
    states = {e.identity: assess(e.saving).state for e in found}
    return [
        e
        for e in found
        if not (states[e.identity].settled or states[e.identity].living)
    ]


def dispatch(store: RunStore, *, wait: bool = False) -> int:
    """Submit what fits now of what waits, and see to it that what cannot wait by itself is waited for.

    Parameters
    ----------
    wait : bool
        Whether to wait for another process that is at it: it may have seen no room that
        is there now.

    Returns
    -------
    int
        How many of this user's experiments still wait.
    """
    if not waiting(store):
        return 0
    with lock(store, "dispatch", wait=wait) as mine:
        if mine:
            _advance(waiting(store))
    left = waiting(store)
    if any(not schedulers.get(_scheduler(e), store.directory).chains for e in left):
        ensure_watcher(store)
    return len(left)


def forget_settings() -> None:
    """Let the variables of the experiment that this process works for count for no other one."""
    for name in carried.SETTINGS:
        os.environ.pop(name, None)


def _scheduler(experiment: Experiment) -> str:
    from mllam_exps.submission.job_chain import machine_of

    with contextlib.suppress(MllamError):
        return machine_of(experiment).scheduler
    return "slurm"


def _advance(found: list[Experiment]) -> bool:
    """Advance each of them; tell whether there is any for which that will be of use again."""
    # Half a second of imports: every last job calls `dispatch`, and mostly nothing
    # waits.
    from mllam_exps.runs.job_quota import Room
    from mllam_exps.submission.job_chain import machine_of

    rooms: dict[tuple[str, str], tuple[Machine, Room]] = {}
    hope = False
    trouble: dict[str, list[str]] = {}
    for experiment in found:
        try:
            place = (experiment.origin, experiment.machine)
            if place not in rooms:
                machine = machine_of(experiment)
                rooms[place] = (
                    machine,
                    Room(
                        machine,
                        schedulers.get(machine.scheduler, experiment.store.directory),
                    ),
                )
            hope = _advance_one(experiment, *rooms[place]) or hope
        except Exception as error:
            # Whatever is wrong with one keeps neither the others nor the command that
            # looks from going on.
            told = (
                str(error)
                if isinstance(error, MllamError | OSError)
                else f"{type(error).__name__}: {error}"
            )
            trouble.setdefault(told, []).append(experiment.name)
    for told, names in trouble.items():
        some = ", ".join(names[:NAMED]) + (
            f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        )
        warn(f"{some} cannot be gone on with: {told}")
    return hope


def _advance_one(experiment: Experiment, machine: Machine, room: Room) -> bool:
    """Submit what fits of one experiment; tell whether that may be of use again."""
    from mllam_exps.submission.job_chain import Chain

    if machine.scheduler == "slurm" and shutil.which("sbatch") is None:
        return False  # a host that is none of the cluster's
    if not schedulers.get(machine.scheduler, experiment.store.directory).answers():
        return False
    begun = any(run.last_attempt() is not None for run in experiment.runs.values())
    if not room.look() and not begun:
        experiment.note_waits(room.full)
        return True
    # It may have been cancelled, or gone on with, while others were advanced.
    now = assess(experiment.saving).state
    if now.settled or now.living:
        return True
    chain = Chain(experiment, machine, room)
    chain.follow(chain.advance(again=False))
    return True


def ensure_watcher(store: RunStore) -> None:
    """Start the process that submits what waits, unless it is there."""
    from mllam_exps.machines import environment

    with lock(store, _watcher()) as free:
        if free is None:
            return
    log = records.open_file(
        store.directory / "locks" / f"{_watcher()}.{os.getuid()}.log",
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    )
    command = [
        sys.executable,
        "-P",
        "-m",
        "mllam_exps.submission.backlog",
        str(store.directory),
    ]
    # A job that ends may be what starts it: under that job's name it would count as
    # that job for as long as it lives.
    environ = {
        name: value for name, value in os.environ.items() if name != NAME_VARIABLE
    }
    with os.fdopen(log, "ab") as file:
        subprocess.Popen(
            command,
            env=environment.child_environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            cwd="/",
        )


def _watcher() -> str:
    return f"watcher-{socket.gethostname()}"


def main(arguments: list[str]) -> int:
    """Watch a store until nothing waits in it."""
    records.keep_others_out()
    forget_settings()
    store = RunStore(Path(arguments[0]))
    with lock(store, _watcher()) as mine:
        if mine is None:
            return 0
        changed = time.monotonic()
        before: list[str] = []
        while found := [
            e
            for e in waiting(store)
            if not schedulers.get(_scheduler(e), store.directory).chains
        ]:
            if not _advance(found):
                return 1
            # What takes long is looked at seldom: it costs a tenth of its time at most.
            if (now := _what_is(found)) != before:
                before, changed = now, time.monotonic()
            time.sleep(
                min(LONGEST_PERIOD, max(PERIOD, (time.monotonic() - changed) / 10))
            )
    return 0


def _what_is(found: list[Experiment]) -> list[str]:
    return [
        f"{run.key} {run.next_number} {run.result is None}"
        for e in found
        for run in e.runs.values()
    ]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
