"""Stops an attempt: asks it, and its scheduler, and waits until it has stopped."""

from __future__ import annotations

import time

from mllam_exps import schedulers, verdicts
from mllam_exps.assess import assess
from mllam_exps.errors import MllamError
from mllam_exps.processes import ProcessIdentity
from mllam_exps.schedulers.base import Uncertain
from mllam_exps.store import Attempt

PATIENCE = 45.0
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
        refused = error  # the attempt itself may obey all the same
    if not wait_for([attempt]):
        return True
    if refused is not None:
        raise refused
    return False


def wait_for(attempts: list[Attempt]) -> list[Attempt]:
    """Wait until attempts that were asked to stop have; returns those that still live after `PATIENCE` seconds."""
    begun, asked_at = time.monotonic(), 0.0
    left = list(attempts)
    while True:
        if time.monotonic() - asked_at > ASK_SECONDS:
            # What `assess` goes by may lag; a pending job that was cancelled writes no end.
            for attempt in left:
                if attempt.end is None:
                    verdicts.ask(attempt)
            asked_at = time.monotonic()
        left = [attempt for attempt in left if assess(attempt.run).state.living]
        if not left or time.monotonic() - begun > PATIENCE:
            return left
        time.sleep(POLL_SECONDS)


def ask_to_stop(attempt: Attempt, by: ProcessIdentity) -> None:
    """Ask an attempt, and its scheduler, and return at once.

    Raises
    ------
    MllamError
        If its scheduler refuses.
    """
    attempt.request_cancel(by)
    claim = attempt.claim
    if claim is None:
        return
    scheduler = schedulers.get(claim["scheduler"], attempt.run.store)
    try:
        job = verdicts.job_of(attempt, scheduler)
    except Uncertain:
        return  # should it turn up and start, it finds that it was asked to stop
    if job is not None:
        scheduler.cancel(job)
