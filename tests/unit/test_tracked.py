"""What MLflow is told of an attempt, by what its run store has of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mllam_exps.attempts import tracked
from mllam_exps.base.errors import Problem
from mllam_exps.identity.definition import Input, Output, RunDefinition
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import JobPhase, JobState
from mllam_exps.stages.points import kept

WHY = Problem("out of memory")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RunStore(tmp_path).run(f"train-{'0' * 32}")


def an_attempt(run: Run) -> Attempt:
    made = run.claim(
        run.next_number,
        scheduler="local",
        experiment="toy",
        workspace=Path("/"),
        working_directory=None,
    )
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("state", "outcome", "status"),
    [
        (RunState.RUNNING, None, ""),
        (RunState.UNKNOWN, None, ""),
        (RunState.DONE, Outcome.SUCCEEDED, "FINISHED"),
        (RunState.FAILED, Outcome.FAILED, "FAILED"),
        (RunState.FAILED, Outcome.SUCCEEDED, "FAILED"),
        (RunState.CANCELLED, Outcome.CANCELLED, "KILLED"),
        (RunState.LOST, None, "FAILED"),
        # Another one is to follow, or the result was put aside.
        (RunState.NEW, None, "FAILED"),
        (RunState.NEW, Outcome.FAILED, "FAILED"),
        (RunState.NEW, Outcome.SUCCEEDED, "FINISHED"),
    ],
)
def test_how_its_run_stands(
    run: Run, state: RunState, outcome: Outcome | None, status: str
) -> None:
    attempt = an_attempt(run)
    if outcome is not None:
        attempt.end(outcome, WHY)
    told = tracked._end(run, attempt, state, WHY)
    assert told["status"] == status
    assert told["reason"] == ("out of memory" if status in {"FAILED", "KILLED"} else "")


def test_an_attempt_goes_on_with_the_story_before_unless_that_has_ended_well(
    run: Run,
) -> None:
    first, second = tracked.Tracked(an_attempt(run)), tracked.Tracked(an_attempt(run))
    assert first.name == second.name
    second.attempt.end(Outcome.SUCCEEDED)
    third = tracked.Tracked(an_attempt(run))
    assert third.name != second.name
    assert [len(story) for story in tracked._stories(run)] == [2, 1]
    assert tracked.Tracked(an_attempt(run), "wandb").name != third.name


def test_mlflow_is_searched_for_what_it_has_got(run: Run) -> None:
    assert not tracked.is_in_mlflow(run)
    an_attempt(run)  # logs nothing
    logs = tracked.Tracked(an_attempt(run))
    kept.note_sent(logs.folder, kept.Sent("http://server"))
    assert not tracked.is_in_mlflow(run), "the server was away"
    kept.note_sent(logs.folder, kept.Sent("http://server", "1" * 32, 7))
    assert tracked.is_in_mlflow(run)


def test_the_phases_of_a_training_name_the_first_one(run: Run) -> None:
    store = RunStore(run.store)
    output = Output("m", cached=True)
    whole = RunDefinition("train", {}, (), (output,), phase=1)
    first = key = whole.key
    for number in (2, 3, 4):
        before = Input(".phase-before/m", key, None, tracked=True)
        one = replace(whole, inputs=(before,), phase=number)
        made = store.run(one.key)
        if number < 4:
            made.begin(one)
        key = one.key
    attempt = an_attempt(made)
    told = tracked.Tracked(attempt, "mlflow", one, "sweep-2")
    assert told.family == kept.Family(first, "train-sweep-2")
    assert kept.head(told.folder) == kept.Head(told.name, 1, family=told.family)
    lines = [line for _, line in kept.read(told.folder)]
    assert {"tag": "phase", "value": "4"} in lines
    assert {"tag": "phase_before", "value": one.phase_before} in lines
    known = told.wandb({"WANDB_MODE": "offline"})
    assert known["WANDB_RUN_GROUP"] == first
    assert "WANDB_RUN_GROUP" not in told.wandb(
        {"WANDB_MODE": "offline", "WANDB_RUN_GROUP": "mine"}
    )


def test_what_is_told_of_an_attempt_before(run: Run) -> None:
    first = tracked.Tracked(an_attempt(run))
    verdict.remember(first.attempt, JobState(JobPhase.FAILED, "its node failed"))
    second = tracked.Tracked(an_attempt(run))
    second.attempt.end(Outcome.FAILED, WHY)
    third = tracked.Tracked(an_attempt(run))
    tags = {
        one["tag"]: one["value"]
        for folder in (second.folder, third.folder)
        for _, one in kept.read(folder)
        if "tag" in one
    }
    assert tags == {
        "attempt": "3",
        "attempt_1": "its node failed",
        "attempt_2": "failed: out of memory",
    }
