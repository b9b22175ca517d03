"""Processes that wait for a run, and write that down: nobody stops what others wait for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.runs import layout
from mllam_exps.runs.directory import RunDirectory
from mllam_exps.runs.records import Waiting


@dataclass
class Waiter:
    """The record of a process that waits; a context manager."""

    REFRESH_SECONDS = 60.0

    path: Path
    identity: ProcessIdentity
    refreshed: float = 0.0

    @classmethod
    def at(cls, run: RunDirectory, identity: ProcessIdentity) -> Waiter:
        """Return the waiter that a process is at a run."""
        name = f"{identity.host}.{identity.pid}.json"
        return cls(run.directory / layout.WAITERS / name, identity)

    def refresh(self) -> None:
        """Say that we still wait, for hosts that cannot see our process."""
        passed = time.monotonic() - self.refreshed
        if passed > self.REFRESH_SECONDS or not self.refreshed:
            record = Waiting(self.identity, time.time()).to_record()
            records.replace(self.path, record)
            self.refreshed = time.monotonic()

    def __enter__(self) -> Waiter:
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def others(run: RunDirectory, identity: ProcessIdentity) -> list[ProcessIdentity]:
    """Return the processes, other than `identity`, that wait for a run.

    One on another host cannot be seen from here. It counts while its record is fresh:
    each rewrites its own every minute, so an older one is left over.
    """
    found = []
    for name in records.entries(run.directory / layout.WAITERS):
        path = run.directory / layout.WAITERS / name
        if not name.endswith(".json") or name.startswith("."):
            continue
        if (record := Waiting.read(path)) is None:
            continue
        alive = record.process.alive()
        if alive is None:
            # By the file system's clock: those of hosts differ.
            age = run.now() - records.changed_at(path)
            alive = age < 3 * Waiter.REFRESH_SECONDS
        if alive and record.process != identity:
            found.append(record.process)
    return found
