"""What a report shows of a comparison, which the page and the figures draw: scorecards, curves, losses and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mllam_exps.stages.neural_lam.reporting import maps, wording
from mllam_exps.stages.neural_lam.reporting.charts import Points
from mllam_exps.stages.neural_lam.reporting.comparison import (
    BASELINES,
    Card,
    Comparison,
    Place,
)
from mllam_exps.verification import measures

CARDS = 10
"""Experiments whose scorecard is drawn: the first of the ranking."""
DRAWN = 6
"""Experiments whose curves are drawn beside the baselines."""
MAP_BYTES = 3_000_000
"""How much the maps may take of the page, the best experiment's first."""


@dataclass(frozen=True)
class Chart:
    """Some curves.

    Parameters
    ----------
    curves : mapping
        Points by name.
    x, y : str
        What the axes are, with units.
    title : str
        What it shows.
    """

    curves: Mapping[str, Points]
    x: str
    y: str
    title: str


@dataclass(frozen=True)
class Content:
    """What is shown.

    Parameters
    ----------
    compared : Comparison
        Of what.
    ranking : list of Place
        The experiments, the best first.
    cards : list of Card
        The scorecards.
    names : dict
        Of each variable, with what it is.
    curves, losses : dict
        Charts by variable, and by experiment.
    atlases : list of maps.Atlas
        The maps.
    """

    compared: Comparison
    ranking: list[Place]
    cards: list[Card]
    names: dict[str, str]
    curves: dict[str, Chart]
    losses: dict[str, Chart]
    atlases: list[maps.Atlas]


def of(compared: Comparison, references: Sequence[str]) -> Content:
    """Return what is shown of a comparison.

    Parameters
    ----------
    references : sequence of str
        Sources that each experiment is compared with.
    """
    ranking = compared.ranking
    cards = [
        compared.card(place.evidence.name, reference)
        for place in ranking[:CARDS]
        for reference in references
        if reference != place.evidence.name
    ]
    return Content(
        compared,
        ranking,
        cards,
        _names(compared),
        _curves(compared, ranking),
        _losses(ranking),
        _atlases(ranking),
    )


def _names(compared: Comparison) -> dict[str, str]:
    """Return what variables are called, with what they are."""
    of = f"{measures.LONG_NAMES['rmse']} of "
    found = {}
    for variable in compared.variables:
        said = str(compared.scores[f"rmse.{variable}"].attrs.get("long_name", ""))
        found[variable] = maps.spelled(variable, said.removeprefix(of))
    return found


def _curves(compared: Comparison, ranking: Sequence[Place]) -> dict[str, Chart]:
    names = [place.evidence.name for place in ranking[:DRAWN]]
    names += [one for one in BASELINES if one in compared.sources]
    drawn = {}
    for variable in compared.variables:
        curves = {name: compared.curve(variable, name) for name in names}
        y = wording.with_units("RMSE", compared.units(variable))
        title = f"RMSE of {variable} by lead time"
        drawn[variable] = Chart(curves, wording.LEAD_TIME, y, title)
    return drawn


def _losses(ranking: Sequence[Place]) -> dict[str, Chart]:
    drawn = {}
    for place in ranking[:DRAWN]:
        name = place.evidence.name
        if curves := place.evidence.losses:
            drawn[name] = Chart(curves, "epoch", "loss", f"loss of {name} by epoch")
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
