"""The scheduler's last word on an attempt's job. It is asked for once, and remembered: schedulers forget jobs."""

from __future__ import annotations

import contextlib
import time

from mllam_exps import schedulers
from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Verdict
from mllam_exps.schedulers import (
    Job,
    JobPhase,
    JobState,
    Scheduler,
    Schedulers,
    Uncertain,
)

NOBODY_KNOWS = JobState(JobPhase.FORGOTTEN)


def known(attempt: Attempt) -> JobState | None:
    """Return the word that is remembered; None where there is none yet."""
    verdict = Verdict.read(attempt.directory / layout.VERDICT)
    return verdict.state if verdict else None


def job_of(attempt: Attempt, scheduler: Scheduler) -> Job | None:
    """Return the attempt's job: as its submitter recorded it, else as it is found by its unique name.

    Raises
    ------
    Uncertain
        If nobody can say yet whether there is one.
    """
    if job := attempt.job(scheduler):
        return job
    if claim := attempt.claim:
        return scheduler.find(claim.job_name, attempt.claimed_at)
    return None


def ask(attempt: Attempt, scheduler: Schedulers = schedulers.get) -> JobState:
    """Return the scheduler's word, asking now unless one is remembered. Nothing is written down."""
    before = known(attempt)
    if before is not None:
        return before
    claim = attempt.claim
    if claim is None:
        return NOBODY_KNOWS
    try:
        asked = scheduler(claim.scheduler, attempt.run.store)
        job = job_of(attempt, asked)
    except (Uncertain, MllamError) as doubt:
        # An MllamError says that this version knows no such scheduler.
        return JobState(JobPhase.UNKNOWN, str(doubt))
    if job is None:
        return NOBODY_KNOWS
    state = asked.verdict(job)
    # Sites may hide jobs from other users (PrivateData=jobs).
    may_be_hidden = not claim.is_mine and attempt.started is None
    if state.phase is JobPhase.FORGOTTEN and may_be_hidden:
        why = f"{job.label} is a colleague's: forgotten, or hidden from you"
        return JobState(JobPhase.UNKNOWN, why)
    return state


def is_last(word: JobState) -> bool:
    """Tell whether a word is worth remembering: the scheduler knows that job, and it has ended."""
    return word.phase.ended and word is not NOBODY_KNOWS


def remember(attempt: Attempt, state: JobState) -> None:
    """Write a word down, where we may: the directory is its submitter's, and may be gone."""
    verdict = Verdict(state, time.time())
    with contextlib.suppress(OSError):
        attempt.check_mine()
        records.replace(attempt.directory / layout.VERDICT, verdict.to_record())


def hear(attempt: Attempt, scheduler: Schedulers = schedulers.get) -> JobState:
    """Return the scheduler's word, and remember it if it is the last one: the job has ended."""
    before = known(attempt)
    state = before or ask(attempt, scheduler)
    if before is None and is_last(state):
        remember(attempt, state)
    return state
