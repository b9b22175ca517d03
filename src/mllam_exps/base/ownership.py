"""Who owns a file or folder, and who else may write to it: one user's files must not run code as another user."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from pathlib import Path

from mllam_exps.base.errors import MllamError

OTHERS = stat.S_IWGRP | stat.S_IWOTH
PRIVATE = 0o700
OWN = 0o755
"""What one user writes, and others read."""
STICKY = 0o1777
"""Of a folder in which many write, and everybody removes or renames only what is theirs."""


def user_name(uid: int) -> str:
    """Return a user's name, or the number if no user has that number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner_of(path: Path) -> str:
    """Return the name of the owner of a file, or of the first folder above it that can be looked at."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            return user_name(os.lstat(place).st_uid)
    return "nobody"


def is_mine(path: Path) -> bool:
    """Tell whether a file or folder is there, and this user's."""
    try:
        return os.lstat(path).st_uid == os.getuid()
    except OSError:
        return False


def is_others_link(path: Path) -> bool:
    """Tell whether something is a link that a colleague made: it may lead to a file or folder of this user's."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) and found.st_uid not in {0, os.getuid()}


def others_link_in(folder: Path) -> Path | None:
    """Return the first link of a colleague's in a folder, at any depth; None where there is none.

    The folder itself may be a link to one of its owner's, on another disk.
    """
    if is_others_link(folder) and not _leads_to_its_owner_s(folder):
        return folder
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if is_others_link(found := Path(place, name)):
                return found
    return None


def _leads_to_its_owner_s(link: Path) -> bool:
    try:
        return os.lstat(link).st_uid == os.stat(link).st_uid  # noqa: PTH116 - as the line says
    except OSError:
        return False


def objection(path: Path) -> str:
    """Say why others may have written a file or folder; empty if only this user can write to it.

    Access lists count: where one lets others write, the mode of the group says so, too.
    """
    try:
        return objection_to(os.lstat(path))
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"


def objection_to(status: os.stat_result) -> str:
    """Say the same of a file or folder that is held open."""
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if status.st_uid != os.getuid():
        return f"belongs to {user_name(status.st_uid)}"
    if status.st_mode & OTHERS:
        return "can be written to by others"
    return ""


def is_ours_alone(path: Path) -> bool:
    """Tell whether this user owns a file or folder, and nobody else can write to it."""
    return not objection(path)


def check(path: Path, way_out: str) -> None:
    """Refuse to trust a file or folder that others may have written.

    Raises
    ------
    MllamError
        If it is another user's, or others may write to it.
    """
    _refuse(objection(path), path, way_out)


def check_opened(status: os.stat_result, path: Path, way_out: str) -> None:
    """Refuse the same of a folder that is held open."""
    _refuse(objection_to(status), path, way_out)


def _refuse(why: str, path: Path, way_out: str) -> None:
    if why:
        raise MllamError("is not taken at its word", str(path), f"it {why}", way_out)
