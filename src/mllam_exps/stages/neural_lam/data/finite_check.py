"""Counts what is not finite in a dataset, by variable and split: one missing value makes a training give NaN."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed

CATEGORIES = ("state", "forcing", "static")


def check_finite(
    path: Path, splits: Mapping[str, tuple[str, str]], allowed: Collection[str] = ()
) -> None:
    """Refuse a dataset with missing or infinite values, in other variables than those that may have them.

    Parameters
    ----------
    path : Path
        The zarr, read once, chunk by chunk.
    splits : Mapping
        First and last time of each split.
    allowed : Collection of str
        Variables that may hold what is not finite.

    Raises
    ------
    CheckFailed
        With the numbers, by variable and split.
    """
    found = [line for name, line in count(path, splits) if name not in allowed]
    if not found:
        return
    raise CheckFailed(
        f"missing or infinite values: {'; '.join(found)}",
        where=str(path),
        why="training gives NaN with them",
        next="mend the source, select another range or leave the variable out; if that is how it should be, name it in "
        "data/datastore.yaml: extra.missing_values, a list",
    )


def count(
    path: Path, splits: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Yield each variable that holds what is not finite, with a line that tells how much of it each split has."""
    import numpy as np
    import xarray as xr

    with warnings.catch_warnings(), xr.open_zarr(path, consolidated=True) as dataset:
        warnings.simplefilter("ignore")
        bad = {}
        for category in CATEGORIES:
            if category in dataset:
                field = dataset[category]
                kept = [
                    dim
                    for dim in field.dims
                    if dim in {time_of(field), f"{category}_feature"}
                ]
                bad[category] = (~np.isfinite(field)).sum(
                    [dim for dim in field.dims if dim not in kept]
                )
        for category, numbers in xr.Dataset(bad).compute().items():
            points = dataset[category].size // numbers.size
            for name in numbers[f"{category}_feature"].values:
                if found := told(
                    numbers.sel({f"{category}_feature": name}), points, splits
                ):
                    yield str(name), f"{name} of {category}, {found}"


def time_of(field: Any) -> str | None:
    """Return what a field calls its times; None where it has none."""
    return next((dim for dim in ("time", "analysis_time") if dim in field.dims), None)


def told(numbers: Any, points: int, splits: Mapping[str, tuple[str, str]]) -> str:
    """Tell how many values of one variable are not finite, by split; empty where those of no split are."""
    import numpy as np

    time = time_of(numbers)
    if time is None:
        return f"{int(numbers)} of {points}" if int(numbers) else ""
    parts = []
    for split, (start, end) in splits.items():
        own = numbers.sel({time: slice(start, end)})
        times = own[time].values[own.values > 0]
        if len(times):
            first = np.datetime_as_string(times[0], unit="m")
            many = f"{int(own.sum())} of {own.size * points} in {split}"
            parts.append(
                f"{many} ({len(times)} of {own.size} times, the first {first})"
            )
    return ", ".join(parts)  # what lies between the splits is read by nobody
