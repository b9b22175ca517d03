"""Submits what waits in the store: experiments that did not fit when they were submitted, or whose submitter died.

On Slurm the last job of each experiment does so when it ends. On a scheduler whose jobs
cannot wait for one another, one process on the host does, as long as there is work. The
commands that submit or make room do, too, and `mllam-exps advance`. Commands that only
read do not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mllam_exps import schedulers
from mllam_exps.base import records, special_files
from mllam_exps.base.errors import MllamError, some_of
from mllam_exps.base.terminal import warn
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.machines import job_environment
from mllam_exps.runs import layout
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.store import RunStore
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.standing import WATCHER, jobs_can_wait, waiting

if TYPE_CHECKING:
    from mllam_exps.attempts.job_quota import Quota, Room
    from mllam_exps.machines.machine_files import Machine

A_MOMENT = 0.05
PERIOD = 0.5
HOPELESS_PATIENCE = 60.0
"""Seconds for which nothing can be gone on with until the watching process ends."""
LONGEST_PERIOD = 5.0


@dataclass
class Advance:
    """What became of the experiments that waited.

    Parameters
    ----------
    submitted : dict
        The stages whose jobs were submitted, by the name of their experiment; `save` is
        the job that saves it.
    refused : dict
        The names of experiments that cannot be gone on with, by the reason.
    unreachable : dict
        The names of those whose scheduler could not be asked, by the reason.
    left : list of Experiment
        Those that still wait.
    """

    submitted: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    unreachable: dict[str, list[str]] = field(default_factory=dict)
    left: list[Experiment] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """One sentence for each reason why some cannot be gone on with."""
        return [
            f"{some_of(names)} cannot be gone on with: {why}"
            for why, names in self.refused.items()
        ]


def dispatch(store: RunStore, *, wait: bool = False) -> Advance:
    """Submit what fits now of what waits, and see to it that what cannot wait by itself is waited for.

    Parameters
    ----------
    wait : bool
        Wait for the lock: its holder may have counted the jobs before one of them ended.
    """
    done = Advance()
    if not waiting(store):
        return done
    with lock(store, SUBMISSIONS, wait=wait) as mine:
        if mine:
            _advance_all(waiting(store), done)
    done.left = waiting(store)
    if any(not jobs_can_wait(experiment) for experiment in done.left):
        ensure_watcher(store)
    return done


def go_on(store: RunStore) -> None:
    """Submit what fits now, after a command that submitted something, or made room; what is wrong is a warning."""
    try:
        done = dispatch(store)
    except (MllamError, OSError) as error:
        # On a full disk, say: what was asked for is done all the same.
        warn(f"note: what waits in the run store cannot be gone on with: {error}")
        return
    for warning in done.warnings:
        warn(warning)


def go_on_before(store: RunStore, quota: Quota, but: Container[str]) -> None:
    """Submit what fits of what waits, before something newer takes its place.

    Parameters
    ----------
    quota : Quota
        Of the caller, who has the lock `dispatch`, too.
    but : container of str
        The identities of experiments that the caller itself goes on with.
    """
    older = [one for one in waiting(store) if one.identity not in but]
    _advance(older, Advance(), quota)


def forget_settings() -> None:
    """Let the variables of the experiment that this process works for count for no other one."""
    for name in job_environment.SETTINGS:
        os.environ.pop(name, None)


def _advance_all(found: Iterable[Experiment], done: Advance) -> bool:
    """Advance each of them, and let nobody else count jobs meanwhile; see `_advance`."""
    # Half a second of imports: every last job calls `dispatch`, and mostly nothing
    # waits.
    from mllam_exps.attempts.job_quota import Quota

    with Quota() as quota:
        return _advance(found, done, quota)


def _advance(found: Iterable[Experiment], done: Advance, quota: Quota) -> bool:
    """Advance each of them in turn; tell whether there is any for which that will be of use again.

    A place that one cannot use, since its inputs are not made yet, goes to the next.
    """
    places: dict[tuple[str, str], _Place] = {}
    hope = False
    for experiment in found:
        try:
            # Each repository has machine files of its own: two of them may call
            # different machines by one name.
            name = experiment.origin, experiment.machine
            if name not in places:
                places[name] = _Place.of(experiment, quota)
            hope = _advance_one(experiment, places[name], done) or hope
        except (MllamError, OSError) as error:
            done.refused.setdefault(str(error), []).append(experiment.name)
        except Exception as error:
            # Whatever is wrong with one keeps neither the others nor the command from
            # going on.
            why = f"{type(error).__name__}: {error}"
            done.refused.setdefault(why, []).append(experiment.name)
    return hope


@dataclass(frozen=True)
class _Place:
    """A machine, how many jobs may still be submitted there, and why it cannot be asked."""

    machine: Machine
    room: Room
    unreachable: str

    @classmethod
    def of(cls, experiment: Experiment, quota: Quota) -> _Place:
        """Look at the machine of an experiment."""
        from mllam_exps.submission.opening import machine_of

        machine = machine_of(experiment)
        scheduler = schedulers.get(machine.scheduler, experiment.store.directory)
        why = ""
        if missing := scheduler.missing():
            why = f"{missing}: it is none of the cluster's"
        elif not scheduler.answers(now=True):
            why = scheduler.outage() or "the scheduler does not answer"
        return cls(machine, quota.room(machine, scheduler, experiment.origin), why)


def _advance_one(experiment: Experiment, place: _Place, done: Advance) -> bool:
    """Submit what fits of one experiment; tell whether that may be of use again."""
    from mllam_exps.submission.job_chain import Chain

    if place.unreachable:
        done.unreachable.setdefault(place.unreachable, []).append(experiment.name)
        return False
    begun = any(run.last_attempt() is not None for run in experiment.runs.values())
    if not place.room.look() and not begun:
        experiment.note_waits(place.room.full)
        return True
    # It may have been cancelled, or gone on with, while others were advanced.
    now = assess(experiment.saving).state
    if now.settled or now.living:
        return True
    chain = Chain(experiment, place.machine, place.room)
    standing = chain.advance(retry=False)
    saving = chain.submit_last_job(standing)
    stages = [*standing.started, *([SAVE] if saving else [])]
    if stages:
        done.submitted[experiment.name] = stages
    return True


def ensure_watcher(store: RunStore) -> None:
    """Start the process that submits what waits, unless it is there."""
    with _watch(store) as mine:
        if mine is not None:
            _start_watcher(store, mine)


def _start_watcher(store: RunStore, held: IO[str]) -> None:
    """Start it; it takes over the lock: whoever looks finds it held before the process has begun."""
    log = _open_log(store.directory / layout.LOCKS / f"{_watcher()}.{os.getuid()}.log")
    module = [sys.executable, "-P", "-m", "mllam_exps.submission.backlog"]
    with os.fdopen(log, "ab") as file:
        subprocess.Popen(
            [*module, str(store.directory), str(held.fileno())],
            # A job that ends may be what starts it: under that job's name it would
            # count as that job for as long as it lives.
            env=schedulers.child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            pass_fds=[held.fileno()],
            cwd="/",
        )


def _open_log(path: Path) -> int:
    """Open the file that the process writes its warnings to; where a colleague has put something there, none."""
    try:
        return records.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def _watcher() -> str:
    return f"{WATCHER}{socket.gethostname()}"


@contextlib.contextmanager
def _watch(store: RunStore) -> Iterator[IO[str] | None]:
    """Hold the lock of the watching process on this host; None where another process has it."""
    with lock(store, _watcher()) as mine:
        if mine is not None:
            yield mine
            return
    # `left_alone` holds it, too, for the moment of its look.
    time.sleep(A_MOMENT)
    with lock(store, _watcher()) as mine:
        yield mine


def main(arguments: list[str]) -> int:
    """Watch a store until nothing waits in it.

    Parameters
    ----------
    arguments : list of str
        The store's directory, and the open file that holds the lock.
    """
    records.keep_others_out()
    special_files.guard()
    forget_settings()
    store, held = RunStore(Path(arguments[0])), int(arguments[1])
    os.set_inheritable(held, False)
    changed = hoped = time.monotonic()
    before: list[str] = []
    told: list[str] = []
    while found := [e for e in waiting(store) if not jobs_can_wait(e)]:
        done = Advance()
        hope = _advance_all(found, done)
        if done.warnings != told:
            told = done.warnings
            for warning in told:
                print(warning, flush=True)
        # A machine file may be bad for a moment, while it is edited.
        if hope:
            hoped = time.monotonic()
        elif time.monotonic() - hoped > HOPELESS_PATIENCE:
            return 1
        # What takes long is looked at seldom: it costs a tenth of its time at most.
        if (now := _what_is(found)) != before:
            before, changed = now, time.monotonic()
        pause = max(PERIOD, (time.monotonic() - changed) / 10)
        time.sleep(min(LONGEST_PERIOD, pause))
    return 0


def _what_is(found: list[Experiment]) -> list[str]:
    told = []
    for experiment in found:
        for run in experiment.runs.values():
            told.append(f"{run.key} {run.next_number} {run.result is None}")
    return told


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
