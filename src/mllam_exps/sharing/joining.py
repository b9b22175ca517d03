"""Lets a clone use a team's share: DVC's cache and remote, the run store, and git's repository."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mllam_exps.base.errors import UsageError, some_of
from mllam_exps.base.git import ask_git, git
from mllam_exps.dvc import local_settings
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import access_lists, share
from mllam_exps.sharing.founding import Step
from mllam_exps.sharing.share import OBJECTS, REMOTE, Share
from mllam_exps.submission import experiments

GROUP_S = 0o070
READ_ONLY = 0o444


def refuse_umask(directory: Path) -> None:
    """Refuse a umask that keeps the group out, where a share's file system has no access lists.

    Raises
    ------
    UsageError
        With the line to type.
    """
    umask = os.umask(0)
    os.umask(umask)
    if umask & GROUP_S and not access_lists.are_known(directory):
        what = f"your umask {umask:03o} would lock the group out of what you make"
        why = "this file system has no access lists that say otherwise"
        raise UsageError(
            what, str(directory), why, "umask 007, and the same line in ~/.bashrc"
        )


def steps(
    made: Share, workspace: Workspace, machine: Machine, cache: Path
) -> list[Step]:
    """Return what is to be done until a clone uses a share; nothing where it does.

    Parameters
    ----------
    cache : Path
        Where the clone's cache is now.

    Raises
    ------
    UsageError
        If what was submitted from it is still at work.
    """
    if cache.resolve() != made.cache:
        _refuse_what_is_at_work(RunStore(workspace.store_directory(machine, cache)))
    return list(_steps(made, workspace.origin, cache))


def _refuse_what_is_at_work(store: RunStore) -> None:
    """Refuse to leave a run store in which anything is to come: who looks at the other one would not see it."""
    found = [
        one.name
        for one in experiments.of_store(store)
        if one.is_mine and not assess(one.saving).state.settled
    ]
    if found:
        raise UsageError(
            f"{some_of(found)}: not over yet, and another run store would not know of it",
            str(store.directory),
            next="mllam-exps status --watch, or mllam-exps cancel EXP; then join",
        )


def _steps(made: Share, root: Path, cache: Path) -> Iterator[Step]:
    wanted = local_settings.of_a_share(made.cache, made.directory, REMOTE)
    is_first = not local_settings.has_default_remote(root)
    if cache.resolve() != made.cache:
        lacks = list(_not_in(made.cache, cache))
        if lacks:
            what = f"copy {len(lacks)} objects of {cache} to the share's cache"
            yield Step(what, lambda: _copy(made.cache, cache, lacks))
    if is_first:
        wanted["core"] = {"remote": REMOTE}
    if local_settings.differ(root, wanted):
        default = ", which `dvc push` takes by itself" if is_first else ""
        what = f"name cache and remote `{REMOTE}`{default} in .dvc/config.local"
        yield Step(what, lambda: local_settings.change(root, wanted))
    url = str(made.directory)
    if (known := ask_git(root, "remote", "get-url", REMOTE)) != url:
        how = "set-url" if known else "add"
        what = f"name it as git's remote `{REMOTE}`: dvc exp push {REMOTE} EXP"
        yield Step(what, lambda: _call_git(root, "remote", how, REMOTE, url))
    if not _is_trusted(made.directory):
        what = f"tell git that {made.directory} is safe, though another's (safe.directory in ~/.gitconfig)"
        trust = ("config", "--global", "--add", "safe.directory", url)
        yield Step(what, lambda: _call_git(root, *trust))


def _call_git(root: Path, *words: str) -> None:
    git(root, *words)


def _is_trusted(directory: Path) -> bool:
    if directory.stat().st_uid == os.geteuid():
        return True
    said = ask_git(
        directory.parent, "config", "--global", "--get-all", "safe.directory"
    )
    return bool({"*", str(directory)} & set(said.splitlines()))


def _not_in(theirs: Path, ours: Path) -> Iterator[Path]:
    """Yield what our cache has and theirs lacks, seen from the cache: objects, and what DVC's stages made."""
    for part in (f"{OBJECTS}/md5", "runs"):
        for folder, _, files in os.walk(ours / part):
            for name in sorted(files):
                inside = Path(folder, name).relative_to(ours)
                if not (theirs / inside).exists():
                    yield inside


def _copy(theirs: Path, ours: Path, lacks: list[Path]) -> None:
    for inside in lacks:
        target = theirs / inside
        for above in reversed(target.relative_to(theirs).parents[:-1]):
            with contextlib.suppress(FileExistsError):
                (theirs / above).mkdir()
                (theirs / above).chmod(share.FOLDER)
        # A copy, not a second name: a file of one's own could be written to.
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(ours / inside, beside)
        beside.chmod(READ_ONLY)
        beside.replace(target)
