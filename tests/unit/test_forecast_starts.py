"""Which initial times forecasts are made from, and which are refused."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.neural_lam.parameters.starts import Series, Window, chosen

FIRST = datetime.datetime(2025, 12, 1)
STEP = datetime.timedelta(hours=6)
TIMES = [FIRST + n * STEP for n in range(40)]
SERIES = Series(TIMES, {"test": (TIMES[30], TIMES[39]), "val": (TIMES[20], TIMES[22])})
WINDOW = Window(steps=2, past=1, future=1)


def places(asked: dict[str, Any], window: Window = WINDOW) -> list[int]:
    return [TIMES.index(time) for time in chosen(asked, SERIES, window)]


def test_those_of_a_split_are_those_of_its_evaluation() -> None:
    # Two states before, two steps, and the forcing of one more, all in the split.
    assert places({"split": "test"}) == list(range(31, 37))
    assert places({"split": "test"}, Window(2, past=4, future=0)) == [
        33,
        34,
        35,
        36,
        37,
    ]


def test_a_split_that_is_long_enough_for_one() -> None:
    assert places({"split": "test"}, Window(7)) == [31]


@pytest.mark.parametrize("steps", [8, 9, 10, 12, 40])
def test_a_split_that_is_too_short_gives_none(steps: int) -> None:
    with pytest.raises(UsageError, match=f"no forecast of {steps} steps"):
        places({"split": "test"}, Window(steps))


def test_a_list_may_lie_anywhere_and_counts_each_once() -> None:
    asked = ["2025-12-08T12:00", "2025-12-01T06:00", "2025-12-08 12:00"]
    assert places({"starts": asked}) == [1, 30]


def test_ranges() -> None:
    limits = {"start": "2025-12-02", "end": "2025-12-03"}
    assert places({"starts": limits}) == list(range(4, 12))
    assert places({"starts": {**limits, "step": "PT12H"}}) == [4, 6, 8, 10]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"split": "val"}, "split val gives no forecast of 2 steps"),
        ({"starts": ["2025-12-01T00:00"]}, "2025-12-01T00:00 has too few times before it"),
        ({"starts": ["2025-12-10T06:00"]}, "2025-12-10T06:00 has too few times after it"),
        ({"starts": ["2025-11-30T00:00"]}, "2025-11-30T00:00 is no time of the dataset"),
        ({"starts": ["2025-12-02T01:00"]}, "between two of its steps"),
        ({"starts": ["today"]}, "must be a time such as"),
        ({"starts": {"start": "2025-12-01", "end": "2025-12-03"}}, "2025-12-01T00:00 has too few"),
        ({"starts": {"start": "2025-12-02", "end": "2026-01-03"}}, "2026-01-03T00:00 is no time"),
        ({"starts": {"start": "2025-12-03", "end": "2025-12-02"}}, "lies before starts.start"),
        ({"starts": {"start": "2025-12-02", "end": "2025-12-03", "step": "6"}}, "must be a duration"),
        ({"starts": {"start": "2025-12-02", "end": "2025-12-03", "step": "PT5H"}}, "2025-12-02T05:00 is no time"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        chosen(asked, SERIES, WINDOW)
    assert said in str(refused.value)
    assert str(refused.value).startswith("data/inference_params.yaml: ")


def test_the_nearest_start_that_can_be_is_named() -> None:
    with pytest.raises(UsageError) as early:
        chosen({"starts": ["2025-12-01"]}, SERIES, WINDOW)
    assert "2025-12-01T06:00" in early.value.next
    with pytest.raises(UsageError) as late:
        chosen({"starts": ["2025-12-10T18:00"]}, SERIES, WINDOW)
    assert "2025-12-10T00:00" in late.value.next
