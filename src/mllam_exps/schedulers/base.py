"""The contract of a scheduler.

A scheduler knows nothing of DVC, of stages or of the run store. It starts a command that outlives its submitter, says
what became of it when asked, and stops it. A scheduler that cannot tell says so (`JobPhase.UNKNOWN`): that is never
turned into success or failure by whoever asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol


class JobPhase(Enum):
    """Where a job is. Ordered: late news never moves a job back."""

    UNKNOWN = -1
    """The scheduler could not be asked, or did not answer: ask again."""
    PENDING = 0
    RUNNING = 1
    SUCCEEDED = 2
    """It ended, and the scheduler vouches for exit code 0."""
    FAILED = 3
    """It ended otherwise: see the reason."""
    FORGOTTEN = 4
    """It ended, or never was: the scheduler has no memory of it. Only the attempt's own record can tell."""

    @property
    def ended(self) -> bool:
        """Whether the job will not run any more."""
        return self.value >= JobPhase.SUCCEEDED.value


@dataclass(frozen=True)
class JobState:
    """A scheduler's answer about one job, with its reason in words a user understands."""

    phase: JobPhase
    reason: str = ""


@dataclass(frozen=True)
class JobRequest:
    """What to start.

    Parameters
    ----------
    name : str
        Unique name, written down by the submitter before it submits.
    argv : list of str
        The command, already wrapped in the machine's environment.
    directory : Path
        Where it is started.
    log : Path
        Where its output goes.
    environment : Mapping
        Its environment.
    resources : Mapping
        What the machine file says of the stage.
    nodes, devices : int
        From the parameters.
    """

    name: str
    argv: list[str]
    directory: Path
    log: Path
    environment: Mapping[str, str]
    resources: Mapping[str, Any] = field(default_factory=dict)
    nodes: int = 1
    devices: int = 1


@dataclass(frozen=True)
class Job:
    """A started job: whatever the scheduler needs to know it again, as a JSON-able record, and a label for people."""

    record: dict[str, Any]
    label: str


class Scheduler(Protocol):
    """What every scheduler does."""

    name: str

    def submit(self, request: JobRequest) -> Job:
        """Start the job; it outlives the caller.

        Raises
        ------
        MllamError
            If it certainly was not started.
        """

    def find(self, name: str) -> Job | None:
        """Find a living job by its unique name: its submitter may have died before it wrote the answer down."""

    def job(self, record: dict[str, Any]) -> Job:
        """Return the job that an earlier `submit` recorded."""

    def state(self, job: Job) -> JobState:
        """Say where the job is."""

    def cancel(self, job: Job) -> None:
        """Stop the job. Returns at once; an ended job is no error."""
