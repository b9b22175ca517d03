"""`mllam-exps status`: what a window shows when there is more than fits it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from mllam_exps.assess import Assessment, RunState
from mllam_exps.errors import MllamError
from mllam_exps.report import status
from mllam_exps.report.rows import Cell, Row, stages_in_order
from mllam_exps.store import Run


def row(name: str, state: RunState) -> Row:
    """Return what status knows of an experiment of one stage."""
    run = Run(Path(f"grow-{name}"))
    return Row(name, {"grow": Cell(run, Assessment(state, "out of memory" if state is RunState.FAILED else ""))})


def test_what_is_under_way_is_seen_in_a_window_that_failures_would_fill():
    rows = [row(f"bad{n}", RunState.FAILED) for n in range(9)]
    for number, broken in enumerate(rows):
        object.__setattr__(broken.cells["grow"].now, "reason", f"reason {number}")
    rows += [row(f"alive{n}", RunState.PENDING) for n in range(4)]
    console = Console(width=80, height=16, color_system=None)
    with console.capture() as captured:
        console.print(status._frame(rows, console))
    shown = captured.get()
    assert len(shown.splitlines()) <= 16
    assert all(f"alive{n}" in shown for n in range(4))
    assert "what is over: mllam-exps status" in shown


@pytest.mark.parametrize("height", [24, 60])
def test_a_watched_table_fits_its_window(height: int):
    rows = [row(f"done{n}", RunState.DONE) for n in range(60)]
    rows[3:3] = [row("broken", RunState.FAILED), row("alive", RunState.PENDING)]
    console = Console(width=80, height=height, color_system=None, record=True)
    with console.capture() as captured:
        console.print(status._frame(rows, console))
    shown = captured.get()
    assert height - 3 <= len(shown.splitlines()) <= height
    assert "alive" in shown
    assert "broken: grow failed: out of memory" in shown
    assert "done59" in shown
    assert "mllam-exps status --all" in shown


def test_stages_stand_in_the_order_of_the_pipeline(tmp_path: Path):
    def key(stage: str, digit: str) -> str:
        return f"{stage}-{digit * 32}"

    def cell(stage: str, digit: str, *needs: str) -> Cell:
        run = Run(tmp_path / key(stage, digit))
        run.begin({"inputs": {f"{need}.txt": {"run": need, "md5": None} for need in needs} | {"a.txt": {"run": None}}})
        return Cell(run, Assessment(RunState.DONE))

    evaluate = cell("evaluate", "a", key("train", "b"), key("prepare@x", "c"))
    workspace = Row("workspace", {"evaluate": evaluate})
    train = cell("train", "b", key("prepare@x", "c"), key("create_graph", "d"))
    other = Row("other", {"create_graph": cell("create_graph", "d"), "train": train})
    assert stages_in_order([workspace, other]) == ["create_graph", "train", "evaluate"]
    # Two repositories may call stages the other way round: the table stands all the same.
    turned = Row("turned", {"train": cell("train", "e", key("evaluate", "f")), "evaluate": cell("evaluate", "f")})
    assert sorted(stages_in_order([turned, workspace, other])) == ["create_graph", "evaluate", "train"]


def proposed(rows: list[Row]) -> list[str]:
    """Return the commands that are proposed for experiments."""
    texts = [str(text) for text in status._sentences(rows)]
    return [line.removeprefix("  → ") for text in texts for line in text.splitlines() if line.startswith("  → ")]


def test_what_is_proposed_for_many_experiments_can_be_typed(monkeypatch: pytest.MonkeyPatch):
    names = [f"lr-{n}" for n in range(5)]

    def submitted(name: str, state: RunState, *, hopeless: bool = False) -> Row:
        found = row(name, state)
        now = Assessment(state, "why", hopeless=hopeless)
        saving = Cell(found.cells["grow"].run, Assessment(RunState.NEW))
        return Row(name, {"grow": Cell(found.cells["grow"].run, now)}, SimpleNamespace(), saving)

    monkeypatch.setattr(Row, "waits", "")
    # `cancel` has no --failed, and what was cancelled has not failed.
    hopeless = [submitted(name, RunState.PENDING, hopeless=True) for name in names]
    assert proposed(hopeless) == [f"mllam-exps cancel {' '.join(names)}"]
    cancelled = [submitted(name, RunState.CANCELLED) for name in names]
    assert proposed(cancelled)[0] == f"mllam-exps retry {' '.join(names)}"
    failed = [submitted(name, RunState.FAILED) for name in names]
    assert proposed(failed) == ["mllam-exps retry --failed", "mllam-exps logs lr-0 grow"]
    assert proposed([row("workspace", RunState.FAILED)])[0] == "dvc exp run"


def test_the_end_of_watching_proposes_what_goes_on():
    with pytest.raises(MllamError) as caught:
        status._tell_end([row("workspace", RunState.FAILED)])
    assert caught.value.next == "dvc exp run"
