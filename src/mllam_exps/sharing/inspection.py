"""Finds what in a share would lock a member out, or let others in, and mends what is this user's to mend."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from mllam_exps.base.ownership import user_name
from mllam_exps.dvc.cache import Cache
from mllam_exps.sharing import access_lists
from mllam_exps.sharing.share import (
    CACHE,
    OBJECTS,
    WRITABLE,
    Rights,
    Share,
    group_name,
)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be.

    Parameters
    ----------
    path : Path
        The file or folder.
    what : str
        What is wrong, without names of files: findings alike are counted together.
    owner : int
        Who may mend it.
    mend : callable
        Does so.

        Raises ``OSError`` if that cannot be done.
    """

    path: Path
    what: str
    owner: int
    mend: Callable[[], None]

    @property
    def is_mine(self) -> bool:
        """Whether this user may mend it."""
        return os.geteuid() in {0, self.owner}

    @property
    def owner_name(self) -> str:
        """The name of who may mend it."""
        return user_name(self.owner)


def findings(share: Share) -> Iterator[Finding]:
    """Yield what is wrong, a folder before what is in it."""
    lists = access_lists.are_known(share.directory)
    yield from _of(share, share.directory, PurePath(), lists=lists)
    for folder, names, files in os.walk(share.directory, onerror=None):
        for name in (*sorted(names), *sorted(files)):
            path = Path(folder, name)
            yield from _of(share, path, path.relative_to(share.directory), lists=lists)


def _of(
    share: Share, path: Path, inside: PurePath, *, lists: bool
) -> Iterator[Finding]:
    try:
        found = path.lstat()
    except OSError:
        return  # removed meanwhile, by `dvc gc` say
    if stat.S_ISLNK(found.st_mode):
        return
    mode, rights = stat.S_IMODE(found.st_mode), share.rights(inside, found.st_mode)
    if found.st_gid != share.group:
        what = f"belongs to the group {group_name(found.st_gid)}"
        # To give a file to another group takes the setgid bit away (Linux 6).
        yield Finding(path, what, found.st_uid, lambda: _give(path, share.group, mode))
    wanted = (mode | rights.must) & ~rights.must_not
    if lists and rights != Rights() and access_lists.has_own(path):
        what = "has an access list that names others, or keeps the group out, whatever its mode says"
        yield Finding(path, what, found.st_uid, lambda: _take_own(path, wanted))
    if mode != wanted:
        what = _what(mode, rights, inside)
        yield Finding(path, what, found.st_uid, lambda: path.chmod(wanted))
    if not lists or rights.default is None:
        return
    if rights.default and not access_lists.is_given(path):
        what = "has no default access list: the umask decides who may use what is made in it"
        yield Finding(path, what, found.st_uid, lambda: _give_list(path))
    if not rights.default and access_lists.is_any_given(path):
        what = "has a default access list, where each file has one writer"
        yield Finding(path, what, found.st_uid, lambda: access_lists.take(path))


def _give(path: Path, group: int, mode: int) -> None:
    os.chown(path, -1, group)
    path.chmod(mode)


def _take_own(path: Path, mode: int) -> None:
    access_lists.take_own(path)
    # What its mode says of the group was the most that anybody of the list could do.
    path.chmod(mode)


def _give_list(path: Path) -> None:
    access_lists.give(path)


def _what(mode: int, rights: Rights, inside: PurePath) -> str:
    """Say what is wrong with a mode, the worst first."""
    too_much, lacks = mode & rights.must_not, rights.must & ~mode
    if too_much & stat.S_IWOTH:
        return "can be written to by everybody"
    if too_much & WRITABLE and inside.parts[:2] == (CACHE, OBJECTS):
        return "is an object of DVC's cache, and can be written to"
    if too_much & stat.S_IRWXO:
        return "is open to others than the group"
    if too_much:
        return "can be written to by the group: git runs what it names"
    if lacks & stat.S_ISGID:
        return "does not hand its group on (setgid)"
    if lacks & stat.S_ISVTX:
        return "lets everybody in the group replace what is another's (sticky bit)"
    if lacks & stat.S_IWGRP:
        return "cannot be written to by the group"
    return "cannot be read by the group"


def damaged(share: Share, cache: Cache) -> Iterator[Finding]:
    """Yield the objects of DVC's cache that are not what their names say; they are removed to be mended."""
    objects = share.cache / OBJECTS / "md5"
    names = {
        path.parent.name + path.name: None
        for path in objects.glob("??/*")
        if not path.name.startswith(".")
    }
    for found in cache.damage(names):
        if found.certain:
            owner = found.path.stat().st_uid
            yield Finding(
                found.path, f"is damaged: it {found.what}", owner, found.path.unlink
            )
