"""Small truths, and forecasts of them with errors of a known size."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

STEP = np.timedelta64(6, "h")
FIRST = np.datetime64("2025-01-01", "ns")
TIMES = 60
"""Of `make_dataset`."""


def times(count: int, step: np.timedelta64 = STEP) -> np.ndarray:
    return FIRST + np.arange(count) * step


def make_truth(count: int = 60, rows: int = 9, columns: int = 12) -> Any:
    """Return two variables of noise on a grid of kilometres, ``z`` with a dimension ``level``."""
    rng = np.random.default_rng(3)
    shape = (count, rows, columns)
    height = rng.normal(size=(count, 2, rows, columns))
    return xr.Dataset(
        {
            "t2m": (
                ("time", "yc", "xc"),
                (280 + rng.normal(size=shape)).astype("float32"),
                {"units": "K", "long_name": "temperature"},
            ),
            "z": (("time", "level", "yc", "xc"), height, {"units": "m"}),
        },
        coords={
            "time": times(count),
            "level": [500, 850],
            "yc": np.arange(rows) * 1000.0,
            "xc": np.arange(columns) * 1000.0,
        },
    )


def make_forecast(
    truth: Any,
    starts: np.ndarray,
    *,
    error: float = 1.0,
    leads: tuple[int, ...] = (6, 12),
    members: int = 0,
    seed: int = 5,
) -> Any:
    """Return forecasts in the community's layout: the truth, and noise on it."""
    rng = np.random.default_rng(seed)
    hours = np.array(leads, "m8[h]").astype("m8[ns]")
    valid = starts[:, None] + hours[None, :]
    known = truth.reindex(time=np.unique(valid)).fillna(0)
    grid = [name for name in known.dims if name not in {"time", "level"}]
    fields = {}
    for name, one in known.data_vars.items():
        values = one.values[known.indexes["time"].get_indexer(valid.ravel())]
        values = values.reshape(*valid.shape, *values.shape[1:]).astype("float64")
        dims = ["reference_time", "lead_time", *one.dims[1:]]
        if members:
            values = np.stack([values] * members)
            dims.insert(0, "member")
        values = values + error * rng.normal(size=values.shape)
        fields[name] = (dims, values, one.attrs)
    coordinates = {
        name: one
        for name, one in truth.coords.items()
        if {*one.dims} <= {*grid, "level"}
    }
    return xr.Dataset(fields, coordinates).assign_coords(
        reference_time=starts,
        lead_time=("lead_time", list(leads), {"units": "hours"}),
    )


def make_dataset() -> Any:
    """Return what mllam-data-prep makes: 63 × 62 points in any order, of which 3 × 2 are the interior."""
    rng = np.random.default_rng(0)
    x, y = (
        part.ravel()
        for part in np.meshgrid(np.arange(63.0), np.arange(62.0), indexing="ij")
    )
    order = rng.permutation(len(x))
    state = rng.normal(size=(TIMES, len(x), 2)).astype("float32")
    when = times(TIMES)
    limits = [[str(when[a]), str(when[b])] for a, b in ((0, 20), (21, 29), (30, 59))]
    return xr.Dataset(
        {
            "state": (("time", "grid_index", "state_feature"), state),
            "splits": (("split_name", "split_part"), np.array(limits)),
        },
        coords={
            "time": when,
            "x": ("grid_index", x[order]),
            "y": ("grid_index", y[order]),
            "state_feature": ["a", "b"],
            "state_feature_units": ("state_feature", ["K", "Pa"]),
            "state_feature_long_name": ("state_feature", ["one", "other"]),
            "split_name": ["train", "val", "test"],
        },
    )
