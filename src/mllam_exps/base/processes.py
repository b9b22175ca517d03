"""Identifies a process, and tells whether it lives. A PID is not enough: it is reused, and valid on one host only."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from mllam_exps.base.shapes import Kind, count, number, text

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish"})


@functools.cache
def boot_id() -> str:
    """Return the identity of this host's present boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


PROCESS: dict[str, Kind] = {"host": text, "boot": text, "pid": count, "started": number}
"""The shape of a process's record."""


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, named so that it cannot be mistaken for another one on this host, or on another."""

    host: str
    boot: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int | None = None) -> ProcessIdentity:
        """Return the identity of a living process, by default this one.

        Raises
        ------
        psutil.NoSuchProcess
            If there is no process with that PID.
        """
        pid = os.getpid() if pid is None else pid
        return cls(
            socket.gethostname(), boot_id(), pid, psutil.Process(pid).create_time()
        )

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> ProcessIdentity:
        """Return the identity that `to_record` wrote."""
        return cls(record["host"], record["boot"], record["pid"], record["started"])

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return asdict(self)

    def alive(self) -> bool | None:
        """Tell whether the process lives; None where that cannot be known from this host."""
        if self.host != socket.gethostname():
            return None
        if self.boot != boot_id():
            return False
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) >= 1.0:
                return False  # another process has its PID by now
            # A zombie has ended: only its parent has not been told yet.
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:
            return None  # a host may hide processes from other users (hidepid)
        except (psutil.NoSuchProcess, OverflowError):
            return False

    def command(self) -> list[str]:
        """Return its command line; nothing where it is gone, or hidden."""
        try:
            return psutil.Process(self.pid).cmdline() if self.alive() else []
        except psutil.Error:
            return []


def caller() -> ProcessIdentity | None:
    """Return the process that this one works for: its nearest ancestor that is no shell (DVC, most often)."""
    try:
        for parent in psutil.Process().parents():
            if parent.name() not in SHELLS:
                return ProcessIdentity.of(parent.pid) if parent.pid > 1 else None
    except psutil.Error:
        pass
    return None


def end_those_with(variable: str) -> None:
    """Kill this user's processes on this host whose environment has a variable, given as ``NAME=value``.

    What a killed attempt has started may live on: not every program ends with its parent.
    """
    name, _, value = variable.partition("=")
    for process in psutil.process_iter():
        try:
            mine = process.uids().real == os.getuid() and process.pid != os.getpid()
            if mine and process.environ().get(name) == value:
                process.kill()
        except psutil.Error:
            continue  # it has ended, or is another user's
