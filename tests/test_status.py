"""`mllam-exps status`: what a window shows when there is more than fits it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mllam_exps.assess import Assessment, RunState
from mllam_exps.report import status
from mllam_exps.report.rows import Cell, Row
from mllam_exps.store import Run


def row(name: str, state: RunState) -> Row:
    """Return what status knows of an experiment of one stage."""
    run = Run(Path(f"grow-{name}"))
    return Row(name, {"grow": Cell(run, Assessment(state, "out of memory" if state is RunState.FAILED else ""))})


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
