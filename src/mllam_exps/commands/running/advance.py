"""``mllam-exps advance``: goes on with what waits in the run store."""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

from mllam_exps.attempts import tracked, unsent
from mllam_exps.base.errors import Exit, MllamError, some_of
from mllam_exps.base.terminal import say, warn
from mllam_exps.submission import backlog
from mllam_exps.submission.backlog import Advance
from mllam_exps.views.context import Context

PERIOD = 10.0
"""Seconds from one look to the next with `--watch`."""


def advance(*, watch: bool, as_json: bool) -> None:
    """Submit what waits and fits; with `watch` again and again, until nothing waits.

    It prints nothing but warnings where it is not typed on a terminal: cron sends what
    is printed as mail.

    Raises
    ------
    MllamError
        If something still waits: the exit code tells why.
    """
    here = Context.open()
    store = here.store
    start = tracked.in_environment_of(here.machine, here.workspace.root)
    tracked.end_what_is_over(unsent.runs(store), start)
    while True:
        done = backlog.dispatch(store, wait=True)
        if as_json:
            print(json.dumps(_record(done)), flush=True)
        elif sys.stdout.isatty():
            _tell(done)
        if not (watch and _may_go_on(done)):
            break
        time.sleep(PERIOD)
    _tell_end(done, quiet=as_json or not sys.stdout.isatty())


def _may_go_on(done: Advance) -> bool:
    """Tell whether another look may find something to submit."""
    refused = {*itertools.chain(*done.refused.values())}
    return any(experiment.name not in refused for experiment in done.left)


def _record(done: Advance) -> dict[str, Any]:
    """Return what became of what waited, JSON-able."""
    reasons = [*done.refused.items(), *done.unreachable.items()]
    refusals = [{"names": names, "why": why} for why, names in reasons]
    left = [{"name": e.name, "why": e.waits} for e in done.left]
    return {"submitted": done.submitted, "waits": left, "refused": refusals}


def _tell(done: Advance) -> None:
    """Say on a terminal what was submitted, and what still waits."""
    for name, stages in done.submitted.items():
        say(f"{name}: {', '.join(stages)} submitted")
    if not done.left:
        say("nothing waits in the run store")
        return
    for experiment in done.left:
        say(f"{experiment.name} waits: {experiment.waits or 'its stages are at work'}")


def _tell_end(done: Advance, *, quiet: bool) -> None:
    """Let the exit code say whether something still waits.

    Raises
    ------
    MllamError
        If it does.
    """
    if done.refused:
        *others, last = done.warnings
        for warning in others:
            warn(f"error: {warning}")
        raise MllamError(last)
    if done.unreachable:
        why, names = next(iter(done.unreachable.items()))
        what = f"{some_of(names)} cannot be gone on with now"
        raise MllamError(what, why=why, exit=Exit.UNKNOWN)
    if done.left:
        names = [experiment.name for experiment in done.left]
        if quiet:
            raise SystemExit(int(Exit.DETACHED))
        raise MllamError(
            f"{some_of(names)} still {'waits' if len(names) == 1 else 'wait'}",
            next="mllam-exps advance --watch, or again later",
            exit=Exit.DETACHED,
        )
