"""Plans experiments before anything is submitted: each one's clone, parameters, stages and run keys.

Everything that can be refused is refused here, for all of them, and nothing is left
behind.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mllam_exps import stages
from mllam_exps.base import symlinks, yaml_files
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc import drafting, experiment_names, ignored
from mllam_exps.dvc.local_settings import Setting, Settings
from mllam_exps.dvc.parameters.overrides import Variant
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages import phases, sources
from mllam_exps.dvc.stages.asked_stages import asked_stages
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.dvc.stages.results import KnownResults
from mllam_exps.identity.definition import VERSIONS_FILE, RunDefinition
from mllam_exps.machines import job_environment, workspace
from mllam_exps.machines.way_in import way_in
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import (
    checks,
    lost_links,
    not_counted,
    not_in_clone,
    other_modes,
    parents,
    submittable,
)
from mllam_exps.preflight.here import Here
from mllam_exps.preflight.lost_data import LostData
from mllam_exps.preflight.parents import Parents
from mllam_exps.preflight.submittable import StageChecks
from mllam_exps.repository import checkouts, clones
from mllam_exps.repository.planning_clone import Base
from mllam_exps.runs import layout, outputs
from mllam_exps.submission import entering, experiments, standing
from mllam_exps.submission.entering import Plan
from mllam_exps.submission.experiment import Experiment, Step, versions_file
from mllam_exps.submission.names import Names, is_being_made

log = logging.getLogger(__name__)

TOLD = 3
"""How many experiments of a sweep are told in full when they are refused."""


@dataclass(frozen=True)
class _Frozen:
    """What was read in the base clone while its parameters were those of one experiment."""

    pipeline: Pipeline
    asked: list[str]
    definitions: Mapping[str, RunDefinition]
    steps: tuple[Step, ...]
    sources: dict[str, Any]


@dataclass(frozen=True)
class Typed:
    """What was typed.

    Parameters
    ----------
    targets : sequence of str
        The stages asked for; none is all.
    command : list of str
        The command, word by word.
    message : str
        For the experiments' commits.
    force : bool
        Whether results are made again although they are known, and names of other
        experiments taken over.
    inside : Path
        Where it was typed, seen from the repository's root: what is proposed has to mean
        the same there.
    """

    targets: Sequence[str] = ()
    command: list[str] = field(default_factory=list)
    message: str = ""
    force: bool = False
    inside: Path = Path()


@dataclass
class Planner:
    """Plans the experiments of one submission.

    Parameters
    ----------
    here : Here
        Where it is typed, and where it will run.
    typed : Typed
        What is asked for.
    """

    here: Here
    typed: Typed = field(default_factory=Typed)
    _sources: dict[str, sources.Content] = field(default_factory=dict)
    _versions: dict[str, str] = field(default_factory=dict)
    _sites: list[Path] = field(default_factory=list)
    _being_made: dict[str, bool] = field(default_factory=dict)
    _data_checked: bool = False

    def __post_init__(self) -> None:
        self.state = clones.state(self.here.workspace.root)
        self.notes: list[str] = []
        for file in checkouts.hidden_changes(self.state.checkout):
            what = f"{file} was changed, but git is told to overlook that"
            self.note([f"{what}: experiments take it as it is committed"])
        for path in checkouts.embedded(self.state.checkout):
            what = f"{path} is a git repository of its own, and no submodule: jobs have its files"
            way_out = f"git submodule add --force URL {shlex.quote(path)}"
            self.note([f"{what}, a clone of an experiment has not: {way_out}"])

    def __enter__(self) -> Planner:
        return self

    def __exit__(self, *_: object) -> None:
        for site in self._sites:
            shutil.rmtree(site, ignore_errors=True)

    def plan(self, variants: Sequence[Variant]) -> list[Plan]:
        """Plan all experiments.

        Raises
        ------
        MllamError
            With everything that is wrong; nothing has been submitted then.
        """
        names = self._names()
        plans: list[Plan] = []
        refused: list[list[MllamError]] = []
        for variant in variants:
            try:
                plans.append(self._plan(variant, names))
            except Problems as several:
                refused.append(several.problems)
            except MllamError as one:
                refused.append([one])
        if refused:
            raise Problems(problems=_told(refused))
        return plans

    def _refuse_untracked(self, file: str) -> None:
        """Refuse to set a parameter in a file that only the workspace has: experiments are made of what git tracks.

        Raises
        ------
        UsageError
            With the command that makes git track it.
        """
        tracked = os.path.lexists(self.base.root / file)
        if tracked or not (self.here.workspace.root / file).is_file():
            return
        shown = os.path.relpath(file, self.typed.inside)
        why = "experiments are made of what git tracks"
        way_out = way_in(self.here.workspace.root, file, by_git_alone=True)
        raise UsageError("git does not track it", f"-S {shown}", why, way_out)

    def _names(self) -> Names:
        """Return the names that experiments of this baseline have, submitted or not."""
        baseline = self.state.baseline
        submitted = []
        for experiment in experiments.of_store(self.here.store):
            if (experiment.origin, experiment.baseline) == (self._origin, baseline):
                submitted.append(experiment)
        ask_git = partial(
            experiment_names.saved_in_git, self.here.workspace.root, baseline
        )
        return Names(submitted, ask_git, force=self.typed.force)

    @cached_property
    def _checks(self) -> StageChecks:
        return StageChecks(self.here.workspace.root, lambda note: self.note([note]))

    @property
    def _origin(self) -> str:
        return str(self.here.workspace.root)

    def _plan(self, variant: Variant, names: Names) -> Plan:
        """Plan one experiment: in the base clone, whose parameters are its own for the moment."""
        site = self._new_site()
        # Of the repository: a clone has no config.local.
        hydra = self.here.repo.settings("hydra")
        for file in variant.overrides:
            self._refuse_untracked(file)
        if "params.yaml" not in variant.overrides:
            # DVC (3.67) reads it before we look at any stage.
            not_in_clone.refuse_dangling(
                self.base.root, "params.yaml", self.here.workspace.root
            )
        with self.base.changed(variant.overrides, hydra, self.typed.inside) as (
            root,
            repo,
        ):
            name, baseline = variant.name or "new", self.state.baseline
            there = Workspace(root, self.here.workspace.origin, name, baseline)
            versions = self._check_parameters_and_write(there, repo)
            frozen = self._read(repo)
            clones.copy(self.base.clone, site / layout.CLONE)
            become = frozen.pipeline.ignoring(frozen.asked)
            draft = drafting.draft(
                frozen.pipeline, frozen.asked, frozen.sources, become
            )
            ignored.write(site / layout.CLONE / self.state.prefix, become)
            draft.write(site / layout.CLONE)
        experiment = self._experiment(variant, versions, frozen, names)
        names.take(experiment)
        content = self.state.checkout.content
        return Plan(experiment, site, frozen.definitions, content)

    def _check_parameters_and_write(self, there: Workspace, repo: Repository) -> str:
        """Check all parameters, and write the files of the stages that only check; return the programs' versions.

        Where no stage names such a file it is not there with `dvc repro` either, or it
        is the user's own.
        """
        checks.check_parameters(there, self.here.machine)
        versions = self._with_parents(self._versions_of(there), there, repo)
        ours = self.base.clone / ".git" / VERSIONS_FILE
        ours.write_text(versions, encoding="utf-8")
        named: set[str] = set()
        for stage in repo.graph.entries:
            named |= {repo.relative(out.path) for out in stage.outs}
            named |= {repo.relative(dep.path) for dep in stage.deps}
            named |= {repo.relative(file.path) for file in stage.params}
        files = {checks.CHECKED_FILE: checks.CHECKED, VERSIONS_FILE: versions}
        for file, text in files.items():
            place = there.root / file
            # What leads away is refused, where a stage that makes it is asked for.
            away = symlinks.leads_away(self.base.clone, place)
            if file in named and not away:
                symlinks.clear(self.base.clone, place)
                place.parent.mkdir(exist_ok=True)
                place.write_text(text, encoding="utf-8")
        return versions

    def _read(self, repo: Repository) -> _Frozen:
        """Read the stages of the base clone, as it is for one experiment."""
        found: dict[str, Any] = {}
        written = versions_file(self.base.clone, self.base.root)
        pipeline = self._pipeline(
            repo, found, lambda: yaml_files.read(written, VERSIONS_FILE)
        )
        if not self._data_checked:
            self._refuse_changed_data(pipeline)
            self._data_checked = True
        asked = asked_stages(pipeline, self.here.repo, self.typed.targets)
        definitions = self._checks.definitions(pipeline, asked)
        steps = _without_idle_phases(
            [self._step(pipeline, stage) for stage in definitions]
        )
        to_make = {step.key for step in steps if not self._has_result(step)}
        self._lost_data.refuse(
            repo, [one for one in definitions.values() if one.key in to_make]
        )
        for definition in definitions.values():
            for source in definition.inputs:
                described = None
                if source.tracked and not source.run:  # added with `dvc add`
                    described = pipeline.source(source.path)
                if described:
                    found[source.path] = described
        return _Frozen(pipeline, asked, definitions, steps, found)

    def _experiment(
        self, variant: Variant, versions: str, frozen: _Frozen, names: Names
    ) -> Experiment:
        """Return the experiment, under the name that it has already if it was submitted before."""
        what: dict[str, Any] = {
            "uid": os.getuid(),  # what two people submit from one repository is no one's to share
            "origin": self._origin,
            "baseline": self.state.baseline,
            "tree": self.state.tree,
            "overrides": variant.overrides,
            "stages": list(self.typed.targets),
            "name": variant.name,
            "versions": versions,
            "machine": self.here.machine.name,
        }
        directory = experiments.folder(self.here.store) / experiments.identity(what)
        known = experiments.read(directory)
        if known and known.commit and _is_of_others(known, frozen.steps):
            # What git does not keep has changed: what a link leads to, a machine file
            # that a stage reads. What was saved stays.
            what["keys"] = {step.stage: step.key for step in frozen.steps}
            directory = experiments.folder(self.here.store) / experiments.identity(what)
            known = experiments.read(directory)
        return Experiment(
            directory=directory,
            name=names.name_again(known) if known else names.name(variant),
            origin=self._origin,
            prefix=self.state.prefix,
            baseline=self.state.baseline,
            overrides=variant.overrides,
            command=self.typed.command,
            message=self.typed.message,
            machine=self.here.machine.name,
            uid=os.getuid(),
            created=known.created if known else time.time(),
            steps=frozen.steps,
            sources=frozen.sources,
            stages=tuple(frozen.asked),
            edited=self.state.edited,
            settings=job_environment.settings(os.environ),
        )

    def _new_site(self) -> Path:
        """Return a new directory to build an experiment in, which is removed at the end unless it was taken."""
        site = entering.building_site(self.here.store)
        self._sites.append(site)
        return site

    @cached_property
    def base(self) -> Base:
        """The first clone, made by git; the experiments' own are copies of it."""
        site = self._new_site()
        root = clones.make(self.state, site / layout.CLONE, self._settings())
        lost_links.refuse(root, self.here.workspace.root)
        repo = Repository.open(root, check=False)
        try:
            _ = repo.graph
        except MllamError as error:
            lost_links.refuse(root, self.here.workspace.root, str(error))
            not_in_clone.refuse_unreadable(root, self.here.workspace.root, error)
        return Base(site / layout.CLONE, root, repo, self.here.workspace.root)

    def _settings(self) -> Settings:
        """Return those of DVC's settings by which a clone reads and keeps what the origin does.

        As they count there, whatever file they stand in: where the cache is, and what
        DVC makes of ``${options}`` in a command.
        """
        given = self.here.repo.settings("cache")
        cache: dict[str, Setting] = {"dir": str(self.here.repo.cache_directory)}
        if types := given.get("type"):
            cache["type"] = types
        if given.get("shared"):
            cache["shared"] = str(given["shared"])
        parsing = {k: str(v) for k, v in self.here.repo.settings("parsing").items()}
        return {"cache": cache, "parsing": parsing} if parsing else {"cache": cache}

    def _versions_of(self, there: Workspace) -> str:
        """Return ``version.mllam.txt``; asked for once for each set of archives."""
        content = checks.versions_depend_on(there.root)
        if content not in self._versions:
            self._versions[content], notes = checks.versions_text(
                there, self.here.machine
            )
            self.note(notes)
        return self._versions[content]

    def _with_parents(self, text: str, there: Workspace, repo: Repository) -> str:
        """Return ``version.mllam.txt`` with what the stages go on from."""

        def opened(known: Mapping[str, Any]) -> Pipeline:
            return self._pipeline(repo, {}, lambda: known)

        return self._parents.complete(text, there.root, opened, self.note)

    @cached_property
    def _parents(self) -> Parents:
        return Parents(self.here, standing.not_saved)

    def _pipeline(
        self,
        repo: Repository,
        found: dict[str, Any],
        versions: Callable[[], Mapping[str, Any]],
    ) -> Pipeline:
        """Open the pipeline of the base clone, as it is for one experiment.

        Parameters
        ----------
        found : dict
            Filled with descriptions of the inputs that no stage makes, by path.
        versions : callable
            As for `Pipeline`.
        """

        def content(path: str) -> str:
            # What the experiments have in common is read once.
            place = repo.root / path
            known = self._sources.get(path)
            if known is None or self.base.touches(place, known.depends_on):
                if not place.exists():
                    self._lost_data.refuse_part(repo, path)
                if not place.exists() and (self.here.workspace.root / path).exists():
                    raise not_in_clone.refusal(
                        repo.root, path, self.here.workspace.root
                    )
                known = sources.content_of(repo, place)
                not_counted.refuse_pointers(repo.root, path, known.depends_on)
                self.note(not_counted.overlooked(repo.root, path, known.depends_on))
                submittable.refuse_links_to_outputs(
                    repo, path, known.depends_on, self.here.workspace.root
                )
                if not self.base.touches(place, known.depends_on):
                    self._sources[path] = known
            found[path] = known.to_record()
            return known.digest

        in_store = outputs.known_digests(self.here.store)
        ask_dvc = not self.typed.force
        return Pipeline(
            repo,
            versions,
            KnownResults(in_store, self._is_being_made, ask_dvc=ask_dvc),
            as_it_lies=False,
            content=content,
            absent=partial(
                not_in_clone.refuse_absent, repo.root, origin=self.here.workspace.root
            ),
        )

    def _has_result(self, step: Step) -> bool:
        """Tell whether no job will make the result of a step."""
        if self.typed.force:
            return False
        return bool(step.known) or self.here.store.run(step.key).result is not None

    @cached_property
    def _lost_data(self) -> LostData:
        has_remote = bool(self.here.repo.settings("remote"))
        return LostData(self.here.workspace.root, has_remote=has_remote)

    def _is_being_made(self, key: str) -> bool:
        # Asked once for all experiments of a submission: so they fit together.
        if key not in self._being_made:
            self._being_made[key] = is_being_made(self.here.store, key)
        return self._being_made[key]

    def note(self, notes: Iterable[str]) -> None:
        """Keep what is worth knowing, and stops nothing; each note once."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

    def _step(self, pipeline: Pipeline, stage: str) -> Step:
        definition = pipeline.definition(stage)
        needs = tuple(i.run for i in definition.inputs if i.run)
        run = self.here.store.run(definition.key)
        if run.result is not None:
            log.info("%s: the run store has its result", definition.key)
            if not self.typed.force:
                self.note(other_modes.notes(run, definition, pipeline.root))
            return Step(stage, definition.key, needs)
        known = pipeline.answer_of_dvc(stage)
        if not known.outputs and (goes_on := stages.of(definition).goes_on):
            known_ones = self._parents.trainings
            places = Path(self._origin), pipeline.root
            self.note(parents.hint(known_ones, definition, goes_on, *places))
        return Step(stage, definition.key, needs, known.outputs, known.inputs)

    def _refuse_changed_data(self, pipeline: Pipeline) -> None:
        """Refuse data that were changed since `dvc add`: `dvc exp run` would add them, unseen.

        Raises
        ------
        UsageError
            Naming them.
        """
        used: set[str] = set()
        for stage in pipeline.stage_names:
            used |= {*pipeline.added_inputs(stage)}
        for path in self.here.repo.changed_since_added(used):
            typed = workspace.typed(self.here.workspace.root, path)
            if sources.was_never_here(self.here.repo.root / path):
                file = workspace.typed(self.here.workspace.root, f"{path}.dvc")
                what = "was imported, and DVC does not know its content yet"
                raise UsageError(what, path, next=f"dvc update {file}")
            way_out = f"dvc add {typed}, or dvc checkout {typed}"
            raise UsageError("was changed since `dvc add`", path, next=way_out)


def _is_of_others(known: Experiment, steps: Iterable[Step]) -> bool:
    """Tell whether an experiment is of other runs than these steps, stage by stage."""
    keys = {step.stage: step.key for step in known.steps}
    return any(keys.get(step.stage, step.key) != step.key for step in steps)


def _without_idle_phases(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Leave out the phases of a stage of which DVC knows the result: nobody needs them."""
    known = {step.stage for step in steps if step.known}
    return tuple(
        step
        for step in steps
        if step.stage in known or phases.stage_of(step.stage) not in known
    )


def _told(refused: Sequence[Sequence[MllamError]]) -> list[MllamError]:
    """Return what is wrong with some experiments, each thing once, and those of many as their number."""
    told: dict[str, MllamError] = {}
    more = 0
    for number, problems in enumerate(refused):
        by_text = {str(problem): problem for problem in problems}
        if number < TOLD:
            told |= by_text
        elif by_text.keys() - told.keys():
            more += 1
    if more:
        told[""] = UsageError(
            f"… and {more} more of these experiments are refused, each for a value of its own"
        )
    return list(told.values())
