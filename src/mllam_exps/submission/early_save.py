"""Saves experiments whose results are all there, from a job that has just made the last of them.

So nobody waits for Slurm to start another job, and one process saves all that are
ready. Each experiment's own last job is then taken back. Where that of its last stage
was killed, or had no time, that job does it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import IO

from mllam_exps import schedulers
from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.terminal import say
from mllam_exps.identity.run_keys import SAVE, is_key
from mllam_exps.runs.attempts import Attempt, Outcome
from mllam_exps.runs.locks import lock
from mllam_exps.runs.runs import Run
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.experiments import Experiment

PATIENCE = 20.0
"""Seconds that a job spends on saving, in which its nodes do nothing else."""
QUEUEING = 5.0
"""Seconds that a job waits for another one on its host that saves: the experiment's own last job would cost more."""
LOOK_AGAIN = 0.2


def save_ready(
    store: RunStore, run: Run, machine: str, by: str, stopped: Callable[[], bool]
) -> None:
    """Save what is ready, or wait for somebody on this host who is at it.

    Parameters
    ----------
    run : Run
        Whose job this is.
    machine : str
        The machine file's name: what runs elsewhere is saved there.
    by : str
        Who we are, for the records.
    stopped : callable
        Tells whether to stop before the next one.
    """
    # All others are looked at only where there is something to save: most jobs are no
    # experiment's last.
    if not (ours := [e.saving for e in _those_ready(_wanting(store, run), machine)]):
        return
    until = time.monotonic() + QUEUEING
    while True:
        with one_on_this_host(store) as mine:
            if mine:
                _save_all(store, machine, by, stopped)
                return
        # Slurm starts an experiment's last job soon after this one has ended, if nobody
        # has taken it back by then.
        if (
            stopped()
            or time.monotonic() > until
            or not any(_is_waited_for(saving) for saving in ours)
        ):
            return
        time.sleep(LOOK_AGAIN)


def _is_waited_for(saving: Run) -> bool:
    return (attempt := saving.last_attempt()) is not None and attempt.end is None


def _save_all(
    store: RunStore, machine: str, by: str, stopped: Callable[[], bool]
) -> None:
    """Save all that is ready, and what has become so meanwhile, and take back the jobs that were to do it."""
    until = time.monotonic() + PATIENCE

    def enough() -> bool:
        return stopped() or time.monotonic() > until

    seen: set[str] = set()
    while found := [
        e
        for e in _those_ready(experiments.unsaved(store), machine)
        if e.identity not in seen
    ]:
        seen |= {e.identity for e in found}
        if done := list(_save_each(found, enough)):
            _take_back(store, done, f"saved by {by}")


def _save_each(
    found: list[Experiment], enough: Callable[[], bool]
) -> Iterator[tuple[Experiment, Attempt]]:
    """Save one after the other, as long as there is time; yield what was saved, with the attempt that was to do it."""
    for experiment in found:
        if enough():
            break
        attempt = _waiting(experiment)
        try:
            tell = _teller(experiment, attempt)
            if attempt is None or tell is None or not save(experiment, attempt.number):
                continue
        except Exception as error:
            # Whatever is wrong with one is nothing to the others.
            say(f"{experiment.name} is left to its own last job: {error}")
            continue
        yield experiment, attempt
        tell()


def _teller(
    experiment: Experiment, attempt: Attempt | None
) -> Callable[[], None] | None:
    """Return what tells people that an experiment is saved; None where its own job has to: mail is that job's."""
    if attempt is None or not Spec.read(attempt).news:
        return lambda: None
    # Half a second, where mostly nobody is told.
    from mllam_exps.submission import notify
    from mllam_exps.submission.job_chain import machine_of

    machine = machine_of(experiment)
    if machine.resources_for(SAVE).mail:
        return None
    return lambda: notify.tell(experiment, machine, Outcome.SUCCEEDED, "")


def save(experiment: Experiment, number: int) -> bool:
    """Save an experiment; False if somebody has done it."""
    from mllam_exps.submission import saving

    if experiment.saving.result is not None:
        return False
    experiment.check_ours()
    commit = saving.save(experiment)
    record = {"attempt": number, "outputs": {}, "commit": commit, "time": time.time()}
    records.replace(experiment.saving.directory / "result.json", record)
    saving.forget_clone(experiment)
    return True


def one_on_this_host(
    store: RunStore, *, wait: bool = False
) -> AbstractContextManager[IO[str] | None]:
    """Keep a host from saving many experiments at the same time: git's and DVC's files have locks of their own."""
    return lock(store, f"saver-{socket.gethostname()}", wait=wait)


def _wanting(store: RunStore, run: Run) -> Iterator[Experiment]:
    places = [
        experiments.folder(store) / identity
        for identity in run.wanted
        if is_key(identity)
    ]
    return filter(
        None, (experiments.read(place) for place in places if Run(place).result is None)
    )


def _those_ready(found: Iterable[Experiment], machine: str) -> list[Experiment]:
    """Return this user's experiments whose results are all there, and that nobody saves at this moment."""
    return [
        e
        for e in found
        if e.is_mine
        and e.machine == machine
        and all(run.result is not None for run in e.runs.values())
        and _waiting(e) is not None
    ]


def _waiting(experiment: Experiment) -> Attempt | None:
    """Return the attempt at saving it whose job has not started, or waits on this host until we are done."""
    attempt = experiment.saving.last_attempt()
    if (
        attempt is None
        or attempt.job is None
        or attempt.end is not None
        or attempt.cancel_requested
    ):
        return None
    elsewhere = (
        attempt.started is not None and attempt.started["host"] != socket.gethostname()
    )
    return None if elsewhere else attempt


def _take_back(
    store: RunStore, done: list[tuple[Experiment, Attempt]], why: str
) -> None:
    """Take back jobs that have nothing left to do, unless they are to submit what waits in the store."""
    from mllam_exps.submission import backlog

    # Submissions hold this lock: none can come to wait for jobs that are taken back
    # here.
    with lock(store, "dispatch") as mine:
        if mine is None or backlog.waiting(store):
            return
        for experiment, attempt in done:
            if (record := attempt.job) is None or attempt.started is not None:
                continue
            end = {
                "outcome": Outcome.SUCCEEDED,
                "reason": why,
                "time": time.time(),
                "by": why,
            }
            records.replace(attempt.directory / "end.json", end)
            scheduler = schedulers.get(
                (attempt.claim or {})["scheduler"], store.directory
            )
            try:
                scheduler.cancel(scheduler.job(record))
            except MllamError as error:
                say(
                    f"the last job of {experiment.name} has nothing to do any more: {error}"
                )
