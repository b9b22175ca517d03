"""Writes a report: one HTML file that opens from a disk, fetches nothing, and runs nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mllam_exps.stages.neural_lam.reporting import charts, maps
from mllam_exps.stages.neural_lam.reporting.comparison import (
    BASELINES,
    Card,
    Cell,
    Comparison,
    Place,
)
from mllam_exps.stages.neural_lam.scoring.conclusions import SURE
from mllam_exps.verification import measures

CARDS = 10
"""Experiments whose scorecard is drawn: the first of the ranking."""
DRAWN = 6
"""Experiments whose curves are drawn beside the baselines."""
MAP_BYTES = 3_000_000
"""How much the maps may take of the page, the best experiment's first."""
PICTURE_BYTES = 4_000_000
"""How much the pictures may take of those experiments that have no maps."""
MAIN_PROGRAMS = ("neural-lam", "torch", "mllam-data-prep", "python")
"""Programs whose versions are told in any case."""
FULL = 20.0
"""Per cent of difference at which a colour is full."""


@dataclass(frozen=True)
class Picture:
    """A picture of a forecast, to stand in the page itself."""

    name: str
    experiment: str
    data: str


def write(
    path: Path, compared: Comparison, references: Sequence[str], made_by: str
) -> list[Card]:
    """Write the report, and return its scorecards.

    Parameters
    ----------
    references : sequence of str
        Sources that each experiment is compared with.
    made_by : str
        The command.
    """
    ranking = compared.ranking
    cards = [
        compared.card(place.evidence.name, reference)
        for place in ranking[:CARDS]
        for reference in references
        if reference != place.evidence.name
    ]
    atlases = _atlases(ranking)
    drawn = [one.experiment for one in atlases]
    others = [place for place in ranking if place.evidence.name not in drawn]
    pictures, left_out = _pictures(others)
    text = _template().render(
        compared=compared,
        ranking=ranking,
        parameters=_parameters(ranking),
        cards=cards,
        curves=_curves(compared, ranking),
        losses=_losses(ranking),
        atlases=atlases,
        colours=_colours(atlases),
        pictures=pictures,
        left_out=left_out,
        sure=100 * SURE,
        made_by=made_by,
        names=_names(compared),
        programs=_programs(ranking[:CARDS]),
        tint=tint,
        mark=mark,
        percent=percent,
        number_of=number_of,
        skill=lambda place: _signed(f"{place.skill:.3f}", place.skill),
    )
    path.write_text(text, encoding="utf-8")
    return cards


def _template() -> Any:
    import jinja2

    source = resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.from_string(source)


def _parameters(ranking: Sequence[Place]) -> list[str]:
    """Return the names of the parameters in which experiments differ."""
    names: dict[str, None] = {}
    for place in ranking:
        names |= dict.fromkeys(place.evidence.parameters)
    return list(names)


def _names(compared: Comparison) -> dict[str, str]:
    """Return what variables are called, with what they are."""
    of = f"{measures.LONG_NAMES['rmse']} of "
    found = {}
    for variable in compared.variables:
        said = str(compared.scores[f"rmse.{variable}"].attrs.get("long_name", ""))
        found[variable] = maps.spelled(variable, said.removeprefix(of))
    return found


def _programs(ranking: Sequence[Place]) -> dict[str, list[str]]:
    """Return the versions of programs by experiment: of the main ones, and of those that are not the same in all."""
    each = [place.evidence.background.programs for place in ranking]
    found = {}
    for name in sorted({name for programs in each for name in programs}):
        versions = [programs.get(name, "–") for programs in each]
        if name in MAIN_PROGRAMS or len(set(versions)) > 1:
            found[name] = versions
    return found


def _curves(compared: Comparison, ranking: Sequence[Place]) -> dict[str, str]:
    names = [place.evidence.name for place in ranking[:DRAWN]]
    names += [one for one in BASELINES if one in compared.sources]
    drawn = {}
    for variable in compared.variables:
        units = compared.scores[f"rmse.{variable}"].attrs.get("units", "")
        curves = {name: compared.curve(variable, name) for name in names}
        y = f"RMSE in {units}" if units else "RMSE"
        title = f"RMSE of {variable} by lead time; the numbers stand in the table below"
        drawn[variable] = charts.lines(curves, "lead time in hours", y, title)
    return drawn


def _losses(ranking: Sequence[Place]) -> dict[str, str]:
    drawn = {}
    for place in ranking[:DRAWN]:
        name = place.evidence.name
        title = f"loss of {name} by epoch"
        if chart := charts.lines(place.evidence.losses, "epoch", "loss", title):
            drawn[name] = chart
    return drawn


def _atlases(ranking: Sequence[Place]) -> list[maps.Atlas]:
    """Return the maps that there is room for, the best experiment's first."""
    room, found = MAP_BYTES, []
    for place in ranking[:DRAWN]:
        one = maps.atlas(place.evidence.name, place.evidence.folder)
        if one is not None and one.bytes <= room:
            room -= one.bytes
            found.append(one)
    return found


def _colours(atlases: Sequence[maps.Atlas]) -> dict[str, str]:
    """Return what the legends of maps are drawn with, by their class."""
    if not atlases:
        return {}
    return {
        "field": maps.bar(maps.FIELD_COLOURS),
        "apart": maps.bar(maps.DIFFERENCE_COLOURS),
    }


def _pictures(ranking: Sequence[Place]) -> tuple[list[Picture], int]:
    """Return the pictures that there is room for, the best experiment's first; and how many were left out."""
    room, found, left_out = PICTURE_BYTES, [], 0
    for place in ranking:
        for path in place.evidence.pictures:
            size = path.stat().st_size
            if size > room:
                left_out += 1
                continue
            room -= size
            data = base64.b64encode(path.read_bytes()).decode()
            found.append(Picture(path.stem, place.evidence.name, data))
    return found, left_out


def tint(cell: Cell) -> str:
    """Return the class and strength of a cell's colour: blue is better, orange is worse, for all eyes."""
    if math.isnan(cell.percent):
        return ""
    kind = "better" if cell.percent < 0 else "worse"
    strength = min(abs(cell.percent) / FULL, 1.0)
    return f"{kind} s{round(strength * 4)}"


def percent(cell: Cell) -> str:
    """Return how much a cell differs, as a number of the page."""
    return _signed(f"{cell.percent:+.1f}", cell.percent)


def number_of(value: float) -> str:
    """Return a value of a field as a number of the page, in four digits at least."""
    whole = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return _signed(whole, value)


def _signed(text: str, value: float) -> str:
    return "–" if math.isnan(value) else text.replace("-", "−")


def mark(cell: Cell) -> str:
    """Return what says in one letter whether a difference is sure."""
    if cell.is_blind:
        return "?" if cell.cases else ""
    if not cell.is_sure:
        return ""
    return "▼" if cell.percent < 0 else "▲"
