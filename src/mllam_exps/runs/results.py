"""The records of what a run has made: its result, what files it read and made, and why a result was set aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from mllam_exps.base import records
from mllam_exps.base.records import Record, Trouble
from mllam_exps.base.shapes import (
    Shape,
    count,
    dict_of,
    flag,
    list_of,
    maybe,
    number,
    of_shape,
    text,
)
from mllam_exps.identity.content import Described, files_of, part_of
from mllam_exps.identity.listings import LISTED, is_digest, is_inside
from mllam_exps.identity.run_keys import is_key


@dataclass(frozen=True)
class Output(Record):
    """An output of a run, as its result names it.

    Parameters
    ----------
    digest : str
        As DVC names its content.
    size : float, optional
        Bytes.
    files : int, optional
        How many.
    isexec : bool
        Whether it is an executable file.
    """

    SHAPE: ClassVar[Shape] = {
        "digest": is_digest,
        "size": maybe(number),
        "files": maybe(count),
        "isexec": maybe(flag),
    }

    digest: str
    size: float | None = None
    files: int | None = None
    isexec: bool = False

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record, without what is not known."""
        record = {"digest": self.digest, "size": self.size, "files": self.files}
        known = {name: value for name, value in record.items() if value is not None}
        return known | ({"isexec": True} if self.isexec else {})


@dataclass(frozen=True)
class Read(Record):
    """An input of a result: which run made it, if one did, and its content's hash."""

    SHAPE: ClassVar[Shape] = {"run": maybe(is_key), "md5": is_digest}

    md5: str
    run: str | None = None


@dataclass(frozen=True)
class Result(Record):
    """What a run has made; of the saving of an experiment, the commit that holds it.

    Parameters
    ----------
    attempt : int
        Whose outputs it is.
    outputs, inputs : mapping
        By path, seen from the repository's root.
    commit : str
        Of a saved experiment.
    time : float, optional
        What the writer's host thought, for people.
    """

    SHAPE: ClassVar[Shape] = {
        "inputs": maybe(dict_of(of_shape(Read.SHAPE))),
        "attempt": count,
        "outputs": dict_of(of_shape(Output.SHAPE)),
        "commit": maybe(text),
        "time": maybe(number),
    }

    attempt: int
    outputs: Mapping[str, Output] = field(default_factory=dict)
    inputs: Mapping[str, Read] = field(default_factory=dict)
    commit: str = ""
    time: float | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says."""
        outputs, inputs = record["outputs"], record.get("inputs") or {}
        return super().from_record(
            {
                **record,
                "outputs": {p: Output.from_record(o) for p, o in outputs.items()},
                "inputs": {p: Read.from_record(i) for p, i in inputs.items()},
            }
        )

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        record: dict[str, Any] = {
            "attempt": self.attempt,
            "outputs": {path: out.to_record() for path, out in self.outputs.items()},
            "time": self.time,
        }
        if self.commit:
            return record | {"commit": self.commit}
        return record | {"inputs": {p: i.to_record() for p, i in self.inputs.items()}}


@dataclass(frozen=True)
class SetAside(Record):
    """Why a result was set aside.

    Parameters
    ----------
    why : str
        In words.
    stale : bool
        Whether nothing is damaged: an input was made again since, and became another.
    result : Result or None
        What was set aside.
    """

    SHAPE: ClassVar[Shape] = {"why": text, "stale": maybe(flag)}

    why: str
    stale: bool = False
    result: Result | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says."""
        whole = of_shape(Result.SHAPE)(record)
        result = Result.from_record(record) if whole else None
        return cls(record["why"], bool(record.get("stale")), result)

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        result = self.result.to_record() if self.result else {}
        return result | {"why": self.why, "stale": self.stale}


_FILE: Shape = LISTED | {"size": maybe(number), "isexec": maybe(flag)}
_DESCRIBED: Shape = {
    "digest": is_digest,
    "size": maybe(number),
    "files": maybe(list_of(of_shape(_FILE))),
    "isexec": maybe(flag),
    "folders": maybe(list_of(is_inside)),
    "left_out": maybe(dict_of(text)),
    "cache": maybe(text),
}


@dataclass(frozen=True)
class Contents(Record):
    """What is known of each file of an attempt's outputs (``manifest.json``), or inputs (``inputs.json``).

    Parameters
    ----------
    by_path : mapping
        Outputs or inputs, seen from the repository's root. What DVC's cache gave of an
        input has the ``cache``'s folder, too; a file of ``parameters`` that is none of
        its inputs says so.
    """

    by_path: Mapping[str, Described] = field(default_factory=dict)

    @classmethod
    def look(cls, path: Path) -> Self | Trouble | None:
        """Return the record at `path`, why it cannot be used, or None where nothing is there."""
        found = records.look(path)
        if not isinstance(found, dict):
            return found
        if all(map(of_shape(_DESCRIBED), found.values())):
            return cls(found)
        return Trouble(path, "is damaged: it does not describe files")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record at `path`; None where none can be used, which is told."""
        found = cls.look(path)
        if isinstance(found, Trouble):
            records.tell(found)
            return None
        return found

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return dict(self.by_path)

    def of(self, path: str) -> Described | None:
        """Describe an output or input, or a file or folder in one; None where there is none of that path."""
        if path in self.by_path:
            return self.by_path[path]
        for whole, described in self.by_path.items():
            if path.startswith(f"{whole}/"):
                return part_of(described, path.removeprefix(f"{whole}/"))
        return None

    def files_in(self, folder: Path) -> dict[Path, Mapping[str, Any]]:
        """Return what is known of each file, by its place if all of them lie in a folder."""
        files: dict[Path, Mapping[str, Any]] = {}
        for path, described in self.by_path.items():
            files |= files_of(folder / path, described)
        return files
