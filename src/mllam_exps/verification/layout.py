"""How forecasts and truth lie in a dataset, and whether two of them can be compared.

Forecasts have the dimensions ``reference_time``, ``lead_time``, those of a grid, and
``member`` where there is an ensemble. Truth has ``time`` and the grid's. A grid is
``yc``, ``xc``, or ``latitude``, ``longitude``, or the points ``grid_index``. Other
dimensions, such as ``level``, may stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFERENCE, LEAD, MEMBER, TIME = "reference_time", "lead_time", "member", "time"
POINTS = "grid_index"
GRIDS = (("yc", "xc"), ("latitude", "longitude"), (POINTS,))
"""The dimensions of the grids that are known; the first two are rectangles."""
DEGREES = 1e-3
"""Two points that lie no farther apart are the same: a single-precision longitude has steps of 1.5e-5."""
INTERIOR = "interior"
"""A coordinate of the truth: where points count; everywhere, if it is not there."""
OTHER_WORDS = {
    "start_time": REFERENCE,
    "elapsed_forecast_duration": LEAD,
    "x": "xc",
    "y": "yc",
    "lat": "latitude",
    "lon": "longitude",
}
"""What neural-lam's pull requests and mllam-data-prep call the dimensions and coordinates."""
TO_OUR_GRID = "interpolate it to the grid of the truth, or leave it out"
UNITS = {"s": "s", "seconds": "s", "h": "h", "hours": "h"}
"""What a lead time that is a number may count, by the word in its units."""


def grid_of(dataset: Any, name: str) -> tuple[str, ...]:
    """Return the dimensions of a dataset's grid.

    Raises
    ------
    CheckFailed
        If it has none that is known.
    """
    for grid in GRIDS:
        if all(dimension in dataset.dims for dimension in grid):
            return grid
    raise CheckFailed(
        f"it has no grid: of its dimensions {', '.join(map(str, dataset.dims))} none is yc and xc, "
        "latitude and longitude, or grid_index",
        where=name,
    )


def in_our_words(dataset: Any) -> Any:
    """Return a dataset with the community's names of dimensions and coordinates."""
    found = {*dataset.dims, *dataset.coords}
    return dataset.rename(
        {
            theirs: ours
            for theirs, ours in OTHER_WORDS.items()
            if theirs in found and ours not in found
        }
    )


def on_rectangle(dataset: Any, name: str) -> Any:
    """Return a dataset with the grid ``yc``, ``xc`` where its points are those of a full rectangle, else as it is.

    mllam-data-prep makes one long list of all points; a spectrum needs the rectangle.
    """
    import numpy as np

    if grid_of(dataset, name) != (POINTS,):
        return dataset
    if not {"xc", "yc"} <= {*dataset.coords}:
        return dataset
    x, y = dataset["xc"], dataset["yc"]
    columns, rows = np.unique(x.values), np.unique(y.values)
    order = np.lexsort((x.values, y.values))
    full = np.array_equal(x.values[order], np.tile(columns, len(rows)))
    if not full or len(order) != len(columns) * len(rows):
        return dataset
    ordered = dataset.isel({POINTS: order}).drop_vars(
        {"xc", "yc", POINTS} & {*dataset.variables}
    )
    return (
        ordered.assign_coords(
            yc=(POINTS, np.repeat(rows, len(columns)), y.attrs),
            xc=(POINTS, np.tile(columns, len(rows)), x.attrs),
        )
        .set_index({POINTS: ("yc", "xc")})
        .unstack(POINTS)
    )


def lead_times(forecast: Any, name: str) -> NDArray[np.timedelta64]:
    """Return the lead times of a forecast as times, whatever number and unit they are written in.

    Raises
    ------
    CheckFailed
        If they have no unit.
    """
    import numpy as np

    leads = forecast[LEAD]
    if leads.dtype.kind == "m":
        return leads.values.astype("timedelta64[ns]")  # type: ignore[no-any-return]
    unit = UNITS.get(str(leads.attrs.get("units")))
    if unit is None:
        raise CheckFailed(
            f"lead_time has the units {leads.attrs.get('units')!r}, not s or hours",
            where=name,
        )
    seconds = np.round(leads.values * (3600.0 if unit == "h" else 1.0))
    return seconds.astype("timedelta64[s]").astype("timedelta64[ns]")  # type: ignore[no-any-return]


def check_forecast(forecast: Any, name: str) -> None:
    """Refuse what is no dataset of forecasts, or has the same start twice.

    Raises
    ------
    CheckFailed
        With what it lacks.
    """
    for dimension in (REFERENCE, LEAD):
        if dimension not in forecast.dims or dimension not in forecast.coords:
            raise CheckFailed(f"it has no dimension {dimension}", where=name)
    grid_of(forecast, name)
    lead_times(forecast, name)
    starts = forecast.indexes[REFERENCE]
    if starts.has_duplicates:
        twice = starts[starts.duplicated()][0]
        raise CheckFailed(f"it has the start {twice} twice", where=name)


