"""Processes of this machine, as /proc shows them, and waiting for what they do."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A living process; its environment is empty where only root may see it."""

    pid: int
    parent: int
    name: str
    environment: frozenset[str]

    @classmethod
    def read(cls, pid: int) -> Process | None:
        """Return a process; None if there is none, or if it has ended and only its parent does not know yet."""
        folder = Path("/proc", str(pid))
        try:
            before, _, after = (folder / "stat").read_text().rpartition(")")
            environment = (
                (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            )
        except PermissionError:
            environment = []
        except OSError:
            return None
        state, parent = after.split()[:2]
        return (
            None
            if state in "ZX"
            else cls(pid, int(parent), before.partition("(")[2], frozenset(environment))
        )

    @classmethod
    def all(cls) -> list[Process]:
        """Return all processes."""
        pids = [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit()
        ]
        return [process for process in map(cls.read, pids) if process]

    def files(self) -> set[str]:
        """Return the paths that it has open."""
        return {
            str(link.resolve()) for link in Path("/proc", str(self.pid), "fd").glob("*")
        }


def holds(
    condition: Callable[[], object], timeout: float, interval: float = 0.05
) -> bool:
    """Wait until a condition holds; False if it does not within `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(interval)
    return True


def end(find: Callable[[], Iterable[int]], signum: int, timeout: float) -> bool:
    """Send a signal to the processes that are found, until there are none; False if there are some in the end."""

    def ended() -> bool:
        pids = list(find())
        # Each time: a process may have been starting another one meanwhile.
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        return not pids

    return holds(ended, timeout, 0.1)
