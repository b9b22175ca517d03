"""``mllam-exps push`` and ``pull``: experiments, and all that they need, to and from a team's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import ask_git
from mllam_exps.base.terminal import say
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import exchange, experiment_refs
from mllam_exps.dvc.saved.exchange import Exchange
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.machines.workspace import Workspace
from mllam_exps.sharing.share import REMOTE


def push(words: Sequence[str], *, remote: str, force: bool, as_json: bool) -> None:
    """Send experiments, their data first, and hold the remote against what they need."""
    root = Workspace.here().origin
    names, target = _split(words, root)
    found = exchange.called(names, experiment_refs.saved(root), "saved here")
    between = _exchange(root, target, remote)
    told = []
    for one in found:
        needed = between.needed(one.commit)
        sent = between.send(one.name, needed)
        is_new = exchange.send_ref(root, target, one, force=force)
        told.append(_told(one, sent, len(between.parts(needed)), is_new=is_new))
    _print(told, f"in {target}", as_json=as_json)


def pull(words: Sequence[str], *, remote: str, force: bool, as_json: bool) -> None:
    """Fetch experiments, and all that they need."""
    root = Workspace.here().origin
    names, target = _split(words, root)
    there = exchange.in_git(root, target)
    found = exchange.called(names, there, f"in {target}")
    between = _exchange(root, target, remote)
    told = []
    for one in found:
        is_new = exchange.fetch_ref(root, target, one, force=force)
        needed = between.needed(one.commit)
        got = between.fetch(one.name, needed)
        told.append(_told(one, got, len(between.parts(needed)), is_new=is_new))
    _print(told, "here", as_json=as_json)
    if not as_json and found:
        say(f"dvc exp apply {found[0].name}, then dvc repro, which runs nothing")


def _split(words: Sequence[str], root: Path) -> tuple[list[str], str]:
    """Return the names of experiments, and the git remote: the last word, if it names one or is a path."""
    remotes = ask_git(root, "remote").split()
    last = words[-1]
    if len(words) > 1 and (last in remotes or "/" in last):
        return list(words[:-1]), last
    if REMOTE in remotes or len(remotes) == 1:
        return list(words), REMOTE if REMOTE in remotes else remotes[0]
    what = "which git repository to exchange with?"
    why = f"there are {', '.join(remotes)}" if remotes else "git knows no remote here"
    raise UsageError(what, str(root), why, "name it last: mllam-exps push EXP PATH")


def _exchange(root: Path, target: str, remote: str) -> Exchange:
    repository = Repository.open(root, check=False)
    url = ask_git(root, "remote", "get-url", target) or target
    return Exchange(repository, exchange.remote_of(repository, remote, url))


def _told(
    one: Saved, moved: int, of: int, *, is_new: bool
) -> dict[str, str | int | bool]:
    return {
        "name": one.name,
        "commit": one.commit,
        "new": is_new,
        "moved": moved,
        "objects": of,
    }


def _print(
    told: list[dict[str, str | int | bool]], where: str, *, as_json: bool
) -> None:
    if as_json:
        say(json.dumps(told, indent=1))
        return
    for one in told:
        how = "" if one["new"] else ", as before"
        data = f"all {one['objects']} objects of its data are there, {one['moved']} of them new"
        say(f"{one['name']} is {where}{how}; {data}")
