"""Maps of forecast, truth and their difference: their values, and small pictures that stand in the page itself."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.maps import on_grid
from mllam_exps.stages.neural_lam.scoring.asked import FIELDS
from mllam_exps.verification import layout
from mllam_exps.verification.layout import LEAD
from mllam_exps.verification.shown import FORECAST, KIND, LEVEL, TRUTH
from mllam_exps.verification.table import CASE

SHADES = 64
"""Colours of a picture."""
FIELD_COLOURS, DIFFERENCE_COLOURS = "viridis", "PuOr_r"
"""matplotlib's; both are told apart by those who are blind to red and green."""


@dataclass(frozen=True)
class Scale:
    """What the colours of a variable mean.

    Parameters
    ----------
    low, high : float
        The values at the ends of the field's colours.
    most : float
        The difference at the end of its colours, which are the same above and below 0.
    units : str
        Of all three.
    """

    low: float
    high: float
    most: float
    units: str


@dataclass(frozen=True)
class Values:
    """The fields of a variable, of all cases and lead times: (case, lead, row, column).

    Parameters
    ----------
    variable : str
        Its short name.
    forecast, truth : numpy.ndarray
        Rows from the top.
    """

    variable: str
    forecast: Any
    truth: Any


@dataclass(frozen=True)
class Map:
    """One variable at one lead time of one case.

    Parameters
    ----------
    case, lead : int
        Their places in the `Atlas`.
    pictures : dict
        PNG, in base64, by what is drawn.
    rmse : float
        Of the points that count.
    """

    case: int
    lead: int
    pictures: dict[str, str]
    rmse: float


@dataclass(frozen=True)
class Atlas:
    """The maps of one experiment.

    Parameters
    ----------
    experiment : str
    cases : list of str
        What there is to choose: which case it is, and its start.
    leads : list of float
        Hours.
    maps : dict
        By variable, with its level and units.
    scales, values : dict
        Likewise.
    size : tuple of int
        Columns and rows of a picture.
    coastlines : list of numpy.ndarray
        In these: columns and rows; points of the grid lie in the middle of their pixels.
    inside : tuple of int
        The rectangle around the points that count: column, row, columns, rows.
    """

    experiment: str
    cases: list[str]
    leads: list[float]
    maps: dict[str, list[Map]]
    scales: dict[str, Scale]
    values: dict[str, Values]
    size: tuple[int, int]
    coastlines: list[Any]
    inside: tuple[int, int, int, int]

    @property
    def bytes(self) -> int:
        """How much its pictures take of the page."""
        drawn = [one for maps in self.maps.values() for one in maps]
        return sum(len(data) for one in drawn for data in one.pictures.values())

    @property
    def coast(self) -> str:
        """The coastlines as an SVG path."""
        import numpy as np

        parts = []
        for line in self.coastlines:
            points = np.round(line, 1)
            moved = np.ones(len(points), bool)
            moved[1:] = (np.diff(points, axis=0) != 0).any(axis=1)
            words = [f"{x:g} {y:g}" for x, y in points[moved]]
            parts.append(f"M{'L'.join(words)}")
        return "".join(parts)


def atlas(name: str, folder: Path) -> Atlas | None:
    """Return the maps of an experiment; None where `verify` has kept no fields.

    Parameters
    ----------
    folder : Path
        Laid out as the repository.
    """
    import numpy as np
    import xarray as xr

    if not (folder / FIELDS).is_dir():
        return None
    fields = xr.open_zarr(folder / FIELDS).load()
    rows, columns = layout.grid_of(fields, FIELDS)
    # Pictures begin at the top: north, or the largest y.
    if fields[rows].values[0] < fields[rows].values[-1]:
        fields = fields.isel({rows: slice(None, None, -1)})
    counts = np.ones((fields.sizes[rows], fields.sizes[columns]), bool)
    if layout.INTERIOR in fields.coords:
        counts = fields[layout.INTERIOR].transpose(rows, columns).values.astype(bool)
    maps: dict[str, list[Map]] = {}
    scales: dict[str, Scale] = {}
    values: dict[str, Values] = {}
    for key in (str(name) for name in fields.data_vars):
        if not key.startswith(f"{FORECAST}."):
            continue
        variable = key.removeprefix(f"{FORECAST}.")
        forecast, truth = (
            fields[f"{kind}.{variable}"].transpose(CASE, LEAD, rows, columns).values
            for kind in (FORECAST, TRUTH)
        )
        said = fields[key].attrs
        title = _title(variable, said)
        values[title] = Values(variable, forecast, truth)
        scales[title] = _scale(forecast, truth, str(said.get("units", "")))
        maps[title] = _maps(forecast, truth, scales[title], counts)
    starts = np.datetime_as_string(fields[CASE].values, unit="m")
    kinds = fields[KIND].values
    return Atlas(
        name,
        [f"{kind}: {start}" for kind, start in zip(kinds, starts, strict=True)],
        [float(lead) for lead in fields[LEAD].values / np.timedelta64(1, "h")],
        maps,
        scales,
        values,
        (fields.sizes[columns], fields.sizes[rows]),
        _coastlines(fields, rows, columns),
        _around(counts),
    )


