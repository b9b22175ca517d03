"""Experiments that `dvc exp run` saved: what git keeps of them, and the runs that made what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllam_exps.git_calls import ask_git
from mllam_exps.runs import Run
from mllam_exps.store import RunStore


def commit_of(root: Path, name: str) -> str:
    """Return the commit of the DVC experiment of that name, the newest of several; empty where there is none."""
    refs = ask_git(root, "for-each-ref", "--sort=-creatordate", "--format=%(objectname) %(refname)", "refs/exps")
    for line in refs.splitlines():
        commit, _, ref = line.partition(" ")
        # refs/exps/<2 digits>/<38 digits>/<name>, as DVC (3.67) names its experiments; refs/exps/exec is its own.
        if ref.split("/", 4)[4:] == [name]:
            return commit
    return ""


def runs_of(root: Path, commit: str, store: RunStore) -> dict[str, Run]:
    """Return the runs, by stage, whose results a commit's ``dvc.lock`` holds: nothing of it need have been run."""
    import yaml

    try:
        lock = yaml.safe_load(ask_git(root, "show", f"{commit}:./dvc.lock")) or {}
        held = {stage: _digests(entry) for stage, entry in lock.get("stages", {}).items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return {}
    found: dict[str, Run] = {}
    for run in sorted(store.runs(), key=lambda run: run.begun_at):
        made = {path: out["digest"] for path, out in (run.result or {"outputs": {}})["outputs"].items()}
        if made and made.items() <= held.get(run.stage, {}).items():
            found[run.stage] = run
    return found


def _digests(entry: Mapping[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in entry.get("outs", ())}