def check_same_grid(one: Any, other: Any, name: str) -> None:
    """Refuse a dataset on another grid than the first: its scores would be of other points.

    Raises
    ------
    CheckFailed
        With what differs.
    """
    import numpy as np

    grids = grid_of(one, "the truth"), grid_of(other, name)
    sizes = [
        "×".join(str(data.sizes[dimension]) for dimension in grid)
        for data, grid in zip((one, other), grids, strict=True)
    ]
    if grids[0] != grids[1] or sizes[0] != sizes[1]:
        what = f"it is on another grid: {', '.join(grids[1])} of {sizes[1]} points, the truth has {sizes[0]}"
        raise CheckFailed(what, where=name, next=TO_OUR_GRID)
    for coordinate in ("latitude", "longitude", *grids[0]):
        if coordinate == POINTS or not all(
            coordinate in data.coords for data in (one, other)
        ):
            continue
        here, there = (
            np.asarray(data[coordinate].transpose(*grid, missing_dims="ignore"))
            for data, grid in zip((one, other), grids, strict=True)
        )
        apart = np.abs(here.astype("float64") - there.astype("float64"))
        if "ongitude" in coordinate:
            apart = np.minimum(apart, np.abs(360.0 - apart))
        if not (np.nanmax(apart) <= _tolerance(coordinate, here)):
            what = f"it is on another grid: its {coordinate} differs from the truth's by up to {np.nanmax(apart):.4g}"
            raise CheckFailed(what, where=name, next=TO_OUR_GRID)


def _tolerance(coordinate: str, values: Any) -> float:
    import numpy as np

    if coordinate in {"latitude", "longitude"}:
        return DEGREES
    return 1e-3 * float(np.min(np.abs(np.diff(values)))) if len(values) > 1 else 0.0


def area_weights(placed: Any, grid: Sequence[str]) -> NDArray[np.float64]:
    """Return what each point counts, in the grid's order, on average 1.

    A regular grid of latitudes and longitudes has smaller cells near the poles: they
    count by the cosine of their latitude. The cells of a projected grid count alike,
    as Neural-LAM has them.

    Parameters
    ----------
    placed : xarray.Dataset
        With ``latitude`` and ``longitude`` of the points, if they are known.
    """
    import numpy as np

    shape = tuple(placed.sizes[dimension] for dimension in grid)
    if not {"latitude", "longitude"} <= {*placed.coords}:
        return np.ones(shape)
    latitude, longitude = _places(placed, grid)
    rows, columns = (len(np.unique(one)) for one in (latitude, longitude))
    if rows * columns != latitude.size:
        return np.ones(shape)
    weights = np.cos(np.deg2rad(latitude.astype("float64")))
    return np.asarray(weights / weights.mean())


def _places(placed: Any, grid: Sequence[str]) -> tuple[Any, Any]:
    """Return latitude and longitude of each point, in the grid's shape."""
    north = placed["latitude"] + 0 * placed["longitude"]
    east = placed["longitude"] + 0 * placed["latitude"]
    return north.transpose(*grid).values, east.transpose(*grid).values


def regions(
    dataset: Any,
    grid: Sequence[str],
    inside: NDArray[np.bool_],
    given: Mapping[str, Mapping[str, Sequence[float]]],
) -> dict[str, NDArray[np.bool_]]:
    """Return which points count, by the name of the region; ``interior`` is all that may count.

    Parameters
    ----------
    inside : ndarray of bool
        The points that may count, in the grid's shape.
    given : mapping
        ``{name: {"latitude": [from, to], "longitude": [from, to]}}``, in degrees; the
        longitudes count eastwards, so ``[170, -170]`` lies around the date line.

    Raises
    ------
    CheckFailed
        If a region holds no point, or the dataset does not say where its points are.
    """
    import numpy as np

    found = {"interior": inside}
    for name, box in given.items():
        if "latitude" not in dataset.coords or "longitude" not in dataset.coords:
            what = "the data have no latitude and longitude, so it cannot be found"
            raise CheckFailed(what, where=f"region {name}")
        latitude, longitude = _places(dataset, grid)
        (south, top), (west, stop) = box["latitude"], box["longitude"]
        width = (stop - west) % 360 or 360
        chosen = (latitude >= south) & (latitude <= top)
        chosen &= (longitude - west) % 360 <= width
        found[name] = inside & chosen
        if not np.any(found[name]):
            north, east = latitude[inside], longitude[inside]
            raise CheckFailed(
                "it holds no point that counts",
                where=f"region {name}",
                why=f"those lie between {north.min():.2f} and {north.max():.2f} degrees north, "
                f"{east.min():.2f} and {east.max():.2f} degrees east",
                next="widen it, or leave it out",
            )
    return found
