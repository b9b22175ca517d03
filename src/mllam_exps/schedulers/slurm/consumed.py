"""How much energy jobs took, as Slurm's accounting says it.

That is joules, measured on whole nodes by the site's plugin (``AcctGatherEnergyType``):
other jobs on them count, too. 22.05: without a plugin it is 0, or nothing; what is not
known may be 2^64 − 2, too. What Slurm says of a whole job is the sum of its steps, in
which those that run beside each other count twice; so steps are looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mllam_exps.base.errors import MllamError
from mllam_exps.schedulers.base import Job
from mllam_exps.schedulers.slurm import calls

AT_ONCE = 200
"""Jobs that are asked for by one command."""
_UNKNOWN = 2**63
"""As much, or more, is a word of Slurm's for a number that it does not know."""
_BATCH, _EXTERN = "batch", "extern"


def of_jobs(jobs: Sequence[Job]) -> list[float | None]:
    """Return the joules of jobs; None where that is not known."""
    known = [(str(job.record["id"]), str(job.record["name"])) for job in jobs]
    asked = sorted({one for one, _ in known if re.fullmatch(r"\d+", one)})
    steps: dict[tuple[str, str], dict[str, float]] = {}
    for first in range(0, len(asked), AT_ONCE):
        steps |= _steps(asked[first : first + AT_ONCE])
    return [_together(steps.get(one, {})) for one in known]


def _steps(ids: list[str]) -> dict[tuple[str, str], dict[str, float]]:
    """Return the joules that are known of the steps of jobs: by id and name of the job, and by what follows its id."""
    fields = "JobIDRaw,ConsumedEnergyRaw,JobName"
    # -D: a controller that lost its state counts anew, and one id is of two jobs.
    words = ["sacct", "-j", ",".join(ids), "-n", "-P", "-D", "-o", fields]
    try:
        done = calls.account(words)
    except (MllamError, calls.NotAnswered):
        return {}
    found: dict[tuple[str, str], dict[str, float]] = {}
    of_job: dict[str, float] = {}
    for line in done.stdout.splitlines():
        which, _, rest = line.partition("|")
        energy, _, name = rest.partition("|")
        job_id, _, step = which.partition(".")
        if not step:
            of_job = found[job_id, name] = {}
        elif energy.isdigit() and 0 < int(energy) < _UNKNOWN:
            of_job[step] = float(energy)
    return found


def _together(steps: Mapping[str, float]) -> float | None:
    """Return the joules of one job from those of its steps.

    The step ``extern`` is there all the time on all of its nodes, ``batch`` all the
    time on the first one; the others are what ``srun`` has started, one after another.
    """
    if _EXTERN in steps:
        return steps[_EXTERN]
    started = sum(value for step, value in steps.items() if step != _BATCH)
    return max(started, steps.get(_BATCH, 0.0)) or None
