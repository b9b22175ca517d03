"""What `mllam-exps submit` says became of the experiments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import Problem
from mllam_exps.commands.running import submit
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.submission.submit import Submitted


def submitted(waits: str, *started: str) -> Any:
    """Return an experiment that waits for something, or does not, with the stages that were started."""
    return SimpleNamespace(
        standing=SimpleNamespace(waits=waits, started=list(started), states={}),
        saving=SimpleNamespace(state=RunState.NEW),
    )


@pytest.mark.parametrize(
    ("waits", "started", "told"),
    [
        ("no room", (), "1 experiment taken, no new job yet (here)"),
        ("no room", ("grow",), "1 experiment: 1 × grow submitted (here)"),
        ("", (), "1 experiment: all is known or under way (here)"),
    ],
)
def test_what_waits_is_taken(
    monkeypatch: pytest.MonkeyPatch, waits: str, started: tuple[str, ...], told: str
):
    monkeypatch.setattr(submit, "_where", lambda _submitted: "(here)")
    assert submit._summary([submitted(waits, *started)])[0] == told


def test_what_nobody_can_tell_is_not_said_to_be_under_way(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(submit, "_where", lambda _submitted: "(here)")
    one = submitted("")
    now = Assessment(RunState.UNKNOWN, Problem("its record cannot be read"))
    one.standing.states = {"grow": now}
    assert submit._summary([one, one])[:2] == [
        "2 experiments: no new job; nobody can tell how all of it is (here)",
        "grow unknown: its record cannot be read",
    ]
    named = Submitted(SimpleNamespace(key_of=str), one.standing, now)  # type: ignore[arg-type]
    one.standing.claimed_by_others = set()
    assert named.word("grow") == "unknown"
