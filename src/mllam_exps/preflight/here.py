"""What a command works with: the workspace, its machine, its repository and its run store, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from mllam_exps.dvc.repository import Repository
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs.store import RunStore


@dataclass(frozen=True)
class Here:
    """Where a command is typed, and where it runs.

    Parameters
    ----------
    workspace : Workspace
        Where it is typed: its experiments and revisions are meant.
    machine : Machine
        Where stages will run.
    repo : Repository
        The workspace's, opened: its cache, settings and remotes are used.
    store : RunStore
        The run store.
    """

    workspace: Workspace
    machine: Machine
    repo: Repository
    store: RunStore

    @classmethod
    def of(cls, workspace: Workspace, machine: Machine, repo: Repository) -> Here:
        """Find the run store of an opened repository."""
        store = workspace.store_directory(machine, repo.cache_directory)
        return cls(workspace, machine, repo, RunStore(store))
