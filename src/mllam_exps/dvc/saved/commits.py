"""What one commit of the repository that DVC works in holds: its files, and what its ``dvc.lock`` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base.git import run_git
from mllam_exps.dvc.lockfile import FILE
from mllam_exps.identity.listings import is_digest


@dataclass(frozen=True)
class Commit:
    """One commit.

    Parameters
    ----------
    origin : Path
        The DVC repository, which may be a part of git's.
    revision : str
        The commit's hash.
    """

    origin: Path
    revision: str

    def text(self, path: str) -> str | None:
        """Return what a file of it holds, seen from the DVC repository; None where it has none."""
        done = run_git(self.origin, "show", f"{self.revision}:./{path}")
        return done.stdout if done.returncode == 0 else None

    def lay_out(self, paths: Iterable[str], folder: Path) -> None:
        """Write those of its files that it has below a folder."""
        for path in paths:
            text = self.text(path)
            if text is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")

    @property
    def stages(self) -> list[str]:
        """The stages that its ``dvc.lock`` has an entry of."""
        return list(self._entries)

    def made(self, stage: str) -> dict[str, str]:
        """Return the hashes of what a stage made, by path as ``dvc.yaml`` names it; empty where it made nothing."""
        entry = self._entries.get(stage)
        outs = entry.get("outs") if isinstance(entry, Mapping) else None
        found: dict[str, str] = {}
        for out in outs if isinstance(outs, list) else ():
            if isinstance(out, Mapping) and is_digest(out.get("md5")):
                found[str(out.get("path"))] = str(out["md5"])
        return found

    @cached_property
    def _entries(self) -> Mapping[str, Any]:
        try:
            lock = yaml.safe_load(self.text(FILE) or "")
        except yaml.YAMLError:
            return {}
        found = lock.get("stages") if isinstance(lock, Mapping) else None
        return found if isinstance(found, Mapping) else {}
