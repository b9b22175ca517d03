"""``dvc.yaml`` as a graph of stages, and the run keys of its stages.

A run key is *input-addressed*: an input that another stage makes counts by that stage's
own key, so the keys of a whole experiment are known before anything has run. A source
input counts by its content. External archives, which nobody hashes, stand in
``version.mllam.txt`` with the digest of their metadata, and so come in as parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mllam_exps import stages
from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.graph import Out, ParameterFile, StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages import phases, results, sources
from mllam_exps.dvc.stages.inputs import Inputs, relative
from mllam_exps.dvc.stages.results import Answer, KnownResults, Question
from mllam_exps.dvc.stages.tracked_parameters import that_count
from mllam_exps.identity.content import md5_of_file
from mllam_exps.identity.definition import (
    VERSIONS_FILE,
    Input,
    Output,
    RunDefinition,
    is_parent,
)
from mllam_exps.stages.versions import CONTAINER

log = logging.getLogger(__name__)

TRACKS, FILLED_FROM = "tracks parameters of", "is filled in from"
"""What a stage does with a file of values: the latter by the ``${…}`` in ``dvc.yaml``."""


def is_shortened_by_smoke(stage: StageEntry) -> bool:
    """Tell whether `mllam-exps smoke` runs less of a stage; what it runs in full is kept as the experiment's own."""
    ours = stage.is_ours and stages.has_program(stage.name)
    return ours and stages.get(stage.name).shortened_by_smoke


def _lookup(mapping: Mapping[str, Any], dotted: str) -> Any:
    """Follow ``a.b`` through nested mappings; KeyError where it leads nowhere."""
    value: Any = mapping
    for part in dotted.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(dotted)
        value = value[part]
    return value


