"""Where we are, from whatever copy of a repository DVC works in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.machines.workspace import Workspace, origin_root


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a git repository with a `.dvc` folder."""
    root = tmp_path / "repo"
    (root / ".dvc").mkdir(parents=True)
    git(root, "init", "-q")
    return root


def test_origin_of_every_kind_of_workspace(repository: Path, tmp_path: Path) -> None:
    assert origin_root(repository, {}) == repository
    assert origin_root(repository, {"DVC_ROOT": str(repository)}) == repository

    temporary = repository / ".dvc/tmp/exps/tmpabc"
    temporary.mkdir(parents=True)
    git(temporary, "init", "-q")
    assert origin_root(temporary, {"DVC_ROOT": str(repository)}) == repository
    assert origin_root(temporary, {}) == repository

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    (clone / ".dvc").mkdir()
    assert origin_root(clone, {"DVC_ROOT": str(repository)}) == clone, (
        "a leaked variable says nothing"
    )
    assert origin_root(clone, {"MLLAM_EXPS_ORIGIN": str(repository)}) == repository
    git(clone, "config", "mllam-exps.origin", str(repository))
    assert origin_root(clone, {"DVC_ROOT": str(clone)}) == repository

    plain = tmp_path / "plain"
    plain.mkdir()
    assert origin_root(plain, {}) == plain


def test_a_workspace_is_found_from_below_and_missed_aloud(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "dvc.yaml").write_text("stages: {}\n")
    (repository / "data").mkdir()
    here = Workspace.here({}, repository / "data")
    assert (here.root, here.origin, here.experiment) == (
        repository,
        repository,
        "workspace",
    )
    assert (
        Workspace.here({"DVC_EXP_NAME": "bold-okra"}, repository).experiment
        == "bold-okra"
    )
    with pytest.raises(UsageError, match="mllam-exps init"):
        Workspace.here({}, tmp_path)
