"""A share: where in it everything lies, and who has to have which rights there."""

from __future__ import annotations

import grp
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath

from mllam_exps.base.errors import UsageError, nearest
from mllam_exps.runs import layout

REMOTE = "share"
"""How DVC's remote is called in the clones of its members."""
CACHE, RUN_STORE, OBJECTS = "cache", "mllam-exps", "files"
CLONES, UNNEEDED = "clones", "unneeded"
"""What each clone needs of it; and what none needs any more."""
GIT = ("HEAD", "objects", "refs")
"""What makes a folder a bare git repository."""
OWNERS = frozenset({"HEAD", "config", "description", "hooks", "packed-refs", "info"})
"""What is its founder's alone to write: git runs what they name as whoever pushes."""

TOP = 0o3770
"""Sticky: a member makes files there, and replaces nobody else's."""
FOLDER = 0o2770
WRITABLE = 0o222
OTHERS = 0o007


@dataclass(frozen=True)
class Rights:
    """What a file or folder of a share must allow, and must not.

    Parameters
    ----------
    must, must_not : int
        Bits of its mode.
    default : bool, optional
        Whether it has a default access list, where its file system knows them; None
        where that does not matter.
    """

    must: int = 0
    must_not: int = 0
    default: bool | None = None


_TEAM = Rights(0o2070, 0o002, default=True)
_KEPT = Rights(0o3070, 0o002, default=True)
_STORE = Rights(0o2070, 0o002, default=False)
_KEPT_STORE = Rights(0o3070, 0o002, default=False)
"""Sticky: nobody puts another folder in the place of this one, or of what is another's in it."""
_READ = Rights(0o040, 0o002)
_FOUNDER_S = Rights(0o040, 0o022)
_FOUNDER_S_FOLDER = Rights(0o050, 0o022, default=False)
_OBJECT = Rights(0o040, WRITABLE)
_ANY = Rights()


@dataclass(frozen=True)
class Share:
    """A folder in which a team has everything in common.

    Parameters
    ----------
    directory : Path
        A bare git repository and a DVC remote in one, as ``dvc exp push PATH`` wants.
    """

    directory: Path

    @property
    def cache(self) -> Path:
        """DVC's cache; the run store lies in it."""
        return self.directory / CACHE

    @property
    def run_store(self) -> Path:
        """The run store."""
        return self.cache / RUN_STORE

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders beside git's own."""
        return (
            self.directory / OBJECTS / "md5",
            self.cache / OBJECTS / "md5",
            self.cache / "runs",
            self.run_store,
            self.directory / CLONES,
        )

    @property
    def group(self) -> int:
        """The number of the team's group."""
        return self.directory.stat().st_gid

    @property
    def group_name(self) -> str:
        """Its name."""
        return group_name(self.group)

    @property
    def is_there(self) -> bool:
        """Whether it was founded."""
        return is_repository(self.directory) and self.cache.is_dir()

    def rights(self, inside: PurePath, mode: int) -> Rights:
        """Say which rights a file or folder must have.

        Parameters
        ----------
        inside : PurePath
            Seen from the share's folder.
        mode : int
            As ``lstat`` has it.
        """
        is_folder = stat.S_ISDIR(mode)
        if not (is_folder or stat.S_ISREG(mode)):
            return _ANY
        parts = inside.parts
        if not parts:
            return Rights(TOP, OTHERS, default=True)
        if parts[0] in OWNERS:
            return _FOUNDER_S_FOLDER if is_folder else _FOUNDER_S
        if parts[:2] == (CACHE, RUN_STORE):
            return _in_store(parts[2:], is_folder=is_folder)
        if is_folder:
            return _KEPT if parts in {(CACHE,), (CLONES,)} else _TEAM
        return _OBJECT if parts[:2] == (CACHE, OBJECTS) else _READ


def _in_store(parts: tuple[str, ...], *, is_folder: bool) -> Rights:
    """Say who has to have which rights in the run store: much of it has one writer."""
    if not is_folder:
        return _ANY
    if not parts or (len(parts) == 1 and parts[0] in layout.OF_THE_TEAM):
        return _KEPT_STORE
    if parts[0] != layout.RUNS:
        return _ANY
    if parts[2:] == (layout.ATTEMPTS,):
        return _KEPT_STORE
    return _STORE if parts[2:] in layout.OF_THE_TEAM_IN_A_RUN else _ANY


def is_repository(folder: Path) -> bool:
    """Tell whether a folder is a bare git repository."""
    return all((folder / name).exists() for name in GIT)


def at(path: Path) -> Share:
    """Return the share at a path.

    Raises
    ------
    UsageError
        If there is none, or this user may not look.
    """
    share = Share(path.resolve())
    try:
        found = share.is_there
    except PermissionError as error:
        why = f"it belongs to the group {share.group_name}, and you are not in it"
        raise UsageError(
            "this share cannot be entered", str(path), why, "ask its owner"
        ) from error
    if not found:
        raise UsageError(
            "is no share",
            str(path),
            next=f"mllam-exps share init {path} --group GROUP",
        )
    return share


def of_cache(cache: Path) -> Share | None:
    """Return the share of which a folder is DVC's cache; None where it is no share's."""
    place = cache.resolve()
    share = Share(place.parent)
    return share if share.cache == place and share.is_there else None


def group_name(number: int) -> str:
    """Return the name of a group; the number where it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def group_of(name: str) -> int:
    """Return the number of a group that this user is in, by its name or its number.

    Raises
    ------
    UsageError
        If there is no such group, or the user is not in it.
    """
    number = int(name) if name.isdecimal() else _number_of(name)
    if os.geteuid() != 0 and number not in {*os.getgroups(), os.getegid()}:
        why = "one that was added to a group is in it from the next login on"
        raise UsageError(
            f"you are not in the group {name}", why=why, next="groups shows yours"
        )
    return number


def _number_of(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        near = nearest(name, [one.gr_name for one in grp.getgrall()])
        hint = f"did you mean {near}?" if near else "getent group lists them"
        raise UsageError(f"no group is called {name}", next=hint) from None
