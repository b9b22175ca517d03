"""Variables that lead into the user's repository: in an attempt they lead into its copy of it.

A program that imports its modules by ``PYTHONPATH=$PWD/src`` would read what the user
edits meanwhile, and not what its run is known by.

The repository's path is found wherever it stands in a value, whatever stands around it,
and only that piece of the text is replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from mllam_exps.dvc import ignored

_STAY = re.compile(r"HOME$|(MLFLOW|WANDB|MLLAM_EXPS|DVC)_")
"""Where a user's home or a tracking database lies, which an attempt has no copy of."""
_NAME = r"\w.~%+@\-"
"""What the name of a file consists of as a rule. Another sign may end it (``:``, ``}``)."""
_NAMES = re.compile(rf"[{_NAME}/]*")
_END = re.compile(rf"[^{_NAME}]|$")
_SLASHES = re.compile(r"(?P<host>(?<=\w:)//(?!/))|/+")
"""Before a path; or before the name of a host, in a URL."""
_BEFORE = re.compile(
    r"(^|[^\w.~%+)}\]-]"  # a value, or anything that ends no name: "=", ":", "{", "@"
    r"|(^|[^\w.~%+/-])-[A-Za-z-][\w-]*"  # an option with its path right behind it: -I/x
    r"|\bfile://localhost)$"
)
"""What stands before an absolute path. A slash behind anything else goes on with a path (``/a/b``, ``http://host/b``)."""
_FAR = 100
"""How many letters before a path are looked at: a shell's function may be a value, of thousands."""


@dataclass(frozen=True)
class _Lead:
    """A piece of a value that leads into the repository.

    Parameters
    ----------
    start, stop : int
        Where the piece stands that names the repository, or a folder in it to which a
        link leads.
    folder : Path
        What that piece names, seen from the repository's root.
    path : Path
        What is named as a whole: the rest of the path included.
    quoted : bool
        Whether it is written as in a URL: ``%20`` for a space.
    """

    start: int
    stop: int
    folder: Path
    path: Path
    quoted: bool = False

    def text(self, copy: Path) -> str:
        """Return the piece as it is to be."""
        place = str(copy / self.folder)
        return quote(place) if self.quoted else place


@dataclass(frozen=True)
class Redirection:
    """Leads variables from a repository into a copy of it.

    Parameters
    ----------
    origin, copy : Path
        The user's repository, and the copy.
    stages : collection of Path
        What stages read and make, seen from there: it is the copy's, also where it is
        not there (yet).
    note : callable
        Is told which variable still leads into the user's repository; no values.
    """

    origin: Path
    copy: Path
    stages: Collection[Path] = ()
    note: Callable[[str], None] = field(default=lambda _: None)

    def of(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return an environment whose paths into the repository lead into the copy.

        What git ignores, and no stage reads or makes, stays the user's: a virtual
        environment, a cache of downloads. So does what the user's repository has and
        the copy lacks.
        """
        leads = {
            name: list(self._leads(name, value))
            for name, value in environ.items()
            if not _STAY.match(name)
        }
        paths = {lead.path for found in leads.values() for lead in found}
        stays = self._stays(paths)
        changed = dict(environ)
        for name, found in leads.items():
            text, end = "", 0
            for lead in found:
                if lead.path not in stays:
                    text += environ[name][end : lead.start] + lead.text(self.copy)
                    end = lead.stop
                elif not stays[lead.path]:
                    self.note(
                        f"{name} leads to {self.origin / lead.path}, which the attempt's copy of "
                        "the repository lacks: it is read there, where it may be edited meanwhile"
                    )
            changed[name] = text + environ[name][end:]
        return changed

    def _leads(self, name: str, value: str) -> Iterator[_Lead]:
        """Yield the pieces of a value that lead into the repository; note what looks like one and cannot be read."""
        at = 0
        for slashes in _SLASHES.finditer(value):
            start = slashes.end() - 1
            if start < at:
                continue
            first = slashes.start()
            before = _BEFORE.search(value, max(0, first - _FAR), first)
            if before is None or slashes["host"]:
                self._note_unread(name, value, start)
                continue
            at = _stop(value, start, str)
            lead = self._lead(value, start, at)
            if lead is None and "%" in value:
                at = _stop(value, start, unquote)
                lead = self._lead(value, start, at, quoted=True)
            if lead is not None:
                yield lead

    def _lead(
        self, value: str, start: int, stop: int, *, quoted: bool = False
    ) -> _Lead | None:
        """Return where a path leads that stands in a value; None where that is elsewhere."""
        decode = unquote if quoted else str
        whole = value[start:stop]
        # The rest stays as it is written: it must not climb out of the copy.
        begin = start + max(whole.rfind("/../"), 0)
        if whole.endswith("/.."):
            begin = stop - 1
        for end in range(begin + 1, stop + 1):
            if end < stop and value[end] != "/":
                continue
            folder = self._inside(decode(value[start:end]))
            if folder is not None:
                rest = decode(value[end:stop]).strip("/")
                return _Lead(start, end, folder, folder / rest, quoted)
        return None

    def _inside(self, path: str) -> Path | None:
        """Return a path as seen from the repository's root; None where it leads elsewhere."""
        real = Path(os.path.realpath(path))
        for root in (self.origin, Path(os.path.realpath(self.origin))):
            for place in (real, Path(path)):
                if place.is_relative_to(root) and ".." not in place.parts:
                    return place.relative_to(root)
        return None

    def _note_unread(self, name: str, value: str, start: int) -> None:
        root = str(self.origin)
        if value.startswith(root, start) and _END.match(value, start + len(root)):
            self.note(
                f"{name} names {root} in a form that cannot be read: it is left as it is"
            )

    def _stays(self, paths: Collection[Path]) -> dict[Path, bool]:
        """Return the paths that stay the user's, each with whether that is because git ignores it."""
        asked = {path: self._up_to_link(path) for path in paths}
        missing = {
            path: shown for path, shown in asked.items() if not self._is_in_copy(shown)
        }
        # git takes only a folder by a pattern like "/.cache/"; one that is not there is
        # a folder by its slash.
        names = {shown: (str(shown), f"{shown}/") for shown in missing.values()}
        question = {name for both in names.values() for name in both}
        left_out = ignored.by_git(self.origin, question) if question else set()
        found: dict[Path, bool] = {}
        for path, shown in missing.items():
            is_ignored = not left_out.isdisjoint(names[shown])
            if is_ignored or os.path.lexists(self.origin / shown):
                found[path] = is_ignored
        return found

    def _up_to_link(self, path: Path) -> Path:
        """Return a path, or the first link on it: behind one git knows nothing (2.39: "is beyond a symbolic link")."""
        for folder in (*list(path.parents)[-2::-1], path):
            if (self.origin / folder).is_symlink():
                return folder
        return path

    def _is_in_copy(self, path: Path) -> bool:
        """Tell whether a path is one of the copy's: it is there, or a stage makes or reads it, or what lies in it."""
        if os.path.lexists(self.copy / path):
            return True
        return any(
            path == one or path in one.parents or one in path.parents
            for one in self.stages
        )


def _stop(value: str, start: int, decode: Callable[[str], str]) -> int:
    """Return where a path ends that starts in a value: as far as there is such a file, and names go on from there."""
    stop = start
    for end in _END.finditer(value, start + 1):
        is_there = os.path.lexists(decode(value[start : end.start()]))
        if is_there:
            stop = end.start()
        elif value.startswith("/", end.start()):
            break
    rest = _NAMES.match(value, stop) if value.startswith("/", stop) else None
    return rest.end() if rest else stop
