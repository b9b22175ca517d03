"""``mllam-exps logs``: what an attempt printed."""

from __future__ import annotations

import sys
import time

from mllam_exps import reasons
from mllam_exps.assess import assess
from mllam_exps.errors import UsageError
from mllam_exps.report.here import Here
from mllam_exps.store import Attempt, Run

POLL_SECONDS = 0.5


def show(stage: str, *, follow: bool, number: int | None, lines: int | None) -> None:
    """Print a log, from its beginning or its last `lines`, and go on with it if asked to `follow`."""
    run = Here.open().find(stage)
    attempt = _attempt(run, number)
    print(f"==> {attempt.log} <==", file=sys.stderr)
    if lines is not None:
        print("\n".join(reasons.tail(attempt.log, lines)))
    position = 0 if lines is None else attempt.log.stat().st_size
    while True:
        # Asked before reading: what is written between the two is read in the next round, or was the last there is.
        living = follow and assess(run).state.living
        position = _print_from(attempt, position)
        if not living:
            return
        time.sleep(POLL_SECONDS)


def _attempt(run: Run, number: int | None) -> Attempt:
    attempts = {a.number: a for a in run.attempts() if a.log.exists()}
    if not attempts:
        now = assess(run)
        raise UsageError(f"nothing was printed: it is {now.state}", run.key, now.reason, "dvc exp run")
    if number is None:
        return attempts[max(attempts)]
    if number not in attempts:
        raise UsageError(f"no attempt {number} at {run.key}", next=f"there are: {', '.join(map(str, attempts))}")
    return attempts[number]


def _print_from(attempt: Attempt, position: int) -> int:
    with attempt.log.open("rb") as file:
        file.seek(position)
        text = file.read()
    sys.stdout.write(text.decode("utf-8", "replace"))
    sys.stdout.flush()
    return position + len(text)
