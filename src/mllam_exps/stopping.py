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
    attempt.request_cancel(by)
    claim, refused = attempt.claim, None
    if claim is not None:
        scheduler = schedulers.get(claim["scheduler"], attempt.run.store)
        try:
            job = verdicts.job_of(attempt, scheduler)
        except Uncertain:
            job = None  # should it turn up and start, it finds that it was asked to stop
        if job is not None:
            try:
                scheduler.cancel(job)
            except MllamError as error:
                refused = error  # the attempt itself may obey all the same
    begun = asked_at = time.monotonic()
    while assess(attempt.run).state.living:
        now = time.monotonic()
        if now - begun > PATIENCE:
            if refused is not None:
                raise refused
            return False
        if now - asked_at > ASK_SECONDS:
            # What `assess` goes by may lag; a pending job that was cancelled writes no end.
            asked_at = now
            verdicts.ask(attempt)
        time.sleep(POLL_SECONDS)
    return True
