"""What was read of experiments, remembered for one user: to read ten thousand of them takes a minute.

It lies in the user's own folder (``~/.local/state/mllam-exps/catalogue/``), so nobody
else writes it, and nothing is written to the store. A file of it is never changed: a
new one is written beside it and takes its place, so that readers need no locks, which
network file systems lack. It may be deleted at any time. What is remembered counts only
as long as the files have the times and inodes that they had (`facts.stamp`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mllam_exps.base import ownership, records, user_state
from mllam_exps.base.errors import MllamError
from mllam_exps.catalogue.facts import Facts, Note, Scalar, Values

VERSION = 1
"""Raised by us when something else would be remembered."""
FOLDER = "catalogue"
_TABLES = """
CREATE TABLE entry (id INTEGER PRIMARY KEY, identity TEXT UNIQUE, fingerprint TEXT,
                    facts TEXT);
CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE value (name INTEGER, entry INTEGER, value, PRIMARY KEY (name, entry))
    WITHOUT ROWID;
CREATE TABLE note (key TEXT PRIMARY KEY, fingerprint TEXT, notes TEXT);
"""
_OTHER = "\1"
"""How a text begins that stands for another kind of value, as JSON."""
_SMALL = 2**53
_AT_ONCE = 500
"""Numbers in one question to SQLite, which takes 999 in old versions."""
_KEPT = [each.name for each in fields(Facts) if each.name != "values"]


@dataclass(frozen=True)
class Remembered:
    """An experiment that was read before.

    Parameters
    ----------
    number : int
        Its number in the index.
    fingerprint : str
        What its files were.
    facts : Facts
        What was read, without the values.
    """

    number: int
    fingerprint: str
    facts: Facts


class Index:
    """What is remembered of the experiments of one store."""

    def __init__(self, store: Path) -> None:
        which = hashlib.sha256(os.fsencode(store)).hexdigest()[:32]
        self._which = f"{which}.sqlite"
        self._opened: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, sqlite3.Error):
            self._opened = self._open(self.path)

    @property
    def path(self) -> Path:
        """Where it lies.

        Raises
        ------
        OSError
            If this user has no folder for such things.
        """
        return user_state.folder() / FOLDER / self._which

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection | None:
        if not ownership.is_ours_alone(path):
            return None
        opened = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        [version] = opened.execute("PRAGMA user_version").fetchone()
        return opened if version == VERSION else None

    def _ask(self, words: str, *values: Any) -> Iterator[Any]:
        """Yield rows.

        Raises
        ------
        MllamError
            If the file is damaged: what was found by it so far may lack something.
        """
        if self._opened is None:
            return
        try:
            yield from self._opened.execute(words, values)
        except sqlite3.Error as error:
            self._opened = None
            with contextlib.suppress(OSError):
                self.path.unlink()
            what = "what was remembered of experiments was damaged, and is removed"
            why, way_out = str(error), "say it again: they are read anew"
            raise MllamError(what, str(self.path), why, way_out) from error

    def entries(self) -> dict[str, Remembered]:
        """Return what is remembered, by identity; nothing where that is damaged."""
        try:
            return self._entries()
        except (MllamError, ValueError, TypeError):
            self._opened = None
            return {}

    def _entries(self) -> dict[str, Remembered]:
        rows = list(self._ask("SELECT id, identity, fingerprint, facts FROM entry"))
        # All at once: to read ten thousand texts one by one takes four times as long.
        facts = json.loads(f"[{','.join(row[3] for row in rows)}]")
        return {
            identity: Remembered(number, told, _facts(each))
            for (number, identity, told, _), each in zip(rows, facts, strict=True)
        }

    def notes(self) -> dict[str, tuple[str, list[Note]]]:
        """Return who asked for which runs, with the fingerprint of these notes."""
        rows = self._ask("SELECT key, fingerprint, notes FROM note")
        return {
            key: (told, [tuple(one) for one in json.loads(notes)])
            for key, told, notes in rows
        }

    def names(self) -> list[str]:
        """Return the names of all values."""
        return [name for (name,) in self._ask("SELECT name FROM name")]

    def column(self, name: str) -> dict[int, Scalar]:
        """Return the values of a name, by the numbers of the experiments."""
        words = "SELECT entry, value FROM value WHERE name = (SELECT id FROM name WHERE name = ?)"
        return {number: _decoded(value) for number, value in self._ask(words, name)}

    def values_of(self, numbers: Sequence[int]) -> dict[int, Values]:
        """Return all values of experiments, by their numbers."""
        found: dict[int, Values] = {number: {} for number in numbers}
        for first in range(0, len(numbers), _AT_ONCE):
            some = numbers[first : first + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            words = (
                f"SELECT entry, value FROM value WHERE name = ? AND entry IN ({marks})"  # noqa: S608 - marks alone
            )
            for each, name in list(self._ask("SELECT id, name FROM name")):
                for number, value in self._ask(words, each, *some):
                    found[number][name] = _decoded(value)
        return found

    def write(
        self,
        fresh: Mapping[str, tuple[str, Facts]],
        notes: Mapping[str, tuple[str, list[Note]]],
        gone: Iterable[int],
    ) -> None:
        """Remember what was read now, and forget what is gone; where that cannot be written, it is read again.

        Parameters
        ----------
        fresh : mapping
            By identity: the fingerprint, and what was read.
        notes : mapping
            By run key, the same of who asked for it.
        gone : iterable of int
            The numbers of experiments that are not there any more.
        """
        with contextlib.suppress(OSError, sqlite3.Error):
            records.folder(self.path.parent, ownership.PRIVATE)
            temporary = self.path.with_name(f".{uuid.uuid4().hex}")
            try:
                self._write(temporary, fresh, notes, gone)
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)

    def _write(
        self,
        path: Path,
        fresh: Mapping[str, tuple[str, Facts]],
        notes: Mapping[str, tuple[str, list[Note]]],
        gone: Iterable[int],
    ) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if self._opened is not None:
            shutil.copyfile(self.path, path)
        # Nobody else knows this file yet: no locks, and nothing to roll back to.
        address = f"{path.as_uri()}?nolock=1"
        with closing(sqlite3.connect(address, uri=True)) as file:
            file.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
            if self._opened is None:
                file.executescript(f"{_TABLES} PRAGMA user_version={VERSION};")
            with file:
                _forget(file, [*gone, *_numbers(file, fresh)])
                for key, (told, found) in notes.items():
                    row = (key, told, json.dumps(found))
                    file.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", row)
                known: dict[str, int] = {}
                for identity, (told, facts) in fresh.items():
                    _remember(file, identity, told, facts, known)


def _numbers(file: sqlite3.Connection, identities: Iterable[str]) -> Iterator[int]:
    """Yield the numbers of experiments that are there, and were read anew."""
    for identity in identities:
        words = "SELECT id FROM entry WHERE identity = ?"
        for (number,) in file.execute(words, (_encoded_text(identity),)):
            yield number


def _forget(file: sqlite3.Connection, gone: Iterable[int]) -> None:
    numbers = [(number,) for number in gone]
    if not numbers:
        return
    file.executescript("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY);")
    file.executemany("INSERT INTO gone VALUES (?)", numbers)
    file.execute("DELETE FROM entry WHERE id IN (SELECT id FROM gone)")
    file.execute("DELETE FROM value WHERE entry IN (SELECT id FROM gone)")


def _remember(
    file: sqlite3.Connection,
    identity: str,
    told: str,
    facts: Facts,
    known: dict[str, int],
) -> None:
    kept = json.dumps([getattr(facts, name) for name in _KEPT])
    row = (_encoded_text(identity), told, kept)
    words = "INSERT INTO entry (identity, fingerprint, facts) VALUES (?, ?, ?)"
    number = file.execute(words, row).lastrowid
    rows = []
    for whole, value in facts.values.items():
        name = _encoded_text(whole)
        if name not in known:
            known[name] = _number(file, name)
        rows.append((known[name], number, _encoded(value)))
    file.executemany("INSERT OR REPLACE INTO value VALUES (?, ?, ?)", rows)


def _number(file: sqlite3.Connection, name: str) -> int:
    file.execute("INSERT OR IGNORE INTO name (name) VALUES (?)", (name,))
    [found] = file.execute("SELECT id FROM name WHERE name = ?", (name,)).fetchone()
    return int(found)


def _facts(values: Sequence[Any]) -> Facts:
    found = Facts(*values)
    for name in ("data", "parent", "watched"):
        setattr(found, name, tuple(getattr(found, name)))
    return found


def _encoded(value: Scalar) -> Any:
    """Return a value as SQLite keeps it: numbers and texts; of the rest it would make one of these, or nothing."""
    if isinstance(value, bool) or value is None:
        return f"{_OTHER}{json.dumps(value)}"
    if isinstance(value, float):
        return value if value == value else f"{_OTHER}NaN"  # noqa: PLR0124 - not a number
    if isinstance(value, int):
        return value if abs(value) < _SMALL else f"{_OTHER}{value}"
    text = _encoded_text(value)
    return f"{_OTHER}{json.dumps(text)}" if text.startswith(_OTHER) else text


def _encoded_text(text: str) -> str:
    """Return a text that UTF-8 can say."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _decoded(value: Any) -> Scalar:
    if isinstance(value, str) and value.startswith(_OTHER):
        found: Scalar = json.loads(value[1:])
        return found
    known: Scalar = value
    return known
