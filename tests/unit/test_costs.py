"""Node hours of runs: over all attempts, each with its nodes, until its end or its last sign of life."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.views import costs


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
    train: Any = SimpleNamespace(stage="train", attempts=lambda: attempts)
    waits: Any = SimpleNamespace(stage="evaluate", attempts=lambda: [never])
    [one] = costs.of_runs([train, waits])
    assert (one.stage, one.attempts, one.nodes) == ("train", 2, 2)
    assert one.node_hours == pytest.approx(2 * 4 + 0.5 * 2)
    assert one.told == "train 9 (2 nodes, 2 attempts)"
    assert costs.in_words([one]) == "9 node hours: train 9 (2 nodes, 2 attempts)"


@pytest.mark.parametrize("nodes", [None, "four", -1])
def test_where_nodes_are_not_recorded_one_counts(tmp_path: Path, nodes: Any):
    one: Any = SimpleNamespace(
        stage="a", attempts=lambda: [attempt(tmp_path / "1", 0.001, nodes=nodes)]
    )
    [cost] = costs.of_runs([one])
    assert (cost.nodes, cost.told) == (1, "a < 0.01")
