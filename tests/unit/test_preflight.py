"""What is looked at before anything starts, and refused."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.machines.machine_files import Machine, load
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.schedulers import Objection, Uncertain


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a machine, whose environment has a Python."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.touch(0o755)
    (tmp_path / "machines").mkdir()
    return tmp_path


def machine(root: Path, text: str = "") -> Machine:
    venv = f"environment: {{venv: {root}/venv}}\n" if "environment" not in text else ""
    (root / "machines/x.yaml").write_text(f"scheduler: local\n{venv}{text}")
    return load(root, "x")


def here(root: Path) -> Workspace:
    return Workspace(root, root, "workspace", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("environment: {venv: /nowhere}\n", "no Python in the virtual environment"),
        (
            "environment: {source: [own.sh]}\n",
            "machines/own.sh: there is no such script: environment.source names it",
        ),
        ("paths: {run_store: /proc/none}\n", "the run store cannot be written"),
    ],
)
def test_what_a_machine_names_has_to_be_there(root: Path, text: str, told: str):
    if not told:
        checks.check_environment(machine(root, text), root)
        return
    with pytest.raises(UsageError) as caught:
        checks.check_environment(machine(root, text), root)
    assert told in caught.value.problem.sentence


def test_a_run_store_in_a_folder_of_a_group_is_the_group_s(root: Path):
    """Whoever is first looks for it before anything is run: the others could not write to what a umask made."""
    (root / "team").mkdir()
    (root / "team").chmod(0o2775)
    before = os.umask(0o022)
    try:
        store = root / "team/store"
        checks.check_environment(machine(root, f"paths: {{run_store: {store}}}"), root)
    finally:
        os.umask(before)
    assert stat.filemode(store.stat().st_mode) == "drwxrwsr-t"


def test_a_scheduler_has_to_be_there(root: Path, monkeypatch: pytest.MonkeyPatch):
    lacks = SimpleNamespace(missing=lambda: "no command sbatch on this host")
    monkeypatch.setattr(checks.schedulers, "get", lambda *_: lacks)
    with pytest.raises(UsageError, match="no command sbatch on this host"):
        checks.check_environment(machine(root), root)


def test_programs_that_are_absent_are_named(root: Path):
    versions = {"torch": "2.13", "zarr": "absent"}
    checks.check_programs(machine(root), ["torch"], versions)
    with pytest.raises(UsageError, match=r"^.*: zarr, dask not installed in"):
        checks.check_programs(machine(root), ["torch", "zarr", "dask"], versions)


class Look:
    """A preflight that finds some problems."""

    def __init__(self, *whats: str) -> None:
        self.problems = [UsageError(what) for what in whats]

    def check_parameters(self, _root: Path, _python: Path) -> list[MllamError]:
        return list(self.problems)


def test_every_problem_of_the_parameters_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    found: list[Look] = [Look()]
    monkeypatch.setattr(checks.stages, "preflights", lambda _: found)
    checks.check_parameters(here(root), machine(root))
    found += [Look("a", "b"), Look("c")]
    with pytest.raises(Problems) as caught:
        checks.check_parameters(here(root), machine(root))
    assert [one.what for one in caught.value.problems] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("objections", "notes", "refused"),
    [
        ([], [], []),
        (
            [("train", Objection("nodes are down", final=False))],
            ["train: its job will have to wait: nodes are down"],
            [],
        ),
        (
            [
                ("train", Objection("Invalid account", final=True)),
                ("evaluate", Objection("nodes are down", final=False)),
            ],
            [],
            ["train: machine x: the scheduler would refuse its job: Invalid account"],
        ),
        (
            None,
            ["local could not be asked whether it would take the jobs: no answer"],
            [],
        ),
    ],
)
def test_what_the_scheduler_says_of_jobs(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    objections: list[tuple[str, Objection]] | None,
    notes: list[str],
    refused: list[str],
):
    def asked(*_: Any) -> list[tuple[str, Objection]]:
        if objections is None:
            raise Uncertain("no answer")
        return objections

    monkeypatch.setattr(checks, "sizes_of", lambda _: {})
    monkeypatch.setattr(checks.job_request, "objections", asked)
    try:
        assert checks.check_jobs(here(root), machine(root)) == notes
    except Problems as several:
        assert [one.problem.sentence for one in several.problems] == refused
    else:
        assert refused == []


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "answer"),
    [
        ('loading modules\n{"a": 1}\n', "", 0, {"a": 1}),
        ("", "Traceback\nImportError: no zarr\n", 1, "ImportError: no zarr"),
        ("not JSON", "", 3, "exit code 3"),
        ("", "", 1, "exit code 1"),
    ],
)
def test_the_stages_environment_answers_in_its_last_line(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    stdout: str,
    stderr: str,
    code: int,
    answer: Any,
):
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, stdout, stderr)

    monkeypatch.setattr(subprocess, "run", run)
    ask = checks.asking(here(root), machine(root))
    assert ask("a.module", "word") == answer
    assert asked[0][-5:] == [f"{root}/venv/bin/python", "-P", "-m", "a.module", "word"]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("torch: '2.13'\nother: 1\n", ""),
        ("torch: '2.12'\n", "torch 2.13, the key says 2.12"),
        ("", "it is missing"),
        (None, "it is missing"),
    ],
)
def test_versions_that_are_written_for_other_programs_are_refused(
    root: Path, written: str | None, told: str
):
    if written is not None:
        (root / "version.mllam.txt").write_text(written)
    expected = {"torch": "2.13"}
    if not told:
        expected["other"] = 1  # type: ignore[assignment]
        checks.check_versions_file(root, expected, "train")
        return
    with pytest.raises(UsageError) as caught:
        checks.check_versions_file(root, expected, "train")
    assert caught.value.why == told
    assert caught.value.next.startswith("dvc repro train")
