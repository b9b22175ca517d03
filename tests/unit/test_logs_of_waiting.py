"""What `mllam-exps logs` says of a stage that has printed nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import Problem
from mllam_exps.commands.reading import logs
from mllam_exps.runs.state.judge import Assessment, RunState

CASES = [
    ({"make": "running", "grow": "new"}, "", "make, which it needs, is running"),
    ({"make": "new", "grow": "new"}, "", "make, which it needs, waits, too"),
    ({"make": "done", "grow": "new"}, "no room", "no room"),
    ({"make": "done", "grow": "new"}, "", "nobody has begun it"),
    ({"make": "running", "grow": "pending"}, "", "make, which it needs, is running"),
    ({"make": "done", "grow": "pending"}, "", "Priority"),
]


@pytest.mark.parametrize(("states", "waits", "why"), CASES)
def test_a_stage_that_waits_says_for_what(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, str], waits: str, why: str
):
    told = Problem("Priority")
    monkeypatch.setattr(logs, "observe", lambda run: run)
    monkeypatch.setattr(logs, "judge", lambda run: Assessment(run.state, told))
    runs: dict[str, Any] = {
        stage: SimpleNamespace(key=stage, state=RunState(state))
        for stage, state in states.items()
    }
    steps = [
        SimpleNamespace(key="make", needs=()),
        SimpleNamespace(key="grow", needs=("make",)),
    ]
    experiment: Any = SimpleNamespace(runs=runs, steps=steps, waits=waits)
    said = logs._nothing_yet(experiment, runs["grow"])
    assert (said.what, said.why) == ("nothing was printed: it is waiting", why)


def test_one_that_was_lost_before_it_printed_says_so(monkeypatch: pytest.MonkeyPatch):
    lost = Assessment(RunState.LOST, Problem("its host went down"))
    monkeypatch.setattr(logs, "observe", lambda run: run)
    monkeypatch.setattr(logs, "judge", lambda _: lost)
    said = logs._nothing_yet(SimpleNamespace(), SimpleNamespace(key="grow"))  # type: ignore[arg-type]
    assert (said.what, said.why) == (
        "nothing was printed: it is lost",
        "its host went down",
    )
