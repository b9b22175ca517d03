"""The contract of a scheduler.

A scheduler knows nothing of DVC, of stages or of the run store. It starts a command
that outlives its submitter, says what became of it when asked, and stops it. A
scheduler that cannot tell says so (`JobPhase.UNKNOWN`): that is never turned into
success or failure by whoever asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import MllamError

if TYPE_CHECKING:
    from mllam_exps.machines.model import Resources


class JobPhase(Enum):
    """Where a job is. Ordered: late news never moves a job back."""

    UNKNOWN = -1
    """The scheduler could not be asked, or did not answer: ask again."""
    PENDING = 0
    RUNNING = 1
    SUCCEEDED = 2
    """It ended, and the scheduler vouches for exit code 0."""
    CANCELLED = 3
    """It ended because somebody cancelled it."""
    FAILED = 4
    """It ended otherwise: see the reason."""
    GONE = 5
    """It ended, and the scheduler does not know how. The attempt's own record tells, if there is one."""
    FORGOTTEN = 6
    """The scheduler has no memory of it: it ended long ago, never was, or was lost with the scheduler's state."""

    @property
    def ended(self) -> bool:
        """Whether the job will not run any more, as far as the scheduler knows."""
        return self.value >= JobPhase.SUCCEEDED.value


@dataclass(frozen=True)
class JobState:
    """A scheduler's answer about one job.

    Parameters
    ----------
    phase : JobPhase
        Where it is.
    reason : str
        Why, in words a user understands: what a pending job waits for, what ended it.
    told : str
        The scheduler's own words: the evidence, e.g. ``TIMEOUT 0:15 on n1``.
    hopeless : bool
        It is pending, and will never run as it is.
    plain : bool
        It failed as its command failed, with its exit code: the scheduler adds nothing
        to what the command says.
    cause : Cause, optional
        The same as `reason` in one word, where the scheduler itself ended the job, or
        SIGKILL did.
    """

    phase: JobPhase
    reason: str = ""
    told: str = ""
    hopeless: bool = False
    plain: bool = False
    cause: Cause | None = None


@dataclass(frozen=True)
class JobRequest:
    """What to start.

    Parameters
    ----------
    name : str
        Unique name, written down by the submitter before it submits.
    argv : list of str
        The command, wrapped in the machine's environment: for a scheduler that starts
        processes.
    command, prologue : list of str
        The command itself, and the lines of bash that make the machine's environment
        ready: for one that takes a script.
    directory : Path
        Where it is started; the attempt's own, where the scheduler may leave files.
    log : Path
        Where its output goes.
    script : Path
        Where the script is kept, for a scheduler that takes one.
    environment : Mapping
        Its environment.
    resources : Resources
        What the machine file says of the stage.
    nodes, tasks : int
        Nodes, and tasks on each: from the parameters.
    warning : int, optional
        Seconds before its time limit at which its command is sent SIGUSR1; for schedulers
        that keep the limit themselves.
    comment : str
        What it is, in one line for people.
    after : tuple of Job
        It starts when these have ended; for schedulers that chain.
    after_success : bool
        It starts when they have succeeded, and is cancelled if one has not.
    """

    name: str
    argv: list[str]
    command: list[str]
    prologue: list[str]
    directory: Path
    log: Path
    script: Path
    environment: Mapping[str, str]
    resources: Resources
    nodes: int = 1
    tasks: int = 1
    warning: int | None = None
    comment: str = ""
    after: tuple[Job, ...] = ()
    after_success: bool = False


@dataclass(frozen=True)
class Job:
    """A started job: whatever the scheduler needs to know it again, as a JSON-able record, and a label for people."""

    record: dict[str, Any]
    label: str


class NoRoom(MllamError):
    """The scheduler takes no more jobs of this user for now; nothing is wrong with this one."""


class SilentError(MllamError):
    """The scheduler does not answer: what it was asked to do may be done, or not."""


@dataclass(frozen=True)
class Objection:
    """What a scheduler has against a job that is not submitted yet.

    Parameters
    ----------
    why : str
        In its words.
    final : bool
        Whether it would refuse the job; else it would take it, and keep it waiting.
    """

    why: str
    final: bool


