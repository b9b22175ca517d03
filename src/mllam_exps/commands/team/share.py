"""``mllam-exps share``: what a team has in common is made, joined, and looked after."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from mllam_exps.base.errors import Exit, MllamError, UsageError, some_of
from mllam_exps.base.git import ask_git
from mllam_exps.base.terminal import say
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import remotes, sent_refs
from mllam_exps.dvc.saved.exchange import Exchange
from mllam_exps.dvc.saved.unmade import unmade
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs import layout
from mllam_exps.sharing import clones, dangling, founding, inspection, joining
from mllam_exps.sharing import share as shares
from mllam_exps.sharing.founding import Step
from mllam_exps.sharing.inspection import Finding
from mllam_exps.sharing.share import Share
from mllam_exps.views.context import saved_here


def init(path: Path, group: str, *, dry_run: bool) -> None:
    """Make a share, and let the clone of the current directory use it, if there is one."""
    place = path.resolve()
    number = shares.group_of(group)
    clone = _clone_here()
    branch = _branch_of(clone) if clone else ""
    to_do = founding.steps(place, number, branch or "main")
    joining.refuse_umask(place if place.exists() else place.parent)
    _tell(to_do, f"{place} is a share of the group {group}", dry_run=dry_run)
    made = Share(place)
    if clone is None:
        say(f"in each member's clone: mllam-exps share join {shlex.quote(str(place))}")
    elif made.is_there:
        _join(made, clone, dry_run=dry_run)
        if branch and not dry_run and not _has_branch(place, branch):
            say(f"git push share {shlex.quote(branch)}: with that a colleague begins")
    elif dry_run:
        say(f"would then let {clone.origin} use it")


def _branch_of(clone: Workspace) -> str:
    return ask_git(clone.origin, "symbolic-ref", "--short", "-q", "HEAD")


def _has_branch(repository: Path, branch: str) -> bool:
    name = f"refs/heads/{branch}"
    return bool(ask_git(repository, "rev-parse", "-q", "--verify", name))


def join(path: Path, *, dry_run: bool) -> None:
    """Let the clone of the current directory use a share."""
    made = shares.at(path)
    shares.group_of(made.group_name)
    joining.refuse_umask(made.directory)
    clone = _clone_here()
    if clone is None:
        raise UsageError(
            "is no clone of an experiment repository",
            str(Path.cwd()),
            next="git clone one, cd there, and say it again",
        )
    _join(made, clone, dry_run=dry_run)


def check_experiments(names: Sequence[str], *, as_json: bool) -> None:
    """Say whether a colleague could have experiments today.

    Raises
    ------
    MllamError
        With exit code 1, if one of them is not in the share, or not all of its data.
    """
    root = Workspace.here().origin
    repository = Repository.open(root, check=False)
    made = _share_of(repository)
    place = str(made.directory)
    there = {one.ref: one.commit for one in sent_refs.in_git(root, place)}
    between = Exchange(repository, remotes.remote_of(repository, "", place))
    told = []
    for one in saved_here(root, names):
        if there.get(one.ref) != one.commit:
            what = f"{one.name} is not in the share"
            raise MllamError(what, place, next=f"mllam-exps push {one.name}")
        needed = between.needed(one.commit)
        between.hold_to(one.name, needed)
        if lacks := unmade(repository, one.commit):
            again = f"dvc exp apply {shlex.quote(one.name)}, then dvc exp run"
            # Nothing that is run mends what dvc.yaml has nobody keep.
            mends = next(filter(None, lacks.values()), again)
            raise MllamError(
                f"{one.name}: all of its data are there, and dvc repro would not end at once",
                between.remote.place,
                "; ".join(lacks),
                f"{mends}, and mllam-exps push what it saves",
            )
        told.append({"name": one.name, "objects": len(between.parts(needed))})
    if as_json:
        say(json.dumps(told, indent=1))
        return
    for each in told:
        name, objects = each["name"], each["objects"]
        data = f"all {objects} objects of its data are in {between.remote.place}"
        say(f"{name}: a colleague can have it, {data}: mllam-exps pull {name}")


def check(path: Path | None, *, fix: bool, as_json: bool) -> None:
    """Say what is wrong in a share, and mend what is this user's to mend.

    Raises
    ------
    MllamError
        With exit code 1, if anything is left.
    """
    clone = _clone_here()
    if path is None:
        clone = Workspace.here()
        made = _share_of(Repository.open(clone.origin, check=False))
    else:
        made = shares.at(path)
    found = list(inspection.findings(made))
    if clone:
        found += dangling.findings(made, clone.origin)
    damaged = list(inspection.damaged(made, Cache(str(made.cache))))
    mended = _mend([*found, *damaged]) if fix else []
    left = [one for one in (*found, *damaged) if one not in mended]
    if as_json:
        say(json.dumps({"mended": _rows(mended), "left": _rows(left)}, indent=1))
    else:
        _print_findings(mended, "mended")
        _print_findings(left, "")
        if not left:
            say(
                f"{made.directory}: all is the group's ({made.group_name}) and nobody else's"
            )
    if left:
        raise MllamError(
            f"{len(left)} files or folders are not as the team needs them",
            str(made.directory),
            next=_who_mends(left, made, tried=fix),
            exit=Exit.FAILED,
        )


def _who_mends(left: list[Finding], made: Share, *, tried: bool) -> str:
    """Say who has to type what."""
    command = f"mllam-exps share check --fix {shlex.quote(str(made.directory))}"
    others = sorted({one.owner_name for one in left if not one.is_mine})
    ask = f"ask {', '.join(others)} to type: {command}" if others else ""
    if any(one.is_mine for one in left) and not tried:
        return f"{command}; then {ask}" if ask else command
    return ask


def _mend(found: Iterable[Finding]) -> list[Finding]:
    """Mend what is this user's; return it."""
    mended = []
    for one in found:
        if not one.is_mine:
            continue
        try:
            one.mend()
        except OSError as error:
            say(f"{one.path}: {one.what}, and that cannot be mended: {error.strerror}")
        else:
            mended.append(one)
    return mended


