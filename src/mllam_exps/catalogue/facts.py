"""What is known of one experiment, wherever it stands: values by name, and what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mllam_exps.base import records
from mllam_exps.dvc.stages.phases import is_before_the_last
from mllam_exps.identity.definition import VERSIONS_FILE, RunDefinition, flat, is_parent
from mllam_exps.runs import layout
from mllam_exps.runs.results import Result
from mllam_exps.runs.store import Run

SHORT = 8
"""How many digits of a hash are told."""
LARGEST_NUMBER = 10**300
LONGEST = 400
"""Signs of a value that are kept: a list of a thousand times is told by nobody."""
MOST_VALUES = 10_000
"""Values of one file that are kept."""
LARGEST_SCORES = 2**24
"""Bytes of a file of scores that are read."""

Scalar = str | int | float | bool | None
Values = dict[str, Scalar]
Note = tuple[str, str, str, float]
"""Who asked for a run without having been submitted: name, repository, owner of the note, when."""


@dataclass
class Facts:
    """What is known of an experiment, that does not change while its files don't.

    Parameters
    ----------
    name, person, state, commit, origin, machine : str
        As people say them.
    at : float
        When it was submitted, asked for last, or saved.
    data, parent : tuple of str
        What no stage makes, with its hash; what its training goes on from.
    watched : tuple of str
        Files and folders, beside its own, whose change makes all of this old.
    outs : dict
        The hashes of what its stages made, by path.
    is_partial : bool
        Whether git may know more of it.
    values : dict
        Parameters, versions and scores, by ``file:key``.
    """

    name: str
    person: str
    state: str
    at: float
    commit: str = ""
    origin: str = ""
    machine: str = ""
    data: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    outs: Mapping[str, str] = field(default_factory=dict)
    is_partial: bool = False
    values: Values = field(default_factory=dict)


def stamp(paths: Iterable[str | Path]) -> str:
    """Return what is another text as soon as one of these files or folders has changed."""
    parts = []
    for path in paths:
        try:
            found = os.lstat(path)
        except OSError:
            parts.append("-")
        else:
            # That time nobody can set, and it changes with each other one.
            parts.append(f"{found.st_ctime_ns:x}.{found.st_ino:x}")
    return " ".join(parts)


def named(file: str, values: Mapping[str, Any]) -> Values:
    """Return values of a file by their whole names; what is no mapping, number, truth or text becomes text."""
    several = islice(flat(values), MOST_VALUES)
    return {f"{file}:{key}"[:LONGEST]: scalar(value) for key, value in several}


def scalar(value: Any) -> Scalar:
    """Return a value as it is kept."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < LARGEST_NUMBER else float("inf")
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def with_hash(path: str, digest: str) -> str:
    """Return how a file is told that is known by its hash."""
    return f"{path} {digest[:SHORT]}"


class OfRuns:
    """What runs of a store tell; each is read once."""

    def __init__(self) -> None:
        self._definitions: dict[str, RunDefinition | None] = {}
        self._scores: dict[tuple[str, str], Values] = {}

    def definition(self, run: Run) -> RunDefinition | None:
        """Return what defines a run."""
        if run.key not in self._definitions:
            self._definitions[run.key] = run.definition
        return self._definitions[run.key]

    def add(
        self, facts: Facts, runs: Mapping[str, Run], saved_at: float | None
    ) -> None:
        """Put into the facts of an experiment what its runs tell.

        Parameters
        ----------
        saved_at : float, optional
            When it was saved: results that were made since are not the ones that it
            has.
        """
        data = list(facts.data)
        outs = dict(facts.outs)
        for stage, run in runs.items():
            definition = self.definition(run)
            if definition is None:
                facts.is_partial = True
                continue
            if is_before_the_last(stage):
                continue
            facts.values |= parameters(definition.params)
            facts.parent += tuple(parents(definition.parent))
            for one in definition.inputs:
                if one.run is None and one.digest:
                    data.append(with_hash(one.path, one.digest))
            result = run.result
            if result is None or _is_later(run, saved_at):
                facts.is_partial = True
                continue
            outs |= {path: out.digest for path, out in result.outputs.items()}
            facts.values |= self._of_result(run, definition, result)
        facts.data = tuple(dict.fromkeys(data))
        facts.parent = tuple(dict.fromkeys(facts.parent))
        facts.outs = outs

    def _of_result(self, run: Run, definition: RunDefinition, result: Result) -> Values:
        """Return the scores of a result: of the outputs that git keeps and that are JSON."""
        found: Values = {}
        outputs = run.directory / layout.ATTEMPTS / str(result.attempt) / layout.OUTPUTS
        for output in definition.outputs:
            made = result.outputs.get(output.path)
            if output.cached or made is None or not output.path.endswith(".json"):
                continue
            key = (output.path, made.digest)
            if key not in self._scores:
                content = _content(outputs / output.path, made.digest)
                self._scores[key] = scores(output.path, content)
            found |= self._scores[key]
        return found


def _is_later(run: Run, saved_at: float | None) -> bool:
    if saved_at is None:
        return False
    return records.changed_at(run.directory / layout.RESULT) > saved_at


def _content(path: Path, digest: str) -> bytes:
    """Return what a file of a result holds; nothing, unless it is what was made."""
    try:
        if path.lstat().st_size > LARGEST_SCORES:
            return b""
        content = records.read_own_bytes(path)
    except OSError:
        return b""
    is_made = hashlib.md5(content, usedforsecurity=False).hexdigest() == digest
    return content if is_made else b""


def scores(path: str, content: bytes) -> Values:
    """Return the numbers, and what else stands, in a file of scores; nothing where it is no JSON object."""
    try:
        found = json.loads(content)
        return named(path, found) if isinstance(found, dict) else {}
    except (ValueError, RecursionError):
        return {}


def parameters(params: Mapping[str, Mapping[str, Any]]) -> Values:
    """Return the parameters and versions that were tracked."""
    found: Values = {}
    for file, values in params.items():
        is_ours = file == VERSIONS_FILE
        kept = {k: v for k, v in values.items() if not (is_ours and is_parent(k))}
        found |= named(file, kept)
    return found


def parents(parent: Mapping[str, Any]) -> Iterable[str]:
    """Yield what a training goes on from: the name by which it was found, and files by their hashes."""
    name, files = parent.get("named"), parent.get("files")
    if isinstance(name, str) and name:
        yield name
    for path, digest in files.items() if isinstance(files, Mapping) else ():
        if isinstance(digest, str):
            yield with_hash(str(path), digest)
