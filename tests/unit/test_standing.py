"""How an experiment stands, by what is known of its runs."""

from __future__ import annotations

import pytest

from mllam_exps.runs.judge import Assessment, RunState
from mllam_exps.submission.standing import Standing

UNTRIED = Assessment(RunState.CANCELLED, untried=True)


@pytest.mark.parametrize(
    ("states", "done", "living", "failure"),
    [
        ([], True, False, None),
        ([RunState.DONE, RunState.DONE], True, False, None),
        ([RunState.DONE, RunState.NEW], False, False, None),
        ([RunState.DONE, RunState.RUNNING], False, True, None),
        ([RunState.UNKNOWN], False, True, None),
        ([RunState.FAILED, RunState.CANCELLED], False, False, "0"),
        ([UNTRIED, RunState.FAILED], False, False, "1"),
        ([UNTRIED, UNTRIED], False, False, "0"),
        ([RunState.RUNNING, RunState.LOST], False, True, "1"),
    ],
)
def test_what_follows_from_its_runs(
    states: list[RunState | Assessment], done: bool, living: bool, failure: str | None
):
    known = {
        str(number): one if isinstance(one, Assessment) else Assessment(one)
        for number, one in enumerate(states)
    }
    standing = Standing(known)
    assert (standing.done, standing.living) == (done, living)
    stopped_by = standing.failure
    assert (stopped_by[0] if stopped_by else None) == failure
