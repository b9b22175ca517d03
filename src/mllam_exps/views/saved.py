"""Experiments that `dvc exp run` saved: what git keeps of them, and the runs that made what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.git import ask_git
from mllam_exps.runs.store import Run, RunStore


@dataclass(frozen=True)
class Saved:
    """A DVC experiment, as git keeps it.

    Parameters
    ----------
    commit, name : str
        Its commit, and its name.
    at : float
        When that was made.
    """

    commit: str
    name: str
    at: float


def experiments_of(root: Path) -> list[Saved]:
    """Return the DVC experiments of a repository, newest first."""
    form = "--format=%(objectname) %(creatordate:unix) %(refname)"
    refs = ask_git(root, "for-each-ref", "--sort=-creatordate", form, "refs/exps")
    found = []
    for line in refs.splitlines():
        commit, at, ref = line.split(" ", 2)
        # refs/exps/<2 digits>/<38 digits>/<name>, as DVC (3.67) names its experiments;
        # refs/exps/exec is its own.
        if len(parts := ref.split("/", 4)) == 5:
            found.append(Saved(commit, parts[4], float(at)))
    return found


def commit_of(root: Path, name: str) -> str:
    """Return the commit of the DVC experiment of that name, the newest of several; empty where there is none."""
    return next((one.commit for one in experiments_of(root) if one.name == name), "")


@dataclass(frozen=True)
class Results:
    """The results of a run store, to find those that a commit's ``dvc.lock`` names.

    Parameters
    ----------
    by_stage : dict
        The runs of each stage with the hashes of their outputs by path, oldest first.
    """

    by_stage: Mapping[str, list[tuple[Run, dict[str, str]]]]

    @classmethod
    def of(cls, store: RunStore) -> Results:
        """Read the results of a store."""
        by_stage: dict[str, list[tuple[Run, dict[str, str]]]] = {}
        for run in sorted(store.runs(), key=lambda run: run.begun_at):
            if (result := run.result) is not None:
                made = {path: out.digest for path, out in result.outputs.items()}
                by_stage.setdefault(run.stage, []).append((run, made))
        return cls(by_stage)

    def held_by(self, root: Path, commit: str) -> dict[str, Run]:
        """Return the runs, by stage, whose results a commit's ``dvc.lock`` names: nothing of it need have been run."""
        import yaml

        try:
            lock = yaml.safe_load(ask_git(root, "show", f"{commit}:./dvc.lock")) or {}
            held = {
                stage: _digests(entry)
                for stage, entry in lock.get("stages", {}).items()
            }
        except (yaml.YAMLError, AttributeError, KeyError, TypeError):
            return {}
        found: dict[str, Run] = {}
        for stage, digests in held.items():
            for run, made in self.by_stage.get(stage, ()):
                if made and made.items() <= digests.items():
                    found[stage] = run
        return found


def _digests(entry: Mapping[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in entry.get("outs", ())}
