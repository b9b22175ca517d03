"""Slurm: an attempt is a job, submitted with ``sbatch``.

What Slurm calls things, how it answers, and which variables are its own, stands here.
Two others know words of its: the checks of what a machine file says of ``sbatch`` and
``srun`` (`machines.values`), as no file is read with a scheduler at hand, and what reads
a program's log, into which ``srun`` writes (`base.endings.last_words`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.base.shapes import Shape, count, maybe, number, text

if TYPE_CHECKING:
    from mllam_exps.schedulers.base import Job, Scheduler

RECORD: Shape = {
    "id": lambda value: text(value) or count(value),
    "name": text,
    "submitted": number,
    "script": maybe(text),
}
TRACES = ("SLURM_", "SBATCH_", "SRUN_")
SETTINGS = ("SLURM_CONF",)


def make(shared: Path) -> Scheduler:
    """Return the scheduler; see `schedulers.SchedulerModule`."""
    from mllam_exps.schedulers.slurm.scheduler import SlurmScheduler
    from mllam_exps.schedulers.slurm.shared_squeue import Queue

    return SlurmScheduler(Queue.of_user(shared))


def energy(jobs: Sequence[Job]) -> list[float | None]:
    """Return the joules of jobs, as far as the accounting knows them."""
    from mllam_exps.schedulers.slurm.consumed import of_jobs

    return of_jobs(jobs)
