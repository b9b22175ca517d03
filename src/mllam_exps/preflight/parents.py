"""What trainings go on from: found by what the parameter files name, and written down by its hashes.

A name may come to stand for something else, or be forgotten. So what counts for a
result is what stands in ``version.mllam.txt``: the hashes of the files that a training
goes on from. They are there before anything starts, and in DVC's cache.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mllam_exps import stages
from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc import earlier
from mllam_exps.dvc.lockfile import FILE as LOCK
from mllam_exps.dvc.saved import holdings
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.identity.definition import (
    NAMED,
    RESUME_FROM,
    VERSIONS_FILE,
    RunDefinition,
    same,
    without_parent,
)
from mllam_exps.identity.run_keys import base_name
from mllam_exps.machines import environment
from mllam_exps.preflight import checks
from mllam_exps.preflight.here import Here
from mllam_exps.runs import outputs
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.stages import versions
from mllam_exps.stages.going_on import Earlier, GoingOn, Wish

Record = Mapping[str, Any]
"""What stands in ``version.mllam.txt``: ``files`` by their hashes, and ``weights_only``."""

Training = tuple[Run, RunDefinition]
"""A run, and what defines it."""

NotSaved = Callable[[RunStore, Path, str], UsageError | None]
"""Says of a name that git does not know, in a repository, which experiment has it, and how that stands."""

Open = Callable[[Mapping[str, Any]], Pipeline]
"""Opens the pipeline as it is with some versions."""


@dataclass
class Parents:
    """Finds what the stages of one submission, or of one workspace, go on from.

    Parameters
    ----------
    here : Here
        Where it is typed, and where it runs.
    not_saved : callable
        Asked for what is not done yet: submitted experiments are not known here.
    """

    here: Here
    not_saved: NotSaved = lambda _store, _origin, _name: None

    @cached_property
    def trainings(self) -> Trainings:
        """The known ones."""
        return Trainings(self.here.store)

    def complete(
        self, text: str, root: Path, opened: Open, note: Callable[[list[str]], None]
    ) -> str:
        """Return ``version.mllam.txt`` with what the stages below `root` go on from.

        Parameters
        ----------
        text : str
            From `checks.versions_text`.
        opened : callable
            Opens the pipeline of `root`.
        note : callable
            Is told what a user should know, and what stops nothing.

        Raises
        ------
        MllamError
            If something is named that there is not, or that does not fit.
        """
        found: dict[str, Record | None] = {}
        for name, stage in stages.used(root).items():
            if stage.goes_on is not None:
                own = base_name(name)
                found[own] = self._of(name, stage.goes_on, root, text, opened, note)
        return versions.with_parents(text, found)

    def hold(self, root: Path) -> None:
        """Refuse what is named below `root`, and cannot be gone on from; as `complete` does, without the pipeline.

        Raises
        ------
        MllamError
            As there.
        """
        for name, stage in stages.used(root).items():
            goes_on = stage.goes_on
            if goes_on is not None and (wish := goes_on.wish(root)).source:
                _refuse_untracked(root, name, goes_on.where)
                self._named(name, goes_on, wish, root, None, lambda _notes: None)

    def _of(  # noqa: PLR0917 - whose, and where that stands
        self,
        stage: str,
        goes_on: GoingOn,
        root: Path,
        text: str,
        opened: Open,
        note: Callable[[list[str]], None],
    ) -> Record | None:
        wish = goes_on.wish(root)
        if not wish.source and not wish.longest:
            return None
        _refuse_untracked(root, stage, goes_on.where)
        if wish.source:
            known = _last_known(root, stage, wish)
            if known and not _as_in_lock(root, stage, known, text, opened):
                known = None
            return self._named(stage, goes_on, wish, root, known, note)
        definition = _opened_with(text, stage, None, opened).definition(stage)
        is_known = self.here.store.run(definition.key).result is not None
        if is_known or definition.phase is not None:
            return None
        run = self.trainings.longest(definition, goes_on)
        if run is None:
            return None
        return self._record(self._of_run(run, goes_on.takes(wish, None, root)), wish)

    @staticmethod
    def _record(files: Mapping[str, str], wish: Wish) -> Record:
        named = {NAMED: wish.source} if wish.source else {}
        return {"files": dict(files), "weights_only": wish.weights_only} | named

    def _named(  # noqa: PLR0917 - whose, by which name, and what was found by it
        self,
        stage: str,
        goes_on: GoingOn,
        wish: Wish,
        root: Path,
        known: Record | None,
        note: Callable[[list[str]], None],
    ) -> Record:
        """Find an experiment, a revision, or a checkpoint, and hold it to what is asked for now.

        Parameters
        ----------
        known : mapping, optional
            What was found by that name last, where nothing else was changed since.
        """
        name, origin = wish.source, self.here.workspace.origin
        python = environment.program_file(self.here.machine, origin)
        _refuse_moving(goes_on.where, name)
        commit = None if is_path(name) else earlier.commit_of(origin, name)
        if commit is None:
            place = (origin / Path(name).expanduser()).resolve()
            if place.is_file():
                return self._adopted(stage, goes_on, wish, root, place)
            if known:
                what = f"there is no {name} here; what was found there last counts"
                note([f"{goes_on.where}: {what}"])
                return known
            raise self._no_such(goes_on.where, name)
        if not commit.made(stage):
            raise UsageError(
                f"{name} holds no result of stage {stage}",
                goes_on.where,
                f"dvc.lock at {commit.revision[:10]} has none",
                "dvc exp show tells which experiments have one",
            )
        _refuse_what_is_left(goes_on.where, name, commit, stage)
        with tempfile.TemporaryDirectory() as folder:
            other = Earlier(name, Path(folder))
            commit.lay_out(goes_on.reads, other.root)
            try:
                problems = goes_on.refuse(wish, other, root, python)
            except MllamError as error:
                what = f"the parameters of {name} cannot be read"
                raise UsageError(what, goes_on.where, error.problem.sentence) from error
            if problems:
                raise Problems(problems=problems)
            takes = goes_on.takes(wish, other, root)
        files = earlier.files_of(self.here.repo, commit, stage, takes)
        if takes[0] not in files:
            raise UsageError(f"{name} has no {takes[0]}", goes_on.where)
        return self._record(files, wish)

    def _adopted(
        self, stage: str, goes_on: GoingOn, wish: Wish, root: Path, place: Path
    ) -> Record:
        """Take a checkpoint of which no experiment is known: from now on DVC's cache has it, by its hash."""
        ask, python = (
            checks.asking(replace(self.here.workspace, root=root), self.here.machine),
            environment.program_file(self.here.machine, self.here.workspace.origin),
        )
        if problems := goes_on.refuse_file(wish, place, root, ask, python):
            raise Problems(problems=problems)
        takes = goes_on.takes(wish, None, root)
        return self._record(
            {takes[0]: earlier.adopt(self.here.repo.cache, place)}, wish
        )

    def _of_run(self, run: Run, takes: Iterable[str]) -> dict[str, str]:
        """Return the hashes of a run's files, having given them to DVC's cache, too."""
        outputs.hold_to_what_was_made(run)
        found: dict[str, str] = {}
        for path in takes:
            if described := outputs.description(run, path):
                outputs.into_cache(self.here.repo.cache, run, {path: described})
                found[path] = str(described["digest"])
        return found

    def _no_such(self, where: str, name: str) -> UsageError:
        if known := self.not_saved(self.here.store, self.here.workspace.origin, name):
            what = f"{known.where} {known.what}"
            return UsageError(what, where, known.why, known.next)
        return UsageError(
            f"there is no experiment, no revision and no checkpoint {name}",
            where,
            next="dvc exp list -A tells the experiments; of one that was pushed: dvc exp pull REMOTE EXP",
        )


