"""What was seen of a run at one moment: all that `judge` goes by, and that `observe` has looked at and asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.records import Trouble
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import End
from mllam_exps.runs.results import Result, SetAside
from mllam_exps.schedulers import JobState

HEARTBEAT_PATIENCE = 60.0
"""Seconds without a heartbeat after which an attempt is taken to be dead where its scheduler does not know."""


@dataclass(frozen=True)
class AttemptSeen:
    """What was seen of a run's newest attempt; as much as is needed to judge it.

    Parameters
    ----------
    attempt : Attempt
        Which one.
    hidden : str
        Why its records cannot be read from here, though they may be good.
    is_claimed : bool
        Whether its claim can be read.
    is_gone : bool
        Whether its directory is gone.
    end : End, optional
        The record of its end.
    set_aside : SetAside, optional
        Why its result was set aside, if it was.
    started : bool
        Whether it wrote down that it started.
    cancel_requested : bool
        Whether somebody asked it to stop.
    submitter : str
        Who is about to submit it, and lives; empty where nobody does.
    doubt : str
        What was said where nobody knew whether the scheduler had accepted its job.
    unasked : str
        Why its scheduler cannot be asked at all.
    uncertain : str
        Why its scheduler cannot say whether it has a job.
    state : JobState, optional
        Where its job is, while that lives.
    word : JobState, optional
        The scheduler's last word, once its job has ended.
    silent : float, optional
        Seconds since its last heartbeat; None without one.
    not_made : sequence of str
        Stages whose results it was to wait for, and that have none.
    ended_badly : str
        A stage that it was to wait for: its result is there, but its job did not end
        well.
    environment : str
        Why the machine's environment could not be made ready, as its log says.
    store_failure : str
        Why its job could write nothing into the run store, as its exit code says.
    full_disks : str
        The disks that are full.
    again : frozenset of Cause
        The causes after which another attempt follows by itself (`continuation`).
    why_not_again : mapping of str
        Why another one would be of no use, by cause.
    """

    attempt: Attempt
    hidden: str = ""
    is_claimed: bool = True
    is_gone: bool = False
    end: End | None = None
    set_aside: SetAside | None = None
    started: bool = False
    cancel_requested: bool = False
    submitter: str = ""
    doubt: str = ""
    unasked: str = ""
    uncertain: str = ""
    state: JobState | None = None
    word: JobState | None = None
    silent: float | None = None
    not_made: Sequence[str] = ()
    ended_badly: str = ""
    environment: str = ""
    store_failure: str = ""
    full_disks: str = ""
    again: frozenset[Cause] = frozenset()
    why_not_again: Mapping[Cause, str] = field(default_factory=dict)

    @property
    def never_began(self) -> bool:
        """Whether it did not start, and nobody has asked it to stop."""
        return not self.started and not self.cancel_requested

    @property
    def gave_a_sign(self) -> bool:
        """Whether it gave a sign of life a moment ago."""
        return self.silent is not None and self.silent < HEARTBEAT_PATIENCE


@dataclass(frozen=True)
class Observation:
    """What was seen of a run at one moment.

    Parameters
    ----------
    result : Result, optional
        Its proven result.
    damage : Trouble, optional
        What is wrong with a result that is written down, and is none.
    last : AttemptSeen, optional
        Its newest attempt.
    words : sequence of (Attempt, JobState)
        Last words of the scheduler that are not remembered yet (`verdict.remember`).
    """

    result: Result | None = None
    damage: Trouble | None = None
    last: AttemptSeen | None = None
    words: Sequence[tuple[Attempt, JobState]] = ()
