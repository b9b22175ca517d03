"""The tiny experiment, run once by DVC: its programs are Neural-LAM's own, and take a minute."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import synthetic
from support.experiment import Experiment, environment, make_repository
from support.once import once

BEFORE_TRAINING = ("prepare_dataset", "create_graph")
OF_TRAINING = ("saved_models", "plots")
AFTER = (*OF_TRAINING, "metrics", "evaluation", "logs", "mlartifacts", "mlflow.db*")


@dataclass(frozen=True)
class Tiny:
    """A folder with the experiment, and copies of what its stages made at first."""

    folder: Path

    @property
    def experiment(self) -> Experiment:
        """It itself, for the tests of one file, which may change it."""
        return Experiment(self.folder / "repo", environment(self.folder / "home"))

    @property
    def ready(self) -> Path:
        """All that a training needs, and nothing that one has made."""
        return self.folder / "ready"

    @property
    def trained(self) -> Path:
        """What its training and its evaluation made."""
        return self.folder / "trained"

    def log(self, stage: str) -> Path:
        """Return the folder of the log of a stage before the training."""
        return self.folder / "logs" / stage


@pytest.fixture(scope="session")
def tiny_once(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Make it, or wait until another of pytest's workers has."""
    return Tiny(once(tmp_path_factory, "tiny", lambda folder: make(Tiny(folder))))


def make(tiny: Tiny) -> None:
    """Make the experiment, run it once, and keep what its stages have made."""
    root = synthetic.make_experiment(tiny.folder / "repo")
    experiment = make_repository(root, environment(tiny.folder / "home"))
    experiment.ok("dvc", "config", "core.autostage", "true")
    experiment.ok("git", "commit", "-qam", "Stage what DVC writes")
    print(experiment.ok("dvc", "exp", "run", timeout=600))
    experiment.ok("git", "add", "-A")
    experiment.ok("git", "commit", "-qm", "The first experiment")
    left_out = shutil.ignore_patterns(".git", ".dvc", *AFTER)
    shutil.copytree(root, tiny.ready, ignore=left_out)
    for name in OF_TRAINING:
        shutil.copytree(root / name, tiny.trained / name)
    for stage in BEFORE_TRAINING:
        [run] = experiment.runs(stage)
        tiny.log(stage).mkdir(parents=True)
        shutil.copy(run / "attempts/1/log.txt", tiny.log(stage))