def _refuse_what_is_left(where: str, name: str, commit: Commit, stage: str) -> None:
    """Refuse a result that was made with other parameters or inputs than its commit says.

    Raises
    ------
    UsageError
        Naming the experiments that have it, too.
    """
    held = holdings.of(commit)
    if held is None or stage not in held.left or stage in held.behind:
        return
    what = f"{name} holds no result of stage {stage} of its own"
    others = []
    for digest in commit.made(stage).values():
        others += earlier.names_with(commit.origin, digest)
    named = ", ".join(one for one in dict.fromkeys(others) if one != name)
    way_out = f"name an experiment that ran {stage}: mllam-exps show EXP tells"
    if named:
        way_out = f"the same result is in {named}; mllam-exps show EXP tells which of them made it"
    raise UsageError(what, where, held.left[stage], way_out)


def is_path(name: str) -> bool:
    """Tell whether a name can only be that of a file: ``./first`` is no experiment."""
    return name.startswith(("/", "./", "../", "~"))


def _refuse_moving(where: str, name: str) -> None:
    """Refuse a name that stands for another commit as soon as the result is committed.

    Raises
    ------
    UsageError
        With what to write instead.
    """
    if re.match(r"(HEAD|@)([~^@].*)?$", name):
        what = f"{name} is another commit as soon as you commit the result"
        raise UsageError(what, where, next=f"name the commit: git rev-parse {name}")


