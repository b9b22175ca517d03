"""What differs between two revisions, as DVC and git tell it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import UsageError, first_line
from mllam_exps.base.git import git
from mllam_exps.dvc.lockfile import FILE as LOCK
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.commits import Locked
from mllam_exps.identity.definition import flat

SHORT = 8
"""How many digits of a hash are told."""
HEAD = "HEAD"
WORKSPACE = "workspace"
"""How DVC calls the files as they are."""


@dataclass(frozen=True)
class Difference:
    """One thing that differs.

    Parameters
    ----------
    where, what : str
        The file, and what in it.
    first, second : object
        What either has; None where it has none.
    """

    where: str
    what: str
    first: Any
    second: Any

    @property
    def change(self) -> float | None:
        """By how much the second is more, where both are numbers."""
        both = (self.first, self.second)
        if all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in both
        ):
            return float(self.second - self.first)
        return None


def of_parameters(
    repository: Repository, first: str, second: str
) -> Iterator[Difference]:
    """Yield the parameters that differ, of all files that stages track.

    Raises
    ------
    UsageError
        If DVC cannot read one of the revisions.
    """
    repository.refuse_unreadable_index()
    return _told_by_dvc(repository.opened.params, first, second)


def of_metrics(
    repository: Repository, sides: Mapping[str, Locked]
) -> Iterator[Difference]:
    """Yield the metrics that differ; one that a side has not made yet, it has not.

    Parameters
    ----------
    sides : mapping
        What ``dvc.lock`` says, by revision.

    Raises
    ------
    UsageError
        If DVC cannot read one of the revisions.
    """
    first, second = sides
    made = {path for locked in sides.values() for path in locked.outputs}
    repository.refuse_unreadable_index()
    return _told_by_dvc(repository.opened.metrics, first, second, made)


def metrics_of(repository: Repository, revision: str) -> dict[str, dict[str, Any]]:
    """Return all metrics of a revision, by file and (dotted) name; without files that cannot be read."""
    repository.refuse_unreadable_index()
    shown = repository.opened.metrics.show(revs=[revision], hide_workspace=False)
    found = {}
    for file, told in shown.get(revision, {}).get("data", {}).items():
        if isinstance(told.get("data"), Mapping):
            found[file] = dict(flat(told["data"]))
    return found


def _is_absent(error: object, file: str, made: Container[str]) -> bool:
    """Tell whether a file is one that was never made: what ``dvc.lock`` has was, and may be had again."""
    return isinstance(error, FileNotFoundError) and file not in made


def _told_by_dvc(
    kind: Any, first: str, second: str, made: Container[str] = ()
) -> Iterator[Difference]:
    names = (one if one == WORKSPACE else one[:SHORT] for one in (first, second))
    what = f"DVC cannot compare {' and '.join(names)}"
    try:
        shown = kind.show(revs=[first, second], hide_workspace=False)
        found = kind.diff(first, second)
    except Exception as error:
        # DVC (3.67) has errors of its own for each way in which a file can be broken.
        raise UsageError(what, "", first_line(error), "dvc exp show") from error
    for revision in (first, second):
        # It leaves out a revision that it cannot read, with a warning: then nothing
        # would seem to be there, or all to be the same.
        its = shown.get(revision, {"error": "it cannot be read"})
        if "error" in its:
            raise UsageError(what, revision, str(its["error"]), "dvc exp show")
        for file, broken in its.get("data", {}).items():
            if "error" not in broken or _is_absent(broken["error"], file, made):
                continue
            raise UsageError(what, file, str(broken["error"]), "dvc pull")
    for file, keys in found.get("diff", {}).items():
        for key, values in keys.items():
            yield Difference(file, key, values.get("old"), values.get("new"))


def of_inputs(first: Locked, second: Locked) -> Iterator[Difference]:
    """Yield the inputs that no stage makes and that differ, by what ``dvc.lock`` says of them."""
    return _of_hashes(first.inputs, second.inputs)


def of_outputs(first: Locked, second: Locked) -> Iterator[Difference]:
    """Yield what stages made and that differs, by what ``dvc.lock`` says: it may do so where nothing else does."""
    return _of_hashes(first.outputs, second.outputs)


def _of_hashes(
    before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[Difference]:
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield Difference(path, "", before.get(path), after.get(path))


def of_commands(
    repository: Repository, first: str, second: str
) -> Iterator[Difference]:
    """Yield the stages whose commands differ, as DVC reads them, with all variables filled in.

    Raises
    ------
    UsageError
        If DVC cannot read one of the revisions.
    """
    with _looked_at(repository, first) as there:
        before = _commands(there)
    yield from _of_commands(repository, before, second)


def _of_commands(
    repository: Repository, before: Mapping[str, str], second: str
) -> Iterator[Difference]:
    with _looked_at(repository, second) as there:
        after = _commands(there)
    for stage in {**before, **after}:
        if before.get(stage) != after.get(stage):
            yield Difference(stage, "", before.get(stage), after.get(stage))


def _commands(there: Repository) -> dict[str, str]:
    """Return the commands of a revision, by stage."""
    stages = there.graph.entries
    return {one.name: " && ".join(one.commands) for one in stages if one.cmd}


def _looked_at(
    repository: Repository, revision: str
) -> contextlib.AbstractContextManager[Repository]:
    if revision == WORKSPACE:
        return contextlib.nullcontext(repository)
    return repository.at(revision)


def of_what_runs(repository: Repository, theirs: str) -> Iterator[Difference]:
    """Yield what another's commit would run that ``HEAD`` would not: commands, code, settings.

    What is a parameter or an output, and so no code, is said by ``HEAD`` alone: another's
    files could call anything so.

    Raises
    ------
    UsageError
        If DVC cannot read one of the two.
    """
    with repository.at(HEAD) as ours:
        commands, stages = _commands(ours), ours.graph.entries
        read = {ours.relative(file.path) for one in stages for file in one.params}
        made = {ours.relative(out.path) for one in stages for out in one.outs}
    yield from _of_commands(repository, commands, theirs)
    yield from of_files(repository.root, HEAD, theirs, but={*read, *made, LOCK})


def of_files(
    root: Path, first: str, second: str, but: Iterable[str]
) -> Iterator[Difference]:
    """Yield the files of git's that differ, those that lie outside of `root` as well.

    Parameters
    ----------
    root : Path
        The DVC repository, which may be a part of git's.
    but : iterable of str
        Files, seen from `root`, that are told of otherwise.
    """
    known = set(but)
    revisions = [one for one in (first, second) if one != WORKSPACE]
    turned = ["-R"] if first == WORKSPACE else []
    words = ["diff", "--name-status", "--no-renames", "--no-relative", "-z", *turned]
    told = git(root, *words, *revisions, "--").split("\0")
    here = git(root, "rev-parse", "--show-prefix")
    for status, seen_from_git in zip(told[::2], told[1::2], strict=False):
        path = os.path.relpath(seen_from_git, here or ".")
        if path not in known:
            yield Difference(path, _WORDS.get(status[:1], "changed"), None, None)


ONLY_IN_FIRST, ONLY_IN_SECOND = "only in the first", "only in the second"
_WORDS: Mapping[str, str] = {"A": ONLY_IN_SECOND, "D": ONLY_IN_FIRST}
"""What git (2.39) says with a letter."""
