"""Experiments that `dvc exp run` saved: what git keeps of them, and the runs that made what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.dvc.saved import experiment_refs
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.runs.store import Run, RunStore


def commit_of(root: Path, name: str) -> str:
    """Return the commit of the DVC experiment of that name, the newest of several; empty where there is none."""
    known = experiment_refs.saved_if_there(root)
    return next((one.commit for one in known if one.name == name), "")


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
        """Read the results of a store."""
        by_stage: dict[str, list[tuple[Run, dict[str, str]]]] = {}
        for run in sorted(store.runs(), key=lambda run: run.begun_at):
            if (result := run.result) is not None:
                made = {path: out.digest for path, out in result.outputs.items()}
                by_stage.setdefault(run.stage, []).append((run, made))
        return cls(by_stage)

    def held_by(self, root: Path, commit: str) -> dict[str, Run]:
        """Return the runs, by stage, whose results a commit's ``dvc.lock`` names: nothing of it need have been run."""
        of_commit, found = Commit(root, commit), dict[str, Run]()
        for stage in of_commit.stages:
            digests = of_commit.made(stage)
            for run, made in self.by_stage.get(stage, ()):
                if made and made.items() <= digests.items():
                    found[stage] = run
        return found