def _opened_with(text: str, stage: str, found: Record | None, opened: Open) -> Pipeline:
    """Open the pipeline as it is where a stage goes on from what was found."""
    return opened({**yaml.safe_load(text), RESUME_FROM: {base_name(stage): found}})


def _as_in_lock(root: Path, stage: str, found: Record, text: str, opened: Open) -> bool:
    """Tell whether a stage, and what it needs, have the parameters and inputs that ``dvc.lock`` has of them.

    What was found by a name that nobody knows any more was held to those, and can be
    held to no others: another stage's may be the size of a network, or a graph.
    """
    locked = _value_in(root / LOCK, ("stages",))
    pipeline = _opened_with(text, stage, found, opened)
    names = pipeline.in_order([stage])
    made = [name for name in names if not pipeline.stage(name).is_bookkeeping]
    return isinstance(locked, Mapping) and all(
        _is_as_locked(pipeline, name, locked.get(name)) for name in made
    )


def _is_as_locked(pipeline: Pipeline, stage: str, locked: Any) -> bool:
    """Tell whether an entry of ``dvc.lock`` has a stage's parameters, and the files that no stage makes."""
    if not isinstance(locked, Mapping):
        return False
    now, params = pipeline.parameters_of(stage), locked.get("params") or {}
    if params.keys() != now.keys():
        return False
    if not all(same(params[file], now[file]) for file in now if file != VERSIONS_FILE):
        return False
    inputs = pipeline.definition(stage).inputs
    digests = {one.path: one.digest for one in inputs if one.run is None}
    deps = {dep.name: pipeline.relative(dep.path) for dep in pipeline.stage(stage).deps}
    for dep in locked.get("deps") or ():
        digest = digests.get(deps.get(dep["path"], ""))
        if digest and digest != dep.get("md5"):
            return False
    return True


def _refuse_untracked(root: Path, stage: str, where: str) -> None:
    """Refuse to go on from anything where DVC does not see from what: results would not be those of their files.

    Raises
    ------
    UsageError
        With the line that ``dvc.yaml`` lacks.
    """
    lacks = _lacks_to_go_on(root, stage)
    if lacks:
        raise UsageError(
            f"stage {stage} does not depend on what it goes on from",
            "dvc.yaml",
            f"{where} asks for it",
            f"add {lacks} to its params of {VERSIONS_FILE}",
        )


def _lacks_to_go_on(root: Path, stage: str) -> str:
    """Return what ``dvc.yaml`` lacks among a stage's params of ``version.mllam.txt``; empty where it lacks nothing."""
    written = yaml_files.read(root / "dvc.yaml", by_pyyaml=True)["stages"]
    entry = written[stage].get("do", written[stage])
    key = f"{RESUME_FROM}.{base_name(stage)}"
    for item in entry.get("params") or ():
        names = item.get(VERSIONS_FILE, ()) if isinstance(item, Mapping) else ()
        if names is None or {RESUME_FROM, key} & {*names}:
            return ""
    return key


def _last_known(root: Path, stage: str, wish: Wish) -> Record | None:
    """Return what was found by a name when it was known; None where that was another name, or nothing.

    DVC removes ``version.mllam.txt`` before the stage that writes it; ``dvc.lock``
    tells what the stage went on from last.
    """
    own = base_name(stage)
    whole, part = (RESUME_FROM, own), (f"{RESUME_FROM}.{own}",)
    in_lock = ("stages", stage, "params", VERSIONS_FILE)
    places: dict[str, list[tuple[str, ...]]] = {
        VERSIONS_FILE: [whole],
        LOCK: [in_lock + whole, in_lock + part],
    }
    for file, paths in places.items():
        for path in paths:
            found = _value_in(root / file, path)
            if not isinstance(found, Mapping) or "files" not in found:
                continue
            meant = (found.get(NAMED), found.get("weights_only"))
            if meant == (wish.source, wish.weights_only):
                return found
    return None


