"""The first clone of a submission: it takes the parameters of each experiment while that is planned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.dvc.overrides import Overrides, apply
from mllam_exps.dvc.repository import Repository


@dataclass
class Base:
    """The first clone of a submission.

    Parameters
    ----------
    clone, root, repo
        The clone, the root of the DVC repository in it, and that repository, opened.
    """

    clone: Path
    root: Path
    repo: Repository

    _touched: frozenset[str] = frozenset()
    """The real paths of the files that the parameters of an experiment have changed, at the moment."""

    def touches(self, place: Path, files: frozenset[str]) -> bool:
        """Tell whether an input holds something else at the moment than in the repository.

        Parameters
        ----------
        place : Path
            The file or folder.
        files : frozenset of str
            The real paths of its files, when it was looked at.
        """
        return any(
            file in files or Path(file).is_relative_to(place.resolve())
            for file in self._touched
        )

    @contextlib.contextmanager
    def changed(
        self, overrides: Overrides, hydra: Mapping[str, Any], inside: Path = Path()
    ) -> Iterator[tuple[Path, Repository]]:
        """Give it the parameters of one experiment, for as long as that is planned; see `overrides.apply`."""
        if not overrides and not hydra.get("enabled"):
            yield self.root, self.repo
            return
        files = {(self.root / file).resolve() for file in [*overrides, "params.yaml"]}
        before = {file: file.read_bytes() if file.is_file() else None for file in files}
        try:
            apply(self.root, overrides, hydra, inside)
            changed = (
                file
                for file, content in before.items()
                if file.is_file() and file.read_bytes() != content
            )
            self._touched = frozenset(map(str, changed))
            if "${" in (self.root / "dvc.yaml").read_text(encoding="utf-8"):
                self.repo.reset()
            yield self.root, self.repo
        finally:
            self._touched = frozenset()
            for file, content in before.items():
                file.unlink(
                    missing_ok=True
                )  # its content may be a copy's by now: large files are hard links
                if content is not None:
                    file.write_bytes(content)
