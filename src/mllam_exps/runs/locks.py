"""Locks by which one user's processes keep from submitting, cancelling, cleaning or saving at the same moment.

Nothing is lost without them, where a file system has none: claims in the run store are
made by one only. The kernel frees a lock when its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import math
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mllam_exps.base import records, user_state
from mllam_exps.base.terminal import warn
from mllam_exps.runs import layout
from mllam_exps.runs.store import RunStore

SUBMISSIONS = "dispatch"
"""The lock of whoever submits, cancels or removes: only one of a user's processes does at a time."""

LOOK_AGAIN = 0.1
_OWN = 0o600
_OF_OTHERS = {errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM}
"""The errors that say that somebody else has put something in the place of a lock, or of the folder of all."""
SILENCE = 5.0
"""Seconds after which it is told for whom a process waits, where it waits for as long as it takes."""


log = logging.getLogger(__name__)


@contextlib.contextmanager
def lock(store: RunStore, name: str, *, wait: bool = False) -> Iterator[IO[str] | None]:
    """Hold a lock of this user's in a run store; None where another process has it."""
    path = store.directory / layout.LOCKS / f"{name}.{os.getuid()}"
    try:
        store.folder(layout.LOCKS)
    except OSError as error:
        if error.errno not in _OF_OTHERS:
            raise
        path = _make_instead(path)
    with hold(path, math.inf if wait else 0.0) as file:
        yield file


@contextlib.contextmanager
def hold(path: Path, patience: float) -> Iterator[IO[str] | None]:
    """Hold a lock; None where another process has it for longer than `patience`, in seconds."""
    descriptor, path = _open(path)
    with os.fdopen(descriptor, "r+") as file:
        try:
            mine = _take(file, path, patience)
        except OSError:  # a file system without locks
            log.info("there are no locks on this file system: %s", path)
            mine = True
        if mine:
            _sign(file)
        yield file if mine else None


def _open(path: Path) -> tuple[int, Path]:
    """Open a lock that only this user can hold; where something of a colleague's lies there, another one instead."""
    try:
        if (descriptor := _open_own(path)) is not None:
            return descriptor, path
    except OSError as error:
        if error.errno not in _OF_OTHERS and not _is_of_others(path):
            raise
    instead = _make_instead(path)
    return records.open_file(instead, os.O_RDWR | os.O_CREAT, _OWN), instead


def _open_own(path: Path) -> int | None:
    """Open a lock; None where it is another user's.

    Others may write in that folder: nothing is emptied, and no link followed.
    """
    descriptor = records.open_file(path, os.O_RDWR | os.O_CREAT, _OWN)
    if not _is_own(os.fstat(descriptor)):
        os.close(descriptor)
        return None
    # Who may read a file can lock it. Earlier versions let others read it.
    os.fchmod(descriptor, _OWN)
    return descriptor


def _make_instead(path: Path) -> Path:
    """Return where a lock is instead, having told why, and made its folder."""
    records.tell(records.Trouble(path, "is no lock of yours, and does not count"))
    instead = _instead(user_state.folder(), path)
    records.folder(instead.parent)
    return instead


def _instead(state: Path, path: Path) -> Path:
    """Return where a lock is whose own place a colleague has taken."""
    which = hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:16]
    return state / layout.LOCKS / f"{which}.{path.name}"


def _is_of_others(path: Path) -> bool:
    return os.path.lexists(path) and not _is_own(os.lstat(path))


def _is_own(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()


def _take(file: IO[str], path: Path, patience: float) -> bool:
    """Take a lock; False where another process has it for longer than `patience`."""
    if _is_free(file):
        return True
    log.info("another process has the lock %s: %s", path.name, holder(path))
    if patience == math.inf:
        _wait(file, path)
        return True
    until = time.monotonic() + patience
    while time.monotonic() < until:
        time.sleep(LOOK_AGAIN)
        if _is_free(file):
            return True
    return False


def _is_free(file: IO[str]) -> bool:
    """Take a lock, if nobody has it."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _wait(file: IO[str], path: Path) -> None:
    """Wait for a lock for as long as it takes, and say for whom."""

    def tell() -> None:
        warn(f"note: waiting for {holder(path)}, which is at work there: {path}")

    timer = threading.Timer(SILENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    finally:
        timer.cancel()


def _sign(file: IO[str]) -> None:
    """Write down who holds a lock."""
    with contextlib.suppress(OSError):  # the disk is full
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()


def holder(path: Path) -> str:
    """Name the process that took a lock last."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if found := records.read_own_bytes(path).decode().strip():
            return f"your {found}"
    return "another process of yours"


def is_held(store: RunStore, begins: str) -> bool:
    """Tell whether a process of this user's holds a lock whose name begins so, and make nothing.

    It may be on another host. Where nobody can tell, somebody may hold it.
    """
    folder = store.directory / layout.LOCKS
    instead = _instead(user_state.of(os.environ), folder / begins)
    places = {
        folder / name for name in records.entries(folder) if name.startswith(begins)
    }
    for name in records.entries(instead.parent):
        if name.startswith(instead.name):
            places.add(instead.with_name(name))
    mine = (place for place in places if place.name.endswith(f".{os.getuid()}"))
    return any(map(_is_held, mine))


def _is_held(path: Path) -> bool:
    try:
        if not _is_own(os.lstat(path)):
            return False
        with os.fdopen(records.open_file(path), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # BlockingIOError; or a file system without locks
        return True
    return False
