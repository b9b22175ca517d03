"""Stops an attempt: asks it, and its scheduler, and waits until it has stopped."""

from __future__ import annotations

import time

from mllam_exps import schedulers
from mllam_exps.assess import assess, find_job
from mllam_exps.processes import ProcessIdentity
from mllam_exps.store import Attempt

PATIENCE = 45.0
POLL_SECONDS = 0.3


def stop(attempt: Attempt, by: ProcessIdentity) -> bool:
    """Stop an attempt; its checkpoints stay.

    Returns
    -------
    bool
        False if it still lives after `PATIENCE` seconds.
    """
    attempt.request_cancel(by)
    claim = attempt.claim
    if claim is not None:
        scheduler = schedulers.get(claim["scheduler"])
        job = find_job(attempt, claim, scheduler)
        if job is not None:
            scheduler.cancel(job)
    until = time.monotonic() + PATIENCE
    while assess(attempt.run, schedulers.get).state.living:
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True
