"""The first clone of a submission: it takes the parameters of each experiment while that is planned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps import sweeps
from mllam_exps.sweeps import Overrides

if TYPE_CHECKING:
    from dvc.repo import Repo


@dataclass
class Base:
    """The first clone of a submission.

    Parameters
    ----------
    clone, root, repo
        The clone, the DVC repository in it, and DVC's object for that.
    """

    clone: Path
    root: Path
    repo: Repo

    @contextlib.contextmanager
    def changed(self, overrides: Overrides, hydra: Mapping[str, Any]) -> Iterator[tuple[Path, Repo]]:
        """Give it the parameters of one experiment, for as long as that is planned."""
        if not overrides and not hydra.get("enabled"):
            yield self.root, self.repo
            return
        files = {(self.root / file).resolve() for file in [*overrides, "params.yaml"]}
        before = {file: file.read_bytes() for file in files if file.is_file()}
        try:
            sweeps.apply(self.root, overrides, hydra)
            if "${" in (self.root / "dvc.yaml").read_text(encoding="utf-8"):
                self.repo._reset()
            yield self.root, self.repo
        finally:
            for file, content in before.items():
                file.unlink()  # its content may be a copy's by now: large files are hard links
                file.write_bytes(content)
