"""Stops an attempt: asks it, and its scheduler, and waits until it has stopped."""

from __future__ import annotations

import time

from mllam_exps import schedulers
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.store import Run
from mllam_exps.schedulers.base import SilentError, Uncertain

PATIENCE = 45.0
SILENT_PATIENCE = 3.0
"""The same where the scheduler does not answer: an attempt that works obeys at once, all others cannot be stopped."""
POLL_SECONDS = 0.3
ASK_SECONDS = 2.0


def stop(attempt: Attempt, by: ProcessIdentity) -> bool:
    """Stop an attempt; its checkpoints stay.

    Returns
    -------
    bool
        False if it still lives after `PATIENCE` seconds.

    Raises
    ------
    MllamError
        If its scheduler refuses, and it does not stop by itself.
    """
    refused = None
    try:
        ask_to_stop(attempt, by)
    except MllamError as error:
        if isinstance(error.__cause__, PermissionError):
            raise  # a colleague's has not even been asked
        refused = error  # the attempt itself may obey all the same
    if not wait_for(
        [attempt], SILENT_PATIENCE if isinstance(refused, SilentError) else PATIENCE
    ):
        return True
    if refused is not None:
        raise refused
    return False


def wait_for(attempts: list[Attempt], patience: float = PATIENCE) -> list[Attempt]:
    """Wait until attempts that were asked to stop have; returns those that still live after so many seconds."""
    begun, asked_at = time.monotonic(), 0.0
    left = list(attempts)
    while True:
        if time.monotonic() - asked_at > ASK_SECONDS:
            # What `assess` goes by may lag; a pending job that was cancelled writes no
            # end.
            for attempt in left:
                if attempt.ended is None:
                    verdict.hear(attempt)
            asked_at = time.monotonic()
        left = [a for a in left if assess(Run(a.run.directory)).state.living]
        if not left or time.monotonic() - begun > patience:
            return left
        time.sleep(POLL_SECONDS)


def ask_to_stop(attempt: Attempt, by: ProcessIdentity) -> None:
    """Ask an attempt, and its scheduler, and return at once.

    Raises
    ------
    SilentError
        If its scheduler does not answer. Should its job start, it finds that it was
        asked to stop.
    MllamError
        If its scheduler refuses.
    """
    attempt.request_cancel(by)
    claim = attempt.claim
    if claim is None:
        return
    scheduler = schedulers.get(claim.scheduler, attempt.run.store)
    try:
        job = verdict.job_of(attempt, scheduler)
    except Uncertain as doubt:
        raise SilentError(
            "its job cannot be found", attempt.run.key, str(doubt), exit=Exit.UNKNOWN
        ) from None
    if job is not None:
        scheduler.cancel(job)
