"""What follows by itself after an attempt without a result: as the machine file says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.attempts import follow_up
from mllam_exps.base.endings.causes import Cause
from mllam_exps.machines.model import MoreMemory, Resources, Retry
from mllam_exps.runs.continuation import Rules
from mllam_exps.runs.state.judge import Assessment, RunState


@pytest.mark.parametrize(("rule", "is_tried"), [("again", True), ("stop", False)])
def test_an_input_that_was_damaged_follows_the_rule_of_an_error(
    rule: Any, is_tried: bool
):
    machine: Any = SimpleNamespace(retry=Retry(error=rule))
    stage: Any = SimpleNamespace(has_checkpoints=True)
    again = follow_up._again(machine, stage, None)
    assert ({Cause.ERROR, Cause.INPUT} <= again) is is_tried
    assert (Cause.INPUT in again) is is_tried


@pytest.mark.parametrize(
    ("cause", "follows", "memory", "since"),
    [
        (Cause.HOST_MEMORY, True, "9216M", 2),
        (Cause.TIME_LIMIT, True, "6G", 2),
        (Cause.HOST_MEMORY, False, "4G", 5),
    ],
)
def test_one_that_follows_by_itself_counts_those_before_it_and_gets_more_memory(
    monkeypatch: pytest.MonkeyPatch,
    cause: Cause,
    follows: bool,
    memory: str,
    since: int,
):
    before = Rules(frozenset({cause}), since=2, memory="6G")
    monkeypatch.setattr(follow_up, "rules_of", lambda _: before)
    attempt: Any = SimpleNamespace(number=4)
    after = Assessment(
        RunState.NEW, attempt=attempt, cause=cause, another_follows=follows
    )
    rule = Retry(host_memory=MoreMemory(up_to="64G"))
    of_stage = lambda _: Resources(memory="4G")  # noqa: E731 - as a machine's own
    machine: Any = SimpleNamespace(retry=rule, resources_for=of_stage)
    stage: Any = SimpleNamespace(has_checkpoints=True)
    told = follow_up.rules(machine, "train", stage, 5, after)
    assert (told.memory, told.since, told.resumes) == (memory, since, True)
