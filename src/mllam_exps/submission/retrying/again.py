"""Which experiments are to be tried again; submits the jobs of one, and tells what became of it."""

from __future__ import annotations

from mllam_exps import schedulers
from mllam_exps.attempts.job_quota import Quota, Room
from mllam_exps.base.errors import MllamError
from mllam_exps.base.terminal import warn
from mllam_exps.runs.state.assess import assess, ends_the_same_way
from mllam_exps.runs.state.judge import RunState
from mllam_exps.submission import opening
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.job_chain import Chain
from mllam_exps.submission.standing import Standing


def has_failed(experiment: Experiment) -> bool:
    """Tell whether something of an experiment failed, whatever its saving waits for, or will never run."""
    saving = assess(experiment.saving)
    if saving.state in {RunState.DONE, RunState.CANCELLED}:
        return False
    for now in (saving, *map(assess, experiment.runs.values())):
        if now.hopeless or now.state in {RunState.FAILED, RunState.LOST}:
            return True
    return False


def would_end_the_same_way(experiment: Experiment) -> bool:
    """Tell whether a run of an experiment ended as it would end again, whoever tries it: with NaN."""
    return any(ends_the_same_way(assess(run)) for run in experiment.runs.values())


def submit_again(
    experiment: Experiment, rooms: dict[tuple[str, str], Room], quota: Quota
) -> str:
    """Submit the jobs of an experiment that failed, and of what hung on them; return what became of it, in words.

    Parameters
    ----------
    rooms : dict
        How many more jobs a repository's machine takes; what was found out is added.
    quota : Quota
        What counts the jobs that are there.
    """
    machine = opening.machine_of(experiment)
    scheduler = schedulers.get(machine.scheduler, experiment.store.directory)
    # Each repository has machine files of its own: two of them may call different
    # machines by one name.
    place = experiment.origin, machine.name
    if place not in rooms:
        rooms[place] = quota.room(machine, scheduler, experiment.origin)
    mine = Chain(experiment, machine, rooms[place])
    try:
        standing = mine.advance(retry=True)
        for note in standing.notes:
            warn(f"note: {note}")
        mine.submit_last_job(standing)
    except MllamError as error:
        return str(error)
    return _told(experiment, standing)


def _told(experiment: Experiment, standing: Standing) -> str:
    """Say what became of an experiment that was submitted again."""
    for stage, now in standing.states.items():
        if now.hopeless:
            name = experiment.name
            way_out = f"mllam-exps cancel {name}, and once that is mended, mllam-exps retry {name}"
            return f"{stage} is {now.state}: {now.reason}\n  → {way_out}"
    waits = f"waits in the run store: {standing.waits}" if standing.waits else ""
    if standing.started:
        told = f"{', '.join(standing.started)} submitted"
        return f"{told}; the rest {waits}" if waits else told
    if waits:
        return waits
    if standing.done:
        return "its results are there, and are being saved"
    if not standing.living:
        return "it is gone on with as soon as it can be"
    return f"{_living(standing)}: there is nothing to retry"


def _living(standing: Standing) -> str:
    """Say which stages are at work."""
    told = []
    for stage, now in standing.states.items():
        if now.state.living:
            told.append(f"{stage} is {now.state}")
    return ", ".join(told)
