"""What experiments took, and the trainings that theirs go on from, read from the run store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.runs.store import Run
from mllam_exps.submission import experiments
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views import costs
from mllam_exps.views.context import Context
from mllam_exps.views.costs import Cost
from mllam_exps.views.lineage import Family, Training
from mllam_exps.views.saved import Results, saved_as


@dataclass(frozen=True)
class History:
    """What is recorded of one experiment here.

    Parameters
    ----------
    runs : list of Run
        Its runs.
    costs : list of Cost
        Of these, as far as they are recorded.
    trees : list of Training
        In which its trainings stand.
    """

    runs: list[Run]
    costs: list[Cost]
    trees: list[Training]


class Histories:
    """Finds those of the experiments of the current directory; the run store is read once."""

    @cached_property
    def _here(self) -> Context:
        return Context.open()

    def of_workspace(self) -> History:
        """Return that of the workspace: of the runs of its stages as they are now."""
        pipeline = self._here.pipeline
        keys = [pipeline.definition(stage).key for stage in pipeline.in_order()]
        return self._of_runs([self._here.store.run(key) for key in keys])

    def of_saved(self, one: Saved) -> History:
        """Return that of a saved experiment: of the runs that made what its commit holds."""
        submitted = self._submitted.get(one.commit)
        if submitted is not None:
            return self._of_runs(submitted.runs.values())
        told = self._results.told(self._here.workspace.origin, one, {})
        return self._of_runs(told.runs.values())

    def runs_of(self, name: str) -> list[Run]:
        """Return the runs of a saved or submitted experiment.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        if (submitted := self._here.experiment(name)) is not None:
            return list(submitted.runs.values())
        one = saved_as(self._here.workspace.origin, name)
        if one is None:
            raise self._here.unknown(name)
        told = self._results.told(self._here.workspace.origin, one, {})
        return list(told.runs.values())

    def _of_runs(self, runs: Iterable[Run]) -> History:
        runs = list(runs)
        trees = self._family.trees({run.key for run in runs})
        of_several = [tree for tree in trees if tree.then]
        return History(runs, costs.of_runs(runs), of_several)

    @cached_property
    def _submitted(self) -> dict[str, Experiment]:
        known = experiments.of_store(self._here.store)
        return {one.commit: one for one in known if one.commit}

    @cached_property
    def _results(self) -> Results:
        return Results.of(self._here.store)

    @cached_property
    def _family(self) -> Family:
        return Family.of(self._here.store)
