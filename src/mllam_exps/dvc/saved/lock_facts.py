"""What a commit's ``dvc.lock`` says that its results were made with; of ten thousand commits, and without opening DVC.

`holdings` asks DVC which results of a commit are its own. Here only those are kept of
which the commit's own files say nothing else: their parameters stand in its parameter
files as in ``dvc.lock``, and what they read is what the stages before them made.
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from mllam_exps import stages
from mllam_exps.dvc.saved.commits import hashes
from mllam_exps.identity.definition import VERSIONS_FILE, is_parent, same, without_names
from mllam_exps.stages.command_words import calls_us

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml12(_Loader):  # type: ignore[misc]
    """PyYAML, twenty times as fast as DVC's own parser, with the plain words of YAML 1.2, which DVC (3.67) reads."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


_NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")
)
_PLAIN: Mapping[str, tuple[str, str]] = {
    _NULL: (r"~|null|Null|NULL|", "~nN\0"),
    _BOOL: (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    _INT: (r"[-+]?[0-9_]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    _FLOAT: (
        r"[-+]?(\.[0-9]+|[0-9_]+(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
for _tag in (_NULL, _BOOL, _INT, _FLOAT):
    _pattern, _first = _PLAIN[_tag]
    _Yaml12.add_implicit_resolver(
        _tag,
        re.compile(f"^(?:{_pattern})$"),
        [*_first.replace("\0", ""), *([""] if "\0" in _first else [])],
    )


def _int(_loader: Any, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    bases = {"0o": 8, "0x": 16}
    return int(text, bases[text[:2]]) if text[:2] in bases else int(text)


_Yaml12.add_constructor(_INT, _int)


@dataclass
class LockFacts:
    """What is known of the results of a commit.

    Parameters
    ----------
    params : dict
        By file: the values that they were made with, by (dotted) name.
    inputs, outs : dict
        The hashes of what no stage makes, and of what stages made, by path.
    scores : list of str
        The JSON files among these that may lie in git.
    left : set of str
        The stages whose results are not the commit's own.
    """

    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outs: dict[str, str] = field(default_factory=dict)
    scores: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)


class Lock:
    """A commit's ``dvc.lock``."""

    def __init__(self, text: str) -> None:
        found = read_values("dvc.lock", text) or {}
        listed = found.get("stages")
        self._entries: dict[str, Mapping[str, Any]] = {
            str(name): entry
            for name, entry in (listed if isinstance(listed, Mapping) else {}).items()
            if isinstance(entry, Mapping)
        }

    @property
    def parameter_files(self) -> set[str]:
        """The parameter files that it names."""
        return {file for name in self._entries for file in self._params(name)}

    def has_all(self, written: object) -> bool:
        """Tell whether it has an entry of each stage that stands in ``dvc.yaml``, as far as that names them."""
        listed = written if isinstance(written, Mapping) else {}
        several = {"foreach", "matrix"}
        return all(
            name in self._entries
            for name, entry in listed.items()
            if isinstance(entry, Mapping) and several.isdisjoint(entry)
        )

    def facts(self, text_of: Callable[[str], str | None]) -> LockFacts:
        """Return what is known of the results.

        Parameters
        ----------
        text_of : callable
            Gives what a parameter file holds in the commit; None where it has none.
        """
        makers = {
            path: (name, digest)
            for name in self._entries
            for path, digest in self._hashes(name, "outs").items()
        }
        found = LockFacts(left=self._left(makers, text_of))
        for name in self._entries:
            if name in found.left:
                continue
            for file, values in self._params(name).items():
                found.params.setdefault(file, {}).update(values)
            found.outs |= self._hashes(name, "outs")
            for path, digest in self._hashes(name, "deps").items():
                if path not in makers and not _is_in_one(path, makers):
                    found.inputs[path] = digest
        found.scores = [path for path in found.outs if path.endswith(".json")]
        return found

    def _left(
        self,
        makers: Mapping[str, tuple[str, str]],
        text_of: Callable[[str], str | None],
    ) -> set[str]:
        """Return the stages whose results the commit's own files contradict, and those that read what these made."""
        left = {name for name in self._entries if self._is_contradicted(name, text_of)}
        size = -1
        while len(left) != size:
            size = len(left)
            for name in self._entries:
                for path, digest in self._hashes(name, "deps").items():
                    maker, made = makers.get(path, ("", digest))
                    if maker in left or made != digest:
                        left.add(name)
        return left

    def _is_contradicted(self, name: str, text_of: Callable[[str], str | None]) -> bool:
        for file, locked in self._params(name).items():
            text = text_of(file)
            values = None if text is None else read_values(file, text)
            if values is None:
                continue  # Python, or not in git: it contradicts nothing
            ours = self._is_ours(name)
            if _differ(name if ours else "", file, locked, values):
                return True
        return False

    def _is_ours(self, name: str) -> bool:
        """Tell whether a stage runs a program of ours, which knows which parameters count."""
        cmd = self._entries[name].get("cmd")
        lines = cmd.splitlines() if isinstance(cmd, str) else cmd
        said = [str(line) for line in lines] if isinstance(lines, list) else []
        return calls_us(said) and stages.has_program(name)

    def _params(self, name: str) -> dict[str, Mapping[str, Any]]:
        listed = self._entries[name].get("params")
        found: dict[str, Mapping[str, Any]] = {}
        for file, values in listed.items() if isinstance(listed, Mapping) else ():
            if isinstance(values, Mapping):
                found[str(file)] = {str(key): value for key, value in values.items()}
        return found

    def _hashes(self, name: str, kind: str) -> dict[str, str]:
        return hashes(self._entries[name], kind)


def _is_in_one(path: str, makers: Mapping[str, Any]) -> bool:
    return any(path.startswith(f"{made}/") for made in makers)


def _differ(
    stage: str, file: str, locked: Mapping[str, Any], values: Mapping[str, Any]
) -> bool:
    """Tell whether a parameter file says something else than what a result was made with.

    Parameters
    ----------
    stage : str
        The stage, if a program of ours runs it.
    """
    if file == VERSIONS_FILE:
        locked = without_names({k: v for k, v in locked.items() if not is_parent(k)})
    now = {key: found for key in locked for found in _at(values, key)}
    try:
        if same(dict(locked), now):
            return False
        if not stage or file == VERSIONS_FILE:
            return True
        counting = functools.partial(stages.counting, stage, file)
        return not same(dict(counting(locked)), dict(counting(now)))
    except Exception:
        return True


def _at(values: Mapping[str, Any], key: str) -> Iterator[Any]:
    """Yield what stands at a (dotted) name; nothing where nothing stands there."""
    found: Any = values
    if key in values:
        yield values[key]
        return
    for part in key.split("."):
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, Mapping) and part in found:
            found = found[part]
        else:
            return
    yield found


@functools.lru_cache(maxsize=256)
def _read_values(kind: str, text: str) -> Any:
    try:
        if kind == "toml":
            return tomllib.loads(text)
        if kind == "json":
            return json.loads(text)
        return yaml.load(text, _Yaml12)  # noqa: S506 - a SafeLoader
    except (ValueError, RecursionError, yaml.YAMLError):
        return None


def read_values(file: str, text: str) -> Mapping[str, Any] | None:
    """Return what stands in a file of parameters; None where it cannot be told without DVC."""
    kind = file.rpartition(".")[2]
    if kind == "py":
        return None
    found = _read_values(kind if kind in {"toml", "json"} else "yaml", text)
    return found if isinstance(found, Mapping) else None
