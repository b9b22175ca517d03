"""Tables in a narrow window: another layout, and nothing broken within a word."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mllam_exps.views.tables import (
    Item,
    Line,
    Running,
    State,
    of_experiments,
    of_items,
    of_running,
    where_it_stands,
)

STAGES = ("prepare_dataset", "create_graph", "train", "evaluate")
LINES = [
    Line(
        f"wide-{number}",
        (f"data/training_params.yaml:hidden_dim={number}",),
        (
            State("prepare_dataset", "done"),
            State("create_graph", "done"),
            State("train", "epoch 3 of 10, 2 min left"),
            State("evaluate", "waits"),
        ),
        Text("being saved" if number == 16 else ""),
    )
    for number in (8, 16)
]


def printed(table: Table, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def words(text: str) -> list[str]:
    """Return what stands between the lines of a table, and spaces."""
    return [word for word in text.split() if word.strip("┃│┏┓┡┩└┘├┤━─┳╇┴┬")]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_heading_and_no_name_is_broken_within_a_word(width: int):
    shown = printed(of_experiments(LINES, STAGES, width), width)
    assert all(len(line) <= width for line in shown.splitlines())
    known = {"experiment", "parameters", "saved", "where", "it", "stands"}
    known |= {*STAGES, "wide-8", "wide-16", "done", "waits", "being", "train"}
    known |= {"epoch", "3", "of", "10", "2", "min", "left", "hidden_dim=8"}
    known |= {"hidden_dim=16", "data/training_params.yaml:"}
    known |= {f"data/training_params.yaml:hidden_dim={n}" for n in (8, 16)}
    assert {word.strip(",;") for word in words(shown)} <= known
    assert ("where it stands" in shown) is (width < 150)


def test_stages_that_stand_the_same_are_told_together():
    told = where_it_stands(LINES[1]).plain
    assert told == (
        "prepare_dataset, create_graph done; train epoch 3 of 10, 2 min left;"
        " evaluate waits; being saved"
    )
    saved = Line("a", (), (State("train", "done"),), Text("1a2b3c4"))
    assert where_it_stands(saved).plain == "train done; saved as 1a2b3c4"
    called_off = Line("a", (), (State("train", "failed"),), Text("cancelled"))
    assert where_it_stands(called_off).plain == "train failed; cancelled"


def test_what_runs_fits_a_narrow_window():
    one = Running("train", "wide-8", "job 17", "n1", "2 min", "epoch 3 of 10")
    wide = printed(of_running([one], 100), 100)
    assert "elapsed" in wide
    long = Running("prepare_dataset", "wide-8", "process 17 on a-host", *("",) * 3)
    narrow = printed(of_running([one, long], 60), 60)
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert "job 17, on n1, 2 min, epoch" in narrow
    assert "elapsed" not in narrow


def test_what_may_be_deleted_fits_a_narrow_window():
    items = [Item(f"run prepare_dataset-{'0' * 32}", "failed, no result", "3 h", "5 B")]
    narrow = printed(of_items(items, 80), 80)
    assert f"run prepare_dataset-{'0' * 32}" in narrow
    assert "failed, no result" in narrow
    assert "what, and why" not in printed(of_items(items, 120), 120)


def test_a_name_that_no_window_has_room_for_is_shown_whole():
    line = Line("n" * 90, (), (State("train", "done"),), Text())
    shown = printed(of_experiments([line], ("train",), 60), 60)
    assert sum(word.count("n") for word in words(shown) if set(word) == {"n"}) == 90
