"""Where we are: the repository that a workspace belongs to, and what a killed DVC left behind. git is not asked."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.commands.reading import status
from mllam_exps.machines import workspace
from mllam_exps.machines.workspace import Workspace

BRANCH, EXEC = "refs/heads/main", "refs/exps/exec/EXEC_HEAD"
LEFT = "checkout: moving from main to " + "a" * 40
REFLOG = f"HEAD@{{100}}\treset: moving to HEAD\nHEAD@{{90}}\t{LEFT}\n"


def answers(monkeypatch: pytest.MonkeyPatch, **said: str) -> None:
    """Let git answer, by its first word."""
    monkeypatch.setattr(
        workspace,
        "ask_git",
        lambda _root, *words: said.get(words[0].replace("-", "_"), ""),
    )


LEFTOVERS: dict[str, tuple[dict[str, str], float | None, bool]] = {
    "on a branch": ({"symbolic_ref": BRANCH}, None, False),
    "detached, not by DVC": ({}, None, False),
    "detached by a killed one": (
        {"for_each_ref": EXEC, "reflog": REFLOG, "rev_parse": "b" * 40},
        None,
        True,
    ),
    "detached before this one began": (
        {"for_each_ref": EXEC, "reflog": REFLOG, "rev_parse": "b" * 40},
        95.0,
        True,
    ),
    "detached by this one": (
        {"for_each_ref": EXEC, "reflog": REFLOG, "rev_parse": "b" * 40},
        90.5,
        False,
    ),
    "from a branch that is gone": (
        {"for_each_ref": EXEC, "reflog": REFLOG},
        None,
        False,
    ),
    "never on a branch": ({"for_each_ref": EXEC, "rev_parse": "b" * 40}, None, False),
}


@pytest.mark.parametrize("case", LEFTOVERS)
def test_a_head_that_a_killed_dvc_left_detached_is_told(
    monkeypatch: pytest.MonkeyPatch, case: str
):
    said, since, told = LEFTOVERS[case]
    answers(monkeypatch, **said)
    monkeypatch.setattr(psutil, "process_iter", lambda: [])
    found = workspace.leftovers(Path("/here"), since)
    way_out = "git switch main, once no dvc runs here"
    assert [one.split("→ ")[1] for one in found] == ([way_out] if told else [])


class Process:
    """A process of this host; one of somebody else's cannot be looked at."""

    def __init__(self, cwd: str, *command: str, pid: int = 2**30) -> None:
        self.place, self.command, self.pid = cwd, command, pid

    def cwd(self) -> str:
        if not self.place:
            raise psutil.AccessDenied
        return self.place

    def cmdline(self) -> list[str]:
        return list(self.command)


@pytest.mark.parametrize(
    ("process", "works"),
    [
        (Process("/here", "dvc", "exp", "run"), True),
        (Process("/here", "python", "-m", "dvc", "repro"), True),
        (Process("/here", "/venv/bin/python", "/venv/bin/dvc", "repro"), True),
        (Process("/here", "vim", "dvc.yaml"), False),
        (Process("/there", "dvc", "exp", "run"), False),
        (Process("", "dvc", "exp", "run"), False),
        (Process("/here", "dvc", "exp", "run", pid=os.getppid()), False),
    ],
)
def test_while_a_dvc_works_there_nothing_is_left_over(
    monkeypatch: pytest.MonkeyPatch, process: Process, works: bool
):
    answers(monkeypatch, for_each_ref=EXEC, reflog=REFLOG, rev_parse="b" * 40)
    monkeypatch.setattr(psutil, "process_iter", lambda: [process])
    assert (workspace.leftovers(Path("/here")) == []) is works
    # Another one has detached HEAD, before the one that works around us was started.
    assert (workspace.leftovers(Path("/here"), 1e9) == []) is works
    assert workspace.is_reproduced(Path("/here")) is works


