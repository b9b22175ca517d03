"""What an experiment may be called, which stages it has, and what another one at work keeps it from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.parameters.overrides import Variant
from mllam_exps.dvc.saved.experiment_refs import Saved, called
from mllam_exps.dvc.stages.asked_stages import asked_stages
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import names
from mllam_exps.submission.names import Names, refuse_what_was_taken

AT_WORK, FAILED = RunState.RUNNING, RunState.FAILED


def experiment(name: str, state: RunState, *keys: str, identity: str = "") -> Any:
    return SimpleNamespace(
        name=name,
        commit="c" if state is RunState.DONE else "",
        identity=identity or f"save-{name}",
        is_mine=True,
        unique_name=("origin", "baseline", name),
        overrides={"params.yaml": ["lr=1"]},
        saving=SimpleNamespace(state=state),
        steps=[SimpleNamespace(key=key, known={}) for key in keys],
    )


@pytest.fixture(autouse=True)
def states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "assess", lambda run: Assessment(run.state))


CASES: list[tuple[list[Any], list[str], bool, str]] = [
    ([], [], False, ""),
    ([experiment("a", FAILED)], [], False, ""),
    ([experiment("b", AT_WORK)], ["c"], False, ""),
    ([experiment("a", AT_WORK)], [], False, "which is at work"),
    ([experiment("a", AT_WORK)], [], True, "which is at work"),
    ([experiment("a", RunState.DONE)], ["a"], False, "that was submitted"),
    ([experiment("a", RunState.DONE)], ["a"], True, ""),
    ([], ["a"], False, "that starts here"),
    ([], ["a"], True, ""),
]


@pytest.mark.parametrize(("submitted", "in_git", "force", "refused"), CASES)
def test_a_name_that_others_have(
    submitted: list[Any], in_git: list[str], force: bool, refused: str
):
    taken = Names(submitted, lambda: dict.fromkeys(in_git, "c"), force=force)
    if not refused:
        assert taken.name(Variant({}, "a")) == "a"
        return
    with pytest.raises(UsageError, match=refused):
        taken.name(Variant({}, "a"))


def test_whoever_repeats_a_command_is_told_that_files_have_changed():
    taken = Names([experiment("a", AT_WORK)], dict, force=False)
    with pytest.raises(UsageError, match="files that it reads have changed since"):
        taken.name(Variant({"params.yaml": ["lr=1"]}, "a"))


def test_one_that_is_saved_while_its_name_is_asked_for_keeps_it():
    answers = iter([{}, {"a": "c"}])
    taken = Names([experiment("a", RunState.DONE)], lambda: next(answers), force=False)
    with pytest.raises(UsageError, match="that was submitted"):
        taken.name(Variant({}, "a"))


def test_two_of_one_submission_get_two_names():
    taken = Names([], dict, force=False)
    first = taken.name(Variant({}, ""))
    taken.take(experiment(first, AT_WORK))
    assert taken.name(Variant({}, "")) != first


PLANNED = experiment("a", RunState.NEW, "grow-1", identity="save-1")
TAKEN: list[tuple[Any, bool, str]] = [
    (experiment("b", AT_WORK, "grow-2"), True, ""),
    (experiment("b", AT_WORK, "grow-1"), False, ""),
    (experiment("b", AT_WORK, "grow-1"), True, "which is at work, needs grow-1"),
    (experiment("b", FAILED, "grow-1"), True, ""),
    (experiment("a", AT_WORK, identity="save-1"), False, ""),
    (experiment("a", AT_WORK, identity="save-1"), True, "experiment a is at work"),
    (experiment("a", AT_WORK, identity="save-2"), False, "submitted a moment ago"),
    (experiment("a", FAILED, identity="save-2"), False, ""),
]


@pytest.mark.parametrize(("other", "force", "refused"), TAKEN)
def test_what_was_taken_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    other: Any,
    force: bool,
    refused: str,
):
    monkeypatch.setattr(names.experiments, "unsaved", lambda _: iter([other]))
    if not refused:
        refuse_what_was_taken(RunStore(tmp_path), [PLANNED], force=force)
        return
    with pytest.raises(UsageError, match=refused):
        refuse_what_was_taken(RunStore(tmp_path), [PLANNED], force=force)


NEEDS: dict[str, list[str]] = {
    "make": [],
    "grow@1": ["make"],
    "grow@2": ["make"],
    "draw": ["grow@2"],
    "other/dvc.yaml:far": [],
}


class Pipeline:
    """Stages, each with those that it needs; of one another dvc.yaml says what it is."""

    stage_names = tuple(NEEDS)

    def needs(self, stage: str) -> list[str]:
        return NEEDS[stage]

    def in_order(self) -> list[str]:
        return list(NEEDS)

    def stage(self, name: str) -> Any:
        if name not in NEEDS:
            raise UsageError("is no stage", name)
        return SimpleNamespace(is_elsewhere=name.startswith("other/"))


@pytest.mark.parametrize(
    ("targets", "stages"),
    [
        ((), ["make", "grow@1", "grow@2", "draw"]),
        (("draw",), ["make", "grow@2", "draw"]),
        (("grow",), ["make", "grow@1", "grow@2"]),
        (("grow@1", "other/dvc.yaml:far"), ["make", "grow@1", "other/dvc.yaml:far"]),
    ],
)
def test_stages_that_were_asked_for_bring_those_that_they_need(
    targets: tuple[str, ...], stages: list[str]
):
    pipeline, repo = Pipeline(), SimpleNamespace()
    assert asked_stages(pipeline, repo, targets) == stages  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ignored", "way_out"), [(True, "check-ignore"), (False, "init DIRECTORY")]
)
def test_a_repository_without_stages(ignored: bool, way_out: str):
    pipeline = SimpleNamespace(stage_names=[])
    repo = SimpleNamespace(is_ignored_by_git=lambda _: ignored)
    with pytest.raises(UsageError, match="has no stages") as caught:
        asked_stages(pipeline, repo, ())  # type: ignore[arg-type]
    assert way_out in caught.value.next
    with pytest.raises(UsageError, match="is no stage"):
        asked_stages(Pipeline(), repo, ("nothing",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("in_git", "force", "refused"),
    [
        ({}, False, False),
        ({"a": "ours"}, False, False),
        ({"a": "another's"}, False, True),
        ({"a": "another's"}, True, False),
    ],
)
def test_who_was_saved_keeps_its_name_unless_git_gave_it_to_another(
    in_git: dict[str, str], force: bool, refused: bool
):
    known = experiment("a", RunState.DONE)
    known.commit = "ours"
    taken = Names([known], lambda: in_git, force=force)
    if not refused:
        assert taken.name_again(known) == "a"
        return
    with pytest.raises(UsageError, match="removed or renamed since"):
        taken.name_again(known)


BEING_MADE: list[tuple[RunState, RunState | None, RunState, bool]] = [
    # of the run, of the saving of who wants it, of what it needs: is it being made?
    (RunState.NEW, None, RunState.NEW, False),
    (RunState.STARTING, None, RunState.NEW, True),  # for somebody's `dvc exp run`
    (RunState.RUNNING, AT_WORK, RunState.DONE, True),
    (RunState.FAILED, AT_WORK, RunState.DONE, False),
    (RunState.NEW, AT_WORK, AT_WORK, True),
    (RunState.NEW, FAILED, AT_WORK, False),
    (RunState.NEW, AT_WORK, FAILED, False),
    (RunState.STARTING, AT_WORK, RunState.CANCELLED, False),
]


@pytest.mark.parametrize(("state", "saving", "needed", "expected"), BEING_MADE)
def test_a_run_is_being_made_where_somebody_waits_for_it_and_it_can_come(
    monkeypatch: pytest.MonkeyPatch,
    state: RunState,
    saving: RunState | None,
    needed: RunState,
    expected: bool,
):
    runs = {
        "grow-1": SimpleNamespace(
            state=state, result=None, wanted=["save-a"] if saving else []
        ),
        "make-1": SimpleNamespace(state=needed, result=None, wanted=[]),
    }
    other = experiment("a", saving or RunState.NEW)
    other.steps = [
        SimpleNamespace(key="make-1", known={}, needs=()),
        SimpleNamespace(key="grow-1", known={}, needs=("make-1",)),
    ]
    other.store = SimpleNamespace(run=runs.__getitem__, directory=Path())
    monkeypatch.setattr(names.experiments, "read", lambda _place: other)
    monkeypatch.setattr(names.experiments, "folder", lambda _store: Path())
    assert names.is_being_made(other.store, "grow-1") is expected


def test_saved_experiments_are_named_by_patterns_too_each_once():
    names = ["width-10", "deep", "width-2", "width-1"]
    found = [
        Saved(f"refs/exps/{name}", name, name, float(-number))
        for number, name in enumerate(names)
    ]
    for words, meant in {
        ("width-*",): ["width-1", "width-2", "width-10"],
        ("deep", "width-?", "*-1"): ["deep", "width-1", "width-2"],
        ("width-[2-9]",): ["width-2"],
    }.items():
        assert [one.name for one in called(words, found, "here")] == meant
    with pytest.raises(UsageError, match=r"no experiment high-\* is here"):
        called(["high-*"], found, "here")
