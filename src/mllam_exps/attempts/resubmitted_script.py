"""An attempt's script that a person submits again by hand: it becomes the next attempt."""

from __future__ import annotations

import shutil
from pathlib import Path

from mllam_exps import schedulers
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.runs import outputs
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run
from mllam_exps.schedulers import Job, Scheduler


def take(script_of: Attempt) -> Attempt:
    """Claim the next attempt, for the job that this process runs in.

    It works on a copy of what that attempt had, and goes on from the newest checkpoint,
    as any other.

    Parameters
    ----------
    script_of : Attempt
        The attempt that was submitted again.

    Raises
    ------
    MllamError
        If the run is done, somebody works on it, or it is the same job once more: a
        scheduler's own new try would write beside a first one that lives on.
    """
    run = Run(script_of.run.directory)
    scheduler = schedulers.get(script_of.scheduler, run.store)
    job = scheduler.current()
    _refuse_the_same_job(script_of, job, scheduler)
    before = _last_of_stopped(run)
    spec, claim = Spec.read(script_of), script_of.claim
    if claim is None or not script_of.work.exists() or script_of.tree.exists():
        what, where = "nothing is left to run it from", str(script_of.directory)
        raise MllamError(what, where, next="dvc exp run")
    # `<working_directory>/<key>-<attempt>-…-work`
    elsewhere = script_of.work.resolve().parent if script_of.work.is_symlink() else None
    attempt = run.claim(
        before.number + 1,
        scheduler=claim.scheduler,
        experiment=claim.experiment,
        workspace=Path(claim.workspace or "/"),
        working_directory=elsewhere,
    )
    if attempt is None:
        what = f"attempt {before.number + 1} was started meanwhile"
        raise MllamError(what, str(run.directory))
    attempt.note_job(job)
    made = {output.path for output in spec.of_run(run.key).outputs}
    attempt.note_inputs(script_of.inputs.by_path)
    _copy_inputs(script_of.work.resolve(), attempt.work.resolve(), made)
    spec.write(attempt)
    # The job prints there; links by name are not followed in the store.
    attempt.log.hardlink_to(script_of.log)
    what = f"attempt {script_of.number} was submitted again"
    print(f"{what}: this is attempt {attempt.number}", flush=True)
    return attempt


def _refuse_the_same_job(script_of: Attempt, job: Job, scheduler: Scheduler) -> None:
    run, known = script_of.run, script_of.job(scheduler)
    if run.is_saving and run.result is not None:
        raise MllamError("the experiment is saved: nothing is left to do", exit=Exit.OK)
    if known is None or known.label == job.label:
        what, where = "this attempt is over, or was started before", script_of.directory
        raise MllamError(what, str(where), next="dvc exp run")


def _last_of_stopped(run: Run) -> Attempt:
    """Return the newest attempt at a run, unless the run is done, or somebody works on it."""
    now, where = assess(run), str(run.directory)
    if now.state is RunState.DONE:
        way_out = outputs.to_make_again(run)
        raise MllamError("this run is done", where, next=way_out, exit=Exit.OK)
    if now.state.living or now.attempt is None:
        what, way_out = f"this run is {now.state}", "mllam-exps status"
        raise MllamError(what, where, now.reason, way_out, Exit.OK)
    return now.attempt


def _copy_inputs(work: Path, target: Path, outputs: set[str]) -> None:
    def unwanted(folder: str, names: list[str]) -> list[str]:
        below = Path(folder).relative_to(work)
        return [name for name in names if str(below / name) in outputs]

    shutil.copytree(work, target, symlinks=True, ignore=unwanted, dirs_exist_ok=True)
