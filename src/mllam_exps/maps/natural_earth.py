"""Coastlines and borders of Natural Earth (public domain, 1:50 million), from the package's own file.

The file is ``countries-50m.json`` of npm's ``world-atlas`` 2.0.2 (ISC licence), less the
names of the countries; ``tools/natural_earth.py`` makes it. It is a TopoJSON topology [1]_:
a line between two countries is stored once, and both name it. So a line that one country
names is a coast, and a line that two name is a border.

.. [1] https://github.com/topojson/topojson-specification
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

Line = npt.NDArray[np.float64]
"""Longitude and latitude of a line's points, in degrees: shape (points, 2)."""

FILE = "countries-50m.json.gz"
SOUTH = -89.9
"""The latitude below which there is no coast."""


@cache
def coastlines() -> tuple[Line, ...]:
    """Return the world's coastlines, of islands and of the larger inner seas."""
    return tuple(line for line, countries in _lines() if countries == 1)


@cache
def borders() -> tuple[Line, ...]:
    """Return the borders between countries, on land."""
    return tuple(line for line, countries in _lines() if countries > 1)


@cache
def _lines() -> tuple[tuple[Line, int], ...]:
    """Return each line, and how many countries name it."""
    topology = _topology()
    scale, origin = (topology["transform"][key] for key in ("scale", "translate"))
    named = Counter(_named(topology["objects"]["countries"]["geometries"]))
    lines = []
    for number, steps in enumerate(topology["arcs"]):
        # The first point, then the steps from each one to the next, in units of `scale`.
        points = np.cumsum(np.asarray(steps, float), axis=0) * scale + origin
        for part in _cut(points):
            lines.append((part, named[number]))
    return tuple(lines)


def _topology() -> Any:
    file = resources.files(__package__).joinpath(FILE)
    return json.loads(gzip.decompress(file.read_bytes()))


def _named(countries: list[Mapping[str, Any]]) -> Iterator[int]:
    """Yield the lines that each country names: once for each country."""
    for country in countries:
        # A polygon is a list of rings, each a list of lines; a country of several
        # polygons has one list more. A line that is followed backwards is -1 - number.
        numbers = np.array(list(_numbers(country["arcs"])), int)
        yield from np.unique(np.where(numbers < 0, -1 - numbers, numbers)).tolist()


def _numbers(nested: Any) -> Iterator[int]:
    if isinstance(nested, int):
        yield nested
        return
    for one in nested:
        yield from _numbers(one)


def _cut(line: Line) -> list[Line]:
    """Cut a line where it goes from 180° east to 180° west, and leave out the pole.

    Antarctica's coast goes along the lower edge of the map and back, which is no coast.
    """
    jumps = np.flatnonzero(np.abs(np.diff(line[:, 0])) > 180) + 1
    parts = [part[part[:, 1] > SOUTH] for part in np.split(line, jumps)]
    return [part for part in parts if len(part) > 1]
