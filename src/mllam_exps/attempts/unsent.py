"""Which runs of a store have something that no tracking server has got yet: one empty file for each, and each user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.runs import layout
from mllam_exps.runs.directory import RunDirectory
from mllam_exps.runs.store import Run, RunStore


def _suffix() -> str:
    return f".{os.getuid()}"


def _mark(run: RunDirectory) -> Path:
    return run.store / layout.UNSENT / f"{run.key}{_suffix()}"


def note(run: RunDirectory) -> None:
    """Note that an attempt of this user's may leave something."""
    # Without the note it is sent where its experiment is named.
    with contextlib.suppress(OSError):
        RunStore(run.store).folder(layout.UNSENT)
        records.touch(_mark(run))


def forget(run: RunDirectory) -> None:
    """Note that nothing is left."""
    with contextlib.suppress(OSError):
        _mark(run).unlink(missing_ok=True)


def has(run: RunDirectory) -> bool:
    """Tell whether something may be left."""
    return os.path.lexists(_mark(run))


def runs(store: RunStore) -> Iterator[Run]:
    """Yield the runs of which this user may have something left."""
    for name in records.entries(store.directory / layout.UNSENT):
        if not name.endswith(_suffix()):
            continue
        with contextlib.suppress(ValueError):
            run = store.run(name.removesuffix(_suffix()))
            if run.last_attempt() is None:  # deleted
                forget(run)
            else:
                yield run
