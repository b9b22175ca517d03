"""Node hours of runs: over all attempts, each with its nodes, until its end or its last sign of life."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps import schedulers
from mllam_exps.base.errors import UsageError
from mllam_exps.views import costs, energy
from mllam_exps.views.costs import Cost
from mllam_exps.views.energy import Energy


def attempt(
    folder: Path, hours: float, *, nodes: Any = None, ended: bool = True
) -> Any:
    """One that started an hour after midnight."""
    folder.mkdir()
    if nodes is not None:
        (folder / "spec.json").write_text(json.dumps({"format": 1, "nodes": nodes}))
    until = 3600 * (1 + hours)
    return SimpleNamespace(
        directory=folder,
        started=object(),
        started_at=3600.0,
        ended=object() if ended else None,
        ended_at=until if ended else 0.0,
        heard_of_at=until,
    )


def test_every_attempt_counts_with_its_nodes(tmp_path: Path):
    never = SimpleNamespace(started=None)
    attempts = [
        attempt(tmp_path / "1", 2, nodes=4),
        attempt(tmp_path / "2", 0.5, nodes=2, ended=False),
        never,
    ]
    train: Any = SimpleNamespace(key="t", stage="train", attempts=lambda: attempts)
    waits: Any = SimpleNamespace(key="e", stage="evaluate", attempts=lambda: [never])
    [one] = costs.of_runs([train, waits])
    assert (one.stage, one.attempts, one.nodes) == ("train", 2, 2)
    assert one.node_hours == pytest.approx(2 * 4 + 0.5 * 2)
    assert one.told() == "train 9 (2 nodes, 2 attempts)"
    assert costs.in_words([one]) == "9 node hours: train 9 (2 nodes, 2 attempts)"


@pytest.mark.parametrize("nodes", [None, "four", -1])
def test_where_nodes_are_not_recorded_one_counts(tmp_path: Path, nodes: Any):
    one: Any = SimpleNamespace(
        key="a",
        stage="a",
        attempts=lambda: [attempt(tmp_path / "1", 0.001, nodes=nodes)],
    )
    [cost] = costs.of_runs([one])
    assert (cost.nodes, cost.told()) == (1, "a < 0.01")


def test_energy_stands_beside_the_hours_where_it_is_known():
    train, evaluate = (
        Cost(key, stage, number, 1, 2.0, 0.0, 0.0)
        for key, stage, number in (("t", "train", 2), ("e", "evaluate", 1))
    )
    all_known = {"t": Energy(7.2e6, True), "e": Energy(1e3, True), "x": Energy(1, True)}
    assert costs.in_words([train, evaluate], all_known) == (
        "4 node hours, 2 kWh: train 2 (2 kWh, 2 attempts), evaluate 2 (< 0.01 kWh)"
    )
    assert costs.in_words([train, evaluate], {"t": Energy(7.2e6, False)}) == (
        "4 node hours, at least 2 kWh: train 2 (at least 2 kWh, 2 attempts), evaluate 2"
    )


def test_each_scheduler_is_asked_once(monkeypatch: pytest.MonkeyPatch):
    def attempt(scheduler: str, joules: float | None, started: bool = True) -> Any:
        run = SimpleNamespace(store=Path())
        return SimpleNamespace(
            scheduler=scheduler,
            run=run,
            started=object() if started else None,
            job=lambda _: joules,
        )

    def get(name: str, _: Path) -> None:
        if name == "gone":
            raise UsageError("there is no scheduler 'gone'")

    asked = []

    def ask(name: str, jobs: list[Any]) -> list[float | None]:
        asked.append(name)
        return [None if job == 1 else job for job in jobs]

    monkeypatch.setattr(schedulers, "get", get)
    monkeypatch.setattr(schedulers, "energy", ask)
    both = [attempt("slurm", 20.0), attempt("slurm", 30.0), attempt("slurm", 9, False)]
    runs: list[Any] = [
        SimpleNamespace(key="all", attempts=lambda: both),
        SimpleNamespace(key="some", attempts=lambda: [*both, attempt("slurm", 1)]),
        SimpleNamespace(key="none", attempts=lambda: [attempt("gone", 5.0)]),
    ]
    assert energy.of_runs([*runs, runs[0]]) == {
        "all": Energy(50.0, True),
        "some": Energy(50.0, False),
    }
    assert asked == ["slurm"]


def test_a_scheduler_may_tell_nothing_of_energy():
    assert schedulers.energy("local", [object(), object()]) == [None, None]  # type: ignore[list-item]
