"""What a stage made for a commit, or a part of it: laid out, and fetched where the cache lacks it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.experiment import Experiment, make_repository

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc import earlier
from mllam_exps.dvc.repository import Repository

PIPELINE = """\
stages:
  make:
    cmd: mkdir -p z/a z/state; touch z/zarr.json; echo 1 > z/a/0; echo 2 > z/state/0
    outs: [z]
"""


def test_no_more_is_fetched_than_is_wanted(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/dvc.yaml").write_text(PIPELINE)
    made: Experiment = make_repository(tmp_path / "repo", environ)
    with (made.root / ".dvc/config").open("a") as file:
        file.write(f"[core]\nremote = s\n['remote \"s\"']\nurl = {tmp_path}/remote\n")
    monkeypatch.chdir(made.root)
    repo = Repository.open(made.root)
    repo.opened.reproduce()
    repo.opened.push()
    made.ok("git", "add", "-A")
    made.ok("git", "commit", "-qm", "Made")
    shutil.rmtree(made.root / "z")
    shutil.rmtree(made.root / ".dvc/cache")
    (made.root / "dvc.lock").unlink()

    repo = Repository.open(made.root)
    commit = earlier.commit_of(made.root, "HEAD")
    assert commit is not None
    target = tmp_path / "there"
    earlier.lay_out(repo, commit, "z", target, lambda file: file != "state/0")
    assert (target / "a/0").read_text() == "1\n"
    assert not (target / "state").exists()
    held = [
        path for path in (made.root / ".dvc/cache/files").rglob("*") if path.is_file()
    ]
    assert len(held) == 3, "the list of files, and the two that are wanted"
    with pytest.raises(UsageError, match="does not say that y was made"):
        earlier.lay_out(repo, commit, "y", target)
    shutil.rmtree(tmp_path / "remote")
    with pytest.raises(UsageError, match="it is not in DVC's cache"):
        earlier.lay_out(repo, commit, "z", tmp_path / "all")
