"""The workspace's pipeline and its run store, opened: what most commands begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mllam_exps.dvc.pipeline import Pipeline
from mllam_exps.dvc.repository import Repository
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.runs import outputs
from mllam_exps.runs.store import RunStore


def _current_versions(workspace: Workspace, machine: Machine) -> Mapping[str, Any]:
    """Return the versions of the programs as they are now, as a mapping."""
    found: Mapping[str, Any] = yaml.safe_load(
        checks.versions_text(workspace, machine)[0]
    )
    return found


def open_pipeline(
    workspace: Workspace, machine: Machine, **options: Any
) -> tuple[Pipeline, Any]:
    """Return the workspace's pipeline and run store."""
    repo = Repository.open(workspace.root)
    store = RunStore(workspace.store_directory(machine, repo.cache_directory))
    versions = lambda: _current_versions(workspace, machine)  # noqa: E731
    return Pipeline(repo, versions, outputs.known_digests(store), **options), store
