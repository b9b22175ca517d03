"""The scheduler's word on how an attempt's job ended: asked once, and kept in ``verdict.json``."""

from __future__ import annotations

import contextlib
import os
import time

from mllam_exps import schedulers
from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.runs.attempts import Attempt
from mllam_exps.schedulers import (
    Job,
    JobPhase,
    JobState,
    Scheduler,
    Schedulers,
    Uncertain,
)

_VERDICT: records.Shape = {
    "phase": lambda value: isinstance(value, str) and value in JobPhase.__members__,
    "reason": records.text,
    "told": records.maybe(records.text),
    "plain": records.maybe(records.flag),
}
NOBODY_KNOWS = JobState(JobPhase.FORGOTTEN)


def known(attempt: Attempt) -> JobState | None:
    """Return the word that was given before, if it was."""
    record = records.read(attempt.directory / "verdict.json", shape=_VERDICT)
    if record is None:
        return None
    told, plain = record.get("told") or "", bool(record.get("plain"))
    return JobState(JobPhase[record["phase"]], record["reason"], told, plain=plain)


def job_of(attempt: Attempt, scheduler: Scheduler) -> Job | None:
    """Return the attempt's job: as its submitter recorded it, else as it is found by its unique name.

    Raises
    ------
    Uncertain
        If nobody can say yet whether there is one.
    """
    if record := attempt.job:
        return scheduler.job(record)
    return (
        scheduler.find(attempt.claim["job_name"], attempt.claimed_at)
        if attempt.claim
        else None
    )


def ask(attempt: Attempt, scheduler: Schedulers = schedulers.get) -> JobState:
    """Return the scheduler's word, asking now unless it is known.

    An answer that the job has ended is kept; any other is for the moment only.
    """
    before = known(attempt)
    if before is not None:
        return before
    claim = attempt.claim
    if claim is None:
        return NOBODY_KNOWS
    try:
        asked = scheduler(claim["scheduler"], attempt.run.store)
        job = job_of(attempt, asked)
    except (
        Uncertain,
        MllamError,
    ) as doubt:  # or a scheduler that this version does not know
        return JobState(JobPhase.UNKNOWN, str(doubt))
    if job is None:
        return NOBODY_KNOWS
    state = asked.verdict(job)
    if (
        state.phase is JobPhase.FORGOTTEN
        and claim.get("uid", os.getuid()) != os.getuid()
        and attempt.started is None
    ):
        # Sites may hide jobs from other users (PrivateData=jobs).
        return JobState(
            JobPhase.UNKNOWN,
            f"{job.label} is a colleague's: forgotten, or hidden from you",
        )
    if state.phase.ended:
        keep(attempt, state)
    return state


def keep(attempt: Attempt, state: JobState) -> None:
    """Write a word down, where we may: the directory is its submitter's, and may be gone."""
    record = {
        "phase": state.phase.name,
        "reason": state.reason,
        "told": state.told,
        "plain": state.plain,
    }
    with contextlib.suppress(OSError):
        records.replace(
            attempt.directory / "verdict.json", record | {"time": time.time()}
        )
