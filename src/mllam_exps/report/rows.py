"""What is known of experiments and their runs, gathered for people and for programs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mllam_exps import experiments, schedulers
from mllam_exps.assess import Assessment, RunState, assess
from mllam_exps.cleaning import is_in_git
from mllam_exps.errors import MllamError
from mllam_exps.experiments import Experiment
from mllam_exps.git_calls import ask_git
from mllam_exps.report.here import Here
from mllam_exps.runs import Run

RECENT_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Cell:
    """One stage of one experiment: its run, and what is known of it."""

    run: Run
    now: Assessment

    def to_record(self) -> dict[str, Any]:
        """Return what is known, JSON-able."""
        attempt, now = self.now.attempt, self.now
        claim = (attempt.claim or {}) if attempt else {}
        end = (attempt.end or {}) if attempt else {}
        told, _, way_out = now.reason.partition("\n  → ")
        return {
            "key": self.run.key,
            "stage": self.run.stage,
            "smoke": bool((self.run.definition or {}).get("smoke")),
            "state": str(now.state),
            "reason": told.partition("\n")[0],
            "next": way_out,
            "hopeless": now.hopeless,
            "experiment": claim.get("experiment"),
            "attempts": attempt.number if attempt else 0,
            "tries": self.tries,
            "scheduler": claim.get("scheduler"),
            "job": self.job,
            "node": self.node,
            "submitted": attempt.claimed_at if attempt and claim else None,
            "started": attempt.started_at if attempt and attempt.started else None,
            "ended": attempt.ended_at if attempt and end else None,
            "elapsed": self.elapsed,
            "progress": attempt.progress if attempt and now.state is RunState.RUNNING else None,
            "log": str(attempt.log) if attempt else None,
        }

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
        if attempt is None or not (record := attempt.job) or not (claim := attempt.claim):
            return None
        with contextlib.suppress(MllamError):  # a scheduler that this version does not know
            return schedulers.get(claim["scheduler"], self.run.store).job(record).label
        return None

    @property
    def node(self) -> str | None:
        """Where it runs."""
        if self.now.state is not RunState.RUNNING or self.now.attempt is None:
            return None
        started = self.now.attempt.started or {}
        node: str | None = started.get("node") or started.get("host")
        return node

    @property
    def elapsed(self) -> float | None:
        """Seconds since its newest attempt started, until it ended, or was heard of last."""
        attempt = self.now.attempt
        if attempt is None or not attempt.started:
            return None
        ended = attempt.end is not None
        if not ended and not self.now.state.living:
            return None
        # No clock of a host: that of the node where it started may be minutes off from the one here.
        return max(0.0, (attempt.ended_at if ended else attempt.heard_of_at) - attempt.started_at)


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
    """

    name: str
    cells: dict[str, Cell] = field(default_factory=dict)
    experiment: Experiment | None = None
    saving: Cell | None = None
    removed: bool = False

    @property
    def state(self) -> RunState:
        """The state of the whole."""
        states = [cell.now.state for cell in self.cells.values()]
        if self.saving is not None and (self.saving.now.state is RunState.DONE or not states):
            return self.saving.now.state
        for first in (RunState.RUNNING, RunState.UNKNOWN, RunState.STARTING, RunState.FAILED, RunState.LOST):
            if first in states:
                return first
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
            return self.saving.now.state.settled and not any(c.now.state.living for c in self.cells.values())
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
        if self.experiment is None or self.over or not any(c.now.state is RunState.NEW for c in self.cells.values()):
            return ""
        return self.experiment.waits

    @property
    def last_change(self) -> float:
        """When something last happened to it."""
        cells = [*self.cells.values(), *([self.saving] if self.saving else [])]
        attempts = [cell.now.attempt for cell in cells if cell.now.attempt is not None]
        times = [time for attempt in attempts for time in (attempt.ended_at, attempt.claimed_at) if time]
        return max(times, default=self.experiment.created if self.experiment else 0.0)

    def to_record(self) -> dict[str, Any]:
        """Return what is known, JSON-able."""
        submitted = self.experiment
        saved = (submitted.saving.result or {}) if submitted else {}
        return {
            "name": self.name,
            "state": str(self.state),
            "over": self.over,
            "stuck": self.stuck,
            "user": submitted.user if submitted else None,
            "parameters": submitted.overrides if submitted else None,
            "created": submitted.created if submitted else None,
            "commit": saved.get("commit"),
            "removed": self.removed,
            "waits": self.waits,
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
        Those that were finished long ago, and those of other repositories of the store, too.
    """
    states: dict[str, Assessment] = {}

    def cell(run: Run) -> Cell:
        if run.key not in states:
            states[run.key] = assess(run)
        return Cell(run, states[run.key])

    rows: list[Row] = []
    shared: set[str] = set()
    for experiment in experiments.of_store(here.store):
        shared |= {step.key for step in experiment.steps}
        if everything or experiment.origin == str(here.workspace.origin):
            cells = {stage: cell(run) for stage, run in experiment.runs.items()}
            rows.append(Row(experiment.name, cells, experiment, Cell(experiment.saving, assess(experiment.saving))))
    if not everything:
        newest = {row.experiment.place: row for row in rows if row.experiment}
        rows = [row for row in rows if row.experiment and (newest[row.experiment.place] is row or not row.over)]
    others: dict[str, Row] = {}
    for run in here.store.runs():
        if run.key not in shared:
            found = cell(run)
            claim = (found.now.attempt.claim or {}) if found.now.attempt else {}
            smoke = " (smoke)" if (run.definition or {}).get("smoke") else ""
            name = f"{claim.get('experiment') or 'workspace'}{smoke}"
            row = others.setdefault(name, Row(name))
            before = row.cells.get(run.stage)
            if before is None or _age(before) <= _age(found):
                row.cells[run.stage] = found
    rows += others.values()
    if names:
        rows = [row for row in rows if any(fnmatchcase(row.name, name) for name in names)] or _of_stages(rows, names)
    if not everything:
        since = time.time() - RECENT_SECONDS
        rows = [row for row in rows if not (row.over and row.state is RunState.DONE) or row.last_change >= since]
    refs = ask_git(here.workspace.origin, "for-each-ref", "--format=%(objectname)", "refs/exps").split()
    order = stages_in_order(rows)
    for number, row in enumerate(rows):
        cells = {stage: row.cells[stage] for stage in order if stage in row.cells}
        rows[number] = replace(row, cells=cells, removed=_is_removed(row, here, refs))
    return sorted(rows, key=lambda row: row.experiment.created if row.experiment else row.last_change)


def stages_in_order(rows: Iterable[Row]) -> list[str]:
    """Return the stages of all rows, each behind those whose outputs it reads; what is left open, as they come.

    Experiments of several repositories may stand in one table, so no single dvc.yaml says the order.
    """
    needs: dict[str, list[str]] = {}
    shown: set[str] = set()
    for row in rows:
        shown.update(row.cells)
        if row.experiment is not None:
            found: dict[str, Iterable[str]] = {step.stage: step.needs for step in row.experiment.steps}
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
    inputs = (run.definition or {}).get("inputs") or {}
    return [source["run"] for source in inputs.values() if source.get("run")]


def _is_removed(row: Row, here: Here, refs: Collection[str]) -> bool:
    """Tell whether a saved experiment of this repository was removed from it."""
    experiment = row.experiment
    if experiment is None or experiment.origin != str(here.workspace.origin):
        return False
    commit = (experiment.saving.result or {}).get("commit")
    return commit is not None and commit not in refs and not is_in_git(experiment)


def _of_stages(rows: list[Row], stages: list[str]) -> list[Row]:
    """Return the experiments with nothing but these stages."""
    found = [replace(row, cells={s: cell for s, cell in row.cells.items() if s in stages}) for row in rows]
    return [row for row in found if row.cells]


def _age(cell: Cell) -> float:
    attempt = cell.now.attempt
    return attempt.claimed_at if attempt else 0.0
