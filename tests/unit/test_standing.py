"""How an experiment stands, by what is known of its runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import Problem, UsageError
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.submission import opening, standing
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
    stands = Standing(known)
    assert (stands.done, stands.living) == (done, living)
    stopped_by = stands.failure
    assert (stopped_by[0] if stopped_by else None) == failure
    assert stands.over is (done or (failure is not None and not living))


def experiment(name: str, state: RunState, **more: Any) -> Any:
    """Return an experiment whose saving is in a state."""
    saving = SimpleNamespace(state=state, directory=Path("/store"))
    steps = [SimpleNamespace(key="grow-1")]
    known = {"name": name, "saving": saving, "steps": steps, "is_mine": True}
    return SimpleNamespace(**known | more)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The unsaved experiments of every store."""
    found: list[Any] = []

    def unsaved(_store: Any, but: Any = None) -> list[Any]:
        return [one for one in found if but is None or not but(one.saving)]

    monkeypatch.setattr(standing.experiments, "unsaved", unsaved)
    monkeypatch.setattr(standing, "assess", lambda run: Assessment(run.state))
    monkeypatch.setattr(
        standing.ownership, "is_mine", lambda place: place.name != "his"
    )
    return found


@pytest.mark.parametrize(
    ("state", "waits", "works"),
    [
        (RunState.NEW, True, True),
        (RunState.LOST, True, True),
        (RunState.PENDING, False, True),
        (RunState.UNKNOWN, False, True),
        (RunState.DONE, False, False),
        (RunState.FAILED, False, False),
        (RunState.CANCELLED, False, False),
    ],
)
def test_which_experiments_wait_for_somebody_to_go_on(
    stored: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    state: RunState,
    waits: bool,
    works: bool,
):
    stored.append(experiment("mine", state))
    store: Any = None
    assert [one.name for one in standing.waiting(store)] == ["mine"] * waits
    run: Any = SimpleNamespace(key="grow-1", store=Path("/store"))
    other: Any = SimpleNamespace(key="grow-2", store=Path("/store"))
    assert [one.name for one in standing.waiting_for(run)] == ["mine"] * works
    assert standing.waiting_for(other) == []
    monkeypatch.setattr(standing, "observe", lambda run: run)
    monkeypatch.setattr(standing, "judge", lambda run: Assessment(run.state))
    run.other_waiters = other.other_waiters = lambda _: []
    assert standing.is_waited_for(run) is works
    assert not standing.is_waited_for(other)
    other.other_waiters = lambda _: ["a driver"]
    assert standing.is_waited_for(other)


def test_of_a_colleague_s_experiments_none_waits_for_us(stored: list[Any]):
    his = SimpleNamespace(state=RunState.NEW, directory=Path("/store/his"))
    stored.append(experiment("his", RunState.NEW, saving=his))
    stored.append(experiment("his, too", RunState.NEW, is_mine=False))
    store: Any = None
    assert standing.waiting(store) == []
    del stored[0]
    assert standing.left_alone(store) == []


@pytest.mark.parametrize(
    ("scheduler", "expected"), [("slurm", True), ("local", False), (None, True)]
)
def test_whether_jobs_can_wait_for_one_another(
    monkeypatch: pytest.MonkeyPatch, scheduler: str | None, expected: bool
):
    def machine_of(_experiment: Any) -> Any:
        if scheduler is None:
            raise UsageError("its machine file is gone")
        return SimpleNamespace(scheduler=scheduler)

    monkeypatch.setattr(opening, "machine_of", machine_of)
    store = SimpleNamespace(directory=Path("/nowhere"))
    one = experiment("mine", RunState.NEW, store=store)
    assert standing.jobs_can_wait(one) is expected


@pytest.mark.parametrize(
    ("states", "saving", "told"),
    [
        (
            {"make": RunState.DONE, "train": RunState.RUNNING},
            RunState.NEW,
            "x: is not saved yet: train still at work → mllam-exps status --watch x",
        ),
        (
            {"train": RunState.DONE},
            RunState.PENDING,
            "x: is not saved yet: it waits, or is saved → mllam-exps status --watch x",
        ),
        (
            {"train": RunState.FAILED},
            RunState.NEW,
            "x: has no saved result: train failed: no memory → mllam-exps retry x",
        ),
        (
            {"train": RunState.DONE},
            RunState.DONE,
            "x: was renamed since → it is called z",
        ),
    ],
)
def test_why_an_experiment_cannot_be_gone_on_from(
    monkeypatch: pytest.MonkeyPatch,
    states: dict[str, RunState],
    saving: RunState,
    told: str,
):
    runs = {stage: SimpleNamespace(state=state) for stage, state in states.items()}
    own = experiment("x", saving, runs=runs, origin="/here")
    other = experiment("x", RunState.DONE, runs={}, origin="/there")
    why = Problem("no memory")
    monkeypatch.setattr(standing, "assess", lambda run: Assessment(run.state, why))
    monkeypatch.setattr(standing, "observe", lambda run: run)
    monkeypatch.setattr(standing, "judge", lambda run: Assessment(run.state, why))
    monkeypatch.setattr(standing, "name_in_git", lambda _: "z")
    monkeypatch.setattr(standing.experiments, "of_store", lambda _: [own, other])
    store: Any = SimpleNamespace(runs=list)
    found = standing.not_saved(store, Path("/here"), "x")
    assert found is not None
    said = f"{found.where}: {found.what}{found.why and f': {found.why}'} → {found.next}"
    assert said.startswith(told)
    assert standing.not_saved(store, Path("/here"), "y") is None


def test_what_dvc_exp_run_works_at_is_not_done(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(standing.experiments, "of_store", lambda _: [])
    monkeypatch.setattr(standing, "assess", lambda run: Assessment(run.state))
    asker = SimpleNamespace(name="x", origin="/here")
    monkeypatch.setattr(standing.askers, "of", lambda _: [asker])
    run = SimpleNamespace(stage="train", state=RunState.RUNNING)
    store: Any = SimpleNamespace(runs=lambda: [run])
    found = standing.not_saved(store, Path("/here"), "x")
    assert found is not None
    assert "train" in str(found)
    assert standing.not_saved(store, Path("/elsewhere"), "x") is None
