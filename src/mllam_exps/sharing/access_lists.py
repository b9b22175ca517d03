"""Default access lists of POSIX, by which what is made in a folder is the group's, whatever the umask of its maker.

A folder with one ignores the umask for what is made in it, and hands the list on to
folders. Linux keeps it as an extended attribute (`linux/posix_acl_xattr.h`): a version,
then a tag, rights and an id for each entry.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

ATTRIBUTE = "system.posix_acl_default"
_OWN = "system.posix_acl_access"
"""The list of a file or folder itself; there is none where its mode says all."""
_VERSION = struct.pack("<I", 2)
_USER, _GROUP, _OTHERS = 0x01, 0x04, 0x20
_NO_ID = 0xFFFFFFFF
_ALL, _NOTHING = 7, 0
_THERE = 0

GROUP_ALONE = _VERSION + b"".join(
    struct.pack("<HHI", tag, rights, _NO_ID)
    for tag, rights in ((_USER, _ALL), (_GROUP, _ALL), (_OTHERS, _NOTHING))
)
"""All rights for a file's owner and its group, none for others."""

_UNKNOWN_HERE = {errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}
"""How file systems say that they have no access lists (Linux 6; NFS 4 has others of its own)."""


def is_given(folder: Path) -> bool:
    """Tell whether what is made in a folder is the group's to read and write, and nobody else's."""
    try:
        return os.getxattr(folder, ATTRIBUTE, follow_symlinks=False) == GROUP_ALONE
    except OSError:
        return False


def give(folder: Path) -> bool:
    """Let what is made in a folder be the group's; tell whether its file system can.

    Raises
    ------
    OSError
        If it is not this user's to change.
    """
    try:
        os.setxattr(folder, ATTRIBUTE, GROUP_ALONE, follow_symlinks=False)
    except OSError as error:
        if error.errno in _UNKNOWN_HERE:
            return False
        raise
    return True


def take(folder: Path) -> None:
    """Let the umask, and what a program asks for, say who may use what is made in a folder.

    Raises
    ------
    OSError
        If it is not this user's to change.
    """
    try:
        os.removexattr(folder, ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNKNOWN_HERE | {errno.ENODATA}:
            raise


def has_own(path: Path) -> bool:
    """Tell whether more than its mode says who may use a file or folder: one whom it names, or the group kept out."""
    try:
        # Three entries, which some file systems may show, say what the mode says.
        return len(os.getxattr(path, _OWN, follow_symlinks=False)) > len(GROUP_ALONE)
    except OSError:
        return False


def take_own(path: Path) -> None:
    """Let the mode alone say who may use a file or folder.

    Raises
    ------
    OSError
        If it is not this user's to change.
    """
    os.removexattr(path, _OWN, follow_symlinks=False)


def is_any_given(folder: Path) -> bool:
    """Tell whether a folder has a default access list, whatever it says."""
    return _is_there(folder) == _THERE


def are_known(folder: Path) -> bool:
    """Tell whether the file system of a folder knows access lists: else each user's umask counts."""
    return _is_there(folder) in {_THERE, errno.ENODATA}


def _is_there(folder: Path) -> int:
    """Return `_THERE`, or the number of the error by which there is none."""
    try:
        os.getxattr(folder, ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        return error.errno or errno.EIO
    return _THERE
