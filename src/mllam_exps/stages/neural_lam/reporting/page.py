"""Writes a report: one HTML file that opens from a disk, fetches nothing, and runs nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mllam_exps.stages.neural_lam.reporting import charts, maps, notation
from mllam_exps.stages.neural_lam.reporting.comparison import Cell, Place
from mllam_exps.stages.neural_lam.reporting.content import CARDS, Chart, Content
from mllam_exps.stages.neural_lam.scoring.conclusions import SURE

PICTURE_BYTES = 4_000_000
"""How much the pictures may take of those experiments that have no maps."""
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
    pictures, left_out = _pictures(others)
    text = _template().render(
        compared=content.compared,
        ranking=ranking,
        parameters=_parameters(ranking),
        cards=content.cards,
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
        tint=tint,
        skill=lambda place: notation.signed(f"{place.skill:.3f}", place.skill),
    )
    if path.is_file() and not path.is_symlink():
        # As the output of a stage it may be a second name of a file in DVC's cache.
        path.unlink()
    path.write_text(text, encoding="utf-8")


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
    """Return the class and strength of a cell's colour."""
    if math.isnan(cell.percent):
        return ""
    kind = "better" if notation.is_better(cell) else "worse"
    return f"{kind} s{notation.strength(cell)}"
