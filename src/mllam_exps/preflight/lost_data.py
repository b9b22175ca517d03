"""Data that were added with `dvc add`, and that DVC's cache has lost: a job takes them from nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc.graph import Out, StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.machines import workspace


class LostData:
    """Refuses stages whose data nobody could lay out.

    Parameters
    ----------
    origin : Path
        The user's repository: what lies there may be the last copy.
    has_remote : bool
        Whether DVC knows of a remote.
    """

    def __init__(self, origin: Path, *, has_remote: bool) -> None:
        self.origin = origin
        self.has_remote = has_remote
        self._held: dict[str, bool] = {}

    def refuse(self, repo: Repository, definitions: Iterable[RunDefinition]) -> None:
        """Refuse runs that are to be made, where one reads data that the cache lacks.

        Parameters
        ----------
        repo : Repository
            The clone's, whose cache is the user's own.

        Raises
        ------
        Problems
            Naming each input, and what brings it back.
        """
        problems: dict[str, MllamError] = {}
        for definition in definitions:
            for source in definition.inputs:
                if source.run or not (source.tracked and source.digest):
                    continue
                if not self._holds(repo, source.digest):
                    where = f"dvc.yaml: {definition.stage}"
                    found = self._lost(repo, source.path, where)
                    problems.setdefault(source.path, found)
        if problems:
            raise Problems(problems=list(problems.values()))

    def refuse_part(self, repo: Repository, path: str) -> None:
        """Refuse a part of a folder that was added, where the cache has lost what lists it, or any of it.

        Raises
        ------
        UsageError
            With what brings it back.
        """
        for _, out in _added(repo, path):
            if out.digest and not self._holds(repo, out.digest):
                raise self._lost(repo, path, "dvc.yaml")

    def _holds(self, repo: Repository, digest: str) -> bool:
        # A sweep asks the same for a hundred experiments.
        if digest not in self._held:
            self._held[digest] = repo.cache.holds_all(digest)
        return self._held[digest]

    def _lost(self, repo: Repository, path: str, where: str) -> UsageError:
        what = f"DVC's cache lacks the input {path}, or a part of it"
        why = "jobs take from there what was added with `dvc add`"
        ways = {self._way_back(repo, *one): None for one in _added(repo, path)}
        return UsageError(what, where, why, "; ".join(ways))

    def _way_back(self, repo: Repository, added: StageEntry, out: Out) -> str:
        file = workspace.typed(self.origin, added.name)
        lies = repo.relative(out.path)
        if (self.origin / lies).exists():
            # What lies here is what was added: other data were refused before. Also of
            # an import DVC (3.67) takes it, and leaves the .dvc file as it is.
            return f"dvc commit {file}"
        if self.has_remote:
            return f"dvc pull {file}"
        return f"put {lies} back, then dvc commit {file}"


def _added(repo: Repository, path: str) -> list[tuple[StageEntry, Out]]:
    makers = repo.graph.makers(os.fspath(repo.root / path))
    return [(stage, out) for stage, out in makers if stage.is_added]
