"""Saves an experiment whose results are all there: the one function that does, for every job that may.

The job that made the last result calls it, for the experiments that waited for just
that, and so does each experiment's own last job. It may be called as often as one
likes, and from several hosts at once: the experiment becomes one commit, under one name.
"""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO

from mllam_exps import schedulers
from mllam_exps.base import records
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.identity.run_keys import SAVE, is_key
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import lock
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.results import Result
from mllam_exps.runs.runs import Run
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.experiments import Experiment

PATIENCE = 20.0
"""Seconds that a stage's job spends on saving, in which its nodes do nothing else."""
QUEUEING = 5.0
"""Seconds that it waits for its turn to save on its host: the experiment's own last job would cost more."""
LOOK_AGAIN = 0.1


def save(experiment: Experiment) -> bool:
    """Save an experiment; False if somebody has done it.

    Whoever calls it has its turn on this host (`turn`).
    """
    # Half a second of imports, where mostly there is nothing to save.
    from mllam_exps.submission import saving

    if _is_saved(experiment):
        return False
    experiment.check_ours()
    try:
        commit = saving.save(experiment)
    except Exception:
        # A job on another host may have saved it meanwhile, and removed its clone.
        if _is_saved(experiment):
            return False
        raise
    number = experiment.saving.next_number - 1
    experiment.saving.settle(Result(number, commit=commit, time=time.time()))
    saving.forget_clone(experiment)
    return True


def _is_saved(experiment: Experiment) -> bool:
    # A network file system may remember from an earlier look that there is no result.
    records.look_afresh(experiment.directory)
    return experiment.saving.result is not None


def turn(
    store: RunStore, *, wait: bool = False
) -> AbstractContextManager[IO[str] | None]:
    """Have one job of a host save at a time: git's and DVC's files have locks of their own."""
    return lock(store, f"saver-{socket.gethostname()}", wait=wait)


class AfterResult:
    """Saves, in the job that has just made a result, the experiments that waited for just that.

    So nobody waits for Slurm to start another job. The last job of each of them is then
    taken back. Where this job was killed, or had no time, that one saves.

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
    tell : callable
        Is given what went wrong.
    """

    def __init__(
        self,
        run: Run,
        machine: str,
        by: str,
        stopped: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self.run, self.machine, self.by = run, machine, by
        self.stopped, self.tell = stopped, tell
        self.store = RunStore(run.store)
        self._until = time.monotonic() + PATIENCE

    def save(self) -> None:
        """Save them, as long as there is time, and take back the jobs that were to do it."""
        found = list(self._waiting())
        if not found:
            return
        # Others that have their turn meanwhile do not wait for our imports.
        importlib.import_module("mllam_exps.submission.saving")
        done = []
        for experiment in found:
            if (attempt := self._save(experiment)) is not None:
                done.append(attempt)
        if done:
            self._take_back(done)

    def _waiting(self) -> Iterator[Experiment]:
        """Yield this user's experiments that have all their results since this run has one."""
        for identity in self.run.wanted:
            place = experiments.folder(self.store) / identity
            if not is_key(identity) or Run(place).result is not None:
                continue
            experiment = experiments.read(place)
            if (
                experiment is not None
                and experiment.is_mine
                and experiment.machine == self.machine
                and all(run.result is not None for run in experiment.runs.values())
            ):
                yield experiment

    def _save(self, experiment: Experiment) -> Attempt | None:
        """Save one when it is this job's turn; return the attempt that was to do it, if it was this job that did."""
        until = min(self._until, time.monotonic() + QUEUEING)
        while (attempt := _to_come(experiment)) is not None:
            if self.stopped() or time.monotonic() > until:
                return None
            with turn(self.store) as mine:
                if mine:
                    return attempt if self._save_now(experiment, attempt) else None
            time.sleep(LOOK_AGAIN)
        return None

    def _save_now(self, experiment: Experiment, attempt: Attempt) -> bool:
        try:
            tell_people = _teller(experiment, attempt)
            if tell_people is None or not save(experiment):
                return False
        except Exception as error:
            # Whatever is wrong with one is nothing to the others.
            self.tell(f"{experiment.name} is left to its own last job: {error}")
            return False
        tell_people()
        return True

    def _take_back(self, done: list[Attempt]) -> None:
        """Take back jobs that have nothing left to do, unless they are to submit what waits in the store."""
        from mllam_exps.submission import backlog

        # Submissions hold this lock: none can come to wait for jobs that are taken back
        # here.
        with lock(self.store, "dispatch") as mine:
            if mine is None or backlog.waiting(self.store):
                return
            for attempt in done:
                if attempt.started is None:
                    self._take_back_one(attempt)

    def _take_back_one(self, attempt: Attempt) -> None:
        why = f"saved by {self.by}"
        attempt.end(Outcome.SUCCEEDED, Problem(why), by=why)
        claim = attempt.claim
        if claim is None:
            return
        scheduler = schedulers.get(claim.scheduler, self.store.directory)
        if (job := attempt.job(scheduler)) is None:
            return
        try:
            scheduler.cancel(job)
        except MllamError as error:
            self.tell(f"{claim.experiment}: its last job is of no use now: {error}")


def _to_come(experiment: Experiment) -> Attempt | None:
    """Return the attempt at saving it whose job has not started, or waits on this host for its turn."""
    attempt = experiment.saving.last_attempt()
    if (
        attempt is None
        or not attempt.has_job
        or attempt.ended is not None
        or attempt.cancel_requested
        or experiment.saving.result is not None
    ):
        return None
    started = attempt.started
    if started is not None and started.process.host != socket.gethostname():
        return None
    return attempt


def _teller(experiment: Experiment, attempt: Attempt) -> Callable[[], None] | None:
    """Return what tells people that an experiment is saved; None where its own job has to: mail is that job's."""
    if not Spec.read(attempt).news:
        return lambda: None
    # Half a second, where mostly nobody is told.
    from mllam_exps.submission import notify
    from mllam_exps.submission.opening import machine_of

    machine = machine_of(experiment)
    if machine.resources_for(SAVE).mail:
        return None
    return lambda: notify.tell(experiment, machine, Outcome.SUCCEEDED, Problem())