class Pipeline:
    """The stages of one workspace.

    Parameters
    ----------
    repository : Repository
        The opened repository.
    versions : callable
        Returns the content of ``version.mllam.txt`` as it would be written now; called
        at most once.
    known : KnownResults
        What is known of results.
    as_it_lies : bool
        Whether an input that a stage makes is what lies in the workspace. True inside a
        stage's command: that is what the program reads, whatever DVC was told to run
        (`--single-item`, say). False where keys are asked for before anything has run:
        then such an input is what its stage will make of the files as they are now.
    smoke : bool
        Whether what `mllam-exps smoke` shortens is shortened.
    content : callable
        Given the path of an input that no stage makes, seen from the root, the digest
        of what it holds now.
    absent : callable
        Given a parameter file that is not there, seen from the root, raises what is to
        be said of it, if anything more.
    """

    def __init__(
        self,
        repository: Repository,
        versions: Callable[[], Mapping[str, Any]],
        known: KnownResults | None = None,
        *,
        as_it_lies: bool = True,
        smoke: bool = False,
        content: Callable[[str], str] | None = None,
        absent: Callable[[str], None] = lambda _file: None,
    ) -> None:
        self.repository = repository
        self.root = repository.root
        self.as_it_lies = as_it_lies
        self._known = known or KnownResults()
        self.smoke = smoke
        self._inputs = Inputs(
            repository,
            as_it_lies,
            content or self._content,
            key_of=lambda name: self.definition(name).key,
            known_result=self._known.in_store,
            known_to_dvc=lambda name: self.answer_of_dvc(name).outputs,
            in_order=self.in_order,
        )
        self._versions_source = versions
        self._versions: Mapping[str, Any] | None = None
        self._definitions: dict[str, RunDefinition] = {}
        self._known_to_dvc: dict[str, Answer] = dict(self._known.by_dvc)
        self._absent = absent

    def _content(self, path: str) -> str:
        return sources.content_of(self.repository, self.root / path).digest

    @property
    def stage_names(self) -> list[str]:
        """The stages of ``dvc.yaml``, in order of writing."""
        return list(self.repository.graph.stages)

    def in_order(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the stages, by default all, and those that they need, each behind those whose outputs it reads."""
        ordered: list[str] = []

        def add(name: str) -> None:
            if name not in ordered:
                for need in self.needs(name):
                    add(need)
                ordered.append(name)

        for name in self.stage_names if names is None else names:
            add(name)
        return ordered

    def needs(self, name: str) -> list[str]:
        """Return the stages whose outputs a stage reads."""
        found: list[str] = []
        for path in self.stage(name).reads:
            for maker, _ in self._makers(path):
                if not maker.is_added and maker.name not in found:
                    found.append(maker.name)
        return found

    def stage(self, name: str) -> StageEntry:
        """Return a stage as ``dvc.yaml`` has it.

        Raises
        ------
        UsageError
            If ``dvc.yaml`` has no such stage; the nearest one is named.
        """
        return self.repository.graph.stage(name)

    def versions(self) -> Mapping[str, Any]:
        """Return the versions of the programs as they are now."""
        if self._versions is None:
            self._versions = self._versions_source()
        return self._versions

    def definition(self, name: str) -> RunDefinition:
        """Return what defines the result of stage `name`, or of a phase of it, as the workspace is now."""
        if name not in self._definitions:
            stage = self.stage(phases.stage_of(name))
            values = self._values(stage)
            whole = RunDefinition(
                stage=stage.name,
                params={
                    file: that_count(stage, file, read) for file, read in values.items()
                },
                inputs=self._inputs.of(stage),
                outputs=tuple(
                    Output(self.relative(out.path), out.cached) for out in stage.outs
                ),
                smoke=self.smoke and is_shortened_by_smoke(stage),
                commands=() if stage.is_ours else stage.commands,
                folder=self.relative(stage.wdir),
                values=values,
            )
            self._definitions |= phases.by_name(whole)
            log.debug("%s has the run key %s", name, self._definitions[name].key)
        return self._definitions[name]

    def parts(self, name: str) -> list[str]:
        """Return the phases of a stage's work, each behind the one before; the last has the stage's own name."""
        self.definition(name)
        return [part for part in self._definitions if phases.stage_of(part) == name]

    def known_to_dvc(self, name: str) -> Mapping[str, Any]:
        """Return what DVC knows of a stage's result: its outputs by path; empty where it knows nothing."""
        return self.answer_of_dvc(name).outputs

    def answer_of_dvc(self, name: str) -> Answer:
        """Return that, with what it was made from."""
        if name not in self._known_to_dvc:
            found = self._ask_dvc(name) if self._known.ask_dvc else None
            self._known_to_dvc[name] = found or Answer({}, {})
        return self._known_to_dvc[name]

    def _ask_dvc(self, name: str) -> Answer | None:
        if phases.is_before_the_last(name):
            return None  # DVC knows of no phases
        stage = self.stage(name)
        if not results.may_be_known(stage) or self._known.being_made(
            self.definition(name).key
        ):
            return None
        question = self._question(stage)
        return results.known(self.repository, stage, question) if question else None

    def _question(self, stage: StageEntry) -> Question | None:
        """Return what a stage would do now; None where the hash of an input is not known yet.

        The digests of its inputs come from the run store, or from what DVC knows of the
        stages that make them.
        """
        inputs = self.definition(stage.name).inputs
        digests = {i.path: i.digest or self.digest_of(i) for i in inputs}
        deps: dict[str, str] = {}
        for dep in stage.deps:
            digest = digests.get(self.relative(dep.path))
            if not digest:
                # It is yet to be made, or a folder with other stages' outputs in it.
                return None
            deps[dep.name] = digest
        files = {file.name: self.relative(file.path) for file in stage.params}

        def counting(file: str, values: Mapping[str, Any]) -> dict[str, Any]:
            return that_count(stage, files[file], values)

        return Question(
            stage.cmd,
            deps,
            self.parameters_of(stage.name),
            tuple(sorted(out.name for out in stage.outs)),
            counting,
        )

    def digest_of(self, source: Input) -> str | None:
        """Return the digest that the run store knows for an input that a run makes, or None."""
        return self._known.in_store(source.run, source.path) if source.run else None

    def source(self, path: str) -> dict[str, Any] | None:
        """Describe an input that was added with `dvc add`, or a part of one, by its ``.dvc`` file; else None."""
        return self._inputs.described(path)

    def made(self) -> list[str]:
        """Return what the stages of ``dvc.yaml`` make, but for what is written when an experiment is planned."""
        return sorted(
            self.relative(out.path)
            for stage in self.repository.graph.stages.values()
            if not (stage.is_elsewhere or stage.is_bookkeeping)
            for out in stage.outs
        )

    def made_for_cache(self) -> list[str]:
        """Return what the stages make for DVC's cache, in the order in which it is made."""
        made = [out for name in self.in_order() for out in self.stage(name).outs]
        return [
            self.relative(out.path)
            for out in made
            if out.cached and Path(out.path).is_relative_to(self.root)
        ]

    def ignoring(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return what the ``.gitignore`` files that stages read will hold when they run, by path.

        Those that hold it already are left out.
        """
        found: dict[str, bytes] = {}
        for name in names:
            found |= self._inputs.ignoring(self.stage(name))
        return found

    def added_inputs(self, name: str) -> list[str]:
        """Return the outputs of `dvc add` that a stage reads."""
        return [
            self.relative(out.path)
            for path in self.stage(name).reads
            for stage, out in self._makers(path)
            if stage.is_added
        ]

    def relative(self, path: str) -> str:
        """Return a path as seen from the repository's root.

        Raises
        ------
        UsageError
            If it lies elsewhere.
        """
        return relative(self.repository, path)

    def _values(self, stage: StageEntry) -> dict[str, dict[str, Any]]:
        """Return the values of the parameters that a stage tracks, by file and (dotted) name."""
        for path in stage.filled_from:
            self._refuse_made_parameters(stage.name, path, FILLED_FROM)
        params: dict[str, dict[str, Any]] = {}
        for tracked in stage.params:
            file = self.relative(tracked.path)
            # The same file may be named twice: `own.yaml`, `./own.yaml`.
            read = params.setdefault(file, {})
            if file == VERSIONS_FILE:
                # The file is made by a stage: what it says is known only after that has
                # run. A key counts what it would say, so that keys are known
                # beforehand, and the attempt is held to it.
                read |= self._tracked_versions(stage.name, tracked.keys)
            else:
                self._refuse_made_parameters(stage.name, tracked.path, TRACKS)
                read |= self._read_values(stage.name, tracked, file, read)
        return params

    def _read_values(
        self, stage: str, tracked: ParameterFile, file: str, others: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Read a parameter file.

        Parameters
        ----------
        others : mapping
            What was read of it under another name.

        Raises
        ------
        UsageError
            If the file, or a key in it, is missing.
        """
        why = f"stage {stage} in dvc.yaml depends on it"
        if not Path(tracked.path).is_file():
            self._absent(file)
            way_out = "put it there, or correct its name in dvc.yaml"
            raise UsageError("there is no such file", file, why, way_out)
        found = self.repository.values_of(tracked)
        if missing := sorted(set(tracked.keys) - set(found) - set(others)):
            what = f"the key {missing[0]} is missing"
            raise UsageError(what, file, why, f"add it to {file}")
        return found

    def parameters_of(self, stage: str) -> dict[str, dict[str, Any]]:
        """Return the values of a stage's parameters as ``dvc.lock`` has them: by file, as ``dvc.yaml`` names it."""
        found, values = {}, self._values(self.stage(stage))
        for tracked in self.stage(stage).params:
            read = values[self.relative(tracked.path)]
            found[tracked.name] = {name: read[name] for name in tracked.keys or read}
        return found

    def _refuse_made_parameters(self, stage: str, path: str, uses: str) -> None:
        """Refuse parameters that are read before they are made, and so would be those of another experiment.

        Parameters
        ----------
        path : str
            The file, as an absolute path.
        uses : str
            What the stage does with it, for people.

        Raises
        ------
        UsageError
            Naming who makes them.
        """
        if self.as_it_lies:
            return
        file = self.repository.relative(path)
        for maker, out in self._makers(path):
            if self._lies_as_made(file, maker, out):
                continue
            where = f"dvc.yaml: {stage}"
            if maker.is_added:
                what = f"{uses} {file}, which was added with `dvc add`"
                why = "a clone lacks it until it is checked out"
                way_out = f"have git keep {file}, or dvc exp run"
                if maker.name == f"{file}.dvc":
                    by_git = f"dvc remove {maker.name}; git add {file}"
                    way_out = f"{by_git}, or dvc exp run"
            else:
                what = f"{uses} {file}, which stage {maker.name} makes"
                why = "their values are known only after that has run"
                way_out = (
                    f"name {file} in its deps instead of its params, or dvc exp run"
                )
                if uses != TRACKS:
                    # `dvc exp run` (3.67) fills it in before anything has run, too.
                    way_out = f"name {file} in its deps, and have its command read it"
            raise UsageError(what, where, why, way_out)

    def _lies_as_made(self, file: str, maker: StageEntry, out: Out) -> bool:
        """Tell whether what lies in the workspace is what a stage makes of the files as they are."""
        made, lies = self._inputs.made(file, maker, out), self.root / file
        if not (self._known.ask_dvc and made.run and lies.is_file()):
            return False
        return md5_of_file(lies) == (made.digest or self.digest_of(made))

    def _tracked_versions(self, stage: str, names: tuple[str, ...]) -> dict[str, Any]:
        if not names:
            return dict(self.versions())
        tracked = {}
        for name in names:
            try:
                tracked[name] = _lookup(self.versions(), name)
            except KeyError:
                if is_parent(name):
                    tracked[name] = None  # nobody here knows of anything to go on from
                    continue
                what = f"stage {stage} depends on the version of {name!r}, which is not written down"
                why = ""
                if name == CONTAINER:
                    why = "the machine runs its programs in no container"
                known = f"use one of: {', '.join(self.versions())}"
                raise UsageError(what, "dvc.yaml", why, known) from None
        return tracked

    def _makers(self, path: str) -> list[tuple[StageEntry, Out]]:
        """Return the stages, with their outputs, that `path` is, lies in, or contains."""
        return self.repository.graph.makers(path)
