"""The fields of a few forecasts beside the truth, few enough to draw: of the best, a middling and the worst case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mllam_exps.verification import layout
from mllam_exps.verification.layout import LEAD, MEMBER, REFERENCE, TIME
from mllam_exps.verification.table import CASE, REGION, SOURCE

FORECAST, TRUTH = "forecast", "truth"
"""What the names of the variables begin with: ``forecast.t2m``, ``truth.t2m``."""
KIND = "kind"
"""The coordinate that says of a case whether it is the best, the median or the worst."""
LEVEL = "shown_at"
"""The attribute that says at which level a variable is shown."""
LEADS, VARIABLES = 6, 6
"""How many lead times and variables are shown."""
SIDE = 160
"""Points along a side that are shown; of a larger grid every second one, or every third, and so on."""


def fields(forecast: Any, truth: Any, scores: Any) -> Any:
    """Return the fields of a few forecasts and the truth; None where the grid is no rectangle, or no case is whole.

    Parameters
    ----------
    forecast, truth : xarray.Dataset
        As they are scored (`scorecard.score`).
    scores : xarray.Dataset
        What that has returned; the first source is the forecast.

    Returns
    -------
    xarray.Dataset or None
        ``forecast.{variable}`` and ``truth.{variable}`` by case, lead time and the
        grid. Of levels the first; of an ensemble the mean.
    """
    import xarray as xr

    forecast = layout.on_rectangle(layout.in_our_words(forecast), FORECAST)
    grid = layout.grid_of(forecast, FORECAST)
    cases = chosen(scores)
    if len(grid) != 2 or not cases:
        return None
    truth = layout.on_rectangle(layout.in_our_words(truth), TRUTH)
    thinned = {
        dimension: slice(None, None, -(-forecast.sizes[dimension] // SIDE))
        for dimension in grid
    }
    forecast, truth = forecast.isel(thinned), truth.isel(thinned)
    starts = scores[CASE].isel({CASE: list(cases.values())}).values
    places = _spread(scores.sizes[LEAD], LEADS)
    leads = scores[LEAD].isel({LEAD: places}).values
    # In place of numbers with units, as those of the scores.
    forecast = forecast.assign_coords({LEAD: layout.lead_times(forecast, FORECAST)})
    some = forecast.sel({REFERENCE: starts, LEAD: leads})
    valid = xr.DataArray(starts[:, None] + leads[None, :], dims=[CASE, LEAD])
    found = {}
    for name in _scored(scores)[:VARIABLES]:
        one = some[name].rename({REFERENCE: CASE})
        if MEMBER in one.dims:
            one = one.mean(MEMBER, keep_attrs=True)
        was = truth[name].sel({TIME: valid}).drop_vars(TIME)
        for kind, field in ((FORECAST, one), (TRUTH, was)):
            level, flat = _at_first_level(field, grid)
            said = {**truth[name].attrs, **level}
            plain = flat.reset_coords(drop=True).astype("float32")
            found[f"{kind}.{name}"] = plain.assign_attrs(said)
    made = xr.Dataset(found).assign_coords({CASE: starts, LEAD: leads})
    return made.assign_coords({KIND: (CASE, list(cases)), **_places(truth, some, grid)})


def chosen(scores: Any) -> dict[str, int]:
    """Return the places of the cases to be shown, by their kind.

    Cases are ordered by the RMSE of the first source, of each variable and lead time in
    units of its mean over the cases. One that lacks a score is not shown.
    """
    import numpy as np

    relative = []
    for name in _scored(scores):
        one = scores[f"rmse.{name}"].isel({SOURCE: 0})
        if REGION in one.dims:
            one = one.isel({REGION: 0})
        one = one.transpose(CASE, ...).values.reshape(scores.sizes[CASE], -1)
        mean = np.nanmean(one, axis=0) if np.isfinite(one).any() else one[0]
        relative.append(one / np.where(mean > 0, mean, 1.0))
    if not relative:
        return {}
    overall = np.concatenate(relative, axis=1).mean(axis=1)
    whole = np.flatnonzero(np.isfinite(overall))
    order = whole[np.argsort(overall[whole], kind="stable")]
    if not len(order):
        return {}
    kinds = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    found: dict[str, int] = {}
    for kind, place in kinds.items():
        if int(place) not in found.values():
            found[kind] = int(place)
    return found


def _scored(scores: Any) -> list[str]:
    names = [str(name) for name in scores.data_vars]
    return [name.removeprefix("rmse.") for name in names if name.startswith("rmse.")]


def _spread(number: int, most: int) -> list[int]:
    """Return some places out of a number of them, first and last among them."""
    import numpy as np

    places = np.linspace(0, number - 1, min(number, most)).round().astype(int)
    return [int(place) for place in np.unique(places)]


def _at_first_level(field: Any, grid: tuple[str, ...]) -> tuple[Mapping[str, str], Any]:
    """Return a field without further dimensions, and where along them it is."""
    others = [dim for dim in field.dims if dim not in {CASE, LEAD, *grid}]
    told = [f"{dim} {field[dim].values[0]}" for dim in others if dim in field.coords]
    flat = field.isel(dict.fromkeys(others, 0)).transpose(CASE, LEAD, *grid)
    return ({LEVEL: ", ".join(told)} if told else {}), flat


def _places(truth: Any, forecast: Any, grid: tuple[str, ...]) -> dict[str, Any]:
    """Return where the points are, and which of them count, as far as it is known."""
    found = {}
    for name in ("latitude", "longitude", layout.INTERIOR, *grid):
        for one in (truth, forecast):
            if name in one.coords and {*one[name].dims} <= {*grid}:
                found[name] = (one[name].dims, one[name].values, one[name].attrs)
                break
    return found
