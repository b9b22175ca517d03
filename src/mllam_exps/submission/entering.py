"""Puts planned experiments into the run store: built beside it, and moved to their places in one step."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.repository import clones
from mllam_exps.runs import layout
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.experiment import Experiment, versions_file


@dataclass(frozen=True)
class Plan:
    """An experiment that is about to be submitted.

    Parameters
    ----------
    experiment : Experiment
        As it will stand in the store, or stands there already.
    site : Path
        Where its clone was built.
    definitions : mapping
        What defines each stage's run.
    content : str
        The commit that was frozen: the baseline, with what was not committed.
    """

    experiment: Experiment
    site: Path
    definitions: Mapping[str, RunDefinition]
    content: str

    @property
    def root(self) -> Path:
        """The DVC repository in the clone that was built."""
        return self.site / layout.CLONE / self.experiment.prefix

    @property
    def own_commands(self) -> list[str]:
        """The stages with commands of their own."""
        return [stage for stage, one in self.definitions.items() if one.commands]

    @property
    def versions_file(self) -> Path:
        """The versions of the programs that it is submitted with."""
        return versions_file(self.site / layout.CLONE, self.root)


def building_site(store: RunStore) -> Path:
    """Return a new directory to build an experiment in: on the right file system, and nothing that is looked at.

    Its clone is for nobody else's eyes: git executes what a repository's configuration
    says.
    """
    name = f".new-{uuid.uuid4().hex[:12]}"
    site = records.folder(store.folder(layout.EXPERIMENTS) / name, ownership.OWN)
    (site / layout.CLONE).mkdir(ownership.PRIVATE)
    return site


def retire(store: RunStore, plans: Sequence[Plan]) -> None:
    """Call off failed experiments whose names others take over: they could never be saved."""
    places = {plan.experiment.unique_name: plan.experiment.identity for plan in plans}
    for other in experiments.of_store(store):
        replaced = places.get(other.unique_name, other.identity) != other.identity
        if replaced and assess(other.saving).state is RunState.FAILED:
            experiments.call_off(other, "its name was taken over")


def enter(plan: Plan, *, force: bool, replaces: str) -> Experiment:
    """Put a planned experiment into the store, or find it there; make what was known unknown with `force`."""
    experiment = plan.experiment
    saving = experiment.saving
    there = experiments.read(experiment.directory)
    if there is None:
        clones.keep(Path(experiment.origin), experiment.identity, plan.content)
        _move_in(replace(experiment, replaces=replaces), plan.site)
        _want(experiment)
        return experiment
    living = assess(saving).state.living
    if saving.result is None and not living:
        # Of the same state. Of the old one something may be gone: a scratch file system
        # is purged by files.
        _renew_clone(experiment, plan.site)
    if not living:
        # DVC's cache lost what it had when it was submitted first; or what a link leads
        # out of the repository to has changed since.
        _write(replace(there, steps=experiment.steps, sources=experiment.sources))
        _want(experiment)
    if force or saving.result is not None:
        # Made again; or removed from its repository since it was saved, or lacking a
        # result that was damaged.
        clones.keep(Path(experiment.origin), experiment.identity, plan.content)
        if not experiment.clone.is_dir():
            (plan.site / layout.CLONE).rename(experiment.clone)
        saving.set_aside()
        _write(replace(experiment, replaces=replaces))
    return experiment


def _want(experiment: Experiment) -> None:
    """Let the jobs of its runs find it."""
    for run in experiment.runs.values():
        run.want(experiment.identity)


def _write(experiment: Experiment) -> None:
    path = experiment.directory / layout.DEFINITION
    records.replace(path, experiment.to_record())


def _move_in(experiment: Experiment, site: Path) -> None:
    """Move what was built to its place, unless somebody was first."""
    for folder in (layout.ATTEMPTS, layout.WAITERS):
        records.own_folder(site / folder)
    records.replace(site / layout.DEFINITION, experiment.to_record())
    try:
        site.rename(experiment.directory)
    except OSError:
        if not os.path.lexists(experiment.directory):
            raise
        if experiments.read(experiment.directory) is None:
            _mend(experiment, site)
        shutil.rmtree(site, ignore_errors=True)


def _mend(experiment: Experiment, site: Path) -> None:
    """Write again what stands in an experiment's place and cannot be read, if that is ours.

    Raises
    ------
    MllamError
        If it is not.
    """
    if why := ownership.objection(experiment.directory):
        what = "what stands in the place of this experiment cannot be read"
        way_out = "submit it under another name: -n NAME"
        raise MllamError(what, str(experiment.directory), f"it {why}", way_out)
    _write(experiment)
    _renew_clone(experiment, site)


def _renew_clone(experiment: Experiment, site: Path) -> None:
    """Put a clone of the same state in the place of its own, of which something may be gone."""
    old = experiment.directory / f".clone-{uuid.uuid4().hex[:8]}"
    if os.path.lexists(experiment.clone):
        experiment.clone.rename(old)
    (site / layout.CLONE).rename(experiment.clone)
    shutil.rmtree(old, ignore_errors=True)
