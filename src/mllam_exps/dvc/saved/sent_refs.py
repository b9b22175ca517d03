"""Experiments' commits in another git repository: listed there, sent there, fetched from there."""

from __future__ import annotations

from pathlib import Path

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.git import git, run_git
from mllam_exps.dvc.saved.experiment_refs import Saved, is_experiment, saved


def in_git(root: Path, git_remote: str) -> list[Saved]:
    """Return the experiments that a git remote has.

    Raises
    ------
    UsageError
        If it does not answer.
    """
    done = run_git(root, "ls-remote", git_remote, "refs/exps/*")
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [""])[0]
        what = "this git repository does not answer"
        raise UsageError(what, git_remote, why, "git remote -v")
    found = []
    for line in done.stdout.splitlines():
        commit, _, ref = line.partition("\t")
        if is_experiment(ref):
            found.append(Saved(ref, commit, ref.rpartition("/")[2], 0.0))
    return found


def send_ref(root: Path, git_remote: str, one: Saved, *, force: bool) -> bool:
    """Bring an experiment's commit to a git remote, and see that it is there; tell whether it was not there before.

    Raises
    ------
    UsageError
        If another one has its name there, or git says no.
    """
    there = {each.ref: each.commit for each in in_git(root, git_remote)}
    if there.get(one.ref) == one.commit:
        return False
    if one.ref in there and not force:
        raise _another(one, git_remote)
    git(
        root,
        "push",
        *(["--force"] if force else []),
        git_remote,
        f"{one.ref}:{one.ref}",
    )
    if one.commit not in {each.commit for each in in_git(root, git_remote)}:
        raise MllamError(f"{one.name} was pushed, and is not there", git_remote)
    return True


def fetch_ref(root: Path, git_remote: str, one: Saved, *, force: bool) -> bool:
    """Bring an experiment's commit from a git remote; tell whether it was not here before.

    Raises
    ------
    UsageError
        If another one has its name here, or git says no.
    """
    here = {each.ref: each.commit for each in saved(root)}
    if here.get(one.ref) == one.commit:
        return False
    if one.ref in here and not force:
        raise _another(one, "this repository")
    git(root, "fetch", "--no-tags", git_remote, f"+{one.ref}:{one.ref}")
    return True


def _another(one: Saved, where: str) -> UsageError:
    what = (
        f"{one.name}: another experiment of that name, of the same baseline, is there"
    )
    way_out = f"--force replaces it; or dvc exp rename {one.name} NEW"
    return UsageError(what, where, next=way_out)
