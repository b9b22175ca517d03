"""A repository that has none of Neural-LAM's files: a ``dvc.yaml`` with a command of its own, and a machine file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.experiment import Experiment, eventually, make_repository

# Named as one of Neural-LAM's stages is, beside a file named as one of its is: what a
# stage is stands in its command.
PIPELINE = """\
stages:
  train:
    cmd: python make.py
    deps: [make.py]
    params: [size]
    outs: [made.txt]
    metrics: [made.json: {cache: false}]
"""
PROGRAM = """\
import json, os, pathlib, sys
if os.path.exists(os.environ["TOY_COUNT"]):
    sys.exit("the weather is bad")
pathlib.Path("made.txt").write_text("made")
pathlib.Path("made.json").write_text(json.dumps({"epochs": 1}))
"""


@pytest.fixture
def plain(tmp_path: Path, environ: dict[str, str]) -> Experiment:
    root = tmp_path / "plain"
    (root / "machines").mkdir(parents=True)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text("size: 3\n")
    (root / "make.py").write_text(PROGRAM)
    (root / "machines/here.yaml").write_text("scheduler: local\n")
    made = make_repository(root, environ | {"MLLAM_MACHINE": "here"})
    (root / ".gitignore").write_text("/logs/\n/made.txt\n")
    made.ok("git", "commit", "-qam", "Ignore")
    return made


def test_it_is_checked_submitted_tried_again_and_saved(plain: Experiment):
    assert "all fine" in plain.ok("mllam-exps", "check")
    plain.ok("mllam-exps", "run", "check_for_venv_path")
    bad = Path(plain.environ["TOY_COUNT"])
    bad.touch()
    plain.ok("mllam-exps", "submit", "-n", "one")

    def states() -> dict[str, str]:
        return {cell["stage"]: cell["state"] for cell in plain.status()}

    eventually(lambda: states().get("train") == "failed", what="train fails")
    assert "the weather is bad" in plain.ok("mllam-exps", "status")
    bad.unlink()
    plain.ok("mllam-exps", "retry", "one")
    eventually(
        lambda: "refs/exps" in plain.ok("git", "for-each-ref", "refs/exps/"),
        what="the experiment is saved",
    )
    shown = json.loads(plain.ok("mllam-exps", "show", "--json", "one"))
    assert shown["metrics"] == {"made.json": {"epochs": 1}}
    assert "mlflow" not in plain.ok("mllam-exps", "show", "one")


def test_what_is_not_for_it_says_what_is(plain: Experiment):
    for command, told in {
        ("run", "train"): "dvc repro train, or mllam-exps submit train",
        ("smoke",): "mllam-exps submit runs them in full",
    }.items():
        done = plain.command("mllam-exps", *command)
        assert done.returncode == 2, done.stdout
        assert told in done.stdout
    script = plain.ok("mllam-exps", "machine", "show", "--script", "train")
    assert "as train would be submitted" in script


FAILING = """\
stages:
  check_for_venv_path:
    cmd: mllam-exps run check_for_venv_path
    always_changed: true
    outs: [logs/checked.txt: {cache: false}]
  make:
    cmd: mkdir -p deep/made && date > deep/made/it
    deps: [logs/checked.txt]
    outs: [deep/made]
  fail:
    cmd: exit 1
    deps: [deep/made]
    outs: ["odd [1]"]
"""


def test_a_failure_leaves_no_output_for_git_to_take(plain: Experiment):
    for path, content in (("dvc.yaml", FAILING), ("deep/made/it", "taken once")):
        (plain.root / path).parent.mkdir(parents=True, exist_ok=True)
        (plain.root / path).write_text(content)
    plain.ok("dvc", "config", "core.autostage", "true")
    plain.ok("git", "add", "-A")
    plain.ok("git", "commit", "-qm", "x")
    # DVC (3.67) ends at the output that git tracks, and proposes this.
    assert "git rm -r --cached" in plain.command("dvc", "repro").stdout
    plain.ok("git", "rm", "-rq", "--cached", "deep/made")
    assert plain.command("dvc", "repro").returncode != 0
    assert (plain.root / "deep/made/it").read_text() != "taken once"
    # New files go into git by themselves, as DVC does it.
    assert "deep/.gitignore" in plain.ok("git", "ls-files")
    plain.ok("git", "add", "-A")
    assert "deep/made" not in plain.ok("git", "ls-files")
    assert (plain.root / "deep/.gitignore").read_text() == "/made\n"
    lines = (plain.root / ".gitignore").read_text()
    assert lines == "/logs/\n/made.txt\n/odd \\[1\\]\n"
