"""How much energy runs took, as far as their schedulers know it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mllam_exps import schedulers
from mllam_exps.base.errors import MllamError
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.store import Run
from mllam_exps.schedulers import Job


@dataclass(frozen=True)
class Energy:
    """What is known of one run, or of several.

    Parameters
    ----------
    joules : float
        Of those attempts whose energy is known.
    is_all : bool
        Whether that are all that were started.
    """

    joules: float
    is_all: bool


def of_runs(runs: Iterable[Run]) -> dict[str, Energy]:
    """Return the energy of runs by their keys; those of which nothing is known are left out.

    Each scheduler is asked once for all of them.
    """
    jobs: dict[str, list[tuple[str, Job]]] = {}
    started: dict[str, int] = {}
    for run in {run.key: run for run in runs}.values():
        attempts = [one for one in run.attempts() if one.started is not None]
        started[run.key] = len(attempts)
        for one in attempts:
            if job := _job(one):
                jobs.setdefault(one.scheduler, []).append((run.key, job))
    known: dict[str, list[float]] = {}
    for name, asked in jobs.items():
        told = schedulers.energy(name, [job for _, job in asked])
        for (key, _), joules in zip(asked, told, strict=True):
            if joules is not None:
                known.setdefault(key, []).append(joules)
    return {
        key: Energy(sum(each), len(each) == started[key]) for key, each in known.items()
    }


def _job(attempt: Attempt) -> Job | None:
    try:
        scheduler = schedulers.get(attempt.scheduler, attempt.run.store)
    except MllamError:
        return None  # a scheduler that this version does not know
    return attempt.job(scheduler)
