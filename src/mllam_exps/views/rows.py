"""What is known of experiments and their runs, gathered for people and for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mllam_exps import schedulers
from mllam_exps.attempts.progress_line import describe
from mllam_exps.base.errors import MllamError
from mllam_exps.runs import askers
from mllam_exps.runs.judge import Assessment, RunState, judge
from mllam_exps.runs.observe import observe
from mllam_exps.runs.records import Progress
from mllam_exps.runs.runs import Run
from mllam_exps.submission import backlog, experiments
from mllam_exps.submission.cleaning import is_in_git
from mllam_exps.submission.experiments import Experiment
from mllam_exps.views import saved
from mllam_exps.views.context import Here
from mllam_exps.views.saved import Results, Saved

RECENT_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Cell:
    """One stage of one experiment: its run, and what is known of it."""

    run: Run
    now: Assessment

    def to_record(self) -> dict[str, Any]:
        """Return what is known, JSON-able."""
        attempt, now = self.now.attempt, self.now
        claim = attempt.claim if attempt else None
        ended = attempt is not None and attempt.ended is not None
        definition = self.run.definition
        progress = None
        if attempt and now.state is RunState.RUNNING:
            progress = attempt.progress
        return {
            "key": self.run.key,
            "stage": self.run.stage,
            "smoke": bool(definition and definition.smoke),
            "state": str(now.state),
            "reason": now.problem.line,
            "next": now.problem.next,
            "hopeless": now.hopeless,
            "experiment": claim.experiment if claim else None,
            "attempts": attempt.number if attempt else 0,
            "tries": self.tries,
            "scheduler": claim.scheduler if claim else None,
            "job": self.job,
            "node": self.node,
            "submitted": attempt.claimed_at if attempt and claim else None,
            "started": attempt.started_at if attempt and attempt.started else None,
            "ended": attempt.ended_at if attempt and ended else None,
            "elapsed": self.elapsed,
            "progress": progress.to_record() if progress else None,
            "log": str(attempt.log) if attempt else None,
        }

    def word(self, *, over: bool) -> str:
        """Return its state in the word that people read.

        Parameters
        ----------
        over : bool
            Whether nothing of its experiment is to come by itself.
        """
        word = str(self.now.state)
        if self.now.state is RunState.NEW or self.now.untried:
            word = "not run" if over else "waits"
        if self.now.state is RunState.RUNNING and self.now.attempt is not None:
            progress = self.now.attempt.progress or Progress()
            word = "running"
            if progress.done is not None:
                word = describe(self.now).partition(" (")[0]
        if self.tries > 1 and self.now.state is not RunState.DONE:
            word = f"{word} (try {self.tries})"
        return word

    @property
    def tries(self) -> int:
        """How many attempts were started, or may be yet; those that were given up before that are none."""
        attempt = self.now.attempt
        if attempt is None or attempt.number == 1:
            return attempt.number if attempt else 0
        return sum(a.started is not None or a == attempt for a in self.run.attempts())

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
        ended = attempt.ended is not None
        if not ended and not self.now.state.living:
            return None
        # No clock of a host: that of the node where it started may be minutes off from
        # the one here.
        return max(
            0.0,
            (attempt.ended_at if ended else attempt.heard_of_at) - attempt.started_at,
        )


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
    older : bool
        Whether a later submission of this repository has its name: who names it means
        that one.
    asked_at : float
        When it last asked for a run, or was saved, if it was not submitted.
    commit : str
        What `dvc exp run` saved it as, if it was not submitted.
    needs_advance : bool
        Whether something of it waits in the run store, and nothing at work will submit
        it.
    """

    name: str
    cells: dict[str, Cell] = field(default_factory=dict)
    experiment: Experiment | None = None
    saving: Cell | None = None
    removed: bool = False
    older: bool = False
    asked_at: float = 0.0
    commit: str = ""
    needs_advance: bool = False

    @property
    def called(self) -> str:
        """What a command has to be told to take this one."""
        return self.experiment.identity if self.older and self.experiment else self.name

    @property
    def state(self) -> RunState:
        """The state of the whole."""
        states = [cell.now.state for cell in self.cells.values()]
        if self.saving is not None and (
            self.saving.now.state is RunState.DONE or not states
        ):
            return self.saving.now.state
        for first in (
            RunState.RUNNING,
            RunState.UNKNOWN,
            RunState.STARTING,
            RunState.FAILED,
            RunState.LOST,
        ):
            if first in states:
                return first
        if self.saving is not None and self.saving.now.state.stopped:
            return self.saving.now.state
        for first in (RunState.CANCELLED, RunState.PENDING, RunState.NEW):
            if first in states:
                return first
        if self.saving is None or self.saving.now.state is RunState.NEW:
            return RunState.DONE if self.saving is None else RunState.PENDING
        return self.saving.now.state

    @property
    def over(self) -> bool:
        """Whether nothing is to come by itself."""
        if self.saving is not None:
            return self.saving.now.state.settled and not any(
                c.now.state.living for c in self.cells.values()
            )
        return not any(cell.now.state.living for cell in self.cells.values())

    @property
    def stuck(self) -> bool:
        """Whether it is not over, and nothing of it will go on by itself: a job will never run, others wait for it."""
        blocked = {cell.run.key for cell in self.cells.values() if cell.now.hopeless}
        living = {cell.run.key for cell in self.cells.values() if cell.now.state.living}
        if not blocked:
            return False
        for step in self.experiment.steps if self.experiment else ():
            if blocked & set(step.needs):
                blocked.add(step.key)
        return living <= blocked

    @property
    def waits(self) -> str:
        """Why something of it that could be submitted was not; empty where nothing waits."""
        if (
            self.experiment is None
            or self.over
            or not any(c.now.state is RunState.NEW for c in self.cells.values())
        ):
            return ""
        return self.experiment.waits

    @property
    def last_change(self) -> float:
        """When something last happened to it."""
        cells = [*self.cells.values(), *([self.saving] if self.saving else [])]
        attempts = [cell.now.attempt for cell in cells if cell.now.attempt is not None]
        times = [
            time
            for attempt in attempts
            for time in (attempt.ended_at, attempt.claimed_at)
            if time
        ]
        times += [self.asked_at] if self.asked_at else []
        return max(
            times, default=self.experiment.created if self.experiment else self.asked_at
        )

    def word(self, stage: str) -> str:
        """Return the state of a stage in the word that people read; empty where it has no such stage."""
        if (cell := self.cells.get(stage)) is not None:
            return cell.word(over=self.over)
        known = self.experiment is not None and any(
            step.stage == stage for step in self.experiment.steps
        )
        return "known" if known else ""

    @property
    def saved_word(self) -> str:
        """Whether it is saved, in the word that people read, or its commit's first digits."""
        if self.experiment is None or self.saving is None:
            return self.commit[:7]
        if self.removed:
            return "removed"
        if self.saving.now.state is RunState.DONE:
            return self.experiment.commit[:7]
        started = (
            self.saving.now.attempt is not None
            and self.saving.now.attempt.started is not None
        )
        return (
            "being saved"
            if started and self.saving.now.state is RunState.RUNNING
            else ""
        )

    def to_record(self) -> dict[str, Any]:
        """Return what is known, JSON-able."""
        submitted = self.experiment
        commit = submitted.commit if submitted else self.commit
        return {
            "name": self.name,
            "state": str(self.state),
            "over": self.over,
            "stuck": self.stuck,
            "user": submitted.user if submitted else None,
            "parameters": submitted.overrides if submitted else None,
            "created": submitted.created if submitted else None,
            "commit": commit or None,
            "removed": self.removed,
            "waits": self.waits,
            "needs_advance": self.needs_advance,
            "stages": [cell.to_record() for cell in self.cells.values()],
            "saving": self.saving.to_record() if self.saving else None,
        }


