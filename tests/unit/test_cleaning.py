"""Why an experiment may be deleted, and why it stays."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import cleaning

ORIGIN = "/home/her/weather"
GONE = f"its repository {ORIGIN} is gone"
REMOVED = f"removed from {ORIGIN}"


def experiment(saving: str, stage: str = "done", created: float = 1.0) -> Any:
    return SimpleNamespace(
        name="exp",
        origin=ORIGIN,
        unique_name=(ORIGIN, "baseline", "exp"),
        created=created,
        saving=SimpleNamespace(state=RunState(saving)),
        runs={"grow": SimpleNamespace(state=RunState(stage))},
    )


@pytest.mark.parametrize(
    ("saving", "stage", "known", "why"),
    [
        ("done", "done", "in git", ""),
        ("done", "done", "", REMOVED),
        ("done", "done", "newer", "replaced by a newer exp"),
        ("done", "done", "in git, newer", ""),
        ("done", "done", "gone", GONE),
        ("done", "done", "gone, here", REMOVED),
        ("done", "done", "--failed", ""),
        ("done", "running", "", REMOVED),
        ("failed", "failed", "", "failed"),
        ("failed", "failed", "--failed", "failed"),
        ("failed", "running", "", ""),
        ("cancelled", "cancelled", "", "cancelled"),
        ("lost", "done", "", "lost"),
        ("new", "new", "", ""),
        ("new", "new", "gone", GONE),
        ("new", "new", "gone, --failed", ""),
        ("new", "running", "gone", ""),
        ("pending", "done", "gone", ""),
    ],
)
def test_an_experiment_goes_where_nobody_can_want_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saving: str,
    stage: str,
    known: str,
    why: str,
):
    monkeypatch.setattr(cleaning, "assess", lambda run: run)
    monkeypatch.setattr(cleaning, "_is_gone", lambda *_, **__: "gone" in known)
    monkeypatch.setattr(cleaning, "is_in_git", lambda _: "in git" in known)
    monkeypatch.setattr(cleaning, "has_commit", lambda *_: "here" in known)
    selection = cleaning.Selection(ORIGIN, [], failed="--failed" in known)
    look = cleaning._Look(RunStore(tmp_path), selection, cleaning.Staying())
    one = experiment(saving, stage)
    look.experiments = [one, *([experiment("done", created=2.0)] * ("newer" in known))]
    assert look._why(one) == why
