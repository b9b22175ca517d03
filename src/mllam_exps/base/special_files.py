"""Refuses to read a pipe or a device in the place of a file: whoever opens one waits, or reads, for ever."""

from __future__ import annotations

import functools
import os
import shlex
import stat
import sys
from typing import Any

from mllam_exps.base.errors import UsageError

_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
_MEANT = ("/dev/", "/proc/")
"""Who names something in there means what it is."""

_FOLDER_OF_FILES = "/dev/shm/"  # noqa: S108 - where Linux keeps files in memory; nothing is written there

_NEVER_WAITS = os.O_WRONLY | os.O_RDWR | os.O_NONBLOCK | os.O_PATH
"""How who writes opens a file, and who looks himself at what it is: a record of a run store (`records.open_file`)."""


@functools.cache
def guard() -> None:
    """Refuse it in this process from now on, whoever reads: most files are opened by DVC, deep inside."""
    sys.addaudithook(_look)


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    """Look at a file that Python (3.11) is about to open.

    Raises
    ------
    UsageError
        If it is none.
    """
    if event != "open":
        return
    path, _mode, flags = arguments
    if not isinstance(path, str | bytes) or flags & _NEVER_WAITS:
        return
    name = os.fsdecode(path)
    if name.startswith(_MEANT) and not name.startswith(_FOLDER_OF_FILES):
        return
    try:
        status = os.stat(name)  # noqa: PTH116 - of each file that is opened
    except (OSError, ValueError):
        return  # whoever opens it hears so
    if kind := kind_of(status):
        why = "who reads it waits until somebody writes to it, or reads for ever"
        restored = f"git restore {shlex.quote(os.path.relpath(name))}"
        way_out = f"put a file in its place; {restored} does, where git keeps it"
        raise UsageError(f"is a {kind}, and no file", name, why, way_out)


def kind_of(status: os.stat_result) -> str:
    """Return the word for what is no file; empty for others, and for ``/dev/null``, which is empty and meant to be."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "")
    is_null = kind and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116
    return "" if is_null else kind
