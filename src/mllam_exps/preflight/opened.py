"""The workspace's pipeline and its run store, opened: what most commands begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.preflight.parents import Parents
from mllam_exps.runs import outputs
from mllam_exps.runs.store import RunStore


def current_versions(
    workspace: Workspace, machine: Machine, **options: Any
) -> tuple[str, list[str]]:
    """Return what ``version.mllam.txt`` would say now, and notes on what could not be read."""
    opened = _repo_and_store(workspace, machine)
    return _versions(workspace, machine, *opened, **options)


def open_pipeline(
    workspace: Workspace, machine: Machine, **options: Any
) -> tuple[Pipeline, RunStore]:
    """Return the workspace's pipeline and run store."""
    repo, store = _repo_and_store(workspace, machine)

    def versions() -> Mapping[str, Any]:
        text, _ = _versions(workspace, machine, repo, store)
        found: Mapping[str, Any] = yaml.safe_load(text)
        return found

    return Pipeline(repo, versions, outputs.known_digests(store), **options), store


def _repo_and_store(
    workspace: Workspace, machine: Machine
) -> tuple[Repository, RunStore]:
    repo = Repository.open_here(workspace.root)
    return repo, RunStore(workspace.store_directory(machine, repo.cache_directory))


def _versions(
    workspace: Workspace,
    machine: Machine,
    repo: Repository,
    store: RunStore,
    **options: Any,
) -> tuple[str, list[str]]:
    text, notes = checks.versions_text(workspace, machine)

    def opened(known: Mapping[str, Any]) -> Pipeline:
        return Pipeline(repo, lambda: known, outputs.known_digests(store))

    parents = Parents(workspace, machine, store, repo, **options)
    text = parents.complete(text, workspace.root, opened, notes.extend)
    return text, notes
