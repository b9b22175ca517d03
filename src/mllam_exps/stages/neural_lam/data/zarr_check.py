"""Proves a dataset: every chunk is on disk, the splits are there, its values and their statistics are finite.

A chunk that is not on disk reads as its fill value, without a word: a hole. Our program
therefore has zarr write every chunk, also those that hold nothing but the fill value,
and here every missing or empty chunk file is refused. Datasets made otherwise (by
``python -m mllam_data_prep`` itself) may lack such chunks legitimately; they are
refused too, as nobody could tell the difference afterwards.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed, first_line
from mllam_exps.stages.neural_lam.data import finite_check
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    BOUNDARY_POINTS,
    SPLITS,
    STATISTICS,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_dataset(path: Path, config: Mapping[str, Any] | None = None) -> None:
    """Check everything about a dataset; the counting of values that are not finite comes late, as it reads all data.

    Parameters
    ----------
    path : Path
        The zarr that mllam-data-prep wrote.
    config : Mapping, optional
        Its configuration (``data/datastore.yaml``); with it, the number of times is
        checked too.

    Raises
    ------
    CheckFailed
        With the first fault found.
    """
    dataset = open_dataset(path)
    try:
        check_chunks(path)
        check_splits(dataset, path)
        check_times(dataset, path, config or {})
        check_interior(dataset, path)
        finite_check.check_finite(path, splits(dataset), allowed_missing(config or {}))
        check_statistics(dataset, path)
    finally:
        dataset.close()


def open_dataset(path: Path) -> Any:
    """Open the dataset by its consolidated metadata, as Neural-LAM does, without dask.

    Raises
    ------
    CheckFailed
        If it is not there, or was not written to its end: the consolidated metadata
        come last.
    """
    import xarray as xr

    if not path.is_dir():
        raise CheckFailed("there is no dataset", where=str(path))
    try:
        return xr.open_zarr(path, consolidated=True, chunks=None)
    except Exception as error:
        why = first_line(error)
        raise CheckFailed("the dataset does not open", str(path), why) from error


def arrays(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name and the zarr array of every array in the group."""
    import zarr

    group = zarr.open_group(path, mode="r")
    yield from sorted(group.arrays())


def expected_chunks(array: Any) -> Iterator[str]:
    """Yield the key of every file that an array should have: of its shards, or else its chunks."""
    pieces: tuple[int, ...] = getattr(array, "shards", None) or array.chunks
    counts = []
    for length, piece in zip(array.shape, pieces, strict=True):
        counts.append(math.ceil(length / piece))
    for place in itertools.product(*map(range, counts)):
        yield array.metadata.encode_chunk_key(place)


def files_below(directory: Path) -> dict[str, int]:
    """Return every file below a directory with its size, in one walk: an array may have 100,000 of them."""
    sizes: dict[str, int] = {}
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(directory / prefix) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_dir():
                    folders.append(f"{name}/")
                else:
                    sizes[name] = entry.stat().st_size
    return sizes


def check_chunks(path: Path) -> None:
    """Refuse a dataset of which any chunk is not on disk, or is an empty file.

    Raises
    ------
    CheckFailed
        With the array, how many of its chunks are missing, and the first of them.
    """
    for name, array in arrays(path):
        sizes = files_below(path / name)
        wanted = list(expected_chunks(array))
        missing = [key for key in wanted if not sizes.get(key)]
        if missing:
            what = f"array {name!r} lacks {len(missing)} of its {len(wanted)} chunks, the first {missing[0]!r}"
            why = "they would be read as missing values, silently"
            raise CheckFailed(what, str(path), why)


def splits(dataset: Any) -> dict[str, tuple[str, str]]:
    """Return first and last time of each split, as they are written."""
    spans = {}
    names, limits = dataset["split_name"].values, dataset["splits"].values
    for name, (start, end) in zip(names, limits, strict=True):
        spans[str(name)] = (str(start), str(end))
    return spans


def time_dimension(dataset: Any) -> str:
    """Return ``time``, or ``analysis_time`` of a dataset of forecasts."""
    return "time" if "time" in dataset["state"].dims else "analysis_time"


def check_splits(dataset: Any, path: Path) -> None:
    """Refuse a dataset without state, without one of the splits, or with a split that holds no time.

    Raises
    ------
    CheckFailed
        Naming the split.
    """
    for name in ("state", "splits"):
        if name not in dataset:
            raise CheckFailed(f"the dataset has no {name!r}", where=str(path))
    spans = splits(dataset)
    times = dataset["state"].indexes[time_dimension(dataset)]
    for name in SPLITS:
        if name not in spans:
            raise CheckFailed(f"the dataset has no split {name!r}", where=str(path))
        start, end = spans[name]
        if not len(times[times.slice_indexer(start, end)]):
            what = f"split {name!r} ({start} to {end}) holds no time"
            raise CheckFailed(what, where=str(path))


