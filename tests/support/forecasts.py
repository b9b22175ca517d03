"""Small stores of forecasts, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cartopy.crs as ccrs
import numpy as np

from mllam_exps.stages.neural_lam.forecasts import grid, names
from mllam_exps.stages.neural_lam.forecasts.layout import Layout
from mllam_exps.stages.neural_lam.forecasts.store import Store, Unit

ROWS, COLUMNS, STEPS = 5, 6, 4
PROJECTION = ccrs.LambertConformal(
    central_longitude=-15, standard_parallels=[38.0, 66.0]
)


def make_grid(**changed: Any) -> grid.Grid:
    """Return a grid in neural-lam's order of points: x first."""
    x, y = np.meshgrid(
        np.arange(COLUMNS) * 1e4, np.arange(ROWS) * 1e4 + 5e4, indexing="ij"
    )
    on_earth = ccrs.PlateCarree().transform_points(PROJECTION, x, y)
    given = {
        "x": x.ravel(),
        "y": y.ravel(),
        "latitude": on_earth[..., 1].ravel(),
        "longitude": on_earth[..., 0].ravel(),
        "interior": x.ravel() > 2e4,
        "projection": grid.plain(PROJECTION.to_cf()),
    }
    return grid.Grid(**{**given, **changed})


def make_layout(**changed: Any) -> Layout:
    """Return the layout of three forecasts of pressure, wind and the pressure's standard deviation."""
    pressure = names.variable("msl", "Pa", "mean sea level pressure")
    wind = names.variable("u10m", "m s**-1", "wind along x", "x_wind")
    given: dict[str, Any] = {
        "grid": make_grid(),
        "variables": [pressure, wind, pressure.spread],
        "starts": np.array(
            ["2025-12-01T00", "2025-12-01T06", "2025-12-02T00"], "datetime64[s]"
        ),
        "step": np.timedelta64(6, "h"),
        "steps": STEPS,
        "attributes": {"title": "forecasts", "experiment": "x"},
    }
    return Layout(**{**given, **changed})


def make_store(folder: Path, **changed: Any) -> Store:
    """Lay out a store."""
    store = Store(folder / "forecasts.zarr", make_layout(**changed))
    store.lay_out()
    return store


def fields(unit: Unit, store: Store) -> dict[str, Any]:
    """Return values by which each forecast, variable, lead time and point can be told."""
    points = np.arange(ROWS * COLUMNS, dtype="float32")
    leads = 100 * np.arange(store.layout.steps, dtype="float32")[:, None]
    own = 1e4 * unit.start + 1e3 * unit.member
    return {
        name: (leads + points + own + 1e5 * number).astype("float32")
        for number, name in enumerate(store.layout.names)
    }
