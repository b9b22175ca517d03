"""Cancels submitted experiments: stops their savings and their runs, and writes down that they were cancelled.

A run that somebody else waits for goes on, unless it is forced to stop.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

from mllam_exps.attempts.stopping import (
    PATIENCE,
    SILENT_PATIENCE,
    ask_to_stop,
    wait_for,
)
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import SilentError
from mllam_exps.submission import experiments
from mllam_exps.submission.experiment import Experiment

CANCELLED = "cancelled"
TRIES, PAUSE = 20, 0.1
"""How often, and after how many seconds, it is looked again whether an experiment lets itself be called off."""


class Cancellation:
    """The cancelling of some experiments.

    Parameters
    ----------
    store : RunStore
        In which they are.
    wanted : list of Experiment
        Those to cancel.
    force : bool
        Whether runs are stopped that somebody else waits for.
    tell : callable
        Is given a line for people.
    """

    def __init__(
        self,
        store: RunStore,
        wanted: list[Experiment],
        *,
        force: bool,
        tell: Callable[[str], None],
    ) -> None:
        for experiment in wanted:
            if not experiment.is_mine:
                whose = f"{experiment.user} submitted it"
                raise UsageError("is not yours", experiment.name, whose)
        self.store, self.wanted, self.tell = store, wanted, tell
        self.me = ProcessIdentity.of()
        self.silence: SilentError | None = None
        """What the scheduler said that did not answer."""
        self.over = {one.identity for one in wanted if assess(one.saving).state.settled}
        """The identities of those that had ended before."""
        self.going_on: list[Experiment] = []
        """Those that another command is just submitting."""
        self.kept = {} if force else self._wanted_by_others()

    def _wanted_by_others(self) -> dict[str, str]:
        """Return who else waits for runs of these experiments, by the runs' keys."""
        ours = {one.identity for one in self.wanted}
        waits: dict[str, str] = {}
        for other in experiments.unsaved(self.store):
            if other.identity in ours or assess(other.saving).state.settled:
                continue
            for step in other.steps:
                waits[step.key] = f"experiment {other.name}"
        kept: dict[str, str] = {}
        for run in self._runs():
            waiters = run.other_waiters(self.me)
            if run.key in waits:
                kept[run.key] = waits[run.key]
            elif waiters:
                kept[run.key] = f"process {waiters[0].pid} on {waiters[0].host}"
        return kept

    def _runs(self) -> Iterable[Run]:
        """Return the runs of these experiments, each once."""
        runs: dict[str, Run] = {}
        for experiment in self.wanted:
            for run in experiment.runs.values():
                runs[run.key] = run
        return runs.values()

    def stop(self) -> list[Attempt]:
        """Stop what is at work; return the attempts that have not stopped yet."""
        for run in self._runs():
            now = assess(run)
            if run.key in self.kept and (now.state.living or now.another_follows):
                who = self.kept[run.key]
                self.tell(f"{run.stage} goes on: {who} waits for it ({run.key})")
        late = wait_for(self._ask_all(), self._patience(SILENT_PATIENCE))
        with lock(self.store, SUBMISSIONS, wait=True):
            # Whoever was submitting some of it has done so by now.
            again = self._ask_all()
            self._let_nothing_follow()
            self.note_the_ends()
        # What did not stop before will not do so now.
        known = {attempt.directory for attempt in late}
        new = [attempt for attempt in again if attempt.directory not in known]
        late += wait_for(new, self._patience(0))
        self.note_the_ends()
        return late

    def _patience(self, in_silence: float) -> float:
        return PATIENCE if self.silence is None else in_silence

    def _ask_all(self) -> list[Attempt]:
        """Ask all that is at work to stop, the savings first: none of them finds its stages cancelled."""
        runs = [experiment.saving for experiment in self.wanted]
        runs += [run for run in self._runs() if run.key not in self.kept]
        asked = []
        for run in runs:
            now = assess(run)
            if now.state.living and now.attempt is not None:
                self._ask(now.attempt)
                asked.append(now.attempt)
        return asked

    def _ask(self, attempt: Attempt) -> None:
        try:
            ask_to_stop(attempt, self.me)
        except SilentError as error:
            self.silence = self.silence or error
        except MllamError:
            pass  # the attempt itself may obey all the same

    def _let_nothing_follow(self) -> None:
        """Take back what is to follow by itself attempts that have ended; the caller holds the lock of submissions."""
        for run in self._runs():
            now = assess(run)
            if run.key in self.kept or not now.another_follows or now.attempt is None:
                continue
            # A colleague's attempt stays as it is: nobody waits for another one.
            with contextlib.suppress(MllamError):
                now.attempt.request_cancel(self.me)

    def note_the_ends(self) -> None:
        """Write down that they were cancelled, where nothing of them was at work: else `advance` would submit them."""
        self.going_on = [one for one in self.wanted if not _note_the_end(one)]


def _note_the_end(experiment: Experiment) -> bool:
    """Write it down, where nothing of it is at work; False where another command submits it."""
    for _ in range(TRIES):
        now = assess(experiment.saving).state
        if now.settled:
            return True
        # The process that submits what waits claims an attempt, too, to write down why
        # it can't go on yet.
        starting = now is RunState.STARTING
        if not starting and (now.living or experiments.call_off(experiment, CANCELLED)):
            return True
        time.sleep(PAUSE)
    return False