def _title(variable: str, said: dict[str, Any]) -> str:
    named = spelled(variable, str(said.get("long_name", "")))
    level = said.get(LEVEL, "")
    return f"{named}, at {level}" if level else named


def spelled(variable: str, long_name: str) -> str:
    """Return a variable's name, and what it is, where that says more."""
    name = long_name.replace("_", " ")
    says_more = name and name.lower() != variable.replace("_", " ").lower()
    return f"{variable} ({name})" if says_more else variable


def _scale(forecast: Any, truth: Any, units: str) -> Scale:
    import numpy as np

    both = np.stack([forecast, truth])
    most = float(np.nanmax(np.abs(forecast - truth)))
    return Scale(float(np.nanmin(both)), float(np.nanmax(both)), most, units)


def _maps(forecast: Any, truth: Any, scale: Scale, counts: Any) -> list[Map]:
    """Draw each case and lead time of a variable: (case, lead, row, column)."""
    import numpy as np

    drawn = []
    for case, lead in np.ndindex(forecast.shape[:2]):
        one, was = forecast[case, lead], truth[case, lead]
        apart = one - was
        pictures = {
            "forecast": _picture(one, scale.low, scale.high, FIELD_COLOURS),
            "truth": _picture(was, scale.low, scale.high, FIELD_COLOURS),
            "forecast − truth": _picture(
                apart, -scale.most, scale.most, DIFFERENCE_COLOURS
            ),
        }
        rmse = float(np.sqrt(np.nanmean(apart[counts] ** 2)))
        drawn.append(Map(int(case), int(lead), pictures, rmse))
    return drawn


def _picture(values: Any, low: float, high: float, colours: str) -> str:
    """Return a field as PNG in base64: a colour for each point, none where there is no value."""
    import numpy as np
    from matplotlib import colormaps
    from PIL import Image

    part = (values - low) / ((high - low) or 1.0)
    shade = np.clip(np.nan_to_num(part) * SHADES, 0, SHADES - 1).astype("uint8")
    shade[~np.isfinite(values)] = SHADES
    palette = colormaps[colours](np.linspace(0, 1, SHADES), bytes=True)[:, :3]
    picture = Image.fromarray(shade)
    picture.putpalette([*palette.ravel().tolist(), 255, 255, 255])
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, transparency=SHADES)
    return base64.b64encode(file.getvalue()).decode()


def _around(counts: Any) -> tuple[int, int, int, int]:
    """Return the rectangle around some points: column, row, columns, rows."""
    import numpy as np

    rows, columns = (np.flatnonzero(counts.any(axis=axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def bar(colours: str) -> str:
    """Return colours as the stops of a CSS gradient."""
    import numpy as np
    from matplotlib import colormaps

    stops = colormaps[colours](np.linspace(0, 1, 9), bytes=True)[:, :3]
    return ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops.tolist())


def _coastlines(fields: Any, rows: str, columns: str) -> list[Any]:
    """Return the coastlines in columns and rows."""
    if not {"latitude", "longitude"} <= {*fields.coords}:
        return []
    placed = [
        (fields[one] + 0 * fields[other]).transpose(rows, columns).values
        for one, other in (("latitude", "longitude"), ("longitude", "latitude"))
    ]
    return [line + 0.5 for line in on_grid.coastlines(*placed)]
