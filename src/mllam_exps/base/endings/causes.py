"""What may end an attempt before its result is there, in one word each: the rules for what follows go by it."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why an attempt ended without a result, as the keys of ``retry`` in a machine file call it."""

    TIME_LIMIT = "time_limit"
    PREEMPTION = "preemption"
    NODE_FAILURE = "node_failure"
    KILLED = "killed"
    """It ended without a word of its own, or SIGKILL ended its program: nobody knows why."""
    HOST_MEMORY = "host_memory"
    GPU_MEMORY = "gpu_memory"
    FULL_DISK = "full_disk"
    NOT_FINITE = "not_finite"
    STALL = "stall"
    INPUT = "input"
    """What it was to read was not there, or damaged: its program was never started."""
    ERROR = "error"
    """Its program failed by itself, or what it made was not as it must be."""
    CANCELLED = "cancelled"
    """A person wanted that."""

    @classmethod
    def of(cls, word: str | None) -> Cause | None:
        """Return the cause of that name; None where there is none, as in a newer version's record."""
        return cls(word) if word in set(cls) else None
