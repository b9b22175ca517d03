"""What it takes to go on with a submitted experiment: its machine as it is now, its files as they were."""

from __future__ import annotations

import os
from pathlib import Path

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.dvc.stages.results import Answer, KnownResults
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.machines import job_environment, machine_files
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs import outputs
from mllam_exps.submission.experiment import Experiment


def environ_of(experiment: Experiment) -> dict[str, str]:
    """Return the environment in which an experiment's jobs are submitted: what counts now goes before what counted."""
    # Whatever else its record holds counts for nothing.
    return job_environment.settings(experiment.settings) | dict(os.environ)


def machine_of(experiment: Experiment) -> Machine:
    """Return the machine of an experiment, as its file in the origin says now.

    Raises
    ------
    MllamError
        If there is none, the origin has moved, or the experiment is not this user's own
        word.
    """
    experiment.check_ours()
    if not experiment.origin_is_there:
        why = f"the repository of {experiment.name} has moved, or was deleted"
        raise machine_files.gone(Path(experiment.origin), why)
    return machine_files.load(
        Path(experiment.origin), experiment.machine, environ_of(experiment)
    )


def workspace_of(experiment: Experiment) -> Workspace:
    """Return the workspace that an experiment's clone is."""
    return Workspace(
        experiment.root, Path(experiment.origin), experiment.name, experiment.baseline
    )


def programs_are_the_same(experiment: Experiment, machine: Machine) -> bool:
    """Tell whether the programs are those that an experiment was submitted with: others would make other results."""
    from mllam_exps.preflight import checks
    from mllam_exps.stages import versions

    written = experiment.versions_file.read_text(encoding="utf-8")
    now, _ = checks.versions_text(workspace_of(experiment), machine)
    # What it goes on from was found when it was submitted, and stays that.
    return versions.without_parents(written) == now


def pipeline_of(experiment: Experiment) -> Pipeline:
    """Open the pipeline of an experiment's clone, with the versions that it was submitted with."""
    if not experiment.root.is_dir():
        raise MllamError(
            "its clone is gone", str(experiment.clone), next=experiment.submit_again
        )
    experiment.check_ours()
    in_store = outputs.known_digests(experiment.store)
    # It goes on with what DVC knew when it was submitted, whatever else the run store
    # has by now.
    known = KnownResults(
        lambda key, path: None if experiment.is_known(key) else in_store(key, path),
        by_dvc={
            s.stage: Answer(dict(s.known), dict(s.read))
            for s in experiment.steps
            if s.known
        },
    )
    return Pipeline(
        Repository.open(experiment.root, check=False),
        lambda: yaml_files.read(experiment.versions_file, VERSIONS_FILE),
        known,
        as_it_lies=False,
        content=lambda path: str(experiment.sources[path]["digest"]),
    )
