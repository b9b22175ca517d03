"""Schedulers: what starts an attempt, and knows of its job."""

from __future__ import annotations

from mllam_exps.errors import UsageError
from mllam_exps.schedulers.base import Job, JobPhase, JobRequest, JobState, Scheduler


def get(name: str) -> Scheduler:
    """Return the scheduler that a machine file names.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name == "local":
        from mllam_exps.schedulers.local import LocalScheduler

        return LocalScheduler()
    raise UsageError(
        f"the scheduler {name!r} is not available in this version",
        next="use a machine whose file says `scheduler: local`, e.g. MLLAM_MACHINE=local",
    )


__all__ = ["Job", "JobPhase", "JobRequest", "JobState", "Scheduler", "get"]
