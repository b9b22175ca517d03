"""Checks of ``data/datastore.yaml``, from the file alone.

What neural-lam and mllam-data-prep would find out after hours, or never, is found
before anything starts. The archives that it names are looked at by
`mllam_exps.stages.neural_lam.data.source_checks`.
"""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.spelling import did_you_mean
from mllam_exps.stages.neural_lam.file_names import DATASTORE

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.params import Parameters

SPLITS = ("train", "val", "test")
BOUNDARY = 30
"""Points on each side of the grid that neural-lam marks as boundary, and learns nothing of."""

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
SPLITTING = "output.splitting.splits"


class Note(MllamError):
    """Something to tell the user that is no error of theirs; the work goes on."""


def state_features(datastore: Mapping[str, Any]) -> list[frozenset[str]] | None:
    """Return the names of the state variables that ``data/datastore.yaml`` makes, in neural-lam's order.

    A name that holds a level is ``z500`` or ``z500.0``, as the archive has its levels:
    each variable is a set of possible names. None where the archive must be opened to
    know.
    """
    names: list[frozenset[str]] = []
    for _, source in inputs_of(datastore):
        if source.get("target_output_variable") != "state":
            continue
        mapping = section(section(source, "dim_mapping"), "state_feature")
        form, dims, chosen = (
            mapping.get("name_format"),
            mapping.get("dims") or [],
            source.get("variables") or {},
        )
        derived = section(source, "derived_variables")
        if not isinstance(form, str) or len(dims) > 1 or (dims and derived):
            return None
        for variable in [*chosen, *derived]:
            levels: Any = [None]
            if dims:
                selection = (
                    chosen.get(variable) if isinstance(chosen, Mapping) else None
                )
                levels = section(selection, dims[0]).get("values")
            if not isinstance(levels, list):
                return None
            for level in levels:
                forms = (
                    [level, float(level), int(level)]
                    if is_number(level) and level % 1 == 0
                    else [level]
                )
                try:
                    names.append(
                        frozenset(
                            form.format(var_name=variable, **dict.fromkeys(dims, f))
                            for f in forms
                        )
                    )
                except (KeyError, IndexError, ValueError):
                    return None
    return names


def check(parameters: Parameters) -> list[MllamError]:
    """Return every problem of ``data/datastore.yaml`` that can be known without opening any data."""
    return [
        found
        for found in _look_at_datastore(parameters.files[DATASTORE])
        if not isinstance(found, Note)
    ]


def notes(parameters: Parameters) -> list[Note]:
    """Return what a user should be told of ``data/datastore.yaml`` although it is allowed."""
    return [
        found
        for found in _look_at_datastore(parameters.files[DATASTORE])
        if isinstance(found, Note)
    ]


def _look_at_datastore(datastore: Mapping[str, Any]) -> list[MllamError]:
    if not section(datastore, "inputs"):
        return [problem("inputs", "must name the archives to read")]
    problems = [
        found
        for name, source in inputs_of(datastore)
        for found in _check_input(name, source, datastore)
    ]
    variables = section(section(datastore, "output"), "variables")
    for category, dims in {
        "state": ("time", "grid_index"),
        "static": ("grid_index",),
    }.items():
        wanted = [*dims, f"{category}_feature"]
        given = variables.get(category)
        if not isinstance(given, list) or set(map(str, given)) != set(wanted):
            what = f"neural-lam needs it, with the dimensions {', '.join(wanted)}"
            problems.append(problem(f"output.variables.{category}", what))
    problems += _check_ranges(section(datastore, "output")) + _check_chunks(
        section(datastore, "output")
    )
    projection = section(section(datastore, "extra"), "projection")
    if not {"class_name", "kwargs"} <= projection.keys():
        what = "neural-lam draws no map without its class_name and kwargs"
        problems.append(problem("extra.projection", what))
    missing = section(datastore, "extra").get("missing_values")
    if missing is not None and not (
        isinstance(missing, list) and all(isinstance(name, str) for name in missing)
    ):
        what = "must be a list of the variables that may hold missing values, such as [sst]"
        problems.append(problem("extra.missing_values", what))
    return problems + _check_splits(datastore)


def _check_input(
    name: str, source: Mapping[str, Any], datastore: Mapping[str, Any]
) -> list[MllamError]:
    problems: list[MllamError] = []
    target = str(source.get("target_output_variable"))
    outputs = section(section(datastore, "output"), "variables")
    if target not in outputs:
        what = f"output.variables has no {target}{did_you_mean(target, outputs)}"
        return [*problems, problem(f"inputs.{name}.target_output_variable", what)]
    mapping = section(source, "dim_mapping")
    if missing := [str(dim) for dim in outputs[target] or [] if dim not in mapping]:
        what = f"lacks {', '.join(missing)}: {target} has that dimension"
        problems.append(problem(f"inputs.{name}.dim_mapping", what))
    grid = section(mapping, "grid_index").get("dims")
    if "grid_index" in mapping and grid != ["x", "y"]:
        problems.append(_other_grid(f"inputs.{name}.dim_mapping", grid))
    return problems + _check_zones(
        f"inputs.{name}.coord_ranges", section(source, "coord_ranges")
    )


