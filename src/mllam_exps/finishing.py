"""What the last job of an experiment does: it saves it, or writes down what stopped it, and lets others go.

It starts when the stages' jobs have ended, however they did: a job that was killed has no word to say.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mllam_exps import dispatch, experiments, notify, records, saving, verdicts
from mllam_exps.assess import RunState, assess, unmade
from mllam_exps.attempt import Stopped, Supervisor
from mllam_exps.chain import Chain, Standing, machine_of, pipeline_of
from mllam_exps.errors import MllamError
from mllam_exps.experiments import SAVE, Experiment
from mllam_exps.machines import Machine
from mllam_exps.room import Room
from mllam_exps.schedulers import get
from mllam_exps.store import Attempt, Outcome

ENDS_PATIENCE = 20.0


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
        self.experiment: Experiment = found
        self.machine: Machine = machine_of(found)

    def _work(self) -> None:
        experiment = self.experiment
        scheduler = get(self.machine.scheduler, experiment.store.directory)
        chain = Chain(experiment, self.machine, Room(self.machine, scheduler))
        self._hear_of_the_ends()
        with dispatch.lock(experiment.store, "dispatch", wait=True):
            standing = chain.advance(again=False)
        if standing.done:
            _save(experiment, self.attempt.number)
        elif standing.failure and not standing.living:
            stage, now = standing.failure
            why = now.reason.partition("\n")[0] or str(now.state)
            way_out = f"mllam-exps retry {experiment.name}"
            if now.state is RunState.CANCELLED:
                raise Stopped(Outcome.CANCELLED, f"{stage} was cancelled\n  → {way_out}")
            raise MllamError(f"{stage} {now.state}", why=why, next=way_out)
        else:
            self._go_on(chain, standing)

    def _hear_of_the_ends(self) -> None:
        """Wait for Slurm's word on jobs behind a failed one: it takes them back at the moment when this one starts.

        squeue's last answer may call them pending, and another saving behind them would start at once, again and again.
        """
        until = time.monotonic() + ENDS_PATIENCE
        runs = self.experiment.runs.values()
        while silent := [now.attempt for now in map(assess, runs) if now.state is RunState.PENDING and now.attempt]:
            if time.monotonic() > until:
                break
            living = [a for a in silent if not verdicts.ask(a).phase.ended]
            if not any(not assess(run).state.living for attempt in living for run in unmade(attempt)):
                break
            self._raise_if_stopped()
            time.sleep(0.5)

    def _go_on(self, chain: Chain, standing: Standing) -> None:
        """Leave what is still to come to the next attempt, behind the jobs that it waits for."""
        if standing.jobs:
            chain.start_saving(tuple(standing.jobs.values()))
        self._stop(Outcome.REFUSED, standing.waits or "it waits for its stages")
        self._raise_if_stopped()

    def _outcome(self, reserve: Path) -> tuple[Outcome, str]:
        outcome, reason = super()._outcome(reserve)
        if outcome is not Outcome.SUCCEEDED and self.experiment.saving.result is not None:
            return Outcome.SUPERSEDED, "another experiment's last job has saved it"
        if outcome in {Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED}:
            notify.tell(self.experiment, self.machine, str(outcome), reason)
        return outcome, reason

    def afterwards(self) -> None:
        """Save what is ready, too, and submit what waits in the store, now that this experiment's jobs make room."""
        try:
            self._save_others()
            dispatch.dispatch(self.experiment.store)
        except Exception as error:
            print(f"what waits in the run store could not be gone on with: {error}", file=sys.stderr, flush=True)

    def _save_others(self) -> None:
        """Save experiments whose stages are done and whose own last jobs still wait to start: DVC is loaded here.

        Those jobs are taken back when it is done: should this one be killed, they do it.
        """
        if self.machine.resources_for(SAVE).mail:
            return  # that comes from each one's own job
        for other in experiments.of_store(self.experiment.store):
            ready = all(run.result is not None for run in other.runs.values())
            if not (ready and other.is_mine and other.machine == self.machine.name):
                continue
            now = assess(other.saving)
            if now.state is not RunState.PENDING or now.attempt is None or now.attempt.started is not None:
                continue
            _save(other, now.attempt.number)
            reason = f"saved by the last job of {self.experiment.name}"
            end = {"outcome": Outcome.SUCCEEDED, "reason": reason, "time": time.time(), "by": reason}
            records.replace(now.attempt.directory / "end.json", end)
            scheduler = get(self.machine.scheduler, other.store.directory)
            if record := now.attempt.job:
                scheduler.cancel(scheduler.job(record))
            notify.tell(other, self.machine, Outcome.SUCCEEDED, "")


def _save(experiment: Experiment, number: int) -> None:
    commit = saving.save(experiment, pipeline_of(experiment))
    record = {"attempt": number, "outputs": {}, "commit": commit, "time": time.time()}
    records.replace(experiment.saving.directory / "result.json", record)
    saving.forget_clone(experiment)
