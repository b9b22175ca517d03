"""Which parameter was meant, where ``-S`` names one that cannot be set."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from mllam_exps.base.spelling import nearest

_YAML = {".yaml", ".yml"}


@dataclass(frozen=True)
class Setting:
    """What ``-S`` sets in one file. Each method returns what to type instead; nothing where it finds nothing better.

    Parameters
    ----------
    root : Path
        The repository.
    file : str
        The file, seen from there.
    words : list of str
        ``KEY=VALUE``, each.
    inside : Path
        Where ``-S`` was typed, seen from the root: so are the paths that are proposed.
    """

    root: Path
    file: str
    words: list[str]
    inside: Path

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.root / self.file

    def in_another_file(self) -> str:
        """Find the parameter file that has a key, where it was looked for in another: in params.yaml, mostly."""
        for other in sorted(_tracked(self.root) - {self.file}):
            known = _keys_of(self.root / other)
            for word in self.words:
                if word.partition("=")[0] in known:
                    return f"did you mean {self._typed(other, word)}?"
        return ""

    def in_a_file_of_nearly_that_name(self) -> str:
        """Find the file that was meant, where there is none of that name: its folder was left out, mostly."""
        names = sorted({"params.yaml"} | _tracked(self.root))
        files = [name for name in names if (self.root / name).is_file()]
        by_stem = {Path(name).stem: name for name in reversed(files)}
        near = nearest(Path(self.file).stem, by_stem)
        if not near:
            return ""
        return f"did you mean {self._typed(by_stem[near], self.words[0])}?"

    def by_nearly_that_key(self) -> str:
        """Find the key that was meant, where one that the file lacks is nearly right."""
        known = _keys_of(self.path)
        for word in self.words:
            key, equals, value = word.partition("=")
            if key.startswith("+") and key.lstrip("+") in known:
                typed = self._typed(self.file, word.lstrip("+"))
                return f"{typed}: the file has that key"
            near = nearest(key, known)
            if near and key not in known:
                typed = self._typed(self.file, near + equals + value)
                return f"did you mean {typed}? (+{word} adds the key)"
        return ""

    def _typed(self, file: str, word: str) -> str:
        """Return the option as it has to be typed in a folder of the repository."""
        return f"-S {shlex.quote(f'{os.path.relpath(file, self.inside)}:{word}')}"


def _tracked(root: Path) -> set[str]:
    """Return the parameter files that stages name, and that are there."""
    written = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8")) or {}
    names: set[str] = set()
    for stage in (written.get("stages") or {}).values():
        for entry in stage.get("params") or ():
            if isinstance(entry, dict):
                names.update(entry)
    return {name for name in names if (root / name).is_file()}


def _keys_of(path: Path) -> list[str]:
    """Return the dotted keys of a YAML file; none where it cannot be read: whoever reads it says what is wrong."""
    if path.suffix not in _YAML:
        return []
    try:
        return list(_keys(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except (yaml.YAMLError, ValueError, OSError):
        return []


def _keys(values: object, prefix: str = "") -> Iterator[str]:
    if not isinstance(values, dict):
        return
    for key, value in values.items():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")
