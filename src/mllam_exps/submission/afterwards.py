"""What a job does once its attempt has ended.

It saves the experiments that waited for just its result; where there is none, and
another attempt is to follow by itself, it submits that one, and puts behind it what
still waits for this one. It submits what waits in the run store. Nothing of it is the
attempt's own, and nothing that goes wrong here changes how that ended.
"""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Callable, Iterator

from mllam_exps import schedulers
from mllam_exps.attempts.work.supervisor import Supervisor
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.identity.run_keys import SAVE, is_key
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.saving import save
from mllam_exps.submission.standing import waiting, waiting_for

PATIENCE = 20.0
"""Seconds that a stage's job spends on saving, in which its nodes do nothing else."""
QUEUEING = 5.0
"""Seconds that it waits for the lock of those that save on its host. After that the experiment's last job saves."""
LOOK_AGAIN = 0.1


def go_on(supervisor: Supervisor) -> None:
    """Save experiments that have all they need now, or submit the run's next attempt; then what waits for room.

    Parameters
    ----------
    supervisor : Supervisor
        Of the attempt, which has ended.
    """
    attempt = supervisor.attempt
    run = Run(attempt.run.directory)
    what = "what waited for this result could not be saved"
    try:
        # An experiment's own last job is there where jobs can wait for one another.
        if supervisor.scheduler().chains:
            if run.result is not None:
                _save(supervisor, run)
            else:
                what = "the next attempt could not be submitted"
                if assess(run).another_follows:
                    _submit_the_next(run)
    except Exception as error:
        _log(f"{what} from here: {error}")
    # An experiment's last job makes room for others; and where no job waits for this
    # one, nobody else may come.
    if attempt.run.is_saving or attempt.submits_what_waits.exists():
        _submit_what_waits(RunStore(attempt.run.store))


def _save(supervisor: Supervisor, run: Run) -> None:
    by = f"job {supervisor.scheduler().job_id()}, of {run.key}"
    machine = supervisor.spec.machine

    def stopped() -> bool:
        return supervisor.stopped is not None

    AfterResult(run, machine, by, stopped, _log).save()


def _submit_the_next(run: Run) -> None:
    """Submit the next attempt while this job is still there: what waits for it need not be submitted again."""
    from mllam_exps.attempts.job_quota import Quota
    from mllam_exps.submission.job_chain import Chain

    with lock(RunStore(run.store), SUBMISSIONS, wait=True), Quota() as quota:
        for experiment in waiting_for(run):
            if experiment.is_mine:
                Chain.of(experiment, quota).advance(retry=False)


def _submit_what_waits(store: RunStore) -> None:
    # Half a second of imports, and mostly nothing waits.
    from mllam_exps.submission import backlog

    backlog.forget_settings()
    try:
        for warning in backlog.dispatch(store, wait=True).warnings:
            _log(warning)
    except Exception as error:
        _log(f"what waits in the run store could not be gone on with: {error}")


def _log(line: str) -> None:
    """Print a line to the job's own log."""
    print(line, flush=True)


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
        importlib.import_module("mllam_exps.submission.saving.commit")
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
            if experiment is not None and self._is_ours_to_save(experiment):
                yield experiment

    def _is_ours_to_save(self, experiment: Experiment) -> bool:
        if not experiment.is_mine or experiment.machine != self.machine:
            return False
        return all(run.result is not None for run in experiment.runs.values())

    def _save(self, experiment: Experiment) -> Attempt | None:
        """Save one when it is this job's turn; return the attempt that was to do it, if it was this job that did."""
        until = min(self._until, time.monotonic() + QUEUEING)
        while (attempt := _to_come(experiment)) is not None:
            if self.stopped() or time.monotonic() > until:
                return None
            with save.turn(self.store) as mine:
                if mine:
                    return attempt if self._save_now(experiment, attempt) else None
            time.sleep(LOOK_AGAIN)
        return None

    def _save_now(self, experiment: Experiment, attempt: Attempt) -> bool:
        try:
            tell_people = _teller(experiment, attempt)
            if tell_people is None or not save.save(experiment):
                return False
        except Exception as error:
            # Whatever is wrong with one is nothing to the others.
            self.tell(f"{experiment.name} is left to its own last job: {error}")
            return False
        tell_people()
        return True

    def _take_back(self, done: list[Attempt]) -> None:
        """Take back jobs that have nothing left to do, unless they are to submit what waits in the store."""
        # Submissions hold this lock: none can come to wait for jobs that are taken back
        # here.
        with lock(self.store, SUBMISSIONS) as mine:
            if mine is None or waiting(self.store):
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
    if attempt is None or experiment.saving.result is not None:
        return None
    is_over = attempt.ended is not None or attempt.cancel_requested
    if is_over or not attempt.has_job:
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
    from mllam_exps.submission.opening import machine_of
    from mllam_exps.submission.saving import notify

    machine = machine_of(experiment)
    if machine.resources_for(SAVE).mail:
        return None
    return lambda: notify.tell(experiment, machine, Outcome.SUCCEEDED, Problem())
