"""Disks that are full: whether one is, and what is free on it, as people are told."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from mllam_exps.base.terminal import amount

FULL_BYTES = 2**16
"""A disk with less room than this counts as full."""


def is_full(error: OSError) -> bool:
    """Tell whether a disk is full, or its quota used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def mount(path: Path) -> Path:
    """Return where the disk that holds a path is mounted; the path need not exist."""
    path = path.absolute()
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return path


def disk(path: Path) -> str:
    """Return where the disk that holds a path is mounted, and what is free on it."""
    mounted = mount(path)
    try:
        free = os.statvfs(mounted)
    except OSError:
        return str(mounted)
    left, all_of_it = (
        amount(n * free.f_frsize) for n in (free.f_bavail, free.f_blocks)
    )
    # A file system may have room, and no number left for another file.
    files = ", and for no further file" if _no_file_left(free) else ""
    return f"{mounted}, {left} of {all_of_it} free{files}"


def full_disks(places: Iterable[Path | str]) -> str:
    """Name the disks below some places that are full now."""
    mounts = dict.fromkeys(mount(Path(place)) for place in places)
    return "; ".join(disk(one) for one in mounts if _is_full(one))


def _is_full(mounted: Path) -> bool:
    try:
        free = os.statvfs(mounted)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < FULL_BYTES or _no_file_left(free)


def _no_file_left(free: os.statvfs_result) -> bool:
    """Tell whether a file system has no inode left; some file systems count no inodes."""
    return bool(free.f_files) and not free.f_favail
