"""What stays when a run store is cleaned, in a line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.submission import staying
from mllam_exps.submission.staying import Staying


def thing(
    state: str, *, mine: bool = True, origin: str = "/here", runs: str = ""
) -> Any:
    """Return an experiment whose saving, or a run that, is in a state."""
    stages = {"grow": SimpleNamespace(state=RunState(runs))} if runs else {}
    return SimpleNamespace(
        state=RunState(state),
        saving=SimpleNamespace(state=RunState(state)),
        is_mine=mine,
        origin=origin,
        runs=stages,
        directory=Path("/mine" if mine else "/theirs"),
    )


def test_what_stays_is_counted_by_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staying, "assess", lambda one: Assessment(one.state))
    monkeypatch.setattr(
        staying.ownership, "is_mine", lambda path: path == Path("/mine")
    )
    found = Staying()
    assert not str(found)
    found.note(thing("failed"), is_young=True)
    for state, runs in (("done", ""), ("new", "running"), ("new", "new")):
        found.note(thing(state, runs=runs), is_young=False)
    for other in (thing("done", mine=False), thing("done", origin="/there")):
        found.note_not_meant(other, "/here")
    found.note_needed()
    found.note_needed()
    cases = [("done", True, True), ("done", True, False), ("running", True, True)]
    for state, mine, submitted in [*cases, ("done", False, True)]:
        run = thing(state, mine=mine)
        found.note_run(run, is_young=False, submitted=submitted)
    assert str(found) == (
        "6 experiments (1 younger, 1 saved and in use, 1 at work, 1 to be gone on with, 1 of others,"
        " 1 of other repositories) and 6 runs (2 needed by what stays, 1 named by a dvc.lock,"
        " 1 made by dvc exp run, 1 at work, 1 of others)"
    )
