"""An attempt's script that a person submits again by hand: it becomes the next attempt."""

from __future__ import annotations

import shutil
from pathlib import Path

from mllam_exps import schedulers
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.runs import outputs
from mllam_exps.runs.assess import assess
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.judge import RunState
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.store import Run


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
    job, known = scheduler.current(), script_of.job(scheduler)
    if run.is_saving and run.result is not None:
        raise MllamError("the experiment is saved: nothing is left to do", exit=Exit.OK)
    if known is None or known.label == job.label:
        raise MllamError(
            "this attempt is over, or was started before",
            str(script_of.directory),
            next="dvc exp run",
        )
    now = assess(run)
    before, claim = now.attempt, script_of.claim
    if now.state is RunState.DONE:
        raise MllamError(
            "this run is done",
            str(run.directory),
            next=outputs.to_make_again(run),
            exit=Exit.OK,
        )
    if now.state.living or before is None or claim is None:
        raise MllamError(
            f"this run is {now.state}",
            str(run.directory),
            now.reason,
            "mllam-exps status",
            exit=Exit.OK,
        )
    spec = Spec.read(script_of)
    # `<working_directory>/<key>-<attempt>-…-work`
    elsewhere = script_of.work.resolve().parent if script_of.work.is_symlink() else None
    if not script_of.work.exists() or script_of.tree.exists():
        raise MllamError(
            "nothing is left to run it from",
            str(script_of.directory),
            next="dvc exp run",
        )
    attempt = run.claim(
        before.number + 1,
        scheduler=claim.scheduler,
        experiment=claim.experiment,
        workspace=Path(claim.workspace or "/"),
        working_directory=elsewhere,
    )
    if attempt is None:
        raise MllamError(
            f"attempt {before.number + 1} was started meanwhile", str(run.directory)
        )
    attempt.note_job(job)
    made = {output.path for output in spec.of_run(run.key).outputs}
    attempt.note_inputs(script_of.inputs)
    _copy_inputs(script_of.work.resolve(), attempt.work.resolve(), made)
    spec.write(attempt)
    attempt.log.hardlink_to(
        script_of.log
    )  # the job prints there; links by name are not followed in the store
    print(
        f"attempt {script_of.number} was submitted again: this is attempt {attempt.number}",
        flush=True,
    )
    return attempt


def _copy_inputs(work: Path, target: Path, outputs: set[str]) -> None:
    def unwanted(folder: str, names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if str((Path(folder) / name).relative_to(work)) in outputs
        ]

    shutil.copytree(work, target, symlinks=True, ignore=unwanted, dirs_exist_ok=True)
