"""What keeps an experiment from being gone on with; and what DVC's cache has lost of a saved one, and gets back."""

from __future__ import annotations

import shlex
from pathlib import Path

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.preflight import checks
from mllam_exps.runs.outputs import Damaged
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.submission import opening
from mllam_exps.submission.applying import (
    BROUGHT_BACK,
    apply_command,
    bring_back,
    made_again,
)
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.saving import commit


def refuse(experiment: Experiment, origin: Path, cache: Cache) -> None:
    """Refuse what cannot be gone on with, before anything is submitted.

    Parameters
    ----------
    origin : Path
        The repository where the command is typed.
    cache : Cache
        Its DVC cache.

    Raises
    ------
    UsageError
        If it is somebody else's, is done, or can't go on as it was submitted.
    """
    if not experiment.is_mine:
        way_out = f"submit the same yourself, what is done is shared: {shlex.join(experiment.command)}"
        raise UsageError(
            "is not yours", experiment.name, f"{experiment.user} submitted it", way_out
        )
    if assess(experiment.saving).state is RunState.DONE:
        raise _is_done(experiment, origin, cache)
    machine = opening.machine_of(experiment)
    checks.check_environment(machine, opening.workspace_of(experiment).origin)
    if not experiment.root.is_dir():
        raise UsageError(
            "its clone is gone", experiment.name, next=experiment.submit_again
        )
    if not opening.programs_are_the_same(experiment, machine):
        why = "it was submitted with other versions of the programs, and with these its results would be others"
        raise UsageError("cannot go on", experiment.name, why, experiment.submit_again)
    try:
        commit.refuse_what_dvc_made_from_another(experiment, experiment.holds)
    except MllamError as error:
        raise UsageError(
            "cannot go on", experiment.name, error.what, experiment.submit_again
        ) from error


def _is_done(experiment: Experiment, origin: Path, cache: Cache) -> UsageError:
    """Say that an experiment is saved, and whether it was removed, or a result of it damaged, since.

    What DVC has of it counts: it needs the run store no more, and phases before the
    last neither.
    """
    name, command = experiment.name, apply_command(experiment, origin)
    if not command:
        what = "was saved, and its repository has it no more"
        return UsageError(what, name, next=experiment.submit_again)
    if stage := _damaged(experiment, cache):
        what = f"is saved, and its result of {stage} was damaged since, and set aside"
        return UsageError(what, name, next=made_again(command))
    return UsageError("is done", name, next=command)


def is_whole(experiment: Experiment, origin: Path, cache: Cache) -> bool:
    """Tell whether an experiment is saved, and all that it made is there: nothing of it is to be tried again."""
    if assess(experiment.saving).state is not RunState.DONE:
        return False
    return bool(apply_command(experiment, origin)) and not _damaged(experiment, cache)


def is_back(experiment: Experiment, origin: Path, cache: Cache) -> bool:
    """Give DVC's cache again what it has lost of a saved experiment, and say so; False where more has to be told."""
    if not experiment.is_mine or assess(experiment.saving).state is not RunState.DONE:
        return False
    command = apply_command(experiment, origin)
    if not command:
        return False  # its repository has it no more
    try:
        if not bring_back(cache, experiment):
            return False
    except Damaged:
        return False  # it is set aside by now
    told = f"{experiment.name}: {BROUGHT_BACK}"
    if _damaged(experiment, cache):
        warn(f"note: {told}")
        return False
    say(f"{told}\n  → {command}")
    return True


def _damaged(experiment: Experiment, cache: Cache) -> str:
    """Return a stage of a saved experiment whose result was set aside and is not in DVC's cache; else an empty name."""
    commit = Commit(Path(experiment.origin), experiment.commit)
    for stage, run in experiment.runs.items():
        if run.result is None and not _has_all(cache, commit, stage):
            return stage
    return ""


def _has_all(cache: Cache, commit: Commit, stage: str) -> bool:
    """Tell whether DVC's cache, or git, has all that a stage made for a commit."""
    return all(
        cache.holds_all(digest) or commit.text(path) is not None
        for path, digest in commit.made(stage).items()
    )
