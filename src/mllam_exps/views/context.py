"""Where a command is typed: the workspace, its machine, its run store and its pipeline, opened once."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from mllam_exps.base.errors import UsageError, nearest
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import experiment_refs
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.machines import machine_files
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import (
    OUTSIDE,
    Workspace,
    exp_run,
    refuse_other_stages,
)
from mllam_exps.runs import askers
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import experiments, standing
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views import saved
from mllam_exps.views.saved import Asked, Told

NAMED = 5
"""Names that are told where one is unknown."""


@dataclass(frozen=True)
class Context:
    """The workspace of the current directory, its machine, its run store and, only if asked for, its pipeline."""

    workspace: Workspace
    machine: Machine

    @classmethod
    def open(cls) -> Context:
        """Open the workspace that contains the current directory."""
        workspace = Workspace.here()
        return cls(
            workspace,
            machine_files.pick(workspace.origin, os.environ, socket.gethostname()),
        )

    @cached_property
    def store(self) -> RunStore:
        """The run store; where it is, DVC's configuration says, whatever is wrong with dvc.yaml."""
        if self.machine.paths.run_store is not None:
            return RunStore(self.machine.paths.run_store)
        cache = Repository.open(self.workspace.root, check=False).cache_directory
        return RunStore(self.workspace.store_directory(self.machine, cache))

    @cached_property
    def cache(self) -> Cache:
        """DVC's cache."""
        return Repository.open(self.workspace.root, check=False).cache

    @cached_property
    def pipeline(self) -> Pipeline:
        """The stages; takes half a second, because the programs' versions are asked for."""
        from mllam_exps.preflight.opened import open_pipeline

        refuse_other_stages(self.workspace.root)
        return open_pipeline(self.workspace, self.machine, as_it_lies=False)[0]

    def experiment(self, name: str) -> Experiment | None:
        """Return the submitted experiment of that name: of this repository, else of another one; the newest.

        Where none was submitted under it, one that was renamed is meant.
        """
        known = list(experiments.of_store(self.store))
        found = [e for e in known if name in {e.name, e.identity}]
        if not found:
            in_git = experiment_refs.saved_if_there(self.workspace.origin)
            commits = {one.commit for one in in_git if one.name == name}
            found = [e for e in known if commits and e.commit in commits]
        return max(
            found,
            key=lambda e: (e.origin == str(self.workspace.origin), e.created),
            default=None,
        )

    def mine(self) -> list[Experiment]:
        """Return the submitted experiments of this repository, oldest first."""
        origin = str(self.workspace.origin)
        return [e for e in experiments.of_store(self.store) if e.origin == origin]

    def matching(self, name: str) -> list[Experiment]:
        """Return the submitted experiments whose names fit a pattern, the newest of each name."""
        if not experiment_refs.is_pattern(name):
            return [found] if (found := self.experiment(name)) else []
        newest = {e.name: e for e in self.mine() if fnmatchcase(e.name, name)}
        return list(newest.values())

    def named(self, names: Iterable[str]) -> list[Experiment]:
        """Return the submitted experiments of these names or patterns, each once.

        Raises
        ------
        UsageError
            If there is none of a name.
        """
        # Patterns overlap, and each reads the store anew: what is the same is not equal.
        found: dict[str, Experiment] = {}
        for name in names:
            for experiment in self.matching(name) or [self.submitted(name)]:
                found[experiment.identity] = experiment
        return list(found.values())

    def meant(
        self, names: Iterable[str]
    ) -> Iterator[tuple[list[Experiment], dict[str, Run]]]:
        """Yield for each name the submitted experiments that it means; or the runs of one that was not submitted.

        Raises
        ------
        UsageError
            If it means neither.
        """
        for name in names:
            found = self.matching(name)
            if not found and (others := self.asked_for_by(name)):
                yield [], others
            else:
                yield found or [self.submitted(name)], {}

    def submitted(self, name: str) -> Experiment:
        """Return the submitted experiment of that name.

        Raises
        ------
        UsageError
            If there is none; the nearest name is told.
        """
        if found := self.experiment(name):
            return found
        raise self.unknown(name)

    def unknown(
        self, name: str, stages: Iterable[str] = (), *, kind: str = ""
    ) -> UsageError:
        """Return what is said of a name that nothing has: each command says it in the same words.

        Parameters
        ----------
        stages : iterable of str
            Stages that could have been meant, too.
        kind : str
            What else the command takes: "stage" or "run".
        """
        if saved.saved_as(self.workspace.origin, name):
            what = f"{name} was not submitted: `dvc exp run` saved it"
            return UsageError(what, next=f"mllam-exps show {shlex.quote(name)}")
        if self.asked_for_by(name):
            what = f"{name} was not submitted: `dvc exp run` ran it"
            return UsageError(what, next=exp_run(name))
        also = f" and no {kind}" if kind else ""
        what = f"no experiment{also} is called {name!r}"
        return _unknown(what, name, [*self.names(), *stages])

    def refuse_unsaved(self, name: str) -> None:
        """Refuse an experiment that git does not know, if it is known here: it is at work, was stopped, or removed.

        Raises
        ------
        UsageError
            With what waits for it, or goes on with it.
        """
        if known := standing.not_saved(self.store, self.workspace.origin, name):
            raise known

    def names(self) -> list[str]:
        """Return the names of this repository's experiments, submitted, saved, or asked for by `dvc exp run`."""
        found = [experiment.name for experiment in reversed(self.mine())]
        in_git = experiment_refs.saved_if_there(self.workspace.origin)
        found += [one.name for one in in_git]
        for run in self.store.runs():
            of_here = filter(self.is_of_here, askers.of(run))
            found += [one.name for one in of_here if one.name != OUTSIDE]
        return list(dict.fromkeys(found))

    def is_of_here(self, asker: askers.Asker) -> bool:
        """Tell whether somebody asked from this repository; in a store of its own everybody did, wherever it lay."""
        origin = self.workspace.origin
        if asker.origin in {"", str(origin)}:
            return True
        return self.store.directory.is_relative_to(origin)

    def asked_for_by(self, name: str) -> dict[str, Run]:
        """Return the runs of an experiment that was not submitted, by stage: `dvc exp run` ran it."""
        return self.not_submitted(name).all_runs

    def not_submitted(self, name: str) -> Told:
        """Return what there is to tell of an experiment that was not submitted.

        Of a saved one that is what its commit holds: what it asked for may have been
        for an earlier one of that name, and DVC may have known what it did not ask for.
        """
        asked: dict[str, Asked] = {}
        for run in self.store.runs():
            for asker in askers.of(run):
                if asker.name != name or not self.is_of_here(asker):
                    continue
                if run.stage not in asked or asked[run.stage].at <= asker.at:
                    asked[run.stage] = Asked(run, asker.at)
        origin = self.workspace.origin
        if one := saved.saved_as(origin, name):
            return saved.Results.of(self.store).told(origin, one, asked)
        return Told(saved.of_one_go(asked))

    def find(self, stage_or_key: str) -> Run:
        """Return the run that a user means: of a stage as the workspace is now, or by the beginning of its key.

        Raises
        ------
        UsageError
            If there is none, or more than one.
        """
        if "-" in stage_or_key:
            return self._of_key(stage_or_key)
        return self._of_stage(stage_or_key)

    def _of_key(self, beginning: str) -> Run:
        """Return the run whose key begins so."""
        runs = [run for run in self.store.runs() if run.key.startswith(beginning)]
        if len(runs) == 1:
            return runs[0]
        if own := self.asked_for_by(beginning):
            raise UsageError(
                f"{beginning} was not submitted: `dvc exp run` ran it; name its run",
                why=", ".join(run.key for run in own.values()),
                next="mllam-exps status",
            )
        if not runs:
            raise self.unknown(beginning, kind="run")
        told = ", ".join(run.key for run in runs[:2])
        what = f"{len(runs)} runs' keys begin with {beginning}"
        raise UsageError(what, why=f"{told}, …", next="name one")

    def _of_stage(self, stage: str) -> Run:
        """Return the run of a stage as the workspace is now, or else its newest."""
        if stage not in self.pipeline.stage_names:
            raise self.unknown(stage, self.pipeline.stage_names, kind="stage")
        run = self.store.run(self.pipeline.definition(stage).key)
        if run.definition is not None:
            return run
        # With other parameters by now, the newest run of that stage is the one that
        # people ask for.
        runs = [run for run in self.store.runs() if run.stage == stage]
        if not runs:
            where = str(self.store.directory)
            raise UsageError(f"{stage} has never run", where, next="dvc exp run")
        return max(runs, key=lambda run: run.begun_at)


def saved_here(root: Path, names: Sequence[str]) -> list[Saved]:
    """Return the saved experiments of these names; of one that is known, and not saved yet, it is said how it stands.

    Raises
    ------
    UsageError
        If there is none of a name.
    """
    found = experiment_refs.saved(root)
    for name in names:
        if not experiment_refs.is_pattern(name) and all(
            one.name != name for one in found
        ):
            Context.open().refuse_unsaved(name)
    return experiment_refs.called(names, found, "saved here")


def _unknown(what: str, name: str, known: list[str]) -> UsageError:
    """Say which of the known names may have been meant."""
    if any(other.startswith(f"{name}-") for other in known):
        return UsageError(what, next=f"did you mean '{name}-*'?")
    if near := nearest(name, known):
        return UsageError(what, next=f"did you mean {near}?")
    why = "there is none in this repository"
    if known:
        more = ", …" if len(known) > NAMED else ""
        why = f"there are {', '.join(known[:NAMED])}{more}"
    return UsageError(what, why=why, next="mllam-exps status --all")
