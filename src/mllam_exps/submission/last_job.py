"""What the last job of an experiment does: it saves it, or writes down what stopped it, and lets others go.

It starts when the stages' jobs have ended, however they did: a job that was killed has
no word to say.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mllam_exps.attempts import tracked
from mllam_exps.attempts.work.supervisor import Stopped, Supervisor
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.runs import outputs
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.state.observe import runs_to_come
from mllam_exps.runs.store import Run
from mllam_exps.submission import experiments
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.saving import save

if TYPE_CHECKING:
    from mllam_exps.submission.job_chain import Chain
    from mllam_exps.submission.standing import Standing

ENDS_PATIENCE = 20.0
MAKES_AGAIN = 3
"""How often one experiment has a result made again since it was made from another input than this experiment has."""


def _silent(run: Run) -> Attempt | None:
    """Return the attempt that is said to wait or work, and has not said that it ended."""
    now = assess(run)
    if now.state not in {RunState.PENDING, RunState.RUNNING} or now.attempt is None:
        return None
    return now.attempt if now.attempt.ended is None else None


class Finisher(Supervisor):
    """One attempt at saving an experiment.

    Parameters
    ----------
    attempt : Attempt
        At the saving, which is a run of its own (`experiments`).
    """

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        found = experiments.read(attempt.run.directory)
        if found is None:
            raise MllamError("there is no experiment here", str(attempt.run.directory))
        found.check_ours()
        self.experiment: Experiment = found
        self._saved_before = False

    def _work(self) -> None:
        if self.attempt.number <= MAKES_AGAIN:
            self._set_aside_what_was_made_from_another()
        if not self._has_all_results():
            self._advance()
        with save.turn(self.experiment.store, wait=True):
            self._saved_before = not save.save(self.experiment)

    def _has_all_results(self) -> bool:
        """Tell whether every stage has a result, and none was made from another input than there is now."""
        for run in self.experiment.runs.values():
            if run.result is None or outputs.made_from_another(run) is not None:
                return False
        return True

    def _set_aside_what_was_made_from_another(self) -> None:
        """Have results made again that were not made from what this experiment has.

        The run store alone does not tell: where DVC knew an input when an experiment
        was submitted, it may have been made again since, and not every program makes
        the same twice. Two experiments that have different ones, and share a result,
        each want their own: so there is an end to it.
        """
        if any(run.result is None for run in self.experiment.runs.values()):
            return
        for run in self.experiment.runs.values():
            stale = outputs.made_from_another(run, self.experiment.holds)
            if stale is not None:
                print(outputs.set_aside(run, [stale]), flush=True)

    def _advance(self) -> None:
        """See to what the experiment lacks, and come back only where that is nothing.

        Raises
        ------
        MllamError, Stopped
            With what stopped it, or what it waits for.
        """
        # Half a second of imports, and mostly all results are there.
        from mllam_exps.attempts.job_quota import Quota
        from mllam_exps.submission.job_chain import Chain

        experiment, quota = self.experiment, Quota()
        chain = Chain.of(experiment, quota)
        self._wait_for_final_states()
        with lock(experiment.store, SUBMISSIONS, wait=True), quota:
            self._raise_if_stopped()  # it may have been cancelled meanwhile
            standing = chain.advance(retry=False)
        if standing.done:
            return
        if standing.failure and not standing.living:
            stage, now = standing.failure
            why = now.problem.line or str(now.state)
            way_out = f"mllam-exps retry {experiment.name}"
            if now.state is RunState.CANCELLED:
                problem = Problem(f"{stage} was cancelled", next=way_out)
                raise Stopped(Outcome.CANCELLED, problem)
            raise MllamError(f"{stage} {now.state}", why=why, next=way_out)
        self._go_on(chain, standing)

    def _wait_for_final_states(self) -> None:
        """Wait until Slurm says how the jobs before this one ended.

        Slurm cancels jobs behind a failed one when this job starts, but squeue may
        still list them. A last job that was put behind them would start at once, again
        and again.
        """
        until = time.monotonic() + ENDS_PATIENCE
        while time.monotonic() <= until and self._are_ends_to_come():
            self._raise_if_stopped()
            time.sleep(0.5)

    def _are_ends_to_come(self) -> bool:
        """Tell whether a job that is called living waits for a run that has stopped without a result."""
        silent = [_silent(run) for run in self.experiment.runs.values()]
        for attempt in [one for one in silent if one is not None]:
            if verdict.hear(attempt).phase.ended:
                continue
            for run in runs_to_come(attempt):
                if run.result is None and not assess(run).state.living:
                    return True
        return False

    def _go_on(self, chain: Chain, standing: Standing) -> None:
        """Leave what is still to come to the next attempt, behind the jobs that it waits for."""
        if standing.jobs:
            chain.start_saving(tuple(standing.jobs.values()))
        self._stop(Outcome.REFUSED, standing.waits or "it waits for its stages")
        self._raise_if_stopped()

    def outcome(self) -> tuple[Outcome, Problem]:
        """Say that another job has saved it, where one has; tell people how it ended."""
        outcome, problem = super().outcome()
        if (
            outcome is not Outcome.SUCCEEDED
            and self.experiment.saving.result is not None
        ):
            what = "another experiment's last job has saved it"
            return Outcome.SUPERSEDED, Problem(what)
        if self._saved_before:
            return outcome, Problem("another job has saved it")
        if outcome in {Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED}:
            self._tell(outcome, problem)
        return outcome, problem

    def write_end(self, outcome: Outcome, problem: Problem) -> None:
        """Write down the end of the attempt, and tell MLflow of runs that are over."""
        super().write_end(outcome, problem)
        # A job that was killed could not say so to MLflow.
        tracked.end_what_is_over(self.experiment.runs.values(), tracked.by_this_python)

    def _tell(self, outcome: Outcome, problem: Problem) -> None:
        if not self.spec.news:
            return
        from mllam_exps.submission.opening import machine_of
        from mllam_exps.submission.saving import notify

        try:
            notify.tell(
                self.experiment, machine_of(self.experiment), str(outcome), problem
            )
        except Exception as error:
            # Nothing that people are told with may keep the record of the end from
            # being written.
            print(f"warning: nobody was told: {type(error).__name__}", flush=True)
