"""Locks by which one user's processes keep from submitting, cancelling, cleaning or saving at the same moment.

Nothing is lost without them, where a file system has none: claims in the run store are
made by one only.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from typing import IO

from mllam_exps.base import records
from mllam_exps.base.ownership import STICKY
from mllam_exps.runs import layout
from mllam_exps.runs.store import RunStore

log = logging.getLogger(__name__)


@contextlib.contextmanager
def lock(store: RunStore, name: str, *, wait: bool = False) -> Iterator[IO[str] | None]:
    """Hold a lock of this user's in a run store; None where another process has it."""
    path = (
        records.folder(store.directory / layout.LOCKS, STICKY) / f"{name}.{os.getuid()}"
    )
    # Others write in that folder: nothing is emptied, and no link followed.
    with os.fdopen(records.open_file(path, os.O_RDWR | os.O_CREAT), "r+") as file:
        try:
            mine = _take(file, name, wait)
        except OSError:  # a file system without locks
            log.info("there are no locks on this file system: %s", name)
            mine = True
        yield file if mine else None


def _take(file: IO[str], name: str, wait: bool) -> bool:
    """Take a lock; False where another process has it, and nobody is to wait for that."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another process has the lock %s%s", name, "; waiting" if wait else "")
        if not wait:
            return False
        fcntl.flock(file, fcntl.LOCK_EX)
        log.info("got the lock %s", name)
    return True


def is_held(store: RunStore, begins: str) -> bool:
    """Tell whether a process of this user's holds a lock whose name begins so, and make nothing.

    It may be on another host. Where nobody can tell, somebody may hold it.
    """
    folder = store.directory / layout.LOCKS
    for name in records.entries(folder):
        if not (name.startswith(begins) and name.endswith(f".{os.getuid()}")):
            continue
        try:
            with os.fdopen(records.open_file(folder / name), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except OSError:  # BlockingIOError; or a file system without locks
            return True
    return False
