"""``mllam-exps push`` and ``pull``: experiments, and all that they need, to and from a team's folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.git import ask_git
from mllam_exps.base.terminal import say, warn
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import differences, experiment_refs, remotes, sent_refs
from mllam_exps.dvc.saved.differences import (
    ONLY_IN_FIRST,
    ONLY_IN_SECOND,
    Difference,
)
from mllam_exps.dvc.saved.exchange import Exchange, Needed
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.dvc.saved.unmade import unmade
from mllam_exps.machines.workspace import Workspace
from mllam_exps.sharing import clones
from mllam_exps.sharing.share import REMOTE
from mllam_exps.views.context import saved_here

_LINES = 12
"""How many things that an experiment would run differently are named."""


def push(words: Sequence[str], *, remote: str, force: bool, as_json: bool) -> None:
    """Send experiments, their data first, and hold the remote against what they need."""
    root = Workspace.here().origin
    names, target = _split("push", words, root)
    found = saved_here(root, names)
    between = _exchange(root, target, remote)
    told = []
    for one in found:
        needed = between.needed(one.commit)
        sent = between.send(one.name, needed)
        is_new = sent_refs.send_ref(root, target, one, force=force)
        told.append(_told(one, between, needed, sent, is_new=is_new))
    clones.tell_if_shared(between.repository.cache_directory, root)
    _print(told, f"in {target}", f"in {between.remote.place}", as_json=as_json)


def pull(words: Sequence[str], *, remote: str, force: bool, as_json: bool) -> None:
    """Fetch experiments, and all that they need."""
    root = Workspace.here().origin
    names, target = _split("pull", words, root)
    there = sent_refs.in_git(root, target)
    found = experiment_refs.called(names, there, f"in {target}")
    between = _exchange(root, target, remote)
    told = []
    for one in found:
        is_new = sent_refs.fetch_ref(root, target, one, force=force)
        needed = between.needed(one.commit)
        got = between.fetch(one.name, needed)
        told.append(_told(one, between, needed, got, is_new=is_new))
        told[-1]["runs_differently"] = _what_runs(between.repository, one)
    clones.tell_if_shared(between.repository.cache_directory, root)
    _print(told, "here", "here", as_json=as_json)
    if not as_json:
        for each in told:
            _warn_of_what_runs(each["name"], each["runs_differently"])
        first = told[0]
        rest = "" if first["unmade"] else ", then dvc repro, which makes no result anew"
        say(f"dvc exp apply {shlex.quote(found[0].name)}{rest}")


def _split(command: str, words: Sequence[str], root: Path) -> tuple[list[str], str]:
    """Return the names of experiments, and the git remote: the last word, if it is one or a path; else `share`."""
    known = ask_git(root, "remote").split()
    last = words[-1]
    if len(words) > 1 and (last in known or "/" in last):
        # Git is called in the repository's root, and a path is typed as seen from here.
        is_here = last not in known and Path(last).exists()
        return list(words[:-1]), str(Path(last).resolve()) if is_here else last
    if REMOTE in known:
        return list(words), REMOTE
    # Not the one that there is: a clone's `origin` is others' repository, most often.
    why = f"there is {', '.join(known)}" if known else "git knows no remote here"
    what = f"which git repository to exchange with? None is called {REMOTE}"
    named = (
        f"mllam-exps {command} {shlex.join(words)} {shlex.join(known[:1]) or 'PATH'}"
    )
    way_out = f"name it last: {named}; or join a share: mllam-exps share join PATH"
    raise UsageError(what, str(root), why, way_out)


def _exchange(root: Path, target: str, remote: str) -> Exchange:
    repository = Repository.open(root, check=False)
    url = ask_git(root, "remote", "get-url", target) or target
    return Exchange(repository, remotes.remote_of(repository, remote, url))


def _told(
    one: Saved, between: Exchange, needed: Needed, moved: int, *, is_new: bool
) -> dict[str, Any]:
    return {
        "name": one.name,
        "commit": one.commit,
        "new": is_new,
        "moved": moved,
        "objects": len(between.parts(needed)),
        "unmade": [*unmade(between.repository, one.commit)],
    }


def _what_runs(repository: Repository, one: Saved) -> list[str]:
    """Say what an experiment would run that ``HEAD`` would not, a line each: another's code is looked at first."""
    try:
        found = list(differences.of_what_runs(repository, one.commit))
    except MllamError as error:
        return [f"all of it: {error.what}"]
    return [_line(each) for each in found]


def _line(each: Difference) -> str:
    if each.what:
        return f"{each.where}: {_FILES.get(each.what, each.what)}"
    return (
        f"{each.where}: {'is no stage there' if each.second is None else each.second}"
    )


_FILES = {ONLY_IN_FIRST: "is not there", ONLY_IN_SECOND: "is new"}


def _warn_of_what_runs(name: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    warn(f"note: {name} would run other things than HEAD. Look before dvc exp apply:")
    for line in lines[:_LINES]:
        warn(f"  {line}")
    if (more := len(lines) - _LINES) > 0:
        warn(f"  and {more} more")
    warn(f"  → mllam-exps compare HEAD {shlex.quote(name)}")


def _print(
    told: list[dict[str, Any]], where: str, data_where: str, *, as_json: bool
) -> None:
    if as_json:
        say(json.dumps(told, indent=1))
        return
    for one in told:
        how = "" if one["new"] else ", as before"
        data = f"all {one['objects']} objects of its data are {data_where}, {one['moved']} of them new"
        say(f"{one['name']} is {where}{how}; {data}")
        for sentence in one["unmade"]:
            warn(f"note: dvc repro of {one['name']} would not end at once: {sentence}")
