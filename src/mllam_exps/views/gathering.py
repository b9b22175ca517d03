"""Gathers what is known of the experiments of a run store, as rows: the submitted ones, and what `dvc exp run` made."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.saved import experiment_refs
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.runs import askers
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.state.judge import Assessment, RunState, judge
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import Run
from mllam_exps.submission import experiments, standing
from mllam_exps.submission.applying import is_in_git
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.context import Context
from mllam_exps.views.looking import as_it_stays, of_run
from mllam_exps.views.rows import Cell, Row, stages_in_order
from mllam_exps.views.saved import Asked, Results, of_one_go

RECENT_SECONDS = 7 * 24 * 3600.0


def gather(here: Context, names: list[str], *, everything: bool) -> list[Row]:
    """Return the experiments, those that something happened to last at the end.

    Parameters
    ----------
    names : list of str
        Names, or patterns with ``*``; or stages; none is all.
    everything : bool
        Those that were finished long ago, and those of other repositories of the store,
        too.
    """
    return _Gathering(here, everything=everything).rows(names)


class _Gathering:
    """One look at all experiments; each run is looked at once."""

    def __init__(self, here: Context, *, everything: bool) -> None:
        self.here = here
        self.origin = here.workspace.origin
        self.everything = everything
        self._known: dict[str, Assessment] = {}
        self._asked: dict[tuple[str, str], dict[str, Asked]] = {}
        """The newest run of each stage that was asked for, by name and repository of who asked."""
        self._submitted: dict[str, set[str]] = {}
        """The names of the submitted experiments that have a run, by its key."""
        self._identities: set[str] = set()
        """All submitted experiments of the store."""

    def rows(self, names: list[str]) -> list[Row]:
        """Return the experiments of these names, or with these stages."""
        submitted = self._of_submitted()
        in_git = experiment_refs.saved_if_there(self.origin)
        rows = submitted + self._with_commits(self._not_submitted(), in_git, submitted)
        rows = self._renamed(rows, in_git)
        if not self.everything:
            rows = [row for row in rows if not _is_long_done(row)]
        called = [row for row in rows if any(map(row.is_called, names))]
        rows = self._by_commit(called or rows, in_git)
        if names and not called:
            rows = _with_stages(rows, names)
        rows = self._completed(rows, in_git)
        return sorted(rows, key=_place)

    def _cell(self, run: Run) -> Cell:
        if run.key not in self._known:
            self._known[run.key] = judge(observe(run))
        return Cell(run, self._known[run.key])

    def _cells(self, runs: Mapping[str, Run]) -> dict[str, Cell]:
        return {stage: self._cell(run) for stage, run in runs.items()}

    def _of_submitted(self) -> list[Row]:
        """Return the submitted experiments, oldest first."""
        rows: list[Row] = []
        newest: dict[tuple[str, str], Experiment] = {}
        for experiment in experiments.of_store(self.here.store):
            self._identities.add(experiment.identity)
            for step in experiment.steps:
                self._submitted.setdefault(step.key, set()).add(experiment.name)
            if self.everything or experiment.origin == str(self.origin):
                newest[experiment.origin, experiment.name] = experiment
                cells, saving = self._cells(experiment.runs), of_run(experiment.saving)
                row = Row(experiment.name, cells, experiment, saving)
                rows.append(as_it_stays(row))
        for number, row in enumerate(rows):
            one = row.experiment
            if one and newest[one.origin, one.name] is not one:
                rows[number] = replace(row, older=True)
        return rows if self.everything else _without_history(rows)

    def _not_submitted(self) -> list[Row]:
        """Return what `dvc exp run` ran, and the workspace: each with all runs that it asked for, shared or not."""
        asked = self._asked
        for run in self.here.store.runs():
            for place, asker in self._askers(run):
                of_place = asked.setdefault(place, {})
                before = of_place.get(run.stage)
                if before is None or before.at <= asker.at:
                    of_place[run.stage] = Asked(run, asker.at)
        found = []
        for (name, origin), of_place in asked.items():
            at = max(ask.at for ask in of_place.values())
            cells = self._cells(of_one_go(of_place))
            found.append(Row(name, cells, origin=origin, asked_at=at))
        return list(map(as_it_stays, found))

    def _askers(self, run: Run) -> list[tuple[tuple[str, str], askers.Asker]]:
        """Return who asked for a run, each with the name and the repository under which it is shown."""
        names = self._submitted.get(run.key, ())
        who = list(askers.of(run, names))
        if not who and not names:
            if self._is_just_submitted(run) or self._is_former(run):
                return []
            # It was submitted, and the experiment has been deleted since, or was refused
            # in the end: nobody is to go on with what stopped.
            if self._cell(run).now.state.stopped:
                return []
            who = [askers.Asker(askers.of_last_attempt(run), "", run.begun_at)]
        definition = run.definition
        smoke = " (smoke)" if definition and definition.smoke else ""
        found = []
        for asker in who:
            of_here = self.here.is_of_here(asker)
            if of_here or self.everything:
                origin = str(self.origin) if of_here else asker.origin
                found.append(((f"{asker.name}{smoke}", origin), asker))
        return found

    def _is_just_submitted(self, run: Run) -> bool:
        """Tell whether the experiment that tried a run was submitted after the experiments were read."""
        attempt = run.last_attempt()
        claim = attempt.claim if attempt else None
        place = experiments.folder(self.here.store)
        clone = Path(claim.workspace or "") if claim else Path()
        if not clone.is_relative_to(place) or clone == place:
            return False
        identity = clone.relative_to(place).parts[0]
        one = experiments.read(place / identity)
        return one is not None and run.key in {step.key for step in one.steps}

    def _is_former(self, run: Run) -> bool:
        """Tell whether an experiment that has another run by now asked for it."""
        of_one = not self._identities.isdisjoint(run.wanted)
        return of_one and not self._cell(run).now.state.living

    @staticmethod
    def _with_commits(
        rows: list[Row], in_git: list[Saved], submitted: list[Row]
    ) -> list[Row]:
        """Return what was not submitted, with the commits of what is saved; and what `dvc exp run` saved without a run.

        DVC (3.67) takes from its own cache what it knows, and calls no stage's command
        then.
        """
        ours: set[str] = set()
        for row in submitted:
            if experiment := row.experiment:
                # What it takes over (`--force`) keeps its name until it is saved.
                ours |= {experiment.commit, experiment.replaces}
                if row.saving and not row.saving.now.state.settled:
                    # git has it a moment before the run store says that it is saved.
                    own = experiment_refs.ref_of(experiment.baseline, experiment.name)
                    ours |= {one.commit for one in in_git if one.ref == own}
        newest = {one.name: one for one in reversed(in_git) if one.commit not in ours}
        found = []
        for row in rows:
            one = newest.pop(row.name, None)
            found.append(replace(row, commit=one.commit) if one else row)
        for one in newest.values():
            found.append(Row(one.name, asked_at=one.at, commit=one.commit))
        return found

    def _by_commit(self, rows: list[Row], in_git: list[Saved]) -> list[Row]:
        """Return the rows, those that `dvc exp run` saved with what their commits hold; without those of no run."""
        saved = {one.commit: one for one in in_git}
        results: Results | None = None
        found = []
        for row in rows:
            whole = row
            if one := saved.get(row.commit):
                results = results or Results.of(self.here.store)
                asked = self._asked.get((row.name, row.origin), {})
                told = results.told(self.origin, one, asked)
                cells = self._cells(told.runs)
                whole = as_it_stays(replace(row, cells=cells, left=told.left))
            of_store = results and not results.by_stage.keys().isdisjoint(whole.left)
            if whole.cells or whole.experiment or of_store:
                found.append(whole)
        return found

    def _completed(self, rows: list[Row], in_git: list[Saved]) -> list[Row]:
        """Return the rows with their stages in order, and with what is known of them by more than their runs."""
        refs = {one.commit for one in in_git}
        left = {one.identity for one in standing.left_alone(self.here.store)}
        order = stages_in_order(rows)
        found = []
        for row in rows:
            cells = {stage: row.cells[stage] for stage in order if stage in row.cells}
            whole = with_what_dvc_has(self.here, replace(row, cells=cells))
            if experiment := row.experiment:
                removed = self._is_removed(experiment, refs)
                waits = experiment.identity in left
                whole = replace(whole, removed=removed, needs_advance=waits)
            found.append(whole)
        return found

    def _renamed(self, rows: list[Row], in_git: list[Saved]) -> list[Row]:
        """Return the rows, those with another name whose experiments git has under that alone."""
        names: dict[str, list[str]] = {}
        for one in in_git:
            names.setdefault(one.commit, []).append(one.name)
        found = []
        for row in rows:
            known = names.get(row.experiment.commit if row.experiment else "", [])
            renamed = known and row.name not in known
            found.append(replace(row, saved_as=known[0]) if renamed else row)
        return found

    def _is_removed(self, experiment: Experiment, refs: Collection[str]) -> bool:
        """Tell whether a saved experiment of this repository was removed from it."""
        commit = experiment.commit
        if not commit or experiment.origin != str(self.origin):
            return False
        return commit not in refs and not is_in_git(experiment)


def with_what_dvc_has(here: Context, row: Row) -> Row:
    """Call the stages of a saved experiment done whose results were set aside, and that DVC's cache has.

    `dvc pull` brings them back there, and the run store hears nothing of that.
    """
    cells = dict(row.cells)
    if not row.is_saved:
        return row
    for stage, cell in row.cells.items():
        if cell.now.state is RunState.FAILED and _is_in_cache(here, cell):
            done = Assessment(RunState.DONE, attempt=cell.now.attempt)
            cells[stage] = Cell(cell.run, done)
    return replace(row, cells=cells)


def _is_in_cache(here: Context, cell: Cell) -> bool:
    """Tell whether DVC's cache has the outputs of a result that was set aside, as files of its own.

    An object that is a second name of the attempt's file may be what was damaged.
    """
    result, definition = cell.result_set_aside, cell.run.definition
    if result is None or definition is None:
        return False
    made = result.outputs
    cached = [out.path for out in definition.outputs if out.cached]
    if not made.keys() >= {*cached}:
        return False
    files = Attempt(cell.run, result.attempt).outputs
    try:
        suspect = set(map(_inode, files.rglob("*")))
        digests = [made[path].digest for path in cached]
        return all(_has_others(here.cache, digest, suspect) for digest in digests)
    except OSError:
        return False  # a file went while it was looked at


def _has_others(cache: Cache, digest: str, suspect: set[tuple[int, int]]) -> bool:
    """Tell whether DVC's cache has all of an output, in files that are none of those that are suspect."""
    if not cache.holds_all(digest):
        return False
    return suspect.isdisjoint(_inode(cache.path(one)) for one in cache.objects(digest))


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _without_history(rows: list[Row]) -> list[Row]:
    """Leave out experiments that a later submission stands for: it took over the name, and nothing is left to do."""
    newest = {row.experiment.unique_name: row for row in rows if row.experiment}
    found = []
    for row in rows:
        if row.experiment is None:
            continue
        replaced = newest[row.experiment.unique_name] is not row
        if not (row.over and (replaced or (row.older and row.state.stopped))):
            found.append(row)
    return found


def _with_stages(rows: list[Row], names: list[str]) -> list[Row]:
    """Return all that have a stage of these names, with nothing but these stages."""
    found = []
    for row in rows:
        cells = {stage: cell for stage, cell in row.cells.items() if stage in names}
        if cells:
            left = {stage: why for stage, why in row.left.items() if stage in names}
            found.append(replace(row, cells=cells, left=left))
    return found


def _is_long_done(row: Row) -> bool:
    """Tell whether an experiment was finished long ago."""
    done = row.over and row.state is RunState.DONE
    return done and row.last_change < time.time() - RECENT_SECONDS


def _place(row: Row) -> float:
    """Return the time by which the experiments are sorted."""
    return row.experiment.created if row.experiment else row.last_change
