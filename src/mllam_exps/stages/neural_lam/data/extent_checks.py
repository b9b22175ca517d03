"""Checks of what is left of an archive's times and grid when the ranges have been taken from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from mllam_exps.base.errors import MllamError
from mllam_exps.stages.neural_lam.data import axis_checks
from mllam_exps.stages.neural_lam.data.rehearsal import in_one_line
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    BOUNDARY_POINTS,
    problem,
)


def check(
    name: str, dataset: Any, config: Any, applied: Collection[str]
) -> list[MllamError]:
    """Return every problem of the extent of one input.

    Parameters
    ----------
    name : str
        The input.
    dataset : xarray.Dataset
        Its archive.
    config : mllam_data_prep.config.Config
    applied : collection of str
        Those ranges of the output that mllam-data-prep applies to this input.
    """
    from mllam_data_prep.ops.selection import select_by_kwargs

    source = config.inputs[name]
    time = getattr(source.dim_mapping.get("time"), "dim", None)
    if time in dataset.coords:
        wrong = axis_checks.check_dates(name, str(time), dataset[time].values)
        if wrong:
            return wrong
    try:
        dataset = select_by_kwargs(dataset, **(source.coord_ranges or {}))
    except Exception as error:  # this is what mllam-data-prep itself would raise
        where = f"inputs.{name}.coord_ranges"
        return [problem(where, f"{name}: {in_one_line(error)}")]
    problems: list[MllamError] = []
    if time in dataset.coords:
        times = _times_left(name, dataset, time, config, applied)
        if isinstance(times, list):
            return times
        shortened = len(times) < dataset.sizes[time]
        if shortened and "time" not in applied:
            what = "mllam-data-prep ignores output.coord_ranges.time after an input without time"
            way_out = "put those without time last"
            problems.append(problem(f"inputs.{name}", f"{what}: {way_out}"))
        else:
            problems += axis_checks.check_reach(name, times, config)
    return problems + _check_grid(name, source, dataset)


def _times_left(
    name: str, dataset: Any, time: Any, config: Any, applied: Collection[str]
) -> Any:
    """Return the times that the range of the output leaves of an archive's; or, as a list, what is wrong with them."""
    from mllam_data_prep.ops.selection import select_by_kwargs

    wanted = (config.output.coord_ranges or {}).get("time")
    try:
        axis = dataset[[time]].rename({} if time == "time" else {time: "time"})
        if wanted:
            # First without the step: where it is not even, mllam-data-prep prints the
            # end of an array.
            axis = select_by_kwargs(axis, time=replace(wanted, step=None))
        if wrong := axis_checks.check_times(name, axis["time"].values):
            return wrong
        if wanted and "time" in applied:
            select_by_kwargs(axis, time=wanted)
    except Exception as error:  # this is what mllam-data-prep itself would raise
        what = f"{name}: {in_one_line(error)}"
        return [problem("output.coord_ranges.time", what)]
    return axis["time"].values


def _check_grid(name: str, source: Any, dataset: Any) -> list[MllamError]:
    sides = []
    for side in ("x", "y"):
        # A dimension of another name may become x or y.
        dim = getattr(source.dim_mapping.get(side), "dim", None) or side
        if dim in dataset.sizes:
            sides.append(dim)
    problems: list[MllamError] = []
    for dim in sides:
        problems += axis_checks.check_side(name, dim, dataset)
    sizes = [int(dataset.sizes[dim]) for dim in sides]
    is_state = source.target_output_variable == "state"
    if is_state and sizes and min(sizes) <= 2 * BOUNDARY_POINTS:
        grid = " × ".join(map(str, sizes))
        what = f"its grid of {grid} points lies within neural-lam's boundary of {BOUNDARY_POINTS} points a side:"
        consequence = "no interior is left and training gives NaN"
        problems.append(problem(f"inputs.{name}", f"{what} {consequence}"))
    return problems
