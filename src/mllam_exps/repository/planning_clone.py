"""The first clone of a submission: it takes the parameters of each experiment while that is planned."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base import symlinks
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc.parameters.overrides import Overrides, apply
from mllam_exps.dvc.repository import Repository

DVC_S = {"dvc.yaml", "dvc.lock", ".dvc", ".dvcignore"}
"""Names and suffixes of files in which DVC (3.67) has its stages and data."""


@dataclass
class Base:
    """The first clone of a submission.

    Parameters
    ----------
    clone, root, repo
        The clone, the root of the DVC repository in it, and that repository, opened.
    origin : Path
        The user's repository.
    """

    clone: Path
    root: Path
    repo: Repository
    origin: Path

    _touched: frozenset[str] = frozenset()
    """The real paths of the files that the parameters of an experiment have changed, at the moment."""

    def touches(self, place: Path, files: frozenset[str]) -> bool:
        """Tell whether the parameters of an experiment have changed an input of a stage.

        Parameters
        ----------
        place : Path
            The file or folder.
        files : frozenset of str
            The real paths of its files, when it was looked at.
        """
        folder = place.resolve()
        return any(
            file in files or Path(file).is_relative_to(folder) for file in self._touched
        )

    @contextlib.contextmanager
    def changed(
        self, overrides: Overrides, hydra: Mapping[str, Any], inside: Path = Path()
    ) -> Iterator[tuple[Path, Repository]]:
        """Give the clone the parameters of one experiment while that is planned; see `overrides.apply`."""
        if not overrides and not hydra.get("enabled"):
            yield self.root, self.repo
            return
        composed = ["params.yaml"] if hydra.get("enabled") else []
        set_in = dict.fromkeys([*overrides, *composed])
        self._refuse_what_lies_outside(set_in, overrides, inside)
        files = {(self.root / file).resolve() for file in set_in}
        before = {file: _look_at(file) for file in files}
        others = False
        try:
            apply(self.root, overrides, hydra, inside)
            self._touched = _changed_files(before)
            others = self._changes_stages(files)
            if others:
                self.repo.reset()
            yield self.root, self.repo
        finally:
            self._touched = frozenset()
            _restore(before)
            if others:
                self.repo.reset()

    def _changes_stages(self, files: Iterable[Path]) -> bool:
        """Tell whether the stages that DVC has read may be others now: by their own files, or values in their words.

        Their files are ``dvc.yaml``, what ``dvc add`` writes, and ``dvc.lock``; to read
        them again for each experiment of a sweep takes time.
        """
        for file in files:
            if file.suffix in DVC_S or file.name in DVC_S:
                return True
        return "${" in (self.root / "dvc.yaml").read_text(encoding="utf-8")

    def _refuse_what_lies_outside(
        self, files: Iterable[str], overrides: Overrides, inside: Path
    ) -> None:
        """Refuse to set parameters in files behind links that lead out of the repository: others read them.

        Raises
        ------
        Problems
            Naming each file, and how it gets into the repository.
        """
        problems: list[MllamError] = []
        for file in files:
            led = symlinks.led_out(self.root, self.origin, file)
            if led is None:
                continue
            shown, end = os.path.relpath(file, inside), shlex.quote(led.end)
            why = "setting a parameter would write to that file, which others may read"
            way_out = f"keep {shown} in the repository, in a folder that is no link"
            if led.is_link:
                copy = f"cp --remove-destination {end} {shlex.quote(shown)}"
                way_out = f"copy it into the repository: {copy}"
            where = f"-S {shown}" if file in overrides else shown
            problems.append(UsageError(led.sentence, where, why, way_out))
        if problems:
            raise Problems(problems=problems)


@dataclass(frozen=True)
class _Before:
    """What a file held, and its mode: a parameter file may be a script, too."""

    content: bytes
    mode: int


def _look_at(file: Path) -> _Before | None:
    return _Before(file.read_bytes(), file.stat().st_mode) if file.is_file() else None


def _changed_files(before: Mapping[Path, _Before | None]) -> frozenset[str]:
    """Return those files that are there, and hold something else than before."""
    changed = set()
    for file, known in before.items():
        if file.is_file() and (known is None or file.read_bytes() != known.content):
            changed.add(str(file))
    return frozenset(changed)


def _restore(before: Mapping[Path, _Before | None]) -> None:
    """Give files back what they had; large files are hard links, so each is replaced and not written to."""
    for file, known in before.items():
        file.unlink(missing_ok=True)
        if known is not None:
            file.write_bytes(known.content)
            file.chmod(known.mode)
