"""Where a path leads that goes through symbolic links, and how to write or remove nothing behind one that leads away.

A repository may keep links (``data -> /scratch/…``): a copy of it has the same ones. What
is written or removed behind such a link is somebody's own file, and none of the copy.
Nobody else writes to the folders that are looked at here: looking first is enough.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base.errors import MllamError

MOST_LINKS = 40
"""As Linux counts: after so many links a path leads nowhere."""


@dataclass(frozen=True)
class Led:
    """Where a path leads that a link lies on.

    Parameters
    ----------
    path, link : str
        The path, and the first link on it: maybe itself. Both as seen from where the
        path starts.
    end : str
        Where the whole path leads: as seen from there, if that is inside of the
        repository, else as an absolute path.
    outside : bool
        Whether it is outside. An absolute link into a repository leads out of its copies.
    """

    path: str
    link: str
    end: str
    outside: bool

    @property
    def is_link(self) -> bool:
        """Whether the link is what the path names, and no folder on the way."""
        return self.link == self.path

    @property
    def sentence(self) -> str:
        """What to say behind the path."""
        if self.is_link:
            return f"is a link that git tracks, to {self.end}"
        return f"lies behind a link that git tracks, {self.link}: it is {self.end}"


def top_of(root: Path) -> Path:
    """Return the git repository that a folder is, or lies in; without one the folder itself."""
    root = Path(os.path.realpath(root))
    for folder in (root, *root.parents):
        if os.path.lexists(folder / ".git"):
            return folder
    return root


def led(root: Path, path: str) -> Led | None:
    """Return where a path in a repository leads; None where no link lies on it.

    Parameters
    ----------
    root : Path
        The folder from which the path is seen.
    path : str
        Relative to that.
    """
    at = root
    for part in Path(path).parts:
        at /= part
        if at.is_symlink():
            real = Path(os.path.realpath(root / path))
            outside = not _lies_in(real, top_of(root))
            end = real if outside else os.path.relpath(real, os.path.realpath(root))
            return Led(path, at.relative_to(root).as_posix(), str(end), outside)
    return None


def led_out(clone: Path, origin: Path, path: str) -> Led | None:
    """Return where a path leads that leads out of a clone, as seen from what that is a clone of; None for others.

    A relative link leads elsewhere in a clone, an absolute one only there out of it.
    """
    led_there = led(clone, path)
    if led_there is None or not led_there.outside:
        return None
    led_here = led(origin, path)
    return led_here if led_here and led_here.outside else led_there


def chain(place: Path) -> Iterator[Path]:
    """Yield each link that is followed on the way to a place, and last where that leads."""
    todo, at = list(place.parts[1:])[::-1], Path(place.anchor or "/")
    followed = 0
    while todo:
        part = todo.pop()
        at = at.parent if part == ".." else at / part
        if not at.is_symlink():
            continue
        followed += 1
        if followed > MOST_LINKS:
            break
        yield at
        target = at.readlink()
        at = Path("/") if target.is_absolute() else at.parent
        todo += [part for part in target.parts[::-1] if part != "/"]
    yield at


def leads_away(top: Path, place: Path) -> bool:
    """Tell whether the folder of a place is none of those below `top`, because a link on the way leads elsewhere."""
    return not _lies_in(Path(os.path.realpath(place.parent)), top)


def in_folder(top: Path, place: Path) -> Path:
    """Return a place to write to, or to remove, once it is known that it lies in a folder that is ours.

    Parameters
    ----------
    top : Path
        That folder.

    Raises
    ------
    MllamError
        If a link on the way leads elsewhere.
    """
    if leads_away(top, place):
        what = f"lies behind a link that leads to {os.path.realpath(place.parent)}"
        raise MllamError(what, str(place), "nothing is written or removed there")
    return place


def clear(top: Path, place: Path, *, as_far_as_possible: bool = False) -> Path:
    """Remove a file, a folder or a link that lies in a folder of ours, never what a link leads to; return the place.

    Parameters
    ----------
    as_far_as_possible : bool
        Whether what cannot be removed of a folder may stay: on NFS a removed file that
        somebody still reads does.

    Raises
    ------
    MllamError
        As for `in_folder`.
    """
    in_folder(top, place)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=as_far_as_possible)
    else:
        place.unlink(missing_ok=True)
    return place


def _lies_in(real: Path, folder: Path) -> bool:
    return real.is_relative_to(os.path.realpath(folder))
