"""``mllam-exps cancel``: stops a run that no command waits for."""

from __future__ import annotations

from mllam_exps.assess import RunState, assess
from mllam_exps.errors import Exit, MllamError, UsageError
from mllam_exps.processes import ProcessIdentity
from mllam_exps.report.here import Here
from mllam_exps.stopping import stop


def cancel(stage: str, *, force: bool) -> None:
    """Ask the run's attempt to stop, and wait until it has."""
    run = Here.open().find(stage)
    now = assess(run)
    if not now.state.living or now.attempt is None:
        raise UsageError(f"{run.key} is not running: it is {now.state}", next="mllam-exps status")
    me = ProcessIdentity.of()
    if (others := run.other_waiters(me)) and not force:
        who = ", ".join(f"process {w.pid} on {w.host}" for w in others)
        raise UsageError(f"{run.key} is waited for", why=who, next="Ctrl-C there, or mllam-exps cancel --force")
    if not stop(now.attempt, me):
        raise MllamError("it has not stopped yet", where=run.key, next="mllam-exps status", exit=Exit.UNKNOWN)
    state = assess(run).state
    print(f"{run.key}: {state}" + ("" if state is RunState.CANCELLED else " before it could be stopped"))
