"""What is known of experiments and their runs, gathered for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from mllam_exps import schedulers
from mllam_exps.attempts.progress_line import how_far
from mllam_exps.base.errors import MllamError
from mllam_exps.dvc.stages.phases import is_before_the_last
from mllam_exps.identity.run_keys import stage_of
from mllam_exps.runs.results import Result
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import Run
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.left import NOT_RUN, Left

_TOLD_FIRST = (
    RunState.RUNNING,
    RunState.UNKNOWN,
    RunState.STARTING,
    RunState.FAILED,
    RunState.LOST,
)
_TOLD_LAST = (RunState.CANCELLED, RunState.PENDING, RunState.NEW)
"""The state of an experiment is the first of these that a stage is in; between the two, that of its saving."""
INCOMPLETE = "incomplete"
"""Of an experiment with nothing to come, whose commit holds no result of its own of some stages, or of all."""


_OF_ATTEMPT = (
    "experiment",
    "attempts",
    "owner",
    "tries",
    "scheduler",
    "job",
    "node",
    "submitted",
    "started",
    "ended",
    "elapsed",
    "progress",
    "log",
)
"""What is told of a run's newest attempt, in this order; null of what is not known."""


@dataclass(frozen=True)
class Cell:
    """One stage of one experiment: its run, and what is known of it."""

    run: Run
    now: Assessment

    @property
    def is_smoke(self) -> bool:
        """Whether `mllam-exps smoke` asked for it."""
        definition = self.run.definition
        return bool(definition and definition.smoke)

    @property
    def result_set_aside(self) -> Result | None:
        """The result of its newest attempt that was damaged, and set aside."""
        attempt = self.now.attempt
        aside = attempt.set_aside if attempt else None
        return aside.result if aside else None

    @property
    def has_stopped(self) -> bool:
        """Whether it was tried, and ended without a result."""
        return self.now.state.stopped and not self.now.untried

    def to_record(self) -> dict[str, Any]:
        """Return what is known, JSON-able."""
        of_run = {
            "key": self.run.key,
            "stage": self.run.stage,
            "smoke": self.is_smoke,
            "state": str(self.now.state),
            "reason": self.now.problem.line,
            "next": self.now.problem.next,
            "hopeless": self.now.hopeless,
        }
        return of_run | self._attempt_record()

    def _attempt_record(self) -> dict[str, Any]:
        """Return what is known of its newest attempt, JSON-able."""
        found: dict[str, Any] = dict.fromkeys(_OF_ATTEMPT) | {"attempts": 0, "tries": 0}
        attempt = self.now.attempt
        if attempt is None:
            return found
        found["attempts"], found["tries"] = attempt.number, self.tries
        found["owner"] = attempt.maker
        if claim := attempt.claim:
            found["experiment"] = claim.experiment
            found["scheduler"] = claim.scheduler
            found["submitted"] = attempt.claimed_at
        found["job"], found["node"] = self.job, self.node
        if attempt.started:
            found["started"] = attempt.started_at
        if attempt.ended is not None:
            found["ended"] = attempt.ended_at
        found["elapsed"] = self.elapsed
        if self.now.state is RunState.RUNNING and (progress := attempt.progress):
            found["progress"] = progress.to_record()
        found["log"] = str(attempt.log)
        return found

    def word(self, *, over: bool) -> str:
        """Return its state in the word that people read.

        Parameters
        ----------
        over : bool
            Whether nothing of its experiment is to come by itself.
        """
        word = str(self.now.state)
        if self.now.starts_unasked:
            word = NOT_RUN if over else "waits"
        if self.now.state is RunState.RUNNING and self.now.attempt is not None:
            progress = self.now.attempt.progress
            if progress is not None and progress.done is not None:
                word = how_far(self.now)
        if self.tries > 1 and self.now.state is not RunState.DONE:
            word = f"{word} (try {self.tries})"
        return word

    @property
    def tries(self) -> int:
        """How many attempts were started, or may be yet; those that were given up before that are none.

        Nor are those that found that they had to wait.
        """
        attempt = self.now.attempt
        if attempt is None:
            return 0
        found = 0
        for one in self.run.attempts() if attempt.number > 1 else [attempt]:
            may_start = one.started is not None or one == attempt
            if may_start and not one.had_to_wait:
                found += 1
        return found

    @property
    def job(self) -> str | None:
        """The job, as its scheduler calls it."""
        attempt = self.now.attempt
        if attempt is None:
            return None
        try:
            scheduler = schedulers.get(attempt.scheduler, self.run.store)
        except MllamError:
            return None  # a scheduler that this version does not know
        job = attempt.job(scheduler)
        return job.label if job else None

    @property
    def node(self) -> str | None:
        """Where it runs."""
        if self.now.state is not RunState.RUNNING or self.now.attempt is None:
            return None
        started = self.now.attempt.started
        return started.place if started else None

    @property
    def elapsed(self) -> float | None:
        """Seconds since its newest attempt started, until it ended, or was heard of last."""
        attempt = self.now.attempt
        if attempt is None or not attempt.started:
            return None
        # No clock of a host: that of the node where it started may be minutes off from
        # the one here.
        if attempt.ended is not None:
            until = attempt.ended_at
        elif self.now.state.living:
            until = attempt.heard_of_at
        else:
            return None
        return max(0.0, until - attempt.started_at)


