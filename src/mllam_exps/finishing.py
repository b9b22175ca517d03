"""What the last job of an experiment does: it saves it, or writes down what stopped it, and lets others go.

It starts when the stages' jobs have ended, however they did: a job that was killed has no word to say.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mllam_exps import dispatch, experiments, notify, records, saving
from mllam_exps.attempt import Supervisor
from mllam_exps.chain import Chain, Standing, machine_of, pipeline_of
from mllam_exps.errors import MllamError
from mllam_exps.experiments import Experiment
from mllam_exps.machines import Machine
from mllam_exps.room import Room
from mllam_exps.schedulers import get
from mllam_exps.store import Attempt, Outcome


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
        standing = chain.advance(again=False)
        if standing.done:
            self._save()
        elif standing.failure and not standing.living:
            stage, now = standing.failure
            why = now.reason.partition("\n")[0] or str(now.state)
            raise MllamError(f"{stage} {now.state}", why=why, next=f"mllam-exps retry {experiment.name}")
        else:
            self._go_on(chain, standing)

    def _save(self) -> None:
        commit = saving.save(self.experiment, pipeline_of(self.experiment))
        record = {"attempt": self.attempt.number, "outputs": {}, "commit": commit, "time": time.time()}
        records.replace(self.attempt.run.directory / "result.json", record)
        saving.forget_clone(self.experiment)

    def _go_on(self, chain: Chain, standing: Standing) -> None:
        """Leave what is still to come to the next attempt, behind the jobs that it waits for."""
        if standing.jobs:
            chain.start_saving(tuple(standing.jobs.values()))
        self._stop(Outcome.REFUSED, standing.waits or "it waits for its stages")
        self._raise_if_stopped()

    def _outcome(self, reserve: Path) -> tuple[Outcome, str]:
        outcome, reason = super()._outcome(reserve)
        if outcome in {Outcome.SUCCEEDED, Outcome.FAILED}:
            notify.tell(self.experiment, self.machine, str(outcome), reason)
        return outcome, reason

    def afterwards(self) -> None:
        """Submit what waits in the store, now that this experiment's jobs make room."""
        try:
            dispatch.dispatch(self.experiment.store)
        except (MllamError, OSError) as error:
            print(f"what waits in the run store could not be submitted: {error}", file=sys.stderr, flush=True)