def _print_findings(found: Iterable[Finding], done: str) -> None:
    """Print what was found, files alike on one line."""
    alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for one in found:
        alike[one.what, one.owner_name].append(one)
    for (what, owner), ones in alike.items():
        names = some_of(str(one.path) for one in ones)
        say(f"{done or f'of {owner}'}: {names}: {what}")


def _rows(found: Iterable[Finding]) -> list[dict[str, str | bool]]:
    return [
        {
            "path": str(one.path),
            "what": one.what,
            "owner": one.owner_name,
            "mine": one.is_mine,
        }
        for one in found
    ]


def _tell(to_do: list[Step], done: str, *, dry_run: bool) -> None:
    """Do what is to be done, and say so; with `dry_run`, only say so."""
    for step in to_do:
        if dry_run:
            say(f"would {step.what}")
            continue
        say(step.what)
        try:
            step.do()
        except OSError as error:
            why = error.strerror or str(error)
            raise MllamError(
                f"cannot {step.what}", str(error.filename or ""), why
            ) from error
    if not dry_run:
        say(done)


def _join(made: Share, clone: Workspace, *, dry_run: bool) -> None:
    machine = machine_files.pick(clone.origin, os.environ, socket.gethostname())
    cache = Repository.open(clone.origin, check=False).cache_directory
    to_do = joining.steps(made, clone, machine, cache)
    done = f"{clone.origin} uses the share {made.directory}"
    _tell(to_do, done, dry_run=dry_run)
    if not dry_run:
        clones.tell(made, clones.look_at(made, clone.origin))
    if cache.resolve() != made.cache:
        _tell_what_stays(clone.store_directory(machine, cache))
    if machine.paths.run_store is not None:
        say(
            f"note: the run store stays {machine.paths.run_store}, as the machine file says (paths.run_store)"
        )


def _tell_what_stays(before: Path) -> None:
    """Say where that is which was run before: commands look at the share's run store from now on."""
    number = len(list((before / layout.RUNS).glob("*")))
    if number:
        runs = "1 run" if number == 1 else f"{number} runs"
        say(
            f"note: {runs} made here before, with logs, tags and environments, stay in {before}; commands tell of them "
            f"where a machine file says `paths: {{run_store: {before}}}`. Saved experiments are here as before"
        )


def _clone_here() -> Workspace | None:
    """Return the clone of the current directory; None outside of any."""
    try:
        return Workspace.here()
    except UsageError:
        return None


def _share_of(repository: Repository) -> Share:
    """Return the share that a clone uses.

    Raises
    ------
    UsageError
        If it uses none.
    """
    made = shares.of_cache(repository.cache_directory)
    if made is None:
        raise UsageError(
            "this clone uses no share",
            str(repository.root),
            next="mllam-exps share join PATH",
        )
    return made
