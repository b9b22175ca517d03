"""What defines the result of one stage's work, and the run key that is made of it. Pure.

A key is the digest of a definition's record. So a definition that lies in the run store
proves itself: its digest is its key, or somebody has changed it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.identity.run_keys import base_name, key_of

KEY_FORMAT = 2
"""Raised by us when the meaning of a key changes: older results are then no longer found."""

VERSIONS_FILE = "version.mllam.txt"
RESUME_FROM = "resume_from"
"""What stands there by stage: the files that it goes on from, made for another experiment, by their hashes."""
NAMED = "named"
"""The name by which they were found, for people: no result depends on it."""

PHASE_BEFORE = ".phase-before"
"""The folder in the work directory for what the phase before has made: an input of each phase but the first."""

_ESCAPE = "!"


@dataclass(frozen=True)
class Input:
    """One input of a stage.

    Parameters
    ----------
    path : str
        Relative to the repository's root.
    run : str or None
        Key of the run that makes it, if a stage does.
    digest : str or None
        Its content's hash as DVC writes it (MD5, ``.dir`` behind a folder's), where it
        is known.
    tracked : bool
        Whether DVC's cache holds it (made by a stage or added with ``dvc add``), else
        git does.
    isexec : bool
        Whether it is a file of DVC's cache that its owner may execute, as DVC knows.
    """

    path: str
    run: str | None
    digest: str | None
    tracked: bool
    isexec: bool = False

    def identity(self) -> dict[str, str | None]:
        """Return what counts in the key."""
        return {"run": self.run} if self.run else {"md5": self.digest}


@dataclass(frozen=True)
class Output:
    """One output of a stage; `cached` says whether DVC's cache holds it, else git does."""

    path: str
    cached: bool


@dataclass(frozen=True)
class RunDefinition:
    """All that defines the result of one stage's work, and its key.

    Parameters
    ----------
    stage : str
        Its name in ``dvc.yaml``.
    params : mapping
        Values of the tracked parameters, by file and (dotted) name, as far as they
        count for the stage's program.
    inputs, outputs
        What it reads and makes.
    smoke : bool
        Whether it is shortened by `mllam-exps smoke`.
    commands : tuple of str
        Those of a stage that is not ours, for a shell: they make the result what it is.
    folder : str
        Where they are run, seen from the repository's root.
    phase : int, optional
        Which phase of the stage's work it is, counted from 1; None of work without
        phases. It says how the parameter files are read, and stands in what is made.
    values : mapping
        All values of the tracked parameters, as DVC reads them; they go into
        ``dvc.lock``, and not into the key.
    """

    stage: str
    params: Mapping[str, Mapping[str, Any]]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    smoke: bool = False
    commands: tuple[str, ...] = ()
    folder: str = "."
    phase: int | None = None
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """``<stage>-<32 hexadecimal digits>``, with the stage's odd characters as in URLs."""
        content = self._record()
        # Where an input lies, and what it holds if a run makes it, differs by place, or
        # is known later only.
        content["inputs"] = {i.path: i.identity() for i in self.inputs}
        content["outputs"] = sorted(o.path for o in self.outputs)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return key_of(self.stage, hashlib.sha256(text.encode()).hexdigest()[:32])

    @property
    def versions(self) -> Mapping[str, Any]:
        """The program versions that the result depends on, by the (dotted) names that ``dvc.yaml`` gives."""
        return self.params.get(VERSIONS_FILE, {})

    @property
    def parent(self) -> Mapping[str, Any]:
        """What it goes on from: ``files`` by their hashes, and whether it takes ``weights_only``; most often empty."""
        own = base_name(self.stage)
        found = self.versions.get(f"{RESUME_FROM}.{own}")
        if found is None:
            found = (self.versions.get(RESUME_FROM) or {}).get(own)
        return found or {}

    @property
    def phase_before(self) -> str | None:
        """The key of the run that is the phase before; None of a first phase, and of work without phases."""
        for one in self.inputs:
            if one.run and one.path.startswith(f"{PHASE_BEFORE}/"):
                return one.run
        return None

    def to_record(self) -> dict[str, Any]:
        """Return the JSON-able record that the run store keeps; `from_record` reads it."""
        return self._record() | {"key": self.key}

    def _record(self) -> dict[str, Any]:
        phase = {} if self.phase is None else {"phase": self.phase}
        return phase | {
            "key_format": KEY_FORMAT,
            "stage": self.stage,
            "params": plain(self.params),
            "inputs": {
                i.path: {"run": i.run, "md5": i.digest, "tracked": i.tracked}
                | ({"isexec": True} if i.isexec else {})
                for i in self.inputs
            },
            "outputs": {o.path: {"cached": o.cached} for o in self.outputs},
            "smoke": self.smoke,
            "commands": list(self.commands),
            "folder": self.folder,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], key: str) -> RunDefinition:
        """Return the definition that a record holds.

        Parameters
        ----------
        record : mapping
            What `to_record` returned, somewhen, to somebody.
        key : str
            The run key that it has to have.

        Raises
        ------
        MllamError
            If it is none, or defines another run: it was changed by hand, or comes from
            another version of us.
        """
        try:
            found = cls(
                stage=record["stage"],
                params=_from_plain(record["params"]),
                inputs=tuple(
                    Input(p, i["run"], i["md5"], i["tracked"], bool(i.get("isexec")))
                    for p, i in record["inputs"].items()
                ),
                outputs=tuple(
                    Output(path, output["cached"])
                    for path, output in record["outputs"].items()
                ),
                smoke=record["smoke"],
                commands=tuple(record["commands"]),
                folder=record["folder"],
                phase=record.get("phase"),
            )
            matches = record["key_format"] == KEY_FORMAT and found.key == key
        except (KeyError, TypeError, AttributeError, ValueError):
            matches = False
        if not matches:
            why = "its digest is another: somebody has changed it, or another version of mllam-exps wrote it"
            raise MllamError(
                "is not the definition of this run",
                key,
                why,
                "submit the experiment again",
            )
        return found


