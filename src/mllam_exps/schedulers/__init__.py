"""Schedulers: what starts an attempt, and knows of its job."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from mllam_exps.base.errors import UsageError
from mllam_exps.schedulers.base import (
    Job,
    JobPhase,
    JobRequest,
    JobState,
    NoRoom,
    Objection,
    Scheduler,
    SilentError,
    Uncertain,
)


@functools.cache
def get(name: str, shared: Path) -> Scheduler:
    """Return the scheduler of that name, the same one each time.

    Parameters
    ----------
    name : str
        As machine files name it.
    shared : Path
        A folder that all hosts see, for what its drivers share; the run store.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name == "local":
        from mllam_exps.schedulers.local import LocalScheduler

        return LocalScheduler()
    if name == "slurm":
        from mllam_exps.schedulers.slurm.scheduler import SlurmScheduler
        from mllam_exps.schedulers.slurm.shared_squeue import Queue

        return SlurmScheduler(Queue.of_user(shared))
    raise UsageError(
        f"there is no scheduler {name!r} in this version",
        next="pip install --upgrade mllam-exps",
    )


Schedulers = Callable[[str, Path], Scheduler]
"""What `get` is: the schedulers by name, for the runs of one store."""

__all__ = [
    "Job",
    "JobPhase",
    "JobRequest",
    "JobState",
    "NoRoom",
    "Objection",
    "Scheduler",
    "Schedulers",
    "SilentError",
    "Uncertain",
    "get",
]
