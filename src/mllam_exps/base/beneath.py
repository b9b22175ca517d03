"""Reads and uses what lies in a folder in whose place, or in which, others may put something else at any moment.

Who looks at a path first and uses it then may use another file than was looked at. So a
folder is held open and reached by that, and a file is opened without following a link
on the way, looked at and read by the same descriptor. Linux, as all of the program.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BYTES = 2**20
NO_FILE = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENXIO}
"""The errors that say that no file is there, or that a link is in the way."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Hold a folder, and give a path that leads to it whatever is renamed meanwhile.

    Raises
    ------
    OSError
        If it is a link, or no folder.
    """
    descriptor = os.open(folder, _FOLDER)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def open_file(folder: Path, inside: PurePath) -> int:
    """Open a regular file below a folder; no link on the way from there is followed, and no pipe waited for.

    Raises
    ------
    OSError
        ELOOP or ENOTDIR for a link, EISDIR for what is no file.
    """
    *ways, name = inside.parts
    # What the folder's own path leads through is the caller's to know.
    at = os.open(folder, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for way in ways:
            below = os.open(way, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EISDIR, "no regular file", str(folder / inside))
    return descriptor


def copy(descriptor: int, target: Path) -> str:
    """Copy an open file to where nothing lies yet, close it, and return the MD5 of what was copied."""
    digest = hashlib.md5(usedforsecurity=False)
    with os.fdopen(descriptor, "rb") as source, target.open("xb") as copied:
        while block := source.read(_BYTES):
            digest.update(block)
            copied.write(block)
    return digest.hexdigest()