def without_names(versions: Mapping[str, Any]) -> dict[str, Any]:
    """Return versions, by their (dotted) names, without the names of what stages go on from."""
    found: dict[str, Any] = {}
    for name, value in versions.items():
        found[name] = _without_names(value) if is_parent(name) else value
    return found


def _without_names(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: _without_names(each) for name, each in value.items() if name != NAMED}


def without_parent(
    params: Mapping[str, Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    """Return a run's parameters without what it goes on from that was made for another experiment."""
    versions = {
        name: value
        for name, value in params.get(VERSIONS_FILE, {}).items()
        if not is_parent(name)
    }
    return {**params, VERSIONS_FILE: versions}


def is_parent(name: str) -> bool:
    """Tell whether a version, by its (dotted) name, is what a stage goes on from."""
    return name.partition(".")[0] == RESUME_FROM


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def plain(value: Any, where: str = "") -> Any:
    """Return a parameter's value as JSON can say it: different values, of different types, stay different.

    Parameters
    ----------
    where : str
        Names it in messages.

    Raises
    ------
    UsageError
        If it is of a kind that DVC (3.67) cannot track either: a date, bytes, a set.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return {_ESCAPE: repr(value)}  # JSON has no such numbers
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(each, where) for each in value]
    if not isinstance(value, Mapping):
        what = f"holds a {type(value).__name__}, which DVC cannot track"
        way_out = "put the value in quotes: it is text then"
        if isinstance(value, set | frozenset):
            way_out = "write it as a list"
        raise UsageError(what, where, next=way_out)
    return _plain_mapping(value, where)


def _plain_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    if all(isinstance(key, str) and not key.startswith(_ESCAPE) for key in value):
        return {
            key: plain(each, f"{where}.{key}" if where else key)
            for key, each in value.items()
        }
    # JSON has names of text only: 1 and "1" would be the same one.
    pairs = [
        [plain(key, where), plain(each, f"{where}.{key}")]
        for key, each in value.items()
    ]
    return {_ESCAPE: sorted(pairs, key=json.dumps)}


def _from_plain(value: Any) -> Any:
    """Return the value of which `plain` made this."""
    if isinstance(value, list):
        return [_from_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get(_ESCAPE), str):
        return float(value[_ESCAPE])
    if _ESCAPE in value:
        return {_from_plain(key): _from_plain(each) for key, each in value[_ESCAPE]}
    return {key: _from_plain(each) for key, each in value.items()}


def same(one: Any, other: Any) -> bool:
    """Tell whether two values of parameters are the same, in type, too: for Python 1 is 1.0, and True."""
    return json.dumps(plain(one), sort_keys=True) == json.dumps(
        plain(other), sort_keys=True
    )
