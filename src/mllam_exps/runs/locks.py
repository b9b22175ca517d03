"""Locks by which one user's processes keep from submitting, cancelling, cleaning or saving at the same moment.

Nothing is lost without them, where a file system has none: claims in the run store are
made by one only. The kernel frees a lock when its holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mllam_exps.base import records
from mllam_exps.base.ownership import STICKY
from mllam_exps.base.terminal import warn
from mllam_exps.runs import layout
from mllam_exps.runs.store import RunStore

LOOK_AGAIN = 0.1
SILENCE = 5.0
"""Seconds after which it is told for whom a process waits, where it waits for as long as it takes."""


log = logging.getLogger(__name__)


@contextlib.contextmanager
def lock(store: RunStore, name: str, *, wait: bool = False) -> Iterator[IO[str] | None]:
    """Hold a lock of this user's in a run store; None where another process has it."""
    path = (
        records.folder(store.directory / layout.LOCKS, STICKY) / f"{name}.{os.getuid()}"
    )
    with hold(path, math.inf if wait else 0.0) as file:
        yield file


@contextlib.contextmanager
def hold(path: Path, patience: float) -> Iterator[IO[str] | None]:
    """Hold a lock; None where another process has it for longer than `patience`, in seconds."""
    # Others may write in that folder: nothing is emptied, and no link followed.
    with os.fdopen(records.open_file(path, os.O_RDWR | os.O_CREAT), "r+") as file:
        try:
            mine = _take(file, path, patience)
        except OSError:  # a file system without locks
            log.info("there are no locks on this file system: %s", path)
            mine = True
        if mine:
            _sign(file)
        yield file if mine else None


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
