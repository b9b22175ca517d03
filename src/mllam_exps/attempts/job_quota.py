"""How many jobs a user may still submit: ``max_jobs`` of the machine file, and what the scheduler takes.

The user's jobs of all repositories count: they share the host, or the limits of the
cluster. Who counts them submits before another process of the user's counts.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote

from mllam_exps.base import records, user_state
from mllam_exps.base.shapes import Shape, text
from mllam_exps.machines.machine_files import Machine
from mllam_exps.runs import layout
from mllam_exps.runs.locks import hold, holder
from mllam_exps.schedulers import Scheduler, Uncertain

_OURS = re.compile(r"/(?!save-)[\w.@%~-]+-[0-9a-f]{8}$")
"""How the names of stages' jobs end (`runs.Run.claim`)."""
_NAMED = 3
"""Jobs that the reason names; it counts the others."""
_ORIGIN: Shape = {"origin": text}
PATIENCE = 30.0
"""Seconds that one process waits for another to have submitted what it counted."""


class Busy(Exception):
    """Another process of this user's has counted the jobs, and not submitted its own yet."""


class Quota:
    """The user's jobs at each scheduler; while one process looks at them, the others wait.

    Else two that count at one moment, for two repositories, both take the last place.
    """

    def __init__(self) -> None:
        self._locks = contextlib.ExitStack()
        self._used: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Quota:
        """Begin; nothing is locked before the first count."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let others count."""
        self.release()

    def room(self, machine: Machine, scheduler: Scheduler, origin: Path | str) -> Room:
        """Return the room that a machine file of a repository leaves."""
        return Room(machine, scheduler, str(origin), self)

    def used(self, scheduler: Scheduler) -> Mapping[str, str]:
        """Return the folders of the stages' jobs, by name.

        Raises
        ------
        Uncertain
            If the scheduler does not say.
        Busy
            If another process takes too long.
        """
        if scheduler.name not in self._used:
            self._lock(scheduler)
            jobs = scheduler.names()
            ours = {name: jobs[name] for name in jobs if _OURS.search(name)}
            self._used[scheduler.name] = ours
        return self._used[scheduler.name]

    def take(self, scheduler: Scheduler, name: str, folder: Path) -> None:
        """Count one more job."""
        if scheduler.name in self._used:
            self._used[scheduler.name][name] = str(folder)

    def release(self) -> None:
        """Let others count; who looks again counts anew."""
        self._used.clear()
        self._locks.close()

    def _lock(self, scheduler: Scheduler) -> None:
        # Jobs that are processes are counted on their host; those of a cluster from all
        # hosts that share the home.
        where = "" if scheduler.limits else f"-{socket.gethostname()}"
        try:
            path = user_state.folder() / f"submits-{scheduler.name}{where}"
            mine = self._locks.enter_context(hold(path, PATIENCE))
        except OSError:
            return  # without the lock, one job too many may run
        if mine is None:
            raise Busy(f"{holder(path)} submits jobs at this moment")


class Room:
    """How many jobs may still be submitted: ``max_jobs`` of the machine file, and what the scheduler takes.

    Savings are not counted: they wait for others, and take seconds.
    """

    def __init__(
        self, machine: Machine, scheduler: Scheduler, origin: str, quota: Quota
    ) -> None:
        self._limit = machine.max_jobs
        self._scheduler = scheduler
        self._origin = origin
        self._quota = quota
        self._asked = False
        self.full = ""
        """Why there is no room; empty while there is."""
        self.shut = False
        """Whether the scheduler itself takes no more."""

    def look(self) -> bool:
        """Tell whether there is room for one more."""
        if not self._asked:
            self._asked = True
            if down := self._scheduler.outage():
                self.close(f"{down}; mllam-exps advance goes on, once it answers")
        if self.full or not self._limit:
            return not self.full
        try:
            used = self._quota.used(self._scheduler)
        except Uncertain as doubt:
            self.full = f"the scheduler does not say how many jobs there are: {doubt}"
            return False
        except Busy as busy:
            self.full = f"{busy}; mllam-exps advance goes on, once it has"
            return False
        if len(used) >= self._limit:
            limit = f"{self._limit} of your jobs at once (max_jobs in the machine file)"
            self.full = f"{limit}, and there {self._told(used)}"
        return not self.full

    def take(self, name: str, folder: Path) -> None:
        """Count one more: the job of that name, which starts in that folder."""
        self._quota.take(self._scheduler, name, folder)

    def _told(self, used: Mapping[str, str]) -> str:
        """Name the jobs that take the room, by experiment and stage; those of other repositories with these."""
        names = []
        for name in sorted(used)[:_NAMED]:
            told = unquote(name.rpartition("-")[0])
            origin = _origin(used[name])
            names.append(
                told if origin in {"", self._origin} else f"{told} of {origin}"
            )
        more = f" and {len(used) - _NAMED} more" if len(used) > _NAMED else ""
        return f"{'is' if len(used) == 1 else 'are'} {', '.join(names)}{more}"

    def close(self, why: str) -> None:
        """Take no more: the scheduler said so."""
        self.full, self.shut = why, True


def _origin(folder: str) -> str:
    """Return the repository that a job works for, where the folder is its attempt's; else nothing."""
    record = records.look(Path(folder, layout.SPEC), shape=_ORIGIN) if folder else None
    return record["origin"] if isinstance(record, dict) else ""
