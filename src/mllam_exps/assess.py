"""What is known of a run, and what follows from it. Pure, but for asking the store and the scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mllam_exps.processes import ProcessIdentity
from mllam_exps.schedulers.base import Job, JobPhase, JobState, Scheduler
from mllam_exps.store import Attempt, Outcome, Run

HEARTBEAT_PATIENCE = 60.0
CLAIM_PATIENCE = 120.0


class RunState(StrEnum):
    """The state of a run, in the words that `mllam-exps status` prints."""

    NEW = "new"
    STARTING = "starting"
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def living(self) -> bool:
        """Whether an attempt may still write: a driver waits for it and starts none beside it."""
        return self in {RunState.STARTING, RunState.PENDING, RunState.RUNNING, RunState.UNKNOWN}


@dataclass(frozen=True)
class Assessment:
    """A run's state, with the reason in one line and the attempt that it is about."""

    state: RunState
    reason: str = ""
    attempt: Attempt | None = None


def assess(run: Run, scheduler: Callable[[str], Scheduler]) -> Assessment:
    """Say in which state a run is.

    Parameters
    ----------
    scheduler : callable
        Returns a scheduler by the name that the claim has.
    """
    last = run.last_attempt()
    if run.result is not None:
        return Assessment(RunState.DONE, attempt=last)
    if last is None:
        return Assessment(RunState.NEW)
    ended = _ended(last)
    if ended is not None:
        return ended
    claim = last.claim
    if claim is None:
        return Assessment(RunState.LOST, "its claim cannot be read any more: nobody can tell who works on it", last)
    asked = scheduler(claim["scheduler"])
    job = find_job(last, claim, asked)
    if job is None:
        return _without_job(last, claim)
    state = asked.state(job)
    if state.phase.ended:
        # It may have written its end between our first look and the scheduler's answer.
        return _ended(last) or Assessment(RunState.LOST, lost_reason(state), last)
    return _living(last, state)


def _ended(attempt: Attempt) -> Assessment | None:
    end = attempt.end
    if end is None:
        return None
    if end["outcome"] == Outcome.SUCCEEDED:
        # The result is written before the end; one that is gone again was set aside with --force.
        known = attempt.run.result is not None
        return Assessment(RunState.DONE if known else RunState.NEW, attempt=attempt)
    state = RunState.CANCELLED if end["outcome"] == Outcome.CANCELLED else RunState.FAILED
    return Assessment(state, str(end["reason"]), attempt)


def find_job(attempt: Attempt, claim: dict[str, Any], scheduler: Scheduler) -> Job | None:
    """Return the attempt's job: as the submitter recorded it, else as it is found by its unique name."""
    record = attempt.job
    return scheduler.job(record) if record else scheduler.find(claim["job_name"])


def _without_job(attempt: Attempt, claim: dict[str, Any]) -> Assessment:
    """Judge an attempt that was claimed, and that no job is known of: its submitter works on it, or has died."""
    submitter = ProcessIdentity.from_record(claim["claimed_by"])
    alive = submitter.alive()
    if alive is None:
        alive = time.time() - claim["time"] < CLAIM_PATIENCE
    if alive:
        return Assessment(RunState.STARTING, f"being started by process {submitter.pid} on {submitter.host}", attempt)
    return Assessment(RunState.LOST, "it was never started: whoever was about to start it is gone", attempt)


def _living(attempt: Attempt, state: JobState) -> Assessment:
    if state.phase is JobPhase.PENDING:
        return Assessment(RunState.PENDING, state.reason, attempt)
    if state.phase is JobPhase.RUNNING:
        return Assessment(RunState.RUNNING, state.reason, attempt)
    silent = silent_seconds(attempt)
    if silent is not None and silent < HEARTBEAT_PATIENCE:
        return Assessment(RunState.RUNNING, "", attempt)
    since = "ever" if silent is None else f"for {silent:.0f} s"
    return Assessment(RunState.UNKNOWN, f"{state.reason}; no sign of life {since}", attempt)


def silent_seconds(attempt: Attempt) -> float | None:
    """Return how long ago the attempt's heartbeat was, by the file system's own clock; None without one.

    Clocks of hosts differ by minutes. A file that we touch now gets the time of the same file server as the heartbeat.
    """
    try:
        beat = attempt.heartbeat.stat().st_mtime
        probe = attempt.run.directory / "waiters" / "clock"
        probe.touch()
        return max(0.0, probe.stat().st_mtime - beat)
    except OSError:
        return None


def lost_reason(state: JobState) -> str:
    """Say that an attempt ended without having said so itself."""
    said = f": {state.reason}" if state.reason else ""
    return f"the attempt ended without a word of its own (killed, or its host went down){said}"