def test_a_workspace_is_read_from_what_dvc_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answers(monkeypatch, rev_parse="head")
    root = tmp_path / ".dvc/tmp/exps/standalone/tmp1"
    (root / "data").mkdir(parents=True)
    (root / ".dvc").mkdir()
    with pytest.raises(UsageError, match=r"no dvc\.yaml here or above"):
        Workspace.here({}, root / "data")
    (root / "dvc.yaml").touch()
    outside = Workspace.here({}, root / "data")
    assert (outside.experiment, outside.commit) == (workspace.OUTSIDE, "head")
    given = {"DVC_EXP_NAME": "a b", "DVC_EXP_BASELINE_REV": "base"}
    inside = Workspace.here(given, root / "data")
    assert (inside.root, inside.experiment, inside.commit) == (root, "a b", "base")


@pytest.mark.parametrize(
    ("place", "environ", "configured", "origin"),
    [
        ("repo", {}, "", "repo"),
        ("repo/.dvc/tmp/exps/tmp1", {}, "", "repo"),
        ("repo/.dvc/tmp/exps/tmp1", {"DVC_ROOT": "repo"}, "", "repo"),
        ("elsewhere/tmp1", {"DVC_ROOT": "repo"}, "", "elsewhere/tmp1"),
        ("repo/below", {"DVC_ROOT": "repo/below/none"}, "", "repo/below"),
        ("clone", {"MLLAM_EXPS_ORIGIN": "repo"}, "", "repo"),
        ("clone", {}, "repo", "repo"),
        ("clone", {"MLLAM_EXPS_ORIGIN": "repo"}, "other", "repo"),
    ],
)
def test_the_origin_of_a_workspace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    environ: dict[str, str],
    configured: str,
    origin: str,
):
    (tmp_path / "repo/.dvc").mkdir(parents=True)
    answers(monkeypatch, config=str(tmp_path / configured) if configured else "")
    given = {name: str(tmp_path / value) for name, value in environ.items()}
    assert workspace.origin_root(tmp_path / place, given) == tmp_path / origin


def test_the_run_store_lies_beside_the_cache_unless_the_machine_says_otherwise():
    here = Workspace(Path("/here"), Path("/here"), "a", "c")
    own: Any = SimpleNamespace(paths=SimpleNamespace(run_store=Path("/store")))
    none: Any = SimpleNamespace(paths=SimpleNamespace(run_store=None))
    assert here.store_directory(own, Path("/cache")) == Path("/store")
    assert here.store_directory(none, Path("/cache")) == Path("/cache/mllam-exps")


def test_an_experiment_is_gone_on_with_under_its_name():
    assert workspace.exp_run(workspace.OUTSIDE) == "dvc exp run"
    assert workspace.exp_run("a b") == "dvc exp run -n 'a b'"


def test_below_the_root_another_dvc_yaml_hides_nothing_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answers(monkeypatch)
    root, below = tmp_path / "root", tmp_path / "root/sub/below"
    below.mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / "sub/dvc.yaml").touch()
    with pytest.raises(UsageError, match=r"sub/dvc\.yaml: stages of other dvc\.yaml"):
        Workspace.here({}, below)
    (root / "dvc.yaml").touch()
    assert Workspace.here({}, below).root == root
    monkeypatch.chdir(root)
    workspace.refuse_other_stages(root)
    monkeypatch.chdir(below)
    with pytest.raises(UsageError, match=r"sub/dvc\.yaml: stages of other") as caught:
        workspace.refuse_other_stages(root)
    assert f"cd {root}" in str(caught.value)
    (root / "sub/.dvc").mkdir()
    assert Workspace.here({}, below).root == root / "sub", "DVC's own root"


@pytest.mark.parametrize(
    ("over", "submitted", "dvc_works", "at_rest"),
    [
        (True, False, False, True),
        (True, False, True, False),
        (True, True, True, True),
        (False, True, False, False),
    ],
)
def test_between_two_stages_of_dvc_nothing_is_over(
    monkeypatch: pytest.MonkeyPatch,
    over: bool,
    submitted: bool,
    dvc_works: bool,
    at_rest: bool,
):
    """`status --watch` had ended, with exit code 0, after a training whose evaluation was to come."""
    monkeypatch.setattr(status, "is_reproduced", lambda _root: dvc_works)
    row: Any = SimpleNamespace(
        over=over, stuck=False, experiment=object() if submitted else None
    )
    here: Any = SimpleNamespace(workspace=SimpleNamespace(root=Path("/here")))
    assert status._is_at_rest(here, [row]) is at_rest
