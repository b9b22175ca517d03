"""Experiments that were not submitted: what git keeps of those that `dvc exp run` saved, and the runs behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps.dvc.saved import experiment_refs, holdings
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.dvc.saved.holdings import Holding, Values
from mllam_exps.dvc.stages.results import overlooked_by_dvc
from mllam_exps.identity.definition import VERSIONS_FILE, same
from mllam_exps.identity.run_keys import stage_of
from mllam_exps.runs.results import Result
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.views.left import Left

SECOND = 1.0
"""git knows when a commit was made to the second."""


def saved_as(root: Path, name: str) -> Saved | None:
    """Return the DVC experiment of that name, the newest of several; None where there is none."""
    known = experiment_refs.saved_if_there(root)
    return next((one for one in known if one.name == name), None)


@dataclass(frozen=True)
class Asked:
    """A run that an experiment asked for, and when it did last."""

    run: Run
    at: float


@dataclass(frozen=True)
class Told:
    """What there is to tell of an experiment that was not submitted.

    Parameters
    ----------
    runs : dict
        By stage: those whose results its commit holds, and those that are made anew.
        Before it is saved: those that it asked for.
    left : dict
        The stages that its commit holds no result of its own of.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)

    @property
    def all_runs(self) -> dict[str, Run]:
        """The same runs, and those that were asked for, and made something with other inputs."""
        ran = {stage: left.ran for stage, left in self.left.items() if left.ran}
        return self.runs | ran


@dataclass(frozen=True)
class Results:
    """The results of a run store, to find those that a commit's ``dvc.lock`` names.

    Parameters
    ----------
    by_stage : dict
        The runs of each stage with the hashes of their outputs by path, oldest first.
    """

    by_stage: Mapping[str, list[tuple[Run, dict[str, str]]]]

    @classmethod
    def of(cls, store: RunStore) -> Results:
        """Read the results of a store; one that was set aside as damaged is one, too."""
        by_stage: dict[str, list[tuple[Run, dict[str, str]]]] = {}
        for run in sorted(store.runs(), key=lambda run: run.begun_at):
            if (result := run.result or _set_aside(run)) is not None:
                made = {path: out.digest for path, out in result.outputs.items()}
                by_stage.setdefault(run.stage, []).append((run, made))
        return cls(by_stage)

    def told(self, root: Path, one: Saved, asked: Mapping[str, Asked]) -> Told:
        """Find the runs that made the results in a saved experiment's commit; nothing of it need have run.

        Parameters
        ----------
        asked : mapping
            The newest run of each stage that was asked for under its name: for it, or
            for an earlier experiment of that name.
        """
        commit = Commit(root, one.commit)
        holding = holdings.of(commit)
        found = Told()
        if holding is None:
            holding = Holding({stage: {} for stage in asked if commit.made(stage)})
        for stage, values in holding.own.items():
            candidates = self._candidates(commit, stage, values)
            own = [run for run in candidates if _is_of(run, stage, asked)]
            if candidates:
                found.runs[stage] = [*candidates, *own][-1]
            elif why := self._overlooked(commit, stage, values):
                found.left[stage] = Left(why)
        for stage, why in holding.left.items():
            made = self._candidates(commit, stage, {})
            ran = [run for run in made if _is_of(run, stage, asked)]
            found.left[stage] = Left(why, ran[-1] if ran else None)
        _leave_what_was_made_from(found)
        for stage, ask in asked.items():
            if ask.at > one.at + SECOND and ask.run.result is None:
                # It is made anew under this name.
                found.runs[stage] = ask.run
                found.left.pop(stage, None)
        return found

    def _overlooked(self, commit: Commit, stage: str, values: Values) -> str:
        """Say which parameter DVC's run cache overlooked, where a result in a commit was made with other values."""
        overlooked = overlooked_by_dvc(values)
        if not overlooked or not self._candidates(commit, stage, {}):
            return ""
        return f"its result was made with another {overlooked[0]}, which DVC's run cache overlooks"

    def _candidates(self, commit: Commit, stage: str, values: Values) -> list[Run]:
        """Return the runs that made what a commit holds of a stage, oldest first."""
        digests = commit.made(stage)
        found = []
        for run, made in self.by_stage.get(stage, ()):
            if made and made.items() <= digests.items() and _has(run, values):
                found.append(run)
        return found


def _leave_what_was_made_from(found: Told) -> None:
    """Leave results, too, that were made from those that are left."""
    for stage, run in list(found.runs.items()):
        for source in run.definition.inputs if run.definition else ():
            if source.run and stage_of(source.run) in found.left:
                why = f"its result was made with another {source.path}"
                found.left[stage] = Left(why)
                found.runs.pop(stage, None)


def _is_of(run: Run, stage: str, asked: Mapping[str, Asked]) -> bool:
    return stage in asked and asked[stage].run.key == run.key


def _has(run: Run, values: Values) -> bool:
    """Tell whether a run has these parameters; DVC's run cache (3.67) overlooks what is called ``size``, say."""
    definition = run.definition
    if definition is None or definition.phase is not None:
        return True  # of an earlier version, or a part of what the stage does
    for file, its_own in definition.params.items():
        is_parameter = file != VERSIONS_FILE and file in values
        if is_parameter and not same(its_own, values[file]):
            return False
    return True


def _set_aside(run: Run) -> Result | None:
    attempt = run.last_attempt()
    aside = attempt.set_aside if attempt else None
    return aside.result if aside else None


def of_one_go(asked: Mapping[str, Asked]) -> dict[str, Run]:
    """Return the runs of an experiment that is not saved, without results of an earlier one of that name.

    A name is used again, and the second time fewer stages are asked for: a result made
    from another run than the one that was asked for since is of the first time.
    """
    found = dict(asked)
    while outdated := [one for one in found if _is_outdated(one, found, asked)]:
        for stage in outdated:
            del found[stage]
    return {stage: ask.run for stage, ask in found.items()}


def _is_outdated(
    stage: str, kept: Mapping[str, Asked], asked: Mapping[str, Asked]
) -> bool:
    """Tell whether a result was made from a run that is outdated, or for which another one was asked for since."""
    one = asked[stage]
    if one.run.result is None or (definition := one.run.definition) is None:
        return False
    for source in definition.inputs:
        needed = stage_of(source.run) if source.run else stage
        if needed == stage or needed not in asked:
            continue
        other = asked[needed]
        if needed not in kept or (other.run.key != source.run and other.at > one.at):
            return True
    return False
