"""Which experiments git keeps, for the catalogue: those of this clone, and those that were pushed to the share."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base.errors import MllamError
from mllam_exps.base.git import git, shown
from mllam_exps.base.terminal import warn
from mllam_exps.dvc.saved.experiment_refs import ALL, is_experiment


@dataclass(frozen=True)
class Kept:
    """An experiment that git keeps.

    Parameters
    ----------
    repository : Path
        Where: a clone, or the share.
    name, commit : str
        Its name, and its commit.
    """

    repository: Path
    name: str
    commit: str


def kept(repository: Path) -> Iterator[Kept]:
    """Yield the experiments that a repository keeps; where git reads it not, that is told."""
    form = "--format=%(objectname) %(refname)"
    try:
        listed = git(repository, "for-each-ref", form, ALL)
    except MllamError as error:
        trust = (
            f"git config --global --add safe.directory {shlex.quote(str(repository))}"
        )
        warn(f"note: what was pushed is not listed: {error.problem.line}\n  → {trust}")
        return
    for line in listed.splitlines():
        commit, _, ref = line.partition(" ")
        if is_experiment(ref):
            yield Kept(repository, shown(ref.rpartition("/")[2]), commit)
