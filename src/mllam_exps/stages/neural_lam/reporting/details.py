"""What a cell of a scorecard opens: the difference at each lead time with its intervals, the errors, and the cases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from mllam_exps.stages.neural_lam.reporting import charts, wording
from mllam_exps.stages.neural_lam.reporting.charts import Points
from mllam_exps.stages.neural_lam.reporting.comparison import (
    BASELINES,
    Card,
    Cell,
    Comparison,
)

ROOM = 2_500_000
"""Bytes that they may take of the page, the best experiment's first."""
LINK = 40
"""Bytes of what leads from a cell to it."""


def of(
    compared: Comparison, cards: Sequence[Card], names: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return what each scorecard opens, as HTML by variable; nothing of those for which there is no room.

    Parameters
    ----------
    names : mapping
        Of each variable, with what it is.
    """
    room, found = ROOM, []
    form = template("detail.html.j2")
    for number, card in enumerate(cards):
        drawn = {}
        for row, variable in enumerate(card.rows):
            told = _Detail(compared, card, variable).told
            where = {"place": place(number, row), "back": place(number)}
            drawn[variable] = form.render(told, title=names[variable], **where)
        cells = sum(map(len, card.rows.values()))
        size = sum(len(one.encode()) for one in drawn.values()) + LINK * cells
        if size > room:
            drawn, size = {}, 0
        room -= size
        found.append(drawn)
    return found


def place(card: int, row: int | None = None) -> str:
    """Return what a scorecard is called within the page, or what one of its rows opens."""
    return f"s{card}" if row is None else f"s{card}-{row}"


def template(name: str) -> Any:
    """Return a template of this package."""
    import jinja2

    source = resources.files(__package__).joinpath(name).read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.from_string(source)


@dataclass(frozen=True)
class _Detail:
    """One row of a scorecard, in full."""

    compared: Comparison
    card: Card
    variable: str

    @property
    def told(self) -> dict[str, Any]:
        """What the template is told."""
        units = self.compared.units(self.variable)
        name, reference = self.card.name, self.card.reference
        columns = ["hours", "cases", wording.with_units("difference", units)]
        columns += [f"{100 * level:g} % interval" for level in self._levels]
        columns += self._scores
        title = f"of {self.variable} by lead time; the numbers stand in the table below"
        return {
            "card": self.card,
            "meaning": self._meaning,
            "columns": columns,
            "rows": list(self._rows),
            "difference": charts.intervals(
                [(cell.lead, cell.difference) for cell in self._cells],
                [self._reach(level) for level in reversed(self._levels)],
                wording.LEAD_TIME,
                columns[2],
                f"difference in RMSE between {name} and {reference} {title}",
            ),
            "has_spread": bool(self._spreads),
            "curves": charts.lines(
                self._errors | self._spreads,
                wording.LEAD_TIME,
                wording.with_units("RMSE", units),
                f"RMSE {title}",
            ),
        }

    @property
    def _cells(self) -> list[Cell]:
        return self.card.rows[self.variable]

    @property
    def _levels(self) -> list[float]:
        """The levels of confidence, the lowest first."""
        return sorted(self._cells[0].intervals)

    @property
    def _sources(self) -> list[str]:
        """Both, and the baselines."""
        names = dict.fromkeys([self.card.name, self.card.reference, *BASELINES])
        return [name for name in names if name in self.compared.sources]

    @property
    def _errors(self) -> dict[str, Points]:
        """The RMSE of each by lead time."""
        return {one: self.compared.curve(self.variable, one) for one in self._sources}

    @cached_property
    def _spreads(self) -> dict[str, Points]:
        """The spread of those that have one."""
        found = {
            f"spread, {one}": self.compared.spread(self.variable, one)
            for one in self._sources
        }
        return {name: points for name, points in found.items() if points}

    @cached_property
    def _scores(self) -> dict[str, Points]:
        """All that stands in the table, by the heads of its columns."""
        found = {f"RMSE, {name}": points for name, points in self._errors.items()}
        found |= self._spreads
        for name in self._sources:
            if points := self.compared.crps(self.variable, name):
                found[f"CRPS, {name}"] = points
        return found

    def _reach(self, level: float) -> charts.Reach:
        return [(cell.lead, *cell.intervals[level]) for cell in self._cells]

    @property
    def _rows(self) -> Iterator[list[str]]:
        """What stands in the table, by lead time."""
        scores = [[score for _, score in points] for points in self._scores.values()]
        for cell, *own in zip(self._cells, *scores, strict=True):
            reaches = [_between(cell, level) for level in self._levels]
            first = [f"{cell.lead:g}", str(cell.cases), _signed(cell.difference)]
            yield [*first, *reaches, *map(wording.number_of, own)]

    @property
    def _meaning(self) -> str:
        """Say what the difference is, and what is drawn of it."""
        said = f"RMSE of {self.card.name} less that of {self.card.reference}, case by case: the mean"
        judged = [cell for cell in self._cells if not cell.is_blind]
        if judged:
            *levels, last = (f"{100 * level:g}" for level in self._levels)
            said += f", with its intervals of {', '.join(levels)} and {last} %: the thicker a bar, the less sure"
        if len(judged) < len(self._cells):
            where = " where there is none" if judged else ""
            said += f"; too few independent cases for an interval{where}"
        return f"{said}."


def _between(cell: Cell, level: float) -> str:
    """Return the ends of an interval, for people."""
    low, high = cell.intervals[level]
    return f"{_signed(low)} to {_signed(high)}" if math.isfinite(low + high) else "–"


def _signed(value: float) -> str:
    """Return a difference as a number for people."""
    return wording.signed(f"{value:+#.3g}".rstrip("."), value)
