"""Writes a report: one HTML file that opens from a disk, fetches nothing, and runs nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.stages.neural_lam.reporting import (
    charts,
    details,
    maps,
    notation,
    wording,
)
from mllam_exps.stages.neural_lam.reporting.comparison import Cell, Place
from mllam_exps.stages.neural_lam.reporting.content import CARDS, Chart, Content
from mllam_exps.stages.neural_lam.scoring.conclusions import SURE

PICTURE_BYTES = 4_000_000
"""How much maps may take, and the pictures of those experiments that have none: the page is never larger than 8 MB."""
MAIN_PROGRAMS = ("neural-lam", "torch", "mllam-data-prep", "python")
"""Programs whose versions are told in any case."""


@dataclass(frozen=True)
class Picture:
    """A picture of a forecast, to stand in the page itself."""

    name: str
    experiment: str
    data: str


def write(path: Path, content: Content, made_by: str) -> None:
    """Write the report.

    Parameters
    ----------
    made_by : str
        The command.
    """
    ranking, atlases = content.ranking, content.atlases
    drawn = [one.experiment for one in atlases]
    others = [place for place in ranking if place.evidence.name not in drawn]
    room = PICTURE_BYTES - sum(one.bytes for one in atlases)
    pictures, left_out = _pictures(others, room)
    text = details.template("report.html.j2").render(
        compared=content.compared,
        ranking=ranking,
        parameters=_parameters(ranking),
        cards=content.cards,
        details=details.of(content.compared, content.cards, content.names),
        place=details.place,
        curves=_svg(content.curves, "; the numbers stand in the table below"),
        losses=_svg(content.losses),
        atlases=atlases,
        colours=_colours(atlases),
        pictures=pictures,
        left_out=left_out,
        sure=100 * SURE,
        made_by=made_by,
        names=content.names,
        programs=_programs(ranking[:CARDS]),
        line_colours=charts.COLOURS,
        notation=notation,
        number_of=wording.number_of,
        tint=tint,
        skill=lambda place: wording.signed(f"{place.skill:.3f}", place.skill),
    )
    if path.is_file() and not path.is_symlink():
        # As the output of a stage it may be a second name of a file in DVC's cache.
        path.unlink()
    path.write_text(text, encoding="utf-8")


def _parameters(ranking: Sequence[Place]) -> list[str]:
    """Return the names of the parameters in which experiments differ."""
    names: dict[str, None] = {}
    for place in ranking:
        names |= dict.fromkeys(place.evidence.parameters)
    return list(names)


def _programs(ranking: Sequence[Place]) -> dict[str, list[str]]:
    """Return the versions of programs by experiment: of the main ones, and of those that are not the same in all."""
    each = [place.evidence.background.programs for place in ranking]
    found = {}
    for name in sorted({name for programs in each for name in programs}):
        versions = [programs.get(name, "–") for programs in each]
        if name in MAIN_PROGRAMS or len(set(versions)) > 1:
            found[name] = versions
    return found


def _svg(drawn: Mapping[str, Chart], more: str = "") -> dict[str, str]:
    """Draw charts; those with nothing in them are left out."""
    found = {
        name: charts.lines(one.curves, one.x, one.y, one.title + more)
        for name, one in drawn.items()
    }
    return {name: svg for name, svg in found.items() if svg}


def _colours(atlases: Sequence[maps.Atlas]) -> dict[str, str]:
    """Return what the legends of maps are drawn with, by their class."""
    if not atlases:
        return {}
    return {
        "field": maps.bar(maps.FIELD_COLOURS),
        "apart": maps.bar(maps.DIFFERENCE_COLOURS),
    }


def _pictures(ranking: Sequence[Place], room: int) -> tuple[list[Picture], int]:
    """Return the pictures that there is room for, the best experiment's first; and how many were left out."""
    found, left_out = [], 0
    for place in ranking:
        for path in place.evidence.pictures:
            data = base64.b64encode(path.read_bytes()).decode()
            if len(data) > room:
                left_out += 1
                continue
            room -= len(data)
            found.append(Picture(path.stem, place.evidence.name, data))
    return found, left_out


def tint(cell: Cell) -> str:
    """Return the class and strength of a cell's colour."""
    if math.isnan(cell.percent):
        return ""
    kind = "better" if notation.is_better(cell) else "worse"
    return f"{kind} s{notation.strength(cell)}"