def gather(here: Here, names: list[str], *, everything: bool) -> list[Row]:
    """Return the experiments, those that something happened to last at the end.

    Parameters
    ----------
    names : list of str
        Names, or patterns with ``*``; or stages; none is all.
    everything : bool
        Those that were finished long ago, and those of other repositories of the store,
        too.
    """
    states: dict[str, Assessment] = {}

    def cell(run: Run) -> Cell:
        if run.key not in states:
            states[run.key] = judge(observe(run))
        return Cell(run, states[run.key])

    rows: list[Row] = []
    submitted: dict[str, set[str]] = {}
    newest: dict[tuple[str, str], Experiment] = {}
    for experiment in experiments.of_store(here.store):
        for step in experiment.steps:
            submitted.setdefault(step.key, set()).add(experiment.name)
        if everything or experiment.origin == str(here.workspace.origin):
            newest[experiment.origin, experiment.name] = experiment
            cells = {stage: cell(run) for stage, run in experiment.runs.items()}
            rows.append(
                Row(
                    experiment.name,
                    cells,
                    experiment,
                    Cell(experiment.saving, judge(observe(experiment.saving))),
                )
            )
    for number, row in enumerate(rows):
        if (
            row.experiment
            and newest[row.experiment.origin, row.name] is not row.experiment
        ):
            rows[number] = replace(row, older=True)
    if not everything:
        places = {row.experiment.place: row for row in rows if row.experiment}
        rows = [
            row
            for row in rows
            if row.experiment and not _is_history(row, places[row.experiment.place])
        ]
    in_git = saved.experiments_of(here.workspace.origin)
    others = _not_submitted(here, submitted, cell, everything=everything)
    rows += _with_commits(
        here, others, in_git, [row for row in rows if row.experiment], cell
    )
    if names:
        rows = [
            row for row in rows if any(fnmatchcase(row.name, name) for name in names)
        ] or _of_stages(rows, names)
    if not everything:
        since = time.time() - RECENT_SECONDS
        rows = [
            row
            for row in rows
            if not (row.over and row.state is RunState.DONE) or row.last_change >= since
        ]
    refs = {one.commit for one in in_git}
    left = {experiment.identity for experiment in backlog.left_alone(here.store)}
    order = stages_in_order(rows)
    for number, row in enumerate(rows):
        cells = {stage: row.cells[stage] for stage in order if stage in row.cells}
        rows[number] = replace(
            row,
            cells=cells,
            removed=_is_removed(row, here, refs),
            needs_advance=row.experiment is not None
            and row.experiment.identity in left,
        )
    return sorted(
        rows,
        key=lambda row: row.experiment.created if row.experiment else row.last_change,
    )