class Uncertain(Exception):
    """Nobody can say yet whether a submission was accepted: look for the job's name later."""


class Scheduler(Protocol):
    """What every scheduler does."""

    name: str
    limits: bool
    """Whether it ends jobs at their time limit, and counts how many run at once, by itself."""
    chains: bool
    """Whether a job can wait for others by itself, without a process that waits (`JobRequest.after`)."""
    inherits: bool
    """Whether a job gets all of its submitter's environment; else what `machines.job_environment` lets go along."""
    settles: float
    """Seconds from the end of a job's command to the scheduler's knowledge of it, most often."""

    def missing(self) -> str:
        """Name what this host lacks to use the scheduler, e.g. a program of its; nothing where it can be used."""

    def launch(self, request: JobRequest) -> list[str]:
        """Return what stands before a program so that it runs on all nodes and tasks of its job."""

    def inside(self) -> Mapping[str, str]:
        """Return the variables that a program needs inside a job, beyond those that the scheduler has set."""

    def script(self, request: JobRequest) -> str:
        """Return what `submit` would start, as a script for people."""

    def objection(self, request: JobRequest) -> Objection | None:
        """Return what it has against the job, in its own words; None where it would start it.

        Raises
        ------
        Uncertain
            If the scheduler does not answer.
        """

    def submit(self, request: JobRequest) -> Job:
        """Start the job; it outlives the caller.

        Raises
        ------
        NoRoom
            If it was not started, and may be when other jobs have ended.
        MllamError
            If it certainly was not started.
        Uncertain
            If the scheduler did not answer: the job may run.
        """

    def find(self, name: str, written: float) -> Job | None:
        """Find a job by its unique name: its submitter may have died before it wrote the answer down.

        Parameters
        ----------
        written : float
            When the name was written down, before the submission; by the clock of the
            run store's file system.

        Returns
        -------
        Job or None
            None is certain: there is no such job, and the submission does not linger.

        Raises
        ------
        Uncertain
            If nobody can say yet.
        """

    def job(self, record: dict[str, Any]) -> Job:
        """Return the job that an earlier `submit` recorded."""

    def current(self) -> Job:
        """Return the job that this process runs in."""

    def job_id(self) -> str:
        """Return the id, for people, of the job that this process runs in; nothing where it has none."""

    def nodes(self) -> str | None:
        """Name the nodes of the job that this process runs in, as the scheduler writes them; None where it cannot."""

    def cores(self) -> int | None:
        """Return how many cores the job gives to each of its tasks; None where it does not say."""

    def answers(self, *, now: bool = False) -> bool:
        """Tell whether it can be asked at the moment.

        Parameters
        ----------
        now : bool
            Ask anew where it did not answer before: an answer that others got may lag
            by some seconds, and an outage may be over.
        """

    def outage(self) -> str:
        """Say why it takes no job at all just now, if that can be told at once; else nothing."""

    def names(self) -> dict[str, str]:
        """Return the names of this user's jobs that are pending or running now, each with its folder: not cached.

        The folder is `JobRequest.directory`; empty where that is unknown.

        Raises
        ------
        Uncertain
            If the scheduler does not answer.
        """

    def state(self, job: Job) -> JobState:
        """Say where the job is. Cheap, to be called each second; may lag by some seconds."""

    def verdict(self, job: Job) -> JobState:
        """Say where the job is now. To be asked once, when the job seems to have ended."""

    def signal_steps(self, number: int) -> bool:
        """Send a signal to the processes that `launch` started in this job; False where that is their group's matter.

        Raises
        ------
        MllamError
            If the scheduler refuses.
        """

    def put_behind(self, job: Job, after: tuple[Job, ...]) -> None:
        """Have a pending job wait for others than before, which have to succeed.

        Raises
        ------
        MllamError
            If the scheduler refuses, or does not answer: the job is cancelled with what
            it waited for, and another takes its place.
        """

    def cancel(self, job: Job) -> None:
        """Stop the job. Returns at once; an ended job is no error."""
