"""Fixtures: a toy experiment, whose stages take no neural-lam, in real git and DVC repositories."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

from support.experiment import TOY, Experiment, environment, make_toy  # noqa: E402 - rewritten first
from support.once import once  # noqa: E402

LONGEST = (
    "slurm_runs",
    "end_to_end",
    "driver",
    "submit_slurm",
    "submit_repositories",
    "submit",
)
LONGEST += (
    "stage_programs",
    "going_on_from_others",
    "oracle",
    "submit_killed",
    "tracking",
    "slurm_double",
)
LONGEST += (
    "schedulers",
    "callbacks",
    "attempts_that_follow",
    "phases_of_work",
    "points",
    "arguments",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one of them at the end."""
    last = len(LONGEST)
    order = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, last))


@pytest.fixture(scope="session")
def toy_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy experiment of which nothing is done; copied for each test that begins with the first stage."""

    def make(home: Path) -> None:
        make_toy(home / "toy", environment(home / "home"))

    return once(tmp_path_factory, "toy", make) / "toy"


@pytest.fixture(scope="session")
def made_once(toy_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy experiment whose first stage is done; copied for each test that begins with the second."""

    def make(home: Path) -> None:
        experiment = Experiment(
            Path(shutil.copytree(toy_once, home / "toy", symlinks=True)),
            environment(home / "home") | {"PYTHONPATH": str(TOY)},
        )
        experiment.ok("dvc", "repro", "make")
        experiment.ok("git", "add", "-A")
        experiment.ok("git", "commit", "-qm", "Made")

    return once(tmp_path_factory, "made", make) / "toy"


@pytest.fixture
def made(made_once: Path, tmp_path: Path, environ: dict[str, str]) -> Experiment:
    """A toy experiment whose first stage, `make`, is done and committed."""
    return Experiment(
        Path(shutil.copytree(made_once, tmp_path / "toy", symlinks=True)), environ
    )


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Environment of a user."""
    return environment(tmp_path / "home") | {"PYTHONPATH": str(TOY)}


@pytest.fixture
def toy(toy_once: Path, tmp_path: Path, environ: dict[str, str]) -> Experiment:
    """A toy experiment of which nothing is done."""
    return Experiment(
        Path(shutil.copytree(toy_once, tmp_path / "toy", symlinks=True)), environ
    )
