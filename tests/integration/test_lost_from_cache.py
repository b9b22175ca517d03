"""What DVC's cache has lost of a saved experiment, and the run store still has, comes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.experiment import Experiment, make_repository
from support.submissions import settled, submit

from mllam_exps.submission.applying import BROUGHT_BACK

PIPELINE = """\
stages:
  count:
    cmd: cat data.txt > made.txt
    deps: [data.txt]
    outs: [made.txt]
"""


@pytest.fixture
def counted(tmp_path: Path, environ: dict[str, str]) -> Experiment:
    """A repository with a saved experiment, of which DVC's cache has lost everything, as by ``dvc gc --workspace``."""
    root = tmp_path / "counted"
    for path, text in {
        "dvc.yaml": PIPELINE,
        "data.txt": "one",
        "machines/here.yaml": "scheduler: local\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    made = make_repository(root, environ | {"MLLAM_MACHINE": "here"})
    submit(made, "-n", "one")
    settled(made, "one")
    shutil.rmtree(root / ".dvc/cache/files")
    return made


def test_what_was_lost_is_back_when_it_is_submitted_again(counted: Experiment):
    assert "is back, from the run store" in counted.ok(
        "mllam-exps", "submit", "-n", "one"
    )
    assert "is back" not in counted.ok("mllam-exps", "submit", "-n", "one")
    counted.ok("dvc", "exp", "apply", "one")
    assert (counted.root / "made.txt").read_text() == "one"


def test_what_retry_proposes_works_although_files_were_edited_since(
    counted: Experiment,
):
    (counted.root / "data.txt").write_text("two")
    told = counted.ok("mllam-exps", "retry", "one")
    assert "is back, from the run store" in told
    assert "dvc exp apply one" in told
    counted.ok("git", "restore", "data.txt")
    counted.ok("dvc", "exp", "apply", "one")
    assert (counted.root / "made.txt").read_text() == "one"


def test_verify_gives_back_what_was_lost(counted: Experiment):
    assert f"one: {BROUGHT_BACK}" in counted.ok("mllam-exps", "verify")
    assert "is back" not in counted.ok("mllam-exps", "verify")
    counted.ok("dvc", "exp", "apply", "one")
    assert (counted.root / "made.txt").read_text() == "one"