def _value_in(file: Path, path: tuple[str, ...]) -> Any:
    try:
        found: Any = yaml_files.read(file, by_pyyaml=True)
        for name in path:
            found = found[name]
    except (MllamError, KeyError, TypeError):
        return None
    return found


@dataclass
class Trainings:
    """The runs of a store that may be gone on from; each is read once, as a sweep asks for a hundred experiments."""

    store: RunStore
    _known: dict[str, dict[str, list[Training]]] = field(default_factory=dict)

    def longest(self, definition: RunDefinition, goes_on: GoingOn) -> Run | None:
        """Return the longest known training that is shorter than a run's, and the same in all else, or None.

        It started from scratch, or continued a training with the same parameters.
        """
        asked = goes_on.length(definition.params)
        if asked is None:
            return None
        alike = [
            (run, other)
            for run, other in self._alike(definition, goes_on)
            if run.result is not None
        ]
        made = {
            (path, outputs.known_digest(run, path)): other
            for run, other in alike
            for path in _paths_gone_on_from(alike)
        }

        def began_alike(one: RunDefinition) -> bool:
            files = one.parent.get("files") or {}
            if not files:
                return True
            before = made.get(next(iter(files.items())))
            is_whole = not one.parent.get("weights_only")
            return is_whole and before is not None and began_alike(before)

        found: dict[int, Run] = {}
        for run, other in alike:
            length = goes_on.length(other.params)
            if length is not None and length < asked and began_alike(other):
                found.setdefault(length, run)
        return found[max(found)] if found else None

    def _alike(self, definition: RunDefinition, goes_on: GoingOn) -> list[Training]:
        """Return the runs that are the same but for their length, and for what they went on from."""
        stage = definition.stage
        if stage not in self._known:
            known: dict[str, list[Training]] = {}
            for run in self.store.runs():
                if run.stage == stage and (other := run.definition) is not None:
                    kind = _but_for_length(other, goes_on)
                    known.setdefault(kind, []).append((run, other))
            self._known[stage] = known
        return self._known[stage].get(_but_for_length(definition, goes_on), [])


def _paths_gone_on_from(alike: Iterable[Training]) -> set[str]:
    return {
        path for _, one in alike for path in list(one.parent.get("files") or ())[:1]
    }


def _but_for_length(definition: RunDefinition, goes_on: GoingOn) -> str:
    """Return what tells runs apart but for their length, and from what they went on: the key that they would have."""
    params = without_parent(goes_on.but_for_length(definition.params))
    return replace(definition, params=params).key


def hint(
    trainings: Trainings,
    definition: RunDefinition,
    goes_on: GoingOn,
    origin: Path,
    root: Path,
) -> list[str]:
    """Say of a training that begins anew that it could go on from a known one; nothing where it does, or cannot.

    Parameters
    ----------
    origin : Path
        The repository whose experiments are named.
    root : Path
        The checkout whose ``dvc.yaml`` counts.
    """
    if definition.parent or definition.smoke or definition.phase:
        return []
    run = trainings.longest(definition, goes_on)
    if run is None or run.definition is None:
        return []
    reached = goes_on.length(run.definition.params)
    asked = goes_on.length(definition.params)
    key = goes_on.length_key.replace(":", ".").rpartition(".")[2]
    told = f"{definition.stage}: the same is known with {key}: {reached}; "
    names: list[str] = []
    for output in definition.outputs:
        digest = outputs.known_digest(run, output.path)
        if output.cached and digest and not names:
            names = earlier.names_with(origin, digest)
    if names:
        name = shlex.quote(names[0])
        way = f"mllam-exps resume {name} --epochs {asked} goes on from it"
    else:
        file, _, name = goes_on.longest_key.partition(":")
        way = f"{name}: {goes_on.longest_value} in {file} goes on from it"
    if lacks := _lacks_to_go_on(root, definition.stage):
        way = f"with {lacks} among its params of {VERSIONS_FILE} in dvc.yaml, {way}"
    return [told + way]
