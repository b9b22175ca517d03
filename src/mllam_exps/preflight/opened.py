"""The workspace's pipeline and its run store, opened: what most commands begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.dvc.stages.results import KnownResults
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.preflight.here import Here
from mllam_exps.preflight.parents import Parents
from mllam_exps.runs import outputs
from mllam_exps.runs.store import RunStore


def current_versions(
    workspace: Workspace, machine: Machine, **options: Any
) -> tuple[str, list[str]]:
    """Return what ``version.mllam.txt`` would say now, and notes on what could not be read."""
    return _versions(_opened(workspace, machine), **options)


def open_pipeline(
    workspace: Workspace, machine: Machine, **options: Any
) -> tuple[Pipeline, RunStore]:
    """Return the workspace's pipeline and run store."""
    here = _opened(workspace, machine)

    def versions() -> Mapping[str, Any]:
        text, _ = _versions(here)
        found: Mapping[str, Any] = yaml.safe_load(text)
        return found

    known = KnownResults(outputs.known_digests(here.store))
    return Pipeline(here.repo, versions, known, **options), here.store


def _opened(workspace: Workspace, machine: Machine) -> Here:
    return Here.of(workspace, machine, Repository.open_here(workspace.root))


def _versions(here: Here, **options: Any) -> tuple[str, list[str]]:
    text, notes = checks.versions_text(here.workspace, here.machine)

    def opened(known: Mapping[str, Any]) -> Pipeline:
        in_store = KnownResults(outputs.known_digests(here.store))
        return Pipeline(here.repo, lambda: known, in_store)

    parents = Parents(here, **options)
    text = parents.complete(text, here.workspace.root, opened, notes.extend)
    return text, notes