@dataclass(frozen=True)
class Row:
    """One experiment: submitted, or run by `dvc exp run`, which leaves nothing in the store but its runs.

    Parameters
    ----------
    name : str
        Its name.
    cells : dict
        By stage.
    experiment : Experiment or None
        As the store has it; None where it was not submitted.
    saving : Cell or None
        Its saving, where it was submitted.
    removed : bool
        Whether it was saved, and its repository has it no more.
    saved_as : str
        The name that its repository has it under, if it was renamed since it was saved.
    older : bool
        Whether a later submission of this repository has its name: who names it means
        that one.
    asked_at : float
        When it last asked for a run, or was saved, if it was not submitted.
    origin : str
        Its repository, if it was not submitted.
    commit : str
        What `dvc exp run` saved it as, if it was not submitted.
    left : dict
        The stages of which that commit holds no result of its own.
    needs_advance : bool
        Whether something of it waits in the run store, and nothing at work will submit
        it.
    """

    name: str
    cells: dict[str, Cell] = field(default_factory=dict)
    experiment: Experiment | None = None
    saving: Cell | None = None
    removed: bool = False
    saved_as: str = ""
    older: bool = False
    asked_at: float = 0.0
    origin: str = ""
    commit: str = ""
    left: Mapping[str, Left] = field(default_factory=dict)
    needs_advance: bool = False

    def is_called(self, pattern: str) -> bool:
        """Tell whether a name, or a pattern with ``*``, means it."""
        names = filter(None, (self.name, self.saved_as))
        return any(fnmatchcase(name, pattern) for name in names)

    @property
    def called(self) -> str:
        """What a command has to be told to take this one."""
        return self.experiment.identity if self.older and self.experiment else self.name

    @property
    def state(self) -> RunState:
        """The state of the whole."""
        states = {cell.now.state for cell in self.cells.values()}
        if self.saving is not None:
            return _with_saving(states, self.saving.now.state)
        return _first_of((*_TOLD_FIRST, *_TOLD_LAST), states) or RunState.DONE

    @property
    def state_word(self) -> str:
        """The state of the whole, in the word that programs read."""
        is_done = self.state is RunState.DONE
        return INCOMPLETE if is_done and self.left else str(self.state)

    @property
    def is_saved(self) -> bool:
        """Whether DVC has it: its commit names its results."""
        if self.saving is None:
            return bool(self.commit)
        return self.saving.now.state is RunState.DONE

    @property
    def over(self) -> bool:
        """Whether nothing is to come by itself."""
        if self.saving is not None and not self.saving.now.state.settled:
            return False
        return not any(cell.now.state.living for cell in self.cells.values())

    @property
    def has_failed(self) -> bool:
        """Whether it ended without its results, and is what its name means."""
        return self.over and self.state.stopped and not self.older

    @property
    def stuck(self) -> bool:
        """Whether it is not over, and nothing of it will go on by itself: a job will never run, others wait for it."""
        cells = self.cells.values()
        blocked = {cell.run.key for cell in cells if cell.now.hopeless}
        living = {cell.run.key for cell in cells if cell.now.state.living}
        for step in self.experiment.steps if self.experiment else ():
            if not blocked.isdisjoint(step.needs):
                blocked.add(step.key)
        return bool(blocked) and living <= blocked

    @property
    def waits(self) -> str:
        """Why something of it that could be submitted was not; empty where nothing waits."""
        if self.experiment is None or self.over:
            return ""
        states = [cell.now.state for cell in self.cells.values()]
        return self.experiment.waits if RunState.NEW in states else ""

    @property
    def last_change(self) -> float:
        """When something last happened to it."""
        times = [self.asked_at]
        for cell in (*self.cells.values(), self.saving):
            if cell is not None and cell.now.attempt is not None:
                times += [cell.now.attempt.ended_at, cell.now.attempt.claimed_at]
        created = self.experiment.created if self.experiment else 0.0
        return max(times) or created

    def is_past(self, stage: str) -> bool:
        """Tell whether it needs a stage's result no more: it is saved, and that was a phase before the last."""
        return self.is_saved and is_before_the_last(stage)

    def word(self, stage: str) -> str:
        """Return the state of a stage in the word that people read; empty where it has no such stage."""
        if cell := self.cells.get(stage):
            was_removed = self.is_saved and cell.now.attempt is None
            return "removed" if was_removed else cell.word(over=self.over)
        if stage in self.left:
            return self.left[stage].word
        steps = self.experiment.steps if self.experiment else ()
        return "known" if stage in [step.stage for step in steps] else ""

    @property
    def saved_word(self) -> str:
        """Whether it is saved, in the word that people read, or its commit's first digits."""
        if self.experiment is None or self.saving is None:
            return self.commit[:7]
        if self.removed:
            return "removed"
        if self.saving.now.state is RunState.DONE:
            renamed = f", now {self.saved_as}" if self.saved_as else ""
            return f"{self.experiment.commit[:7]}{renamed}"
        if self.saving.now.state is RunState.CANCELLED:
            return str(RunState.CANCELLED)
        attempt = self.saving.now.attempt
        has_started = attempt is not None and attempt.started is not None
        is_running = self.saving.now.state is RunState.RUNNING
        return "being saved" if has_started and is_running else ""

    def stage_records(self) -> list[dict[str, Any]]:
        """Return what is known of each stage, JSON-able; a phase of one has a name of its own here."""
        return [
            cell.to_record() | {"stage": stage} for stage, cell in self.cells.items()
        ]

    def to_record(self) -> dict[str, Any]:
        """Return what is known, JSON-able."""
        submitted = self.experiment
        commit = submitted.commit if submitted else self.commit
        return {
            "name": self.name,
            "state": self.state_word,
            "over": self.over,
            "stuck": self.stuck,
            "user": submitted.user if submitted else None,
            "parameters": submitted.overrides if submitted else None,
            "created": submitted.created if submitted else None,
            "commit": commit or None,
            "removed": self.removed,
            "saved_as": self.saved_as or None,
            "waits": self.waits,
            "needs_advance": self.needs_advance,
            "stages": self.stage_records(),
            "left": {stage: one.why for stage, one in self.left.items()},
            "saving": self.saving.to_record() if self.saving else None,
        }


