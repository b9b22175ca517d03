"""The refs by which git keeps DVC's experiments: listed and spelled here, and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mllam_exps.base.errors import MllamError, UsageError, nearest
from mllam_exps.base.git import git

ALL = "refs/exps/"
_PARTS = 5
"""``refs/exps/<2 digits>/<38 digits>/<name>`` (DVC 3.67); what has fewer, as ``refs/exps/exec/…``, is DVC's own."""


@dataclass(frozen=True)
class Saved:
    """A DVC experiment, as git keeps it.

    Parameters
    ----------
    ref : str
        The whole ref.
    commit, name : str
        Its commit, and its name.
    at : float
        When that was made.
    """

    ref: str
    commit: str
    name: str
    at: float

    def starts_from(self, baseline: str) -> bool:
        """Tell whether that commit is the one that it starts from."""
        return self.ref == ref_of(baseline, self.name)


def is_experiment(ref: str) -> bool:
    """Tell whether a ref is an experiment's."""
    return ref.startswith(ALL) and len(ref.split("/")) == _PARTS


def ref_of(baseline: str, name: str) -> str:
    """Return the ref of the experiment of a name that starts from a commit."""
    return f"{ALL}{baseline[:2]}/{baseline[2:]}/{name}"


def saved(root: Path) -> list[Saved]:
    """Return the experiments that a repository keeps, newest first.

    Raises
    ------
    MllamError
        If git cannot say.
    """
    form = "--format=%(objectname) %(creatordate:unix) %(refname)"
    listed = git(root, "for-each-ref", "--sort=-creatordate", form, ALL)
    found = []
    for line in listed.splitlines():
        commit, at, ref = line.split(" ", 2)
        if is_experiment(ref):
            found.append(Saved(ref, commit, ref.rpartition("/")[2], float(at)))
    return found


def saved_if_there(root: Path) -> list[Saved]:
    """Return the same of a repository that may have been moved or removed: none then."""
    with contextlib.suppress(MllamError):
        return saved(root)
    return []


def is_pattern(name: str) -> bool:
    """Tell whether a name stands for all that fit it: git has no name with such a sign."""
    return any(sign in name for sign in "*?[")


def called(names: Iterable[str], found: list[Saved], where: str) -> list[Saved]:
    """Return those of the experiments that were found that have these names, or fit these patterns, each once.

    Parameters
    ----------
    where : str
        Where they were found, for people.

    Raises
    ------
    UsageError
        If there is none of a name.
    """
    wanted: dict[str, Saved] = {}
    for name in names:
        if is_pattern(name):
            fitting = [one for one in found if fnmatchcase(one.name, name)]
            fitting.sort(key=lambda one: (one.at, one.name))
        else:
            fitting = [one for one in found if one.name == name]
        if not fitting:
            near = nearest(name, [one.name for one in found])
            way_out = f"did you mean {near}?" if near else "dvc exp list -A"
            raise UsageError(f"no experiment {name} is {where}", next=way_out)
        wanted |= {one.ref: one for one in fitting}
    return list(wanted.values())
