"""Checks of the splits that ``data/datastore.yaml`` asks for, and of the statistics of the training split."""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Mapping
from typing import Any

from mllam_exps.base.errors import MllamError
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    SPLITS,
    SPLITTING,
    STATISTICS,
    Note,
    duration_of,
    is_number,
    last_of,
    problem,
    section,
    splits_of,
    time_of,
    time_range_of,
)


def check(datastore: Mapping[str, Any]) -> list[MllamError]:
    """Return every problem of the splits, and each `Note` on them."""
    splitting = section(section(datastore, "output"), "splitting")
    splits = splits_of(datastore)
    problems: list[MllamError] = []
    if splitting.get("dim") != "time":
        what = "must be time: neural-lam splits nothing else"
        problems.append(problem("output.splitting.dim", what))
    for name in SPLITS:
        if name not in splits:
            what = "is missing: neural-lam needs train, val and test"
            problems.append(problem(f"{SPLITTING}.{name}", what))
    time_range = time_range_of(datastore)
    for key in ("start", "end"):
        if isinstance(time_range.get(key), datetime.date):
            what = "must be text: write it in quotes"
            problems.append(problem(f"output.coord_ranges.time.{key}", what))
    for name in splits:
        if what := _fault_of(section(splits, name), time_range):
            problems.append(problem(f"{SPLITTING}.{name}", what))
    problems += check_zones(SPLITTING, splits)
    problems += _overlaps(_spans(datastore))
    return problems + _check_statistics(section(splits, "train"))


def check_zones(where: str, ranges: Mapping[str, Any]) -> list[MllamError]:
    """Refuse times with a zone: the archives' times have none, and pandas cannot compare the two kinds."""
    problems: list[MllamError] = []
    for name in ranges:
        for key in ("start", "end"):
            given = section(ranges, name).get(key)
            in_utc = "" if is_number(given) else _in_utc(given)
            if in_utc:
                what = f"must have no time zone, as the archives' times have none: {in_utc}, which is UTC, not {given}"
                problems.append(problem(f"{where}.{name}.{key}", what))
    return problems


def _in_utc(value: Any) -> str:
    """Return a time that has a zone as one in UTC without a zone; empty for all else."""
    try:
        time = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return ""
    return "" if time.tzinfo is None else f"{time_of(value):%Y-%m-%dT%H:%M}"


def _fault_of(split: Mapping[str, Any], time_range: Mapping[str, Any]) -> str:
    """Say what is wrong with start and end of one split; nothing if nothing is."""
    start, end = time_of(split.get("start")), time_of(split.get("end"))
    if start is None or end is None:
        return "must have a start and an end, such as 2025-12-01T00:00"
    if start >= last_of(split["end"]):
        return (
            f"starts at {split['start']}, which is not before its end, {split['end']}"
        )
    first = time_of(time_range.get("start")) or start
    last = time_of(time_range.get("end")) or end
    if start < first or end > last:
        span = f"{split['start']} to {split['end']}"
        limits = f"{time_range.get('start')} to {time_range.get('end')}"
        return f"{span} reaches beyond output.coord_ranges.time, {limits}"
    return ""


def _spans(
    datastore: Mapping[str, Any],
) -> dict[str, tuple[datetime.datetime, datetime.datetime]]:
    """Return first and last time of each split that is well formed."""
    splits = splits_of(datastore)
    spans: dict[str, tuple[datetime.datetime, datetime.datetime]] = {}
    for name in splits:
        split = section(splits, name)
        start, end = time_of(split.get("start")), split.get("end")
        if start and time_of(end) and start < last_of(end):
            spans[name] = (start, last_of(end))
    return spans


def _overlaps(
    spans: Mapping[str, tuple[datetime.datetime, datetime.datetime]],
) -> list[MllamError]:
    problems: list[MllamError] = []
    ordered = sorted(spans.items(), key=lambda item: item[1])
    for (earlier, (_, end)), (later, (start, _)) in itertools.pairwise(ordered):
        where = f"{SPLITTING}.{later}"
        if start < end:
            what = f"starts at {start:%Y-%m-%dT%H:%M}, before {earlier} ends at {end:%Y-%m-%dT%H:%M}"
            problems.append(problem(where, what))
        elif start == end:
            what = (
                f"shares {start:%Y-%m-%dT%H:%M} with {earlier}: that field is in both"
            )
            problems.append(Note(what, f"{DATASTORE}: {where}"))
    return problems


def check_lengths(
    datastore: Mapping[str, Any], needed: Mapping[str, int]
) -> list[MllamError]:
    """Refuse splits too short for one sample; only where the file itself gives the time step.

    Parameters
    ----------
    datastore : Mapping
        What ``data/datastore.yaml`` says.
    needed : Mapping
        The time steps that neural-lam must find in each split.
    """
    time_range = time_range_of(datastore)
    first, step = time_of(time_range.get("start")), duration_of(time_range.get("step"))
    if first is None or step is None:
        return []
    problems: list[MllamError] = []
    for name, (start, end) in _spans(datastore).items():
        count = math.floor((end - first) / step) - math.ceil((start - first) / step) + 1
        problems += too_short(name, count, needed)
    return problems


def too_short(name: str, count: int, needed: Mapping[str, int]) -> list[MllamError]:
    """Return a problem if a split's time steps are too few for one sample."""
    wanted = needed.get(name, 1)
    if count >= wanted:
        return []
    rollout = {
        "train": "ar_steps_train in data/training_params.yaml",
        "test": "ar_steps_eval in data/evaluate_params.yaml",
    }.get(name, "ar_steps_eval")
    what = f"has {count} time steps, and neural-lam needs {wanted} for one sample"
    way_out = f"lengthen it, or lower {rollout}, or num_future_forcing_steps"
    return [problem(f"{SPLITTING}.{name}", f"{what}: {way_out}")]


def _check_statistics(train: Mapping[str, Any]) -> list[MllamError]:
    key = f"{SPLITTING}.train.compute_statistics"
    statistics = section(train, "compute_statistics")
    ops, dims = list(statistics.get("ops") or []), list(statistics.get("dims") or [])
    if missing := [op for op in STATISTICS if op not in ops]:
        what = f"lacks {', '.join(missing)}: neural-lam normalises by them"
        return [problem(f"{key}.ops", what)]
    if set(map(str, dims)) != {"grid_index", "time"}:
        what = "must be grid_index and time: neural-lam wants one number a variable"
        return [problem(f"{key}.dims", what)]
    # calc_stats replaces the dataset by its differences at each diff_ operation, for
    # all that follow.
    first_difference = min(ops.index("diff_mean"), ops.index("diff_std"))
    if max(ops.index("mean"), ops.index("std")) > first_difference:
        what = "mean and std must stand before diff_…, or mllam-data-prep takes them of the differences"
        return [problem(f"{key}.ops", what)]
    if ops.index("diff_mean") < ops.index("diff_std"):
        what = "diff_std stands after diff_mean: mllam-data-prep 0.7 takes it of the differences' differences"
        return [Note(f"{what}; put it first", f"{DATASTORE}: {key}.ops")]
    return []
