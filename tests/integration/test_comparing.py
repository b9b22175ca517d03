"""What differs between two experiments, told from their commits alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from mllam_exps.base.errors import UsageError
from mllam_exps.commands.reading.compare import compare
from mllam_exps.commands.team import exchange, export
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import differences, experiment_refs
from mllam_exps.submission import standing
from mllam_exps.views.context import saved_here

STAGES = {
    "train": {
        "cmd": "python train.py",
        "deps": ["data.csv", "train.py"],
        "params": [{"own.yaml": ["width"]}, {"version.mllam.txt": ["torch"]}],
        "outs": ["model.bin"],
        "metrics": [{"scores.json": {"cache": False}}],
    }
}
"""``data.csv`` is data that git does not keep."""


def commit(
    root: Path, width: int, rmse: float, data: str, torch: str, code: str
) -> None:
    """Commit what an experiment would: its files, its metrics, and what it read."""
    (root / "own.yaml").write_text(f"width: {width}\nuntracked: 1\n")
    (root / "version.mllam.txt").write_text(f"torch: {torch}\n")
    (root / "scores.json").write_text(json.dumps({"rmse": {"t2m": rmse}}))
    (root / "train.py").write_text(code)
    lock = {
        "schema": "2.0",
        "stages": {
            "train": {
                "cmd": "python train.py",
                "deps": [{"path": "data.csv", "hash": "md5", "md5": data * 32}],
                "outs": [
                    {"path": "model.bin", "hash": "md5", "md5": "c" * 31 + str(width)}
                ],
            }
        },
    }
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    subprocess.run("git add -A && git commit -qm E", shell=True, check=True, cwd=root)


@pytest.fixture
def root(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A repository with two revisions, `one` and `other`."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    place = tmp_path / "repository"
    place.mkdir()
    monkeypatch.chdir(place)
    subprocess.run("git init -q && dvc init -q", shell=True, check=True)
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    commit(place, 4, 1.5, "a", "2.12", "print()")
    subprocess.run("git tag one", shell=True, check=True)
    commit(place, 8, 1.25, "b", "2.13", "print(1)")
    subprocess.run("git tag other", shell=True, check=True)
    return place


def test_each_kind_of_difference_is_told_once(
    root: Path, capsys: pytest.CaptureFixture
):
    compare("one", "other", as_json=True)
    told = json.loads(capsys.readouterr().out)
    found = {
        title: [
            (row["where"], row["what"], row["first"], row["second"], row["change"])
            for row in rows
        ]
        for title, rows in told.items()
    }
    assert found == {
        "parameters": [("own.yaml", "width", 4, 8, 4.0)],
        "scores": [("scores.json", "rmse.t2m", 1.5, 1.25, -0.25)],
        "inputs": [("data.csv", "", "a" * 32, "b" * 32, None)],
        "versions": [("version.mllam.txt", "torch", 2.12, 2.13, pytest.approx(0.01))],
        "commands": [],
        "files": [("train.py", "changed", None, None, None)],
        "outputs": [("model.bin", "", "c" * 31 + "4", "c" * 31 + "8", None)],
        "runs": [],
    }


def test_the_page_names_both_and_what_is_the_same(
    root: Path, capsys: pytest.CaptureFixture
):
    compare("one", "workspace", as_json=False)
    said = capsys.readouterr().out
    for word in (
        "one",
        "workspace",
        "own.yaml: width",
        "-0.25",
        "aaaaaaaa",
        "the same: commands, runs",
    ):
        assert word in said
    compare("other", "workspace", as_json=False)
    assert (
        "the same: parameters, scores, inputs, versions, commands, files, outputs, runs"
        in capsys.readouterr().out
    )


def test_what_another_s_commit_would_run_is_told_whatever_it_calls_its_files(
    root: Path,
):
    stages = {"train": {**STAGES["train"], "cmd": ["python train.py", "sh new.sh"]}}
    # Its own word that code is an output, or a parameter file, counts for nothing.
    stages["train"]["params"] = ["evil.py", {"train.py": None}]
    stages["odd"] = {"cmd": "true", "outs": [{"hook.py": {"cache": False}}]}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in ("new.sh", "hook.py"):
        (root / name).write_text("")
    (root / "own.yaml").write_text("width: 1\n")
    commit(root, 2, 1.0, "a", "2.12", "import evil")
    theirs = subprocess.run(
        "git rev-parse HEAD && git checkout -q one",
        shell=True,
        check=True,
        cwd=root,
        capture_output=True,
        text=True,
    ).stdout.strip()
    found = differences.of_what_runs(Repository.open(root), theirs)
    assert {(one.where, one.second or one.what) for one in found} == {
        ("train", "python train.py && sh new.sh"),
        ("odd", "true"),
        ("dvc.yaml", "changed"),
        ("train.py", "changed"),
        ("new.sh", "only in the second"),
        ("hook.py", "only in the second"),
    }


def test_files_of_git_s_outside_of_dvc_s_folder_are_told(tmp_path: Path):
    inner = tmp_path / "exp"
    inner.mkdir()
    for text in "ab":
        (tmp_path / "code.py").write_text(text)
        (inner / "own.py").write_text(text)
        words = "git init -q && git add -A && git commit -qm E && git tag "
        subprocess.run(words + text, shell=True, check=True, cwd=tmp_path)
    found = differences.of_files(inner, "a", "b", but=["own.py"])
    assert [one.where for one in found] == ["../code.py"]


def test_an_output_that_differs_though_nothing_else_does_is_told(
    root: Path, capsys: pytest.CaptureFixture
):
    lock = root / "dvc.lock"
    lock.write_text(lock.read_text().replace("c" * 31, "d" * 31))
    compare("other", "workspace", as_json=False)
    said = capsys.readouterr().out
    assert "model.bin" in said
    assert (
        "the same: parameters, scores, inputs, versions, commands, files, runs" in said
    )


def test_a_metric_that_one_side_has_not_made_yet_is_the_other_s_alone(
    root: Path, capsys: pytest.CaptureFixture
):
    (root / "scores.json").unlink()
    compare("other", "workspace", as_json=True)
    [row] = json.loads(capsys.readouterr().out)["scores"]
    assert (row["first"], row["second"]) == (1.25, None)
    # One that was made, and is gone, could be any number.
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    gone = {"path": "scores.json", "hash": "md5", "md5": "e" * 32}
    lock["stages"]["train"]["outs"].append(gone)
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    with pytest.raises(UsageError, match="DVC cannot compare"):
        compare("other", "workspace", as_json=True)


def test_an_unknown_name_is_refused(root: Path):
    with pytest.raises(
        UsageError, match="no saved experiment, and no revision, is called ono"
    ):
        compare("one", "ono", as_json=False)


def test_of_an_experiment_that_is_not_saved_yet_it_is_said_what_waits_for_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    def not_saved(_store: object, _origin: Path, name: str) -> UsageError | None:
        return UsageError("is not saved yet", name) if name == "two" else None

    monkeypatch.setattr(standing, "not_saved", not_saved)
    for ask in (
        lambda: compare("one", "two", as_json=False),
        lambda: export.export("two", out=None, largest=1.0, licence=""),
        lambda: exchange.push(["two", "./"], remote="", force=False, as_json=False),
    ):
        with pytest.raises(UsageError, match="two: is not saved yet"):
            ask()
    ref = experiment_refs.ref_of("a" * 40, "saved")
    subprocess.run(["git", "update-ref", ref, "HEAD"], check=True)
    assert [one.ref for one in saved_here(root, ["saved", "sav*"])] == [ref]
    with pytest.raises(UsageError, match="no experiment ono is saved here"):
        saved_here(root, ["ono"])


def test_a_revision_that_dvc_cannot_read_is_not_taken_for_one_that_is_the_same(
    root: Path,
):
    (root / "own.yaml").write_text("width: [\n")
    with pytest.raises(UsageError, match="DVC cannot compare"):
        compare("one", "workspace", as_json=False)
    (root / "own.yaml").write_text("width: 8\n")
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: 1\n")
    with pytest.raises(UsageError, match="DVC cannot compare"):
        compare("one", "workspace", as_json=False)
