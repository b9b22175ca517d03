"""What follows by itself when an attempt ends without a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllam_exps.attempts import follow_up
from mllam_exps.base.endings.causes import Cause
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.model import MoreMemory, Retry
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.continuation import NO_RULES, Rules, decide, in_vain
from mllam_exps.runs.directory import RunDirectory
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.stages.contract import Stage

AGAIN = frozenset({Cause.TIME_LIMIT, Cause.NODE_FAILURE})
MORE = MoreMemory(factor=1.5, up_to="100G")


class Resuming(Stage):
    """A stage that goes on from checkpoints."""

    name = "train"

    def carry(self, earlier: Path, scratch: Path) -> Path | None:
        return None


@pytest.mark.parametrize(
    ("reached", "vain"),
    [
        ([], 0),
        ([None], 1),
        ([3.0], 0),
        ([3.0, 3.0], 1),
        ([3.0, None, 3.0], 2),
        ([3.0, None, 4.0], 0),
        ([4.0, 3.0, 4.0, 5.0], 0),
        ([0.0, 0.0], 2),
    ],
)
def test_attempts_in_vain(reached: list[float | None], vain: int) -> None:
    assert in_vain(reached) == vain


def test_a_training_outlives_any_number_of_limits() -> None:
    rules = Rules(AGAIN, max_attempts=3, resumes=True)
    assert decide(rules, [float(epoch) for epoch in range(1, 21)]).causes == AGAIN


def test_one_that_comes_no_further_within_its_time_stops() -> None:
    follows = decide(Rules(AGAIN, max_attempts=3), [2.0, 2.0])
    assert follows.causes == {Cause.NODE_FAILURE}
    assert "raise resources.time" in follows.why_not[Cause.TIME_LIMIT]


def test_enough_is_enough() -> None:
    follows = decide(Rules(AGAIN, max_attempts=3), [2.0, None, None, 2.0])
    assert not follows.causes
    assert "3 attempts in a row" in follows.why_not[Cause.NODE_FAILURE]
    assert "is 1" in decide(Rules(AGAIN), [None]).why_not[Cause.TIME_LIMIT]


def test_rules_are_written_and_read() -> None:
    rules = Rules(AGAIN, max_attempts=4, since=2, resumes=True, memory="3G")
    assert Rules.from_record(rules.to_record()) == rules
    newer = rules.to_record() | {"again": ["time_limit", "node_failure", "meteor"]}
    assert Rules.from_record(newer) == rules
    assert Rules.from_record({}) == NO_RULES


def machine(**settings: object) -> Machine:
    return Machine(name="m", file=None, origins={}, scheduler="local", **settings)  # type: ignore[arg-type]


def after(cause: Cause | None, number: int = 4) -> Assessment:
    attempt = Attempt(RunDirectory(Path("/nowhere/runs/train-0")), number)
    return Assessment(
        RunState.NEW, attempt=attempt, cause=cause, another_follows=bool(cause)
    )


def test_rules_of_a_machine() -> None:
    found = follow_up.rules(machine(), "train", Resuming(), 5, after(None))
    assert found.since == 5, "a person asked for it: what was before does not count"
    assert found.resumes
    assert found.again == {
        Cause.TIME_LIMIT,
        Cause.PREEMPTION,
        Cause.NODE_FAILURE,
        Cause.KILLED,
        Cause.STALL,
    }
    without = follow_up.rules(machine(), "make", Stage(), 1, after(None))
    assert Cause.TIME_LIMIT not in without.again, "it would meet it once more"
    strict = machine(retry=Retry(killed="stop", error="again"))
    found = follow_up.rules(strict, "train", Resuming(), 5, after(None))
    assert Cause.KILLED not in found.again
    assert Cause.ERROR in found.again


@pytest.mark.parametrize(
    ("before", "then"),
    [(None, None), ("0", "0"), ("10G", "15360M"), ("80G", "102400M"), ("100G", "100G")],
)
def test_more_memory(before: str | None, then: str | None) -> None:
    assert follow_up.more_memory(before, MORE) == then
    assert follow_up.more_memory(before, "again") == before


def test_more_memory_is_asked_for_as_long_as_there_is_more() -> None:
    resources = {"train": {"memory": "80G"}}
    asked = machine(resources=resources, retry=Retry(host_memory=MORE))
    first = follow_up.rules(asked, "train", Resuming(), 1, Assessment(RunState.NEW))
    assert first.memory == "80G"
    assert Cause.HOST_MEMORY in first.again
    last = follow_up._again(asked, Resuming(), "100G")
    assert Cause.HOST_MEMORY not in last
