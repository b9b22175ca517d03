"""What an experiment's commit holds: the results that its own files give, and those that are left from before.

`dvc exp run TARGET`, `--single-item` and `--downstream` (DVC 3.67) bring some stages up
to date, and save the entries of the others in ``dvc.lock`` as they were: of results
that were made with other inputs. Which are which, DVC has no command to tell of a
commit: `dvc status` looks at the workspace.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.shapes import Kind, Shape, count, dict_of, list_of, text
from mllam_exps.dvc.graph import Dep, Out, StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.commits import Checkout, Commit, Locked
from mllam_exps.dvc.saved.contents import digest_in
from mllam_exps.dvc.stages.results import Question
from mllam_exps.dvc.stages.sources import READ_EACH_TIME
from mllam_exps.dvc.stages.tracked_parameters import that_count
from mllam_exps.identity.content import digest_of_folder, md5_of_file
from mllam_exps.identity.definition import VERSIONS_FILE, is_parent

NAMED = 3
"""Inputs that a sentence names; it counts the others."""
FOLDER = "mllam-exps-holdings"
"""Below ``.dvc/tmp``: what was found of commits, in a file each."""
VERSION = 1
"""Raised by us when something else would be found."""


def _pair(kind: Kind) -> Kind:
    """Return the kind of a stage with what is known of it."""
    return lambda value: (
        isinstance(value, list)
        and len(value) == 2
        and text(value[0])
        and kind(value[1])
    )


SHAPE: Shape = {
    "version": count,
    "own": list_of(_pair(dict_of(dict_of(lambda _: True)))),
    "left": list_of(_pair(text)),
    "behind": list_of(text),
}

Values = Mapping[str, Mapping[str, Any]]
"""Values of parameters, by file and (dotted) name."""


@dataclass(frozen=True)
class Holding:
    """What a commit holds of the stages of its ``dvc.yaml``.

    Parameters
    ----------
    own : dict
        The stages whose results its own files give, with the parameters that count, by
        file as seen from the repository's root.
    left : dict of str
        The stages whose entry in ``dvc.lock`` is of other inputs, with the sentence
        that names these.
    behind : list of str
        Those of them whose entry is of the inputs that lie there, which a stage before
        them made with other inputs: they may have been run on these.
    """

    own: dict[str, Values] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    behind: list[str] = field(default_factory=list)

    @classmethod
    def remembered(cls, path: Path) -> Holding | None:
        """Return what was remembered of a commit; None where that is nothing, or is of no use."""
        record = records.look(path, shape=SHAPE)
        if not isinstance(record, dict) or record["version"] != VERSION:
            return None
        return cls(dict(record["own"]), dict(record["left"]), record["behind"])

    def remember(self, path: Path) -> None:
        """Write it down."""
        # Where this cannot be written, it is found out again.
        with contextlib.suppress(OSError):
            records.folder(path.parent)
            # In order: a record's names are sorted.
            own, left = list(self.own.items()), list(self.left.items())
            found = {"version": VERSION, "own": own, "left": left}
            records.replace(path, found | {"behind": self.behind}, flush=False)


def of(commit: Commit) -> Holding | None:
    """Return what a commit holds; None where DVC cannot read it.

    DVC takes up to half a second for each, and commits do not change: what was found is
    remembered below ``.dvc/tmp``.
    """
    return _of(commit.origin, commit.revision)


def left_outputs(locked: Locked) -> dict[str, str]:
    """Return the outputs that a commit, or a workspace, has of other inputs than its own, with the reason of each."""
    held = of_workspace(locked.root) if isinstance(locked, Checkout) else None
    if isinstance(locked, Commit):
        held = of(locked)
    found = {}
    for stage, why in held.left.items() if held else ():
        for path in locked.made(stage):
            found[path] = f"{stage}: {why}"
    return found


@functools.lru_cache(maxsize=10_000)
def _of(root: Path, revision: str) -> Holding | None:
    place = root / ".dvc" / "tmp" / FOLDER / f"{revision}.json"
    if found := Holding.remembered(place):
        return found
    try:
        with _opened(root).at(revision) as repo:
            commit = Commit(root, revision)
            look = _Look(repo, commit, partial(digest_in, repo, commit))
            found = look.holding()
    except MllamError:
        return None
    if look.is_certain:
        found.remember(place)
    return found


def of_workspace(root: Path) -> Holding | None:
    """Return what a workspace holds, as its files are now; None where DVC cannot read it.

    Nothing that a stage made is read: what ``dvc.lock`` has of it counts.
    """

    def digest(path: str, _before: str) -> str | None:
        place = Path(path)
        if not place.is_file() or place.stat().st_size > READ_EACH_TIME:
            return None
        return md5_of_file(place)

    try:
        repo = Repository.open(root, check=False)
        return _Look(repo, Checkout(root), digest).holding()
    except MllamError:
        return None


@functools.lru_cache(maxsize=2)
def _opened(root: Path) -> Repository:
    return Repository.open(root, check=False)


@dataclass
class _Look:
    """One look at a commit, or a workspace.

    Parameters
    ----------
    repo : Repository
        The repository, there (`Repository.at`).
    locked : Locked
        What ``dvc.lock`` says there.
    digest_in : callable
        Given the path of an input that no stage makes, and the digest that it may have,
        that which it has; None where that cannot be told.
    """

    repo: Repository
    locked: Locked
    digest_in: Callable[[str, str], str | None]
    _told: dict[str, list[str]] = field(default_factory=dict)
    """What differs, by stage."""
    is_certain: bool = True
    """Whether nothing was left open that could be told another time."""

    def holding(self) -> Holding:
        """Return what the commit holds."""
        found = Holding()
        for name, stage in self.repo.graph.stages.items():
            if stage.is_elsewhere or stage.is_bookkeeping or not self._has(name):
                continue
            if others := self._differences(stage):
                found.left[name] = _sentence(others)
                if not self._own_differences(stage):
                    found.behind.append(name)
            else:
                values = self._values(stage)
                found.own[name] = {
                    self.repo.relative(file.path): self._counting(
                        stage, file.name, values[file.name]
                    )
                    for file in stage.params
                }
        return found

    def _has(self, stage: str) -> bool:
        return self.locked.entry(stage) is not None

    def _differences(self, stage: StageEntry) -> list[str]:
        """Return the inputs of a stage with which its result in ``dvc.lock`` was not made."""
        if stage.name not in self._told:
            self._told[stage.name] = []  # of stages in a circle DVC reads none
            self._told[stage.name] = list(dict.fromkeys(self._look_at(stage)))
        return self._told[stage.name]

    def _look_at(self, stage: StageEntry) -> Iterator[str]:
        if stage.frozen or stage.is_bookkeeping or stage.is_elsewhere:
            return  # as DVC: it asks no frozen stage
        yield from self._own_differences(stage)
        for path in stage.reads:
            for maker, _ in self.repo.graph.makers(path):
                if not maker.is_added and self._differences(maker):
                    yield self.repo.relative(path)

    def _own_differences(self, stage: StageEntry) -> list[str]:
        """Return the same without those that only its inputs' own inputs tell."""
        entry = self.locked.entry(stage.name)
        if entry is None:
            return ["nothing"]
        params = {file.name: file.locked for file in stage.params if file.locked}
        # What lies in a remote has an ETag, and no file here could contradict that.
        deps = [dep for dep in entry.get("deps") or () if dep.get("md5")]
        answered = {**entry, "deps": deps, "params": params}
        return list(self._question(stage, answered).differences(answered))

    def _question(self, stage: StageEntry, entry: Mapping[str, Any]) -> Question:
        """Return what the stage would do with the files of the commit."""
        locked = {dep["path"]: dep["md5"] for dep in entry["deps"]}
        deps = {}
        for dep in stage.deps:
            before = locked.get(dep.name, "")
            digest = self._digest(dep, before)
            # What git does not keep, the commit's own files cannot contradict.
            if found := before if digest is None else digest:
                deps[dep.name] = found
        outs = tuple(sorted(out.name for out in stage.outs))

        def counting(file: str, values: Mapping[str, Any]) -> dict[str, Any]:
            return self._counting(stage, file, values)

        return Question(stage.cmd, deps, self._values(stage), outs, counting)

    def _counting(
        self, stage: StageEntry, name: str, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        file = next(file for file in stage.params if file.name == name)
        return that_count(stage, self.repo.relative(file.path), values)

    def _values(self, stage: StageEntry) -> dict[str, dict[str, Any]]:
        """Return the values of a stage's parameters in the commit, by file as ``dvc.yaml`` names it."""
        found = {}
        for file in stage.params:
            if not self.repo.opened.fs.exists(file.path):
                found[file.name] = dict(file.locked)  # as for inputs
                continue
            values = self.repo.values_of(file)
            if self.repo.relative(file.path) == VERSIONS_FILE:
                nothing = {key: None for key in file.keys if is_parent(key)}
                values = nothing | values
            found[file.name] = values
        return found

    def _digest(self, dep: Dep, before: str) -> str | None:
        """Return the digest of an input in the commit; None where that cannot be told."""
        makers = self.repo.graph.makers(dep.path)
        if not makers:
            return self.digest_in(dep.path, before)
        _, out = makers[0]
        if out.path == dep.path:
            return out.digest or ""
        if Path(out.path) in Path(dep.path).parents:
            return self._part(out, dep)
        return None  # a folder with outputs in it

    def _part(self, out: Out, dep: Dep) -> str | None:
        """Return the digest of a part of an output; None where the cache does not list that."""
        listed = self.repo.cache.folder(out.digest or "")
        inside = Path(dep.path).relative_to(out.path).as_posix()
        below = []
        for file in listed or ():
            if file["relpath"] == inside:
                return str(file["md5"])
            if file["relpath"].startswith(f"{inside}/"):
                name = file["relpath"].removeprefix(f"{inside}/")
                below.append(file | {"relpath": name})
        if not below:
            self.is_certain = False
            return None
        return digest_of_folder(below)[0]


def _sentence(others: list[str]) -> str:
    """Say with which inputs a result was made that are others here."""
    more = f", and {len(others) - NAMED} more" if len(others) > NAMED else ""
    named = f"{', '.join(others[:NAMED])}{more}"
    return f"its result in dvc.lock was made with other inputs ({named})"
