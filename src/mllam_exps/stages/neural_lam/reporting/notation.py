"""How differences are coloured, marked and written: the same on the page and in figures."""

from __future__ import annotations

import math

from mllam_exps.stages.neural_lam.reporting import charts, wording
from mllam_exps.stages.neural_lam.reporting.comparison import Card, Cell
from mllam_exps.stages.neural_lam.scoring.conclusions import SURE

BETTER, WORSE = charts.COLOURS[:2]
"""Blue and orange, for all eyes."""
FULL = 20.0
"""Per cent of difference at which a colour is full."""
STEPS = 4
"""Shades of a colour, beside none."""
SHADE = 0.14
"""How much of the colour one of them has."""


def is_better(cell: Cell) -> bool:
    """Tell whether the experiment has the smaller error."""
    return cell.percent < 0


def strength(cell: Cell) -> int:
    """Return how many shades of its colour a cell has."""
    if math.isnan(cell.percent):
        return 0
    return round(min(abs(cell.percent) / FULL, 1.0) * STEPS)


def percent(cell: Cell) -> str:
    """Return how much a cell differs, as a number for people."""
    return wording.signed(f"{cell.percent:+.1f}", cell.percent)


def mark(cell: Cell) -> str:
    """Return what says in one letter whether a difference is sure."""
    if cell.is_blind:
        return "?" if cell.cases else ""
    if not cell.is_sure:
        return ""
    return "▼" if is_better(cell) else "▲"


def meaning(card: Card) -> str:
    """Say in a line what the colours of a scorecard mean, and those marks that it has."""
    marks = {mark(cell) for cells in card.rows.values() for cell in cells}
    said = "blue is better, orange is worse"
    if marks & {"▼", "▲"}:
        said += f"; ▼ ▲ more than chance at {100 * SURE:g} %"
    if "?" in marks:
        said += "; ? too few independent cases to say"
    return said
