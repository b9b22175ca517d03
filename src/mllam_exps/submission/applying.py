"""What git has of a saved experiment, which may have been renamed or removed since, and how that is applied."""

from __future__ import annotations

import shlex
from pathlib import Path

from mllam_exps.base.errors import MllamError
from mllam_exps.base.git import ask_git, git, run_git
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.saved import experiment_refs
from mllam_exps.dvc.stages.phases import is_before_the_last
from mllam_exps.runs import outputs
from mllam_exps.submission.experiment import Experiment

BROUGHT_BACK = "what DVC's cache had lost of it is back, from the run store"


def apply_command(experiment: Experiment, here: Path) -> str:
    """Return the command that applies a saved experiment; empty where its repository has it no more.

    Parameters
    ----------
    here : Path
        The repository in which that is asked.
    """
    origin = Path(experiment.origin)
    word = _name_or_commit(origin, experiment)
    if not word:
        return ""
    command = f"dvc exp apply {shlex.quote(word)}"
    if origin == here or not origin.exists():
        return command
    return f"cd {shlex.quote(experiment.origin)}; {command}"


def made_again(command: str) -> str:
    """Return what brings back a result that was set aside: a command applies its experiment.

    DVC (3.67) applies the rest where its cache lacks something, says so, and exits with
    255.
    """
    return f"{command}; dvc repro makes again what is missing"


def bring_back(cache: Cache, experiment: Experiment) -> bool:
    """Give DVC's cache again what it has lost of a saved experiment; tell whether that was anything.

    Raises
    ------
    Damaged
        If the run store's files are not what was made.
    """
    found = False
    for stage, run in experiment.runs.items():
        # What an earlier phase made is in no cache.
        if not is_before_the_last(stage):
            found |= outputs.bring_back(cache, run)
    return found


def name_in_git(experiment: Experiment) -> str:
    """Return the name under which its repository has a saved experiment: its own, or the one that it got since.

    Empty where it has none, as on a branch.
    """
    origin, commit = Path(experiment.origin), experiment.commit
    if not commit:
        return ""
    if ask_git(origin, "rev-parse", "-q", "--verify", experiment.git_ref) == commit:
        return experiment.name
    known = experiment_refs.saved_if_there(origin)
    return next((one.name for one in known if one.commit == commit), "")


def _name_or_commit(origin: Path, experiment: Experiment) -> str:
    """Return what DVC has to be told; empty where git has the commit under no name."""
    name = name_in_git(experiment)
    if name:
        # Of several experiments of a name, DVC (3.67) takes the one that starts from
        # what is checked out; it knows each by its commit.
        known = experiment_refs.saved_if_there(origin)
        is_alone = [one.name for one in known].count(name) == 1
        return name if is_alone else experiment.commit[:7]
    if not _can_be_asked(origin):
        return experiment.name  # nobody can say
    return experiment.commit[:7] if is_in_git(experiment) else ""


def is_in_git(experiment: Experiment) -> bool:
    """Tell whether its repository has a saved experiment still, under whatever name, or on a branch.

    Of a repository that is not there, or that git does not open for us (a colleague's,
    say: "dubious ownership"), nobody can say: it has it.
    """
    origin = Path(experiment.origin)
    return has_commit(origin, experiment) or not _can_be_asked(origin)


def _can_be_asked(origin: Path) -> bool:
    """Tell whether git answers for a folder: what it has, or that it is no repository any more."""
    if not origin.exists():
        return False
    asked = run_git(origin, "rev-parse", "--git-dir")
    has_git = any((above / ".git").exists() for above in (origin, *origin.parents))
    return asked.returncode == 0 or not has_git


def has_commit(repository: Path, experiment: Experiment) -> bool:
    """Tell whether a repository has the commit of a saved experiment: its own may have been moved."""
    result = experiment.saving.result
    if result is None:
        return False
    words = ("for-each-ref", "--contains", result.commit, "--count=1")
    try:
        return bool(git(repository, *words))
    except MllamError:
        return False  # the repository, or the commit, is not there to be asked
