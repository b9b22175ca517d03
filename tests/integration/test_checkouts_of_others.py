"""What lies in a git repository inside, what git-lfs has not brought, and what DVC does not count."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.experiment import Experiment, make_repository

PIPELINE = """\
stages:
  count:
    cmd: cat data/* > {out}
    deps: [data]
    outs: [{out}]
"""


@pytest.fixture
def counting(tmp_path: Path, environ: dict[str, str]) -> Experiment:
    """A stage that reads a folder."""
    root = tmp_path / "counting"
    for path, text in {
        "dvc.yaml": PIPELINE.format(out="made.txt"),
        "data/one.txt": "one",
        "machines/here.yaml": "scheduler: local\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return make_repository(root, environ | {"MLLAM_MACHINE": "here"})


def submodule(experiment: Experiment, path: str) -> None:
    other = experiment.root.with_name("other")
    for words in (
        ["init", "-q", str(other)],
        ["-C", str(other), "commit", "-q", "--allow-empty", "-m", "One"],
    ):
        subprocess.run(["git", *words], env=experiment.environ, check=True)
    allowed = ("-c", "protocol.file.allow=always")
    experiment.ok("git", *allowed, "submodule", "-q", "add", str(other), path)


@pytest.mark.parametrize("checked_out", [True, False])
def test_an_output_in_a_submodule_is_refused(counting: Experiment, checked_out: bool):
    submodule(counting, "lib/rary")
    (counting.root / "dvc.yaml").write_text(PIPELINE.format(out="lib/rary/made.txt"))
    counting.ok("git", "add", "-A")
    counting.ok("git", "commit", "-qm", "Into the submodule")
    if not checked_out:
        counting.ok("git", "submodule", "-q", "deinit", "--all")
    done = counting.command("mllam-exps", "submit", "-n", "inside")
    assert done.returncode == 2, done.stdout
    assert "lib/rary/made.txt lies in lib/rary" in done.stdout


def test_an_output_beside_a_submodule_is_none_in_it(counting: Experiment):
    submodule(counting, "lib/rary")
    (counting.root / "dvc.yaml").write_text(PIPELINE.format(out="lib/made.txt"))
    counting.ok("git", "add", "-A")
    counting.ok("git", "commit", "-qm", "Beside the submodule")
    counting.ok("mllam-exps", "submit", "-n", "beside")


def test_a_pointer_of_git_lfs_is_no_input(counting: Experiment):
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4\n"
    )
    (counting.root / "data/two.txt").write_text(pointer)
    counting.ok("git", "add", "-A")
    done = counting.command("mllam-exps", "submit", "-n", "pointer")
    assert done.returncode == 2, done.stdout
    assert "data/two.txt is a pointer of git-lfs" in done.stdout


def test_what_git_keeps_of_an_input_and_dvc_does_not_count_is_said(
    counting: Experiment,
):
    assert "does not count" not in counting.ok("mllam-exps", "check")
    (counting.root / "data/two.tmp").write_text("two")
    (counting.root / ".dvcignore").write_text("*.tmp\n")
    counting.ok("git", "add", "-A")
    told = counting.ok("mllam-exps", "check")
    assert "DVC does not count data/two.tmp in the input data" in told


@pytest.mark.parametrize("read", ["data/added.txt", "data/one.txt", "data"])
def test_an_input_of_a_dvc_repository_inside_is_refused(
    counting: Experiment, read: str
):
    inner = Experiment(counting.root / "data", counting.environ)
    inner.ok("dvc", "init", "-q", "--subdir")
    (inner.root / "added.txt").write_text("two")
    inner.ok("dvc", "add", "-q", "added.txt")
    pipeline = PIPELINE.format(out="made.txt").replace("[data]", f"[{read}]")
    (counting.root / "dvc.yaml").write_text(pipeline)
    counting.ok("git", "add", "-A")
    done = counting.command("mllam-exps", "submit", "-n", "inner")
    assert done.returncode == 2, done.stdout
    told = f"the input {read} belongs to data, a DVC repository of its own"
    assert told in done.stdout
