"""The private cluster of the tests, and experiments that run on it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mllam_exps.base import records
from support.experiment import TOY, Experiment, eventually

ROOT = Path(__file__).parents[2]

MACHINE: dict[str, Any] = {
    "scheduler": "slurm",
    "resources": {"default": {"partition": "main", "memory": "200M", "time": 10}},
}


ON_BOTH = pytest.mark.parametrize(
    "cluster", ["plain_cluster", "accounting_cluster"], indirect=True
)
"""A test that runs on a cluster with accounting as well as on one without."""
WITH_ACCOUNTING = pytest.mark.parametrize(
    "cluster", ["accounting_cluster"], indirect=True
)


def load_tool() -> ModuleType:
    """Import the package ``tools/slurm``, by a name that is nobody else's."""
    spec = importlib.util.spec_from_file_location(
        "slurm_tool", ROOT / "tools/slurm/__init__.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["slurm_tool"] = module
    spec.loader.exec_module(module)
    return module


def start_cluster(directory: Path, **options: Any) -> Iterator[Any]:
    """Start a cluster for a fixture; skip where Slurm can't be had, but not in CI."""
    tool = load_tool()
    try:
        cluster = tool.up(directory, **options)
    except tool.UnavailableError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"Slurm can't be had here: {error}")
    yield cluster
    tool.down(directory)


def on(cluster: Any, experiment: Experiment, **machine: Any) -> Experiment:
    """Let an experiment's stages run on the cluster."""
    environ = experiment.environ | {
        "SLURM_CONF": str(cluster.conf),
        "MLLAM_MACHINE": "cluster",
    }
    here = Experiment(experiment.root, environ)
    write_machine(here, **machine)
    return here


def visit(cluster: Any, experiment: Experiment) -> Iterator[Experiment]:
    """Let an experiment run on the cluster for a fixture; its jobs are gone afterwards."""
    yield on(cluster, experiment)
    cluster.command("scancel", f"--user={os.getuid()}")


def write_machine(experiment: Experiment, **changes: Any) -> None:
    """Write the machine file; ``default`` changes the resources of all stages."""
    resources = MACHINE["resources"]["default"] | changes.pop("default", {})
    variables = {
        "PYTHONPATH": str(TOY),
        "TOY_COUNT": experiment.environ["TOY_COUNT"],
        "OMP_NUM_THREADS": "1",
    }
    settings = (
        MACHINE
        | {"resources": {"default": resources}, "environment": {"variables": variables}}
        | changes
    )
    path = experiment.root / "machines/cluster.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(settings))


def wrap(experiment: Experiment, program: str, script: str) -> None:
    """Put a script in the way of one of Slurm's programs; ``$REAL`` is the real one."""
    import shutil

    folder = experiment.root.parent / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / program
    path.write_text(f"#!/bin/bash\nREAL={shutil.which(program)}\n{script}\n")
    path.chmod(0o755)
    if not experiment.environ["PATH"].startswith(str(folder)):
        experiment.environ["PATH"] = f"{folder}{os.pathsep}{experiment.environ['PATH']}"


def run_of(experiment: Experiment, stage: str = "grow") -> Path:
    """Return the directory of a stage's only run."""
    [run] = experiment.runs(stage)
    return run


def job_of(experiment: Experiment, attempt: int = 1) -> str:
    """Return the id of an attempt's job, once it is known."""

    def recorded() -> bool:
        runs = experiment.runs("grow")
        return bool(runs) and (runs[0] / f"attempts/{attempt}/job.json").exists()

    eventually(recorded, 60, "the job's id")
    record = records.read(run_of(experiment) / f"attempts/{attempt}/job.json")
    assert record is not None
    return str(record["id"])


def epochs(experiment: Experiment, attempt: int = 1) -> int:
    """Return how many epochs an attempt's program has done."""
    runs = experiment.runs("grow")
    state = (
        records.read(runs[0] / f"attempts/{attempt}/scratch/state.json")
        if runs
        else None
    )
    return int((state or {}).get("epochs", 0))


def jobs(cluster: Any) -> list[str]:
    """Return the names of all jobs that the controller knows."""
    return list(
        cluster.command(
            "squeue", "--noheader", "--states=all", "--format=%j"
        ).stdout.splitlines()
    )
