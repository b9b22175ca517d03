"""The scheduler's word on how an attempt's job ended: asked once, and kept in ``verdict.json``."""

from __future__ import annotations

import time
from collections.abc import Callable

from mllam_exps import records
from mllam_exps.schedulers.base import JobPhase, JobState, Scheduler, Uncertain
from mllam_exps.store import Attempt

NOBODY_KNOWS = JobState(JobPhase.FORGOTTEN)


def known(attempt: Attempt) -> JobState | None:
    """Return the word that was given before, if it was."""
    record = records.read(attempt.directory / "verdict.json", "phase", "reason")
    if record is None or record["phase"] not in JobPhase.__members__:
        return None
    told, plain = str(record.get("told", "")), bool(record.get("plain"))
    return JobState(JobPhase[record["phase"]], str(record["reason"]), told, plain=plain)


def ask(attempt: Attempt, scheduler: Callable[[str], Scheduler]) -> JobState:
    """Return the scheduler's word, asking now unless it is known.

    An answer that the job has ended is kept; any other is for the moment only.
    """
    before = known(attempt)
    if before is not None:
        return before
    claim = attempt.claim
    if claim is None:
        return NOBODY_KNOWS
    asked = scheduler(claim["scheduler"])
    record = attempt.job
    try:
        job = asked.job(record) if record else asked.find(claim["job_name"], attempt.claimed_at)
    except Uncertain as doubt:
        return JobState(JobPhase.UNKNOWN, str(doubt))
    if job is None:
        return NOBODY_KNOWS
    state = asked.verdict(job)
    if state.phase.ended:
        keep(attempt, state)
    return state


def keep(attempt: Attempt, state: JobState) -> None:
    """Write a word down."""
    record = {"phase": state.phase.name, "reason": state.reason, "told": state.told, "plain": state.plain}
    records.replace(attempt.directory / "verdict.json", record | {"time": time.time()})