def _other_grid(where: str, grid: Any) -> MllamError:
    """Refuse another grid than [x, y], and say how dimensions of other names become x and y."""
    what = f"must be [x, y], by which neural-lam knows a grid, not {grid!r}"
    names = [str(dim) for dim in grid] if isinstance(grid, list) else []
    if set(names) == {"x", "y"} or len(names) != 2:
        return problem(f"{where}.grid_index.dims", what)
    # The dimension of degrees east, of eastings or of columns is x.
    eastward = next(
        (
            n
            for n in names
            if n.lower().startswith(("lon", "x", "rlon", "west", "east", "i"))
        ),
        names[0],
    )
    northward = names[1 - names.index(eastward)]
    lines = [
        f"{new}: {{method: rename, dim: {old}}}"
        for new, old in (("x", eastward), ("y", northward))
        if new != old
    ]
    way_out = f"above grid_index write {' and '.join(f'`{line}`' for line in lines)}, then dims: [x, y] in grid_index"
    return UsageError(what, f"{DATASTORE}: {where}.grid_index.dims", next=way_out)


def _check_zones(where: str, ranges: Mapping[str, Any]) -> list[MllamError]:
    """Refuse times with a zone: those of archives have none, and pandas compares no time of one kind with the other."""
    problems: list[MllamError] = []
    for coord in ranges:
        for key in ("start", "end"):
            given = section(ranges, coord).get(key)
            if not is_number(given) and (zoned := _zoned(given)):
                what = f"must have no time zone, as the archives' times have none: {zoned}, which is UTC, not {given}"
                problems.append(problem(f"{where}.{coord}.{key}", what))
    return problems


def _zoned(value: Any) -> str:
    """Return what stands for a time with a zone, in UTC and without it; empty for all else."""
    try:
        found = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return ""
    return "" if found.tzinfo is None else f"{time_of(value):%Y-%m-%dT%H:%M}"


def _check_ranges(output: Mapping[str, Any]) -> list[MllamError]:
    """Refuse a range that would select nothing: mllam-data-prep 0.7 takes it after the stacking, where x is no more."""
    dims = {
        str(dim)
        for given in section(output, "variables").values()
        if isinstance(given, list)
        for dim in given
    }
    what = "is ignored by mllam-data-prep, no output has that dimension: select in inputs.<name>.coord_ranges"
    ranges = section(output, "coord_ranges")
    problems = [
        problem(f"output.coord_ranges.{dim}", what)
        for dim in ranges
        if dims and dim not in dims
    ]
    return problems + _check_zones("output.coord_ranges", ranges)


def _check_chunks(output: Mapping[str, Any]) -> list[MllamError]:
    dims = {
        str(dim)
        for given in section(output, "variables").values()
        if isinstance(given, list)
        for dim in given
    }
    problems: list[MllamError] = []
    for dim, size in section(output, "chunking").items():
        if dims and dim not in dims:
            what = f"is ignored by mllam-data-prep, no output has that dimension{did_you_mean(str(dim), dims)}"
            problems.append(problem(f"output.chunking.{dim}", what))
        elif (
            not isinstance(size, int)
            or isinstance(size, bool)
            or (size < 1 and size != -1)
        ):
            what = f"must be a whole number of 1 or more, or -1 for one chunk of all, not {size!r}"
            problems.append(problem(f"output.chunking.{dim}", what))
    return problems


def _check_splits(datastore: Mapping[str, Any]) -> list[MllamError]:
    output = section(datastore, "output")
    splitting = section(output, "splitting")
    splits = section(splitting, "splits")
    problems: list[MllamError] = []
    if splitting.get("dim") != "time":
        problems.append(
            problem(
                "output.splitting.dim", "must be time: neural-lam splits nothing else"
            )
        )
    for name in SPLITS:
        if name not in splits:
            what = "is missing: neural-lam needs train, val and test"
            problems.append(problem(f"{SPLITTING}.{name}", what))
    bounds = section(section(output, "coord_ranges"), "time")
    for key in ("start", "end"):
        if isinstance(bounds.get(key), datetime.date):
            problems.append(
                problem(
                    f"output.coord_ranges.time.{key}",
                    "must be text: write it in quotes",
                )
            )
    zones = _check_zones(SPLITTING, splits)
    for name in splits:
        split = section(splits, name)
        start, end = time_of(split.get("start")), time_of(split.get("end"))
        if start is None or end is None:
            what = "must have a start and an end, such as 2025-12-01T00:00"
            problems.append(problem(f"{SPLITTING}.{name}", what))
        elif start >= last_of(split["end"]):
            what = f"starts at {split['start']}, which is not before its end, {split['end']}"
            problems.append(problem(f"{SPLITTING}.{name}", what))
        elif (start < (time_of(bounds.get("start")) or start)) or (
            end > (time_of(bounds.get("end")) or end)
        ):
            what = f"{split['start']} to {split['end']} reaches beyond output.coord_ranges.time"
            what += f", {bounds.get('start')} to {bounds.get('end')}"
            problems.append(problem(f"{SPLITTING}.{name}", what))
    return (
        problems
        + zones
        + _overlaps(_spans(datastore))
        + _check_statistics(section(splits, "train"))
    )


