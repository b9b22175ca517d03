"""Which parameter was meant, where ``-S`` names one that cannot be set."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base.errors import nearest

_YAML = {".yaml", ".yml"}
_WORD = re.compile(r"(?P<sign>\+\+|\+|~|)(?P<key>[^=]*)(?P<value>(?:=.*)?)", re.DOTALL)
NAMED = 8
"""Keys of a section that are named."""


@dataclass(frozen=True)
class Hint:
    """Why a parameter cannot be set, where Hydra does not say it, and what to type."""

    why: str
    next: str


@dataclass(frozen=True)
class Setting:
    """What ``-S`` sets in one file. Each method finds what was meant; nothing where it finds nothing better.

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
            known = set(_keys(_values_of(self.root / other)))
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

    def in_place_of_a_key(self) -> Hint | None:
        """Say what stands in the place of a key that cannot be set, and which one was meant."""
        values = _values_of(self.path)
        for word in self.words if values is not None else ():
            found = _WORD.fullmatch(word)
            if found and (hint := self._hint(values, found)):
                return hint
        return None

    def _hint(self, values: Any, word: re.Match[str]) -> Hint | None:
        sign, key, value = word["sign"], word["key"], word["value"]
        there, place, lacking = _way(values, key.split("."))
        section = ".".join(there)
        if not lacking:
            typed = self._typed(self.file, key + value)
            return Hint("", f"{typed}: the file has that key") if sign == "+" else None
        adds = f"{self._typed(self.file, f'+{key}{value}')} adds the key"
        if isinstance(place, list):
            why = (
                f"{section} is a list of {len(place)} values, which has no {lacking[0]}"
            )
            whole = self._typed(self.file, f"{section}=[…]")
            return Hint(why, f"{whole} gives all of it")
        if place is None and not sign:
            return Hint(f"{section} is empty", adds)
        if not isinstance(place, dict):
            why = f"{section} is {place!r}, no section with keys of its own"
            other = self._typed(self.file, f"{section}=VALUE")
            return Hint(why, f"{other} changes that")
        why = f"the file has no {'.'.join([*there, lacking[0]])}"
        if meant := _meant(values, key):
            typed = self._typed(self.file, f"{sign}{meant}{value}")
            return Hint(why, f"did you mean {typed}? ({adds})")
        has = f"{section or self.file} has {_listed(place)}"
        return Hint(why, has if sign == "~" else f"{has}; {adds}")

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


def _values_of(path: Path) -> Any:
    """Return what a YAML file holds; None where it cannot be read: whoever reads it says what is wrong."""
    if path.suffix not in _YAML:
        return None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError):
        return None


def _way(values: Any, names: list[str]) -> tuple[list[str], Any, list[str]]:
    """Follow a key as far as there is something; return that much of it, what is there, and the rest."""
    there: list[str] = []
    place = values
    for number, name in enumerate(names):
        if isinstance(place, list) and name.isdigit() and int(name) < len(place):
            place = place[int(name)]
        elif isinstance(place, dict) and name in set(map(str, place)):
            place = next(value for key, value in place.items() if str(key) == name)
        else:
            return there, place, names[number:]
        there.append(name)
    return there, place, []


def _meant(values: Any, key: str) -> str:
    """Return the key of a value that was meant: with a name that is nearly right, or without its section."""
    known = []
    for name in _keys(values):
        if not isinstance(_way(values, name.split("."))[1], dict):
            known.append(name)
    ends = [name for name in known if name.endswith(f".{key}")]
    if len(ends) == 1:
        return ends[0]
    names, near = key.split("."), []
    for name in known:
        parts = name.split(".")
        if len(parts) == len(names) and all(map(_is_near, names, parts)):
            near.append(name)
    return nearest(key, near)


def _is_near(typed: str, name: str) -> bool:
    return bool(nearest(typed, [name]))


def _listed(section: dict[Any, Any]) -> str:
    """Name the keys of a section."""
    names = list(map(str, section))
    more = ", …" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED]) or 'nothing'}{more}"


def _keys(values: object, prefix: str = "") -> Iterator[str]:
    if not isinstance(values, dict):
        return
    for key, value in values.items():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")
