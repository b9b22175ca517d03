"""The log: what was decided and why, what a scheduler was asked and answered, which lock was waited for.

Each module writes to the logger of its own name (``logging.getLogger(__name__)``):
decisions at level INFO, what they rest on at DEBUG. Nothing is written unless somebody
asked: ``-v`` shows it on standard error, and each attempt keeps it in ``debug.log``.
Nobody logs environments, parameters' values of the user's, or command lines of theirs:
they may hold secrets.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from mllam_exps.base import ownership, records
from mllam_exps.base.terminal import plain

NAME = "mllam_exps"
FORMAT = "%(asctime)s %(levelname)-5s %(process)d %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """Makes control characters visible: messages hold names that others may have chosen."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes what it can: a full disk stops no work for the sake of a log."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


def to_terminal(verbosity: int) -> None:
    """Show the log on standard error.

    Parameters
    ----------
    verbosity : int
        How often ``-v`` was given: once shows decisions, twice all.
    """
    if verbosity:
        _add(_Handler(), logging.INFO if verbosity == 1 else logging.DEBUG)


def to_file(path: Path) -> None:
    """Keep the log in a file, behind what stands there; others may read it, as they may read ``log.txt``."""
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = records.open_file(path, flags, ownership.OWN & 0o666)
        stream = os.fdopen(descriptor, "a", encoding="utf-8", errors="replace")
        _add(_Handler(stream), logging.DEBUG)


def _add(handler: logging.Handler, level: int) -> None:
    handler.setLevel(level)
    handler.setFormatter(_Formatter(FORMAT))
    ours = logging.getLogger(NAME)
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    # A program in this process may have given the root logger handlers of its own, that
    # print.
    ours.propagate = False
