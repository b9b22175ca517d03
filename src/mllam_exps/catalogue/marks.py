"""Tags and notes, which a team sees: they lie in the run store, and count for no result.

``<store>/marks/<uid>.json`` has those of one user. Whose they are says the owner of
that file, whatever its name and content say. Nobody else can change or remove it: the
folder is sticky, and a record is its writer's.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base import ownership, records
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.shapes import Shape, list_of, maybe, number, of_shape, text
from mllam_exps.runs import layout
from mllam_exps.runs.locks import lock
from mllam_exps.runs.store import RunStore

LONGEST_NOTE = 2000
_TAG = re.compile(r"[\w][\w.+:@-]{0,63}")
_SHAPE: Shape = {
    "marks": list_of(
        of_shape(
            {
                "experiment": text,
                "commit": maybe(text),
                "name": maybe(text),
                "tag": maybe(text),
                "note": maybe(text),
                "at": number,
            }
        )
    )
}


@dataclass(frozen=True)
class Mark:
    """A tag, or a note, of one user on one experiment.

    Parameters
    ----------
    experiment : str
        What tells it from all others: of a submitted one its identity in the store, of
        another one its commit.
    commit : str
        Its commit, if it was saved then.
    name : str
        What it was called, for people.
    tag, note : str
        One of both.
    at : float
        When.
    owner : str
        Whose it is.
    """

    experiment: str
    commit: str
    name: str
    tag: str
    note: str
    at: float
    owner: str = ""

    @property
    def told(self) -> dict[str, Any]:
        """The same for programs."""
        word = {"tag": self.tag} if self.tag else {"note": self.note}
        return {**word, "person": self.owner, "date": self.at}

    @property
    def line(self) -> str:
        """The same for people."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.at))
        kind, word = ("tag", self.tag) if self.tag else ("note", self.note)
        return f"{kind:11} {word} ({self.owner}, {when})"

    def to_record(self) -> dict[str, Any]:
        """Return the JSON-able record; whose it is, is not what is written."""
        return {
            "experiment": self.experiment,
            "commit": self.commit,
            "name": self.name,
            "tag": self.tag,
            "note": self.note,
            "at": self.at,
        }


@dataclass(frozen=True)
class Marked:
    """An experiment that is to be marked: by what it is known, and how it is called."""

    experiment: str
    commit: str
    name: str

    def is_meant_by(self, mark: Mark) -> bool:
        """Tell whether a mark is on it."""
        return self.experiment == mark.experiment or (
            self.commit != "" and self.commit in {mark.commit, mark.experiment}
        )


def all_marks(store: RunStore) -> list[Mark]:
    """Return everybody's, oldest first; a record that cannot be used is told."""
    folder = store.directory / layout.MARKS
    found: list[Mark] = []
    for name in records.entries(folder):
        if name.endswith(".json") and not name.startswith("."):
            found += _read(folder / name)
    return sorted(found, key=lambda mark: mark.at)


def _read(path: Path) -> Iterator[Mark]:
    # The owner first: who has put another file in its place since is not believed less.
    owner = ownership.owner_of(path)
    record = records.read(path, shape=_SHAPE)
    for one in record["marks"] if record else ():
        mark = _mark(one, owner)
        if bool(_TAG.fullmatch(mark.tag)) != bool(mark.note):
            yield mark


def _mark(record: Mapping[str, Any], owner: str) -> Mark:
    known = {name: record.get(name) or "" for name in ("commit", "name", "tag", "note")}
    known["note"] = known["note"][:LONGEST_NOTE]
    return Mark(record["experiment"], at=record["at"], owner=owner, **known)


def check_tag(word: str) -> str:
    """Return a tag.

    Raises
    ------
    UsageError
        If it cannot be one.
    """
    if not _TAG.fullmatch(word):
        why = "a tag has letters, digits and . + : @ - _, and 64 of them at most"
        raise UsageError(f"{word!r} cannot be a tag", why=why)
    return word


def add(
    store: RunStore,
    experiments: Iterable[Marked],
    *,
    tags: Iterable[str] = (),
    note: str = "",
) -> None:
    """Write down one's own tags, or a note, on experiments; a tag stands once."""
    if len(note) > LONGEST_NOTE:
        what = f"a note has {LONGEST_NOTE} signs at most, and this one {len(note)}"
        raise UsageError(what)
    experiments, now = list(experiments), time.time()

    def with_new(before: list[Mark]) -> list[Mark]:
        found = list(before)
        for one in experiments:
            mine = {mark.tag for mark in before if one.is_meant_by(mark)}
            for tag in dict.fromkeys(tags):
                if tag not in mine:
                    found.append(
                        Mark(one.experiment, one.commit, one.name, tag, "", now)
                    )
            if note:
                found.append(Mark(one.experiment, one.commit, one.name, "", note, now))
        return found

    _change(store, with_new)


def remove(
    store: RunStore,
    experiments: Iterable[Marked],
    *,
    tags: Iterable[str] = (),
    notes: bool = False,
) -> int:
    """Remove one's own tags, or all of one's own notes, from experiments; return how many there were."""
    experiments, tags = list(experiments), set(tags)
    removed: list[Mark] = []

    def without(before: list[Mark]) -> list[Mark]:
        def goes(mark: Mark) -> bool:
            is_named = mark.tag in tags if mark.tag else notes
            return is_named and any(one.is_meant_by(mark) for one in experiments)

        removed.extend(mark for mark in before if goes(mark))
        return [mark for mark in before if not goes(mark)]

    _change(store, without)
    return len(removed)


def _change(store: RunStore, change: Callable[[list[Mark]], list[Mark]]) -> None:
    """Replace one's own marks by what becomes of them.

    Raises
    ------
    MllamError
        If they cannot be read: then they are not replaced either; or not be written.
    """
    with lock(store, "marks", wait=True):
        try:
            path = _own_file(store.folder(layout.MARKS))
            found = records.look(path, shape=_SHAPE)
            if isinstance(found, records.Trouble):
                raise MllamError(
                    "your tags and notes cannot be read", str(path), found.why
                )
            before = list(_read(path)) if found else []
            after = change(before)
            if after == before:
                return
            told = {"marks": [mark.to_record() for mark in after]}
            records.replace(path, told)
            path.chmod(path.stat().st_mode | _READ & path.parent.stat().st_mode)
        except OSError as error:
            raise MllamError(
                "tags and notes cannot be written",
                str(store.directory / layout.MARKS),
                reasons.of_os_error(error),
                reasons.way_out_of_os_error(error),
            ) from error


_READ = 0o044
"""Who may read the folder may read the marks, whatever the umask: they are for the team."""


def _own_file(folder: Path) -> Path:
    """Return the file of one's own marks; where something of a colleague's lies in its place, another one."""
    for which in range(1000):
        more = f"-{which}" if which else ""
        path = folder / f"{os.getuid()}{more}.json"
        if not os.path.lexists(path) or ownership.is_mine(path):
            return path
    raise MllamError("there is no room for your tags and notes", str(folder))
