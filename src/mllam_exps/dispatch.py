"""Submits what waits in the store: experiments that did not fit when they were submitted, or whose submitter died.

Nobody waits for it. On Slurm the last job of each experiment calls it when it ends, and so does each command of the
user's. On a scheduler whose jobs cannot wait for one another, one process on the host does, as long as there is work.
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

from mllam_exps import experiments, records, schedulers
from mllam_exps.assess import RunState, assess
from mllam_exps.errors import MllamError
from mllam_exps.experiments import Experiment
from mllam_exps.locks import lock
from mllam_exps.machines import Machine
from mllam_exps.pipeline import VERSIONS_FILE
from mllam_exps.store import RunStore

PERIOD = 0.5


def waiting(store: RunStore, *, others: bool = False) -> list[Experiment]:
    """Return this user's experiments that nobody is at work to finish, oldest first; or those of all `others`."""
    found = [e for e in experiments.unsaved(store) if e.is_mine is not others]
    states = {e.identity: assess(e.saving).state for e in found}
    return [e for e in found if not (states[e.identity].settled or states[e.identity].living)]


def dispatch(store: RunStore, *, others: bool = False) -> int:
    """Submit what fits now of what waits, and see to it that what cannot wait by itself is waited for.

    Parameters
    ----------
    others : bool
        Whether stages of colleagues' experiments are submitted, too, as jobs of this user's (`submit_for_others`).

    Returns
    -------
    int
        How many of this user's experiments still wait.
    """
    found = waiting(store)
    for_others = waiting(store, others=True) if others else []
    if not (found or for_others):
        return 0
    with lock(store, "dispatch") as mine:
        if mine:
            _advance(found + for_others)
    left = waiting(store)
    if any(not schedulers.get(_scheduler(e), store.directory).chains for e in left):
        ensure_watcher(store)
    return len(left)


def _scheduler(experiment: Experiment) -> str:
    from mllam_exps.chain import machine_of

    with contextlib.suppress(MllamError):
        return machine_of(experiment).scheduler
    return "slurm"


def _advance(found: list[Experiment]) -> bool:
    """Advance each of them; tell whether there is any for which that will be of use again."""
    # Half a second of imports: every last job calls `dispatch`, and mostly nothing waits.
    from mllam_exps.chain import Chain, machine_of
    from mllam_exps.room import Room

    rooms: dict[str, Room] = {}
    hope = False
    for experiment in found:
        try:
            machine = machine_of(experiment)
            if not experiment.is_mine and not _can_be_helped(experiment, machine):
                continue
            if machine.scheduler == "slurm" and shutil.which("sbatch") is None:
                continue  # a host that is none of the cluster's
            scheduler = schedulers.get(machine.scheduler, experiment.store.directory)
            if not scheduler.answers() or scheduler.outage():
                continue
            room = rooms.setdefault(machine.name, Room(machine, scheduler))
            chain = Chain(experiment, machine, room)
            standing = chain.advance(again=False)
            if experiment.is_mine:
                chain.follow(standing)  # it is saved by its owner's jobs and commands
            elif standing.started:
                what = ", ".join(standing.started)
                print(f"submitted for {experiment.name} of {experiment.user}: {what}", file=sys.stderr, flush=True)
            hope = True
        except MllamError as error:
            print(f"{experiment.name} waits: {error}", file=sys.stderr, flush=True)
        except PermissionError as error:
            if experiment.is_mine:
                raise
            print(f"{experiment.name} of {experiment.user} waits: {error}", file=sys.stderr, flush=True)
    return hope


def _can_be_helped(experiment: Experiment, machine: Machine) -> bool:
    """Tell whether stages of a colleague's experiment wait, and would run with the programs that it was meant for."""
    from mllam_exps import checks
    from mllam_exps.chain import workspace_of

    if not any(assess(run).state is RunState.NEW for run in experiment.runs.values()):
        return False
    now, _ = checks.versions_text(workspace_of(experiment), machine)
    if (experiment.root / VERSIONS_FILE).read_text(encoding="utf-8") == now:
        return True
    what = f"{experiment.name} of {experiment.user} waits: it needs other versions of the programs than are here"
    print(what, file=sys.stderr, flush=True)
    return False


def ensure_watcher(store: RunStore) -> None:
    """Start the process that submits what waits, unless it is there."""
    from mllam_exps import environment

    with lock(store, _watcher()) as free:
        if free is None:
            return
    log = store.directory / "locks" / f"{_watcher()}.{os.getuid()}.log"
    command = [sys.executable, "-P", "-m", "mllam_exps.dispatch", str(store.directory)]
    with log.open("ab") as file:
        subprocess.Popen(
            command,
            env=environment.child_environment(os.environ),
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
    store = RunStore(Path(arguments[0]))
    with lock(store, _watcher()) as mine:
        if mine is None:
            return 0
        while found := [e for e in waiting(store) if not schedulers.get(_scheduler(e), store.directory).chains]:
            if not _advance(found):
                return 1
            time.sleep(PERIOD)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