def expected_times(config: Mapping[str, Any]) -> int | None:
    """Return how many times the configuration asks for, or None where it does not say."""
    import pandas as pd

    ranges = (config.get("output") or {}).get("coord_ranges") or {}
    limits = ranges.get("time") or ranges.get("analysis_time") or {}
    start, end, step = (limits.get(key) for key in ("start", "end", "step"))
    if start is None or end is None or step is None:
        return None
    steps = (pd.Timestamp(end) - pd.Timestamp(start)) // pd.Timedelta(step)
    return int(steps) + 1


def check_times(dataset: Any, path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a dataset with another number of times than asked for, or with an uneven step.

    Raises
    ------
    CheckFailed
        With both numbers, or the first gap.
    """
    import numpy as np

    times = dataset[time_dimension(dataset)].values
    expected = expected_times(config)
    if expected is not None and len(times) != expected:
        what = f"the dataset has {len(times)} times, {expected} were asked for"
        raise CheckFailed(what, where=str(path))
    steps = np.diff(times)
    # A forecast is made step by step: Neural-LAM takes the first step as that of all.
    uneven = np.flatnonzero(steps != steps[:1])
    if len(uneven):
        gap = np.datetime_as_string(times[int(uneven[0])], unit="m")
        raise CheckFailed(f"the time step changes after {gap}", where=str(path))


def allowed_missing(config: Mapping[str, Any]) -> list[str]:
    """Return the variables that may hold missing values: ``extra.missing_values`` of ``data/datastore.yaml``."""
    given = (config.get("extra") or {}).get("missing_values") or []
    return [str(name) for name in given]


def check_statistics(dataset: Any, path: Path) -> None:
    """Refuse statistics of the training split that are missing, not finite, or a spread of zero.

    Raises
    ------
    CheckFailed
        Naming the statistic, the variable and its input.
    """
    import numpy as np

    names = [str(name) for name in dataset["state_feature"].values]
    for kind in STATISTICS:
        key = f"state__train__{kind}"
        if key not in dataset:
            what = f"the dataset has no {key!r}"
            raise CheckFailed(what, str(path), "training needs it")
        values = np.atleast_1d(dataset[key].values)
        for place, (name, value) in enumerate(zip(names, values, strict=True)):
            if not np.isfinite(value):
                what = f"{key} of {name} is {value}"
                raise CheckFailed(what, str(path), "neural-lam scales by it")
            if value <= 0 and kind.endswith("std"):
                raise _constant(dataset, path, place, kind)


def _constant(dataset: Any, path: Path, place: int, kind: str) -> CheckFailed:
    """Say of a variable without spread what that means, and what to do with it."""
    name = str(dataset["state_feature"].values[place])
    sources = dataset.get("state_feature_source_dataset")
    source = "its input" if sources is None else f"inputs.{sources.values[place]}"
    same = "has one value everywhere, at all times"
    if kind == "diff_std":
        same = "never changes from one time to the next"
    return CheckFailed(
        f"{name} {same} of the split train (state__train__{kind} is 0.0)",
        where=str(path),
        why="neural-lam divides by that spread, and trains to NaN",
        next=f"leave {name} out of {source} in data/datastore.yaml, or move it to an input of forcing or static",
    )


def interior(dataset: Any) -> NDArray[np.bool_]:
    """Return which grid points neural-lam scores, as ``MDPDatastore.boundary_mask`` of 0.7.0 has them."""
    import numpy as np

    inside = np.ones(dataset.sizes["grid_index"], dtype=bool)
    for name in ("x", "y"):
        values, place = np.unique(dataset[name].values, return_inverse=True)
        inside &= (place >= BOUNDARY_POINTS) & (place < len(values) - BOUNDARY_POINTS)
    return inside


def check_interior(dataset: Any, path: Path) -> None:
    """Refuse a grid that is all boundary to Neural-LAM: training would "succeed" with a loss of NaN.

    Raises
    ------
    CheckFailed
        With the size of the grid.
    """
    import numpy as np

    sides = []
    for name in ("x", "y"):
        if name in dataset.variables:
            sides.append(len(np.unique(dataset[name].values)))
    size = "×".join(map(str, sides))
    if sides and min(sides) <= 2 * BOUNDARY_POINTS:
        what = f"a grid of {size} points leaves no interior"
        why = f"Neural-LAM takes {BOUNDARY_POINTS} points at each side as boundary"
        raise CheckFailed(what, str(path), why)
    points = dataset.sizes.get("grid_index")
    if len(sides) == 2 and points is not None and points != math.prod(sides):
        what = f"its {points} points are no whole grid of {size}"
        why = "neural-lam works on whole grids"
        way_out = "leave output.domain_cropping out of data/datastore.yaml"
        raise CheckFailed(what, str(path), why, way_out)