def _spans(
    datastore: Mapping[str, Any],
) -> dict[str, tuple[datetime.datetime, datetime.datetime]]:
    """Return first and last time of each split that is well formed."""
    splits = section(section(section(datastore, "output"), "splitting"), "splits")
    spans: dict[str, tuple[datetime.datetime, datetime.datetime]] = {}
    for name in splits:
        start, end = (
            time_of(section(splits, name).get("start")),
            section(splits, name).get("end"),
        )
        if start and time_of(end) and start < last_of(end):
            spans[name] = (start, last_of(end))
    return spans


def _overlaps(
    spans: Mapping[str, tuple[datetime.datetime, datetime.datetime]],
) -> list[MllamError]:
    problems: list[MllamError] = []
    ordered = sorted(spans.items(), key=lambda item: item[1])
    for (one, (_, end)), (other, (start, _)) in itertools.pairwise(ordered):
        where = f"{SPLITTING}.{other}"
        if start < end:
            what = f"starts at {start:%Y-%m-%dT%H:%M}, before {one} ends at {end:%Y-%m-%dT%H:%M}"
            problems.append(problem(where, what))
        elif start == end:
            what = f"shares {start:%Y-%m-%dT%H:%M} with {one}: that field is in both"
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
    bounds = section(section(section(datastore, "output"), "coord_ranges"), "time")
    first, step = time_of(bounds.get("start")), _duration(bounds.get("step"))
    if first is None or step is None:
        return []
    problems: list[MllamError] = []
    for name, (start, end) in _spans(datastore).items():
        count = math.floor((end - first) / step) - math.ceil((start - first) / step) + 1
        problems += too_short(name, count, needed)
    return problems


def too_short(name: str, count: int, needed: Mapping[str, int]) -> list[MllamError]:
    """Return a problem if a split's time steps are too few for one sample."""
    if count >= needed.get(name, 1):
        return []
    what = f"has {count} time steps, and neural-lam needs {needed.get(name, 1)} for one sample: lengthen it,"
    rollout = {
        "train": "ar_steps_train in data/training_params.yaml",
        "test": "ar_steps_eval in data/evaluate_params.yaml",
    }.get(name, "ar_steps_eval")
    return [
        problem(
            f"{SPLITTING}.{name}",
            f"{what} or lower {rollout}, or num_future_forcing_steps",
        )
    ]


def _check_statistics(train: Mapping[str, Any]) -> list[MllamError]:
    key = f"{SPLITTING}.train.compute_statistics"
    statistics = section(train, "compute_statistics")
    ops, dims = list(statistics.get("ops") or []), list(statistics.get("dims") or [])
    if missing := [
        op for op in ("mean", "std", "diff_mean", "diff_std") if op not in ops
    ]:
        return [
            problem(
                f"{key}.ops",
                f"lacks {', '.join(missing)}: neural-lam normalises by them",
            )
        ]
    if set(map(str, dims)) != {"grid_index", "time"}:
        what = "must be grid_index and time: neural-lam wants one number a variable"
        return [problem(f"{key}.dims", what)]
    # calc_stats replaces the dataset by its differences at each diff_ operation, for
    # all that follow.
    if max(ops.index("mean"), ops.index("std")) > min(
        ops.index("diff_mean"), ops.index("diff_std")
    ):
        what = "mean and std must stand before diff_…, or mllam-data-prep takes them of the differences"
        return [problem(f"{key}.ops", what)]
    if ops.index("diff_mean") < ops.index("diff_std"):
        what = "diff_std stands after diff_mean: mllam-data-prep 0.7 takes it of the differences' differences"
        return [Note(f"{what}; put it first", f"{DATASTORE}: {key}.ops")]
    return []


def section(mapping: Any, key: str) -> Mapping[str, Any]:
    """Return a part of a file, empty where the file has something else there."""
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def inputs_of(datastore: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the inputs with their names, empty where the file has something else there."""
    inputs = section(datastore, "inputs")
    return ((str(name), section(inputs, name)) for name in inputs)


def problem(key: str, what: str) -> MllamError:
    """Return what is wrong with a key of ``data/datastore.yaml``."""
    return UsageError(what, f"{DATASTORE}: {key}")


def is_number(value: Any) -> bool:
    """Tell whether a value of a file is a number: to Python, true is one too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def time_of(value: Any) -> datetime.datetime | None:
    """Return a time in UTC, None for what is none."""
    try:
        found = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (
        found.astimezone(datetime.UTC).replace(tzinfo=None) if found.tzinfo else found
    )


def last_of(value: Any) -> datetime.datetime:
    """Return the last moment of a split's end: a day without an hour lasts all day, as xarray slices it."""
    end = time_of(value)
    assert end is not None
    whole_day = len(str(value)) == len("2025-12-01")
    return end + datetime.timedelta(days=1, microseconds=-1) if whole_day else end


def _duration(value: Any) -> datetime.timedelta | None:
    match = _DURATION.fullmatch(str(value))
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (
        datetime.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        or None
    )
