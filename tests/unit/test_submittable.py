"""Which stages a job can run: what is refused, and what is only noted."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import Problems, UsageError
from mllam_exps.dvc.graph import Dep, Out, ParameterFile, StageEntry, StageGraph
from mllam_exps.preflight import submittable
from mllam_exps.preflight.submittable import StageChecks

PLAIN = "mllam-exps run train"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a script that git tracks, one that it does not, and one that it ignores."""
    here, clone = tmp_path / "here", tmp_path / "clone"
    for place in (here, clone):
        place.mkdir()
        (place / "tracked.py").touch()
    (here / "new.py").touch()
    (here / "ignored.py").touch()
    monkeypatch.setattr(submittable.clones, "untracked", lambda *_: [])

    def run_git(_root: Path, *words: str) -> subprocess.CompletedProcess[str]:
        tracked = "tracked/.keep\0" if words[-1] == ":(literal)tracked" else ""
        return subprocess.CompletedProcess(
            words, int(words[-1] != "ignored.py"), tracked
        )

    monkeypatch.setattr(submittable.git, "run_git", run_git)
    return here


def pipeline(root: Path, *entries: StageEntry, known: str = "") -> Any:
    """Return the stages in the clone of a repository; of `known` DVC has the result."""
    clone = root.parent / "clone"
    graph = StageGraph(entries)

    def known_to_dvc(stage: str) -> dict[str, Any]:
        if known == "unsure":
            raise UsageError("an input is missing", "a.txt")
        return {"out": {}} if stage == known else {}

    return SimpleNamespace(
        root=clone,
        repository=SimpleNamespace(
            graph=graph,
            root=clone,
            relative=lambda path: os.path.relpath(path, clone),
        ),
        stage=graph.stage,
        relative=lambda path: str(Path(path).relative_to(clone)),
        known_to_dvc=known_to_dvc,
        definition=lambda stage: f"definition of {stage}",
        made=lambda: [],
        parts=lambda stage: [stage],
        parameters_of=lambda stage: {"p.yaml": {"model": {"size": 1}, "lr": 1}},
    )


def entry(root: Path, name: str, cmd: Any, **more: Any) -> StageEntry:
    clone = root.parent / "clone"
    deps = tuple(Dep(d, str(clone / d)) for d in more.pop("deps", ["tracked.py"]))
    outs = tuple(Out(o, str(clone / o), cached=True) for o in more.pop("outs", []))
    return StageEntry(name, cmd, str(clone), deps=deps, outs=outs, **more)