def of_experiment(experiment: Experiment) -> Row:
    """Return what is known of one submitted experiment."""
    cells = {
        stage: Cell(run, judge(observe(run))) for stage, run in experiment.runs.items()
    }
    return Row(
        experiment.name,
        cells,
        experiment,
        Cell(experiment.saving, judge(observe(experiment.saving))),
    )


def _is_history(row: Row, newest: Row) -> bool:
    """Tell whether a later submission stands for an experiment: it took over its name, and nothing is left to do."""
    return row.over and (newest is not row or (row.older and row.state.stopped))


def _not_submitted(
    here: Here,
    submitted: Mapping[str, Collection[str]],
    cell: Callable[[Run], Cell],
    *,
    everything: bool,
) -> list[Row]:
    """Return what `dvc exp run` ran, and the workspace: each with all runs that it asked for, shared or not.

    Parameters
    ----------
    submitted : dict
        By run key the names of the submitted experiments that have it.
    """
    origin = str(here.workspace.origin)
    found: dict[tuple[str, str], Row] = {}
    asked_at: dict[tuple[str, str, str], float] = {}
    for run in here.store.runs():
        names = submitted.get(run.key, ())
        who = list(askers.of(run, names))
        if (
            not who and not names
        ):  # it was submitted, and the experiment has been deleted since
            who = [askers.Asker(askers.of_last_attempt(run), "", run.begun_at)]
        definition = run.definition
        smoke = " (smoke)" if definition and definition.smoke else ""
        for asker in who:
            of_here = here.is_of_here(asker)
            if not (of_here or everything):
                continue
            place = f"{asker.name}{smoke}", origin if of_here else asker.origin
            row = found.setdefault(place, Row(place[0]))
            if asked_at.get((*place, run.stage), 0.0) <= asker.at:
                asked_at[*place, run.stage] = asker.at
                row.cells[run.stage] = cell(run)
                found[place] = replace(row, asked_at=max(row.asked_at, asker.at))
    return list(found.values())


def _with_commits(
    here: Here,
    rows: list[Row],
    in_git: list[Saved],
    submitted: list[Row],
    cell: Callable[[Run], Cell],
) -> list[Row]:
    """Return what was not submitted, with what git has of it; and what `dvc exp run` saved without asking for a run.

    DVC (3.67) takes from its own cache what it knows, and calls no stage's command
    then.
    """
    ours = {row.experiment.commit for row in submitted if row.experiment}
    newest = {one.name: one for one in reversed(in_git) if one.commit not in ours}
    found = [
        replace(row, commit=newest.pop(row.name).commit) if row.name in newest else row
        for row in rows
    ]
    results = Results.of(here.store) if newest else Results({})
    for one in newest.values():
        if runs := results.held_by(here.workspace.origin, one.commit):
            cells = {stage: cell(run) for stage, run in runs.items()}
            found.append(Row(one.name, cells, asked_at=one.at, commit=one.commit))
    return found


def stages_in_order(rows: Iterable[Row]) -> list[str]:
    """Return the stages of all rows, each behind those whose outputs it reads; what is left open, as they come.

    Experiments of several repositories may stand in one table, so no single dvc.yaml
    says the order.
    """
    needs: dict[str, list[str]] = {}
    shown: set[str] = set()
    for row in rows:
        shown.update(row.cells)
        if row.experiment is not None:
            found: dict[str, Iterable[str]] = {
                step.stage: step.needs for step in row.experiment.steps
            }
        else:
            found = {stage: _needs(cell.run) for stage, cell in row.cells.items()}
        for stage, keys in found.items():
            needs.setdefault(stage, []).extend(Run(Path(key)).stage for key in keys)
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


def _needs(run: Run) -> list[str]:
    """Return the keys of the runs whose outputs a run reads."""
    definition = run.definition
    inputs = definition.inputs if definition else ()
    return [source.run for source in inputs if source.run]


def _is_removed(row: Row, here: Here, refs: Collection[str]) -> bool:
    """Tell whether a saved experiment of this repository was removed from it."""
    experiment = row.experiment
    if experiment is None or experiment.origin != str(here.workspace.origin):
        return False
    commit = experiment.commit
    return bool(commit) and commit not in refs and not is_in_git(experiment)


def _of_stages(rows: list[Row], stages: list[str]) -> list[Row]:
    """Return the experiments with nothing but these stages."""
    found = [
        replace(row, cells={s: cell for s, cell in row.cells.items() if s in stages})
        for row in rows
    ]
    return [row for row in found if row.cells]
