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
    faults = [line for name, line in count(path, splits) if name not in allowed]
    if not faults:
        return
    raise CheckFailed(
        f"missing or infinite values: {'; '.join(faults)}",
        where=str(path),
        why="training gives NaN with them",
        next="mend the source, select another range or leave the variable out; if that is how it should be, name it in "
        "data/datastore.yaml: extra.missing_values, a list",
    )


def count(
    path: Path, splits: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Yield each variable that holds what is not finite, with a line that tells how much of it each split has."""
    import xarray as xr

    with warnings.catch_warnings(), xr.open_zarr(path, consolidated=True) as dataset:
        warnings.simplefilter("ignore")
        faults = {}
        for category in CATEGORIES:
            if category in dataset:
                faults[category] = _faults_over_space(dataset[category], category)
        for category, numbers in xr.Dataset(faults).compute().items():
            points = dataset[category].size // numbers.size
            features = f"{category}_feature"
            for name in numbers[features].values:
                line = told(numbers.sel({features: name}), points, splits)
                if line:
                    yield str(name), f"{name} of {category}, {line}"


def _faults_over_space(field: Any, category: str) -> Any:
    """Count what is not finite, at each time and of each variable."""
    import numpy as np

    kept = {time_of(field), f"{category}_feature"}
    return (~np.isfinite(field)).sum([dim for dim in field.dims if dim not in kept])


def time_of(field: Any) -> str | None:
    """Return what a field calls its times; None where it has none."""
    for dim in ("time", "analysis_time"):
        if dim in field.dims:
            return dim
    return None


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
            when = f"{len(times)} of {own.size} times, the first {first}"
            parts.append(f"{many} ({when})")
    return ", ".join(parts)  # what lies between the splits is read by nobody
