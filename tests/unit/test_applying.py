"""How a saved experiment is applied, whatever became of its name since."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.git import ask_git, git
from mllam_exps.submission.applying import apply_command, is_in_git, name_in_git

ORIGINS, OTHER = "refs/exps/aa/bb/", "refs/exps/cc/dd/"


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """An experiment, saved as a commit that nothing names yet."""
    origin = tmp_path / "or igin"
    origin.mkdir()
    git(origin, "init", "--quiet")
    git(origin, "config", "user.name", "A")
    git(origin, "config", "user.email", "a@site.example")
    tree = git(origin, "write-tree")
    commit = git(origin, "commit-tree", "-m", "x", tree)
    result = SimpleNamespace(commit=commit)
    return SimpleNamespace(
        name="x",
        origin=str(origin),
        commit=commit,
        git_ref=f"{ORIGINS}x",
        saving=SimpleNamespace(result=result),
    )


CASES: dict[str, tuple[list[str], str, str]] = {
    "as it was saved": ([f"{ORIGINS}x"], "x", "x"),
    "removed": ([], "", ""),
    "renamed": ([f"{ORIGINS}z"], "z", "z"),
    "on a branch alone": (["refs/heads/b"], "", "{commit}"),
    "removed, its name another's now": ([f"={ORIGINS}x"], "", ""),
    "renamed, its name another's now": ([f"={ORIGINS}x", f"{ORIGINS}z"], "z", "z"),
    "beside another of its name": ([f"{ORIGINS}x", f"={OTHER}x"], "x", "{commit}"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_dvc_is_told_brings_our_commit_and_no_other(saved: Any, case: str):
    refs, name, word = CASES[case]
    origin = Path(saved.origin)
    tree = git(origin, "write-tree")
    for ref in refs:
        commit = saved.commit
        if ref.startswith("="):
            commit = git(origin, "commit-tree", "-m", "another", tree)
        git(origin, "update-ref", ref.removeprefix("="), commit)
    assert name_in_git(saved) == name
    told = word.format(commit=saved.commit[:7])
    assert apply_command(saved, origin) == (told and f"dvc exp apply {told}")


def test_it_is_applied_where_it_was_saved(saved: Any, tmp_path: Path):
    git(Path(saved.origin), "update-ref", saved.git_ref, saved.commit)
    command = f"cd '{saved.origin}'; dvc exp apply x"
    assert apply_command(saved, tmp_path) == command


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_repository_that_git_does_not_open_for_us_has_lost_nothing(
    saved: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    origin = Path(saved.origin)
    assert not is_in_git(saved), "no ref names it"
    git(origin, "update-ref", saved.git_ref, saved.commit)
    for path in (origin, origin / ".git"):
        os.chown(path, 4321, 4321)
    assert ask_git(origin, "rev-parse", "HEAD") == "", "dubious ownership"
    assert is_in_git(saved)
    assert apply_command(saved, origin) == "dvc exp apply x"
    shutil.rmtree(origin / ".git")
    assert not is_in_git(saved), "it is no repository any more"
