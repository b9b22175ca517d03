"""What ``data/datastore.yaml`` says, part by part; a part that has another form than it should counts as empty."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages.neural_lam.file_names import DATASTORE

SPLITS = ("train", "val", "test")
"""The splits that neural-lam reads."""
STATISTICS = ("mean", "std", "diff_mean", "diff_std")
"""What neural-lam normalises by, taken from the training split."""
BOUNDARY_POINTS = 30
"""neural-lam 0.7.0 takes this many points at each side of the grid as boundary (``MDPDatastore``), and learns nothing
of them."""

SPLITTING = "output.splitting.splits"

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


class Note(MllamError):
    """Something to tell the user that is no error of theirs; the work goes on."""


def problem(key: str, what: str) -> MllamError:
    """Return what is wrong with a key of ``data/datastore.yaml``."""
    return UsageError(what, f"{DATASTORE}: {key}")


def section(mapping: Any, key: str) -> Mapping[str, Any]:
    """Return a part of a file, empty where the file has something else there."""
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def inputs_of(datastore: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the inputs with their names, empty where the file has something else there."""
    inputs = section(datastore, "inputs")
    return ((str(name), section(inputs, name)) for name in inputs)


def splits_of(datastore: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the splits, by name."""
    splitting = section(section(datastore, "output"), "splitting")
    return section(splitting, "splits")


def time_range_of(datastore: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return start, end and step of the times that the dataset has."""
    ranges = section(section(datastore, "output"), "coord_ranges")
    return section(ranges, "time")


def state_features(datastore: Mapping[str, Any]) -> list[frozenset[str]] | None:
    """Return the names of the state variables that ``data/datastore.yaml`` makes, in neural-lam's order.

    A name that holds a level is ``z500`` or ``z500.0``, as the archive has its levels:
    each variable is a set of possible names. None where the archive must be opened to
    know.
    """
    features: list[frozenset[str]] = []
    for _, source in inputs_of(datastore):
        if source.get("target_output_variable") != "state":
            continue
        names = _features_of(source)
        if names is None:
            return None
        features += names
    return features


def _features_of(source: Mapping[str, Any]) -> list[frozenset[str]] | None:
    mapping = section(section(source, "dim_mapping"), "state_feature")
    name_format, dims = mapping.get("name_format"), mapping.get("dims") or []
    derived = section(source, "derived_variables")
    if not isinstance(name_format, str) or len(dims) > 1 or (dims and derived):
        return None
    chosen = source.get("variables") or {}
    features: list[frozenset[str]] = []
    for variable in [*chosen, *derived]:
        levels: Any = [None]
        if dims:
            levels = section(section(chosen, variable), dims[0]).get("values")
        names = _names_at(levels, name_format, variable, dims)
        if names is None:
            return None
        features += names
    return features


def _names_at(
    levels: Any, name_format: str, variable: str, dims: list[str]
) -> list[frozenset[str]] | None:
    """Return the possible names of a variable at each of its levels; None of a range of levels."""
    if not isinstance(levels, list):
        return None
    try:
        return [_names(name_format, variable, dims, level) for level in levels]
    except (KeyError, IndexError, ValueError):  # neural-lam's formats are str.format's
        return None


def _names(
    name_format: str, variable: str, dims: list[str], level: Any
) -> frozenset[str]:
    """Return the names that a variable at one level may have: 500 may be 500.0 in the archive."""
    levels = [level]
    if is_number(level) and level % 1 == 0:
        levels = [level, float(level), int(level)]
    return frozenset(
        name_format.format(var_name=variable, **dict.fromkeys(dims, spelling))
        for spelling in levels
    )


def is_number(value: Any) -> bool:
    """Tell whether a value of a file is a number: to Python, true is one too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def time_of(value: Any) -> datetime.datetime | None:
    """Return a time in UTC, None for what is none."""
    try:
        time = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    if time.tzinfo is None:
        return time
    return time.astimezone(datetime.UTC).replace(tzinfo=None)


def last_of(value: Any) -> datetime.datetime:
    """Return the last moment of a split's end: a day without an hour lasts all day, as xarray slices it."""
    end = time_of(value)
    assert end is not None
    whole_day = len(str(value)) == len("2025-12-01")
    return end + datetime.timedelta(days=1, microseconds=-1) if whole_day else end


def duration_of(value: Any) -> datetime.timedelta | None:
    """Return a time step such as ``PT6H``; None for what is none, or lasts no time."""
    match = _DURATION.fullmatch(str(value))
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = datetime.timedelta(
        days=days, hours=hours, minutes=minutes, seconds=seconds
    )
    return duration or None
