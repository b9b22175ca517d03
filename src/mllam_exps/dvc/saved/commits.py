"""What one commit of the repository that DVC works in holds, or a workspace: files, and what ``dvc.lock`` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base.git import git, run_git
from mllam_exps.dvc.lockfile import FILE
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.identity.listings import is_digest

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def hashes(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the hashes of a stage's ``deps`` or ``outs`` by path, as its entry in a ``dvc.lock`` has them."""
    listed = entry.get(kind)
    found: dict[str, str] = {}
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping) and is_digest(one.get("md5")):
            found[str(one.get("path"))] = str(one["md5"])
    return found


class Locked:
    """What a ``dvc.lock`` says."""

    def text(self, path: str) -> str | None:
        """Return what a file beside it holds; None where there is none."""
        raise NotImplementedError

    @property
    def programs(self) -> dict[str, str]:
        """The versions of programs that it was made with, as far as they are a word each."""
        found = self.mapping(VERSIONS_FILE).items()
        words = (str, int, float)
        return {str(name): str(one) for name, one in found if isinstance(one, words)}

    def mapping(self, path: str) -> Mapping[str, Any]:
        """Return what a YAML file of it holds by name; empty where it holds nothing of the kind."""
        try:
            found = yaml.safe_load(self.text(path) or "")
        except (yaml.YAMLError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, Mapping) else {}

    @property
    def stages(self) -> list[str]:
        """The stages of which its ``dvc.lock`` says something, in its order."""
        return list(self._entries)

    def entry(self, stage: str) -> Mapping[str, Any] | None:
        """Return what its ``dvc.lock`` says of a stage, each value as text; None where it says nothing."""
        found = self._entries.get(stage)
        return found if isinstance(found, Mapping) else None

    def made(self, stage: str) -> dict[str, str]:
        """Return the hashes of what a stage made, by path as ``dvc.yaml`` names it; empty where it made nothing."""
        return self._hashes(stage, "outs")

    def _hashes(self, stage: str, kind: str) -> dict[str, str]:
        return hashes(self.entry(stage) or {}, kind)

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The hashes of what stages read and no stage makes, by path as ``dvc.yaml`` names it."""
        read: dict[str, str] = {}
        made: set[str] = set()
        for stage in self._entries:
            read |= self._hashes(stage, "deps")
            made |= self.made(stage).keys()
        return {path: digest for path, digest in read.items() if path not in made}

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The hashes of all that stages have made, by path as ``dvc.yaml`` names it."""
        found: dict[str, str] = {}
        for stage in self._entries:
            found |= self.made(stage)
        return found

    @cached_property
    def _entries(self) -> Mapping[str, Any]:
        # All as text: what a plain word means, YAML 1.1 and 1.2 (DVC, 3.67) say each in
        # its way, and DVC's loader takes twenty times as long.
        try:
            lock = yaml.load(self.text(FILE) or "", _LOADER)  # noqa: S506 - makes text alone
        except yaml.YAMLError:
            return {}
        found = lock.get("stages") if isinstance(lock, Mapping) else None
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Checkout(Locked):
    """A workspace, as its files are.

    Parameters
    ----------
    root : Path
        The DVC repository.
    """

    root: Path

    def text(self, path: str) -> str | None:
        """Return what a file of it holds; None where it has none."""
        try:
            return (self.root / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None


@dataclass(frozen=True)
class Commit(Locked):
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

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Its files with their modes, as git (2.39) calls these, seen from git's root."""
        found = {}
        listed = git(self.origin, "ls-tree", "-r", "-z", "--full-tree", self.revision)
        for line in filter(None, listed.split("\0")):
            # Mode, kind, object, a tab, the path.
            told, _, path = line.partition("\t")
            found[path] = told.partition(" ")[0]
        return found
