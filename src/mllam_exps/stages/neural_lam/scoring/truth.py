"""The truth that forecasts are scored by: the state of the dataset that mllam-data-prep made, in physical units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, first_line
from mllam_exps.stages.neural_lam.data.zarr_check import interior, splits


def open_lazily(path: Path, where: str) -> Any:
    """Open a zarr with dask, so that nothing is read before it is asked for.

    Raises
    ------
    CheckFailed
        If it does not open.
    """
    import xarray as xr

    try:
        return xr.open_zarr(path, chunks={})
    except Exception as error:
        why = first_line(error)
        raise CheckFailed("it does not open as a zarr", where, why) from error


def of_dataset(dataset: Any, where: str) -> Any:
    """Return the state by variable, with the dimension ``time``, and where neural-lam scores it as ``interior``.

    Raises
    ------
    CheckFailed
        If the dataset holds forecasts or an ensemble, of which none is the truth.
    """
    import xarray as xr

    state = dataset["state"]
    others = {*state.dims} - {"time", "grid_index", "state_feature"}
    if "time" not in state.dims or others:
        what = f"its state has the dimensions {', '.join(map(str, state.dims))}"
        why = "only a series of analyses can be the truth"
        raise CheckFailed(what, where, why)
    variables = {}
    for number, name in enumerate(dataset["state_feature"].values):
        one = state.isel(state_feature=number)
        features = [one for one in one.coords if str(one).startswith("state_feature")]
        attributes = {
            key: str(dataset[f"state_feature_{key}"].values[number])
            for key in ("units", "long_name")
            if f"state_feature_{key}" in dataset
        }
        variables[str(name)] = one.drop_vars(features).assign_attrs(attributes)
    inside = ("grid_index", interior(dataset))
    made = xr.Dataset(variables).assign_coords(interior=inside)
    return made.drop_vars("grid_index", errors="ignore")


def training(dataset: Any) -> tuple[str, str]:
    """Return first and last time of the training split: what the climatology may know."""
    return splits(dataset)["train"]
