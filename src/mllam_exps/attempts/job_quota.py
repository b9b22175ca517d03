"""How many jobs a user may still submit: ``max_jobs`` of the machine file, and what the scheduler takes."""

from __future__ import annotations

import re
from urllib.parse import unquote

from mllam_exps.machines.machine_files import Machine
from mllam_exps.schedulers import Scheduler, Uncertain

_OURS = re.compile(r"/(?!save-)[\w.@%~-]+-[0-9a-f]{8}$")
"""How the names of stages' jobs end (`store.Run.claim`)."""
_NAMED = 3
"""Jobs that the reason names; it counts the others."""


class Room:
    """How many jobs may still be submitted: ``max_jobs`` of the machine file, and what the scheduler takes.

    Savings are not counted: they wait for others, and take seconds.
    """

    def __init__(self, machine: Machine, scheduler: Scheduler) -> None:
        self._limit = machine.max_jobs
        self._scheduler = scheduler
        self._used: list[str] | None = None
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
        if self._used is None:
            try:
                self._used = [
                    name for name in self._scheduler.names() if _OURS.search(name)
                ]
            except Uncertain as doubt:
                self.full = (
                    f"the scheduler does not say how many jobs there are: {doubt}"
                )
                return False
        if len(self._used) >= self._limit:
            # Jobs of all this user's repositories count: they share the host, or the
            # limits of the cluster.
            self.full = f"{self._limit} of your jobs at once (max_jobs in the machine file), and there {self._told()}"
        return not self.full

    def take(self, name: str) -> None:
        """Count one more: the job of that name."""
        self._used = [*(self._used or []), name]

    def _told(self) -> str:
        """Name the jobs that take the room, by experiment and stage."""
        names = sorted(unquote(name.rpartition("-")[0]) for name in self._used or [])
        told = ", ".join(names[:_NAMED]) + (
            f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        )
        return f"{'is' if len(names) == 1 else 'are'} {told}"

    def close(self, why: str) -> None:
        """Take no more: the scheduler said so."""
        self.full, self.shut = why, True