def looked_at(stages: Any, root: Path, *asked: str) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    found = StageChecks(root, notes.append).definitions(stages, asked)
    return dict(found), notes


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "of another file": (
        {"name": "sub/dvc.yaml:a", "cmd": "x", "is_elsewhere": True},
        "sub/dvc.yaml:a: stages of other dvc.yaml files are not submitted",
    ),
    "called as the last job is": (
        {"name": "save", "cmd": "x"},
        "dvc.yaml: save: is what the last job of every experiment is called",
    ),
    "called too long": (
        {"name": "a" * 230, "cmd": "x"},
        f"dvc.yaml: {'a' * 60}…: has too long a name, of 230 letters: a folder of the run store is called after it",
    ),
    "with an output that git has a file of": (
        {"name": "a", "cmd": "x", "outs": ["tracked"]},
        "dvc.yaml: a: in its output tracked git tracks tracked/.keep: "
        "an output belongs to git or to DVC's cache, not to both",
    ),
    "frozen": (
        {"name": "a", "cmd": "x", "frozen": True},
        "dvc.yaml: a: is frozen: its result is not that of the files as they are, and DVC would take it all the same",
    ),
    "ours, and more": (
        {"name": "train", "cmd": f"{PLAIN} && rm x"},
        "dvc.yaml: train: calls `mllam-exps run` beside other things: "
        "its job would run something else than DVC does",
    ),
    "ours, without a program": (
        {"name": "nobody", "cmd": "mllam-exps run nobody"},
        "dvc.yaml: there is no program for the stage 'nobody'",
    ),
    "names a file that git does not track": (
        {"name": "a", "cmd": "python new.py"},
        "dvc.yaml: a: its command names new.py, which git does not track: its job would not have that file",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_job_can_run_is_refused(root: Path, case: str):
    asked, told = REFUSED[case]
    stages = pipeline(root, entry(root, **asked))
    with pytest.raises(Problems) as caught:
        looked_at(stages, root, asked["name"])
    assert [one.problem.sentence for one in caught.value.problems] == [told]


def test_a_command_that_reads_the_files_here_and_not_its_copy_is_refused(root: Path):
    stages = pipeline(root, entry(root, "a", f"python {root}/tracked.py {root}/new.py"))
    with pytest.raises(Problems) as caught:
        looked_at(stages, root, "a")
    [told] = caught.value.problems
    assert told.problem.what == (
        f"its command names {root}/tracked.py, which lies in this repository"
    )
    assert told.problem.next == "write tracked.py instead"
    # An environment, or a folder of data that git ignores, may lie here.
    ignored = pipeline(root, entry(root, "a", f"python {root}/ignored.py"))
    assert looked_at(ignored, root, "a")[0]


def test_one_that_keeps_what_lies_there_is_refused(root: Path):
    kept = Out("out", str(root / "out"), cached=True, persist=True)
    stage = StageEntry("a", "x", str(root.parent / "clone"), outs=(kept,))
    with pytest.raises(Problems, match=r"keeps what an earlier run left in out"):
        looked_at(pipeline(root, stage), root, "a")


def test_everything_is_refused_at_once_and_each_thing_once(root: Path):
    stages = pipeline(
        root,
        entry(root, "a", "python new.py", frozen=True),
        entry(root, "save", "x"),
    )
    missing = UsageError("there is no such file", "b.txt")

    def definition(_stage: str) -> Any:
        raise Problems(problems=[missing])

    stages.definition = stages.parts = definition
    with pytest.raises(Problems) as caught:
        looked_at(stages, root, "a", "save")
    whats = [one.what.split()[1] for one in caught.value.problems]
    assert whats == ["frozen", "is", "what"]


NOTED: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "nothing": ({"cmd": "python tracked.py"}, "", []),
    "no dependency": (
        {"cmd": "python tracked.py", "deps": ["other.txt"]},
        "",
        [
            "a calls tracked.py, which is not among its deps in dvc.yaml: editing it would not run the stage again"
        ],
    ),
    "ignored": (
        {"cmd": "python ignored.py"},
        "",
        ["a names ignored.py, which git ignores: its job does not have it"],
    ),
    "known to DVC, so that nothing runs": ({"cmd": "python new.py"}, "a", []),
    "frozen, with a result": (
        {"cmd": "python tracked.py", "frozen": True},
        "a",
        [],
    ),
    "runs always": (
        {"cmd": "date", "deps": []},
        "",
        [
            "a has no dependencies, or is always_changed: jobs run it once for the same inputs"
        ],
    ),
    "made by another stage": (
        {"cmd": "python made.py"},
        "",
        [
            "a calls made.py, which stage maker makes, and which is not among its deps in dvc.yaml: "
            "its job does not have it"
        ],
    ),
    "made by another stage, a dependency": (
        {"cmd": "python made.py", "deps": ["made.py"]},
        "",
        [],
    ),
    "asks git for its history": (
        {"cmd": "git describe --tags"},
        "",
        [
            "a calls git describe: its job has the commit that is checked out, no tags and none before;"
            " with dvc repro git may say more"
        ],
    ),
    "made by itself, with a parameter that DVC overlooks": (
        {"cmd": "python own.py", "outs": ["own.py"]},
        "",
        [
            "DVC's run cache (3.67) overlooks what is called nfiles or size: dvc repro and dvc exp run may take a"
            " result of a that was made with another p.yaml: model.size; jobs do not. Another name helps"
        ],
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_stops_nothing_is_noted(root: Path, case: str):
    asked, known, expected = NOTED[case]
    for made in ("made.py", "own.py"):
        (root / made).touch()
    maker = entry(root, "maker", "x", outs=["made.py"])
    stages = pipeline(root, maker, entry(root, "a", **asked), known=known)
    found, notes = looked_at(stages, root, "a")
    assert found == {"a": "definition of a"}
    assert notes == expected


def test_files_that_git_does_not_track_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(submittable.clones, "untracked", lambda *_: ["new.py"])
    a, b = entry(root, "a", "x"), entry(root, "b", "x")
    _, notes = looked_at(pipeline(root, a, b, known="b"), root, "a", "b")
    told = "the job of a does not have files that git does not track: new.py"
    assert notes == [told]
    # Where nobody can say what DVC knows, a job may run it.
    _, notes = looked_at(pipeline(root, a, known="unsure"), root, "a")
    assert notes == [told]


def test_stages_that_make_no_result_have_no_definition(root: Path):
    checks = entry(root, "check_for_venv_path", "mllam-exps run check_for_venv_path")
    trains = entry(root, "train", PLAIN)
    found, notes = looked_at(pipeline(root, checks, trains), root, checks.name, "train")
    assert (list(found), notes) == (["train"], [])


@pytest.mark.parametrize(
    ("reads", "refused"),
    [
        (["linked"], False),
        (["linked/below"], False),
        (["/elsewhere/file"], False),
        (["tracked.py"], False),
        (["made.py"], True),
    ],
)
def test_an_input_that_leads_to_an_output_is_refused(
    root: Path, reads: list[str], refused: bool
):
    clone = root.parent / "clone"
    stages = pipeline(root, entry(root, "maker", "x", outs=["made.py"]))
    files = [str(clone / file) for file in reads]
    try:
        submittable.refuse_links_to_outputs(stages.repository, "linked", files, root)
    except UsageError as error:
        assert refused
        assert "leads through a link to made.py, which stage maker makes" in error.what
    else:
        assert not refused


def test_an_absolute_link_to_an_output_is_refused(root: Path):
    stages = pipeline(root, entry(root, "maker", "x", outs=["made.py"]))
    with pytest.raises(UsageError, match=r"leads through a link to made.py"):
        submittable.refuse_links_to_outputs(
            stages.repository, "linked", [str(root / "made.py")], root
        )


def test_an_output_behind_a_link_is_refused(root: Path):
    (root.parent / "clone/linked").symlink_to("real")
    stages = pipeline(root, entry(root, "a", "x", outs=["linked/out.txt"]))
    with pytest.raises(Problems, match=r"linked/out.txt lies behind a link"):
        looked_at(stages, root, "a")


def test_parameters_that_lead_to_an_output_are_refused(root: Path):
    clone = root.parent / "clone"
    (clone / "p.yaml").symlink_to("made.yaml")
    file = ParameterFile("p.yaml", str(clone / "p.yaml"))
    maker = entry(root, "maker", "x", outs=["made.yaml"])
    reads = dataclasses.replace(entry(root, "a", "x"), params=(file,))
    with pytest.raises(Problems, match=r"p.yaml leads through a link to made.yaml"):
        looked_at(pipeline(root, maker, reads), root, "a")