def _first_of(order: Iterable[RunState], states: set[RunState]) -> RunState | None:
    """Return the first state, in this order, that a stage is in."""
    return next((state for state in order if state in states), None)


def _with_saving(states: set[RunState], saving: RunState) -> RunState:
    """Return the state of an experiment whose stages and saving are in these states."""
    if saving is RunState.DONE or not states:
        return saving
    if first := _first_of(_TOLD_FIRST, states):
        return first
    if saving.stopped:
        return saving
    if last := _first_of(_TOLD_LAST, states):
        return last
    return RunState.PENDING if saving is RunState.NEW else saving


def stages_in_order(rows: Iterable[Row]) -> list[str]:
    """Return the stages of all rows, each behind those whose outputs it reads; what is left open, as they come.

    Experiments of several repositories may stand in one table, so no single dvc.yaml
    says the order.
    """
    needs: dict[str, list[str]] = {}
    shown: set[str] = set()
    for row in rows:
        shown.update(row.cells)
        for stage, needed in _needs_of(row).items():
            needs.setdefault(stage, []).extend(needed)
    ordered: list[str] = []
    visited: set[str] = set()

    def add(stage: str) -> None:
        if stage not in visited:
            visited.add(stage)
            for need in needs.get(stage, ()):
                add(need)
            ordered.append(stage)

    for stage in needs:
        add(stage)
    return [stage for stage in ordered if stage in shown]


def _needs_of(row: Row) -> dict[str, list[str]]:
    """Return, by stage, the stages of an experiment whose outputs it reads."""
    if row.experiment is None:
        found = {stage: _needs(cell.run) for stage, cell in row.cells.items()}
        return {stage: [stage_of(key) for key in keys] for stage, keys in found.items()}
    steps = row.experiment.steps
    names = {step.key: step.stage for step in steps}
    return {
        step.stage: [names.get(key) or stage_of(key) for key in step.needs]
        for step in steps
    }


def _needs(run: Run) -> list[str]:
    """Return the keys of the runs whose outputs a run reads."""
    definition = run.definition
    inputs = definition.inputs if definition else ()
    return [source.run for source in inputs if source.run]
