"""Checks of ``data/config.yaml``, of ``data/datastore.yaml``, and of the archives that it names.

What neural-lam and mllam-data-prep would find out after hours, or never, is found before anything starts:
first from the files alone, then (`check_sources`) from the archives' metadata. No field is read.

``python -m mllam_exps.dataset_checks ROOT DEP…`` looks at the archives where the programs are installed, and
prints ``{"problems": [{what, where, why, next}], "notes": [text]}`` as its last line.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import posixpath
import re
import sys
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.arguments import did_you_mean
from mllam_exps.errors import MllamError, UsageError

if TYPE_CHECKING:
    from mllam_exps.params import Parameters

CONFIG = "data/config.yaml"
DATASTORE = "data/datastore.yaml"
SPLITS = ("train", "val", "test")
BOUNDARY = 30
"""Points on each side of the grid that neural-lam marks as boundary, and learns nothing of."""

_REMOTE_SECONDS = 60
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_SPLITTING = "output.splitting.splits"


class Note(MllamError):
    """Something to tell the user that is no error of theirs; the work goes on."""


def check_config(
    config: Mapping[str, Any], datastore: Mapping[str, Any], classes: Mapping[str, Any]
) -> list[MllamError]:
    """Check ``data/config.yaml``, of which neural-lam silently ignores what it does not know.

    Parameters
    ----------
    config, datastore : Mapping
        What the two files say.
    classes : Mapping
        Keys of each class of neural-lam's configuration, from `mllam_exps.arguments.Arguments`.
    """
    training = _section(config, "training")
    weighting = training.get("state_feature_weighting")
    clamping = _section(training, "output_clamping")
    problems = [
        *_unknown_keys(config, classes["NeuralLAMConfig"], ""),
        *_unknown_keys(_section(config, "datastore"), classes["DatastoreSelection"], "datastore."),
        *_unknown_keys(training, classes["TrainingConfig"], "training."),
        *_unknown_keys(clamping, classes["OutputClamping"], "training.output_clamping."),
    ]
    selected = _section(config, "datastore")
    if selected.get("kind") != "mdp":
        problems.append(_config("datastore.kind", f"must be mdp, not {selected.get('kind')!r}"))
    path = str(selected.get("config_path"))
    if posixpath.normpath(posixpath.join("data", path)) != DATASTORE:
        problems.append(_config("datastore.config_path", f"must be datastore.yaml, beside this file, not {path!r}"))
    features = state_features(datastore)
    if weighting is not None:
        problems += _check_weighting(weighting, features, classes)
    for bound in ("lower", "upper"):
        problems += _check_features(_section(clamping, bound), features, f"training.output_clamping.{bound}")
    lower, upper = _section(clamping, "lower"), _section(clamping, "upper")
    for name in lower.keys() & upper.keys():
        if _is_number(lower[name]) and _is_number(upper[name]) and lower[name] >= upper[name]:
            what = f"must be below upper: {upper[name]}, not {lower[name]}"
            problems.append(_config(f"training.output_clamping.lower.{name}", what))
    return problems


def _check_weighting(
    weighting: Any, features: list[frozenset[str]] | None, classes: Mapping[str, Any]
) -> list[MllamError]:
    where = "training.state_feature_weighting"
    right = [name for name in classes if name.endswith("Weighting")]
    chosen = weighting.get("__config_class__") if isinstance(weighting, Mapping) else None
    if chosen not in right:
        near = did_you_mean(chosen, right) if chosen else ""
        return [_config(f"{where}.__config_class__", f"must be one of {', '.join(right)}, not {chosen!r}{near}")]
    problems = _unknown_keys(weighting, [*classes[chosen], "__config_class__"], f"{where}.")
    if "weights" not in classes[chosen]:
        return problems
    weights = _section(weighting, "weights")
    problems += _check_features(weights, features, f"{where}.weights")
    for name, weight in weights.items():
        if _is_number(weight) and weight < 0:
            problems.append(_config(f"{where}.weights.{name}", f"must be 0 or more, not {weight}"))
    missing = [min(names) for names in features or [] if not names & weights.keys()]
    if missing:
        what = f"must weigh every state variable, and lacks {', '.join(missing)}"
        problems.append(_config(f"{where}.weights", what))
    return problems


def _check_features(values: Mapping[str, Any], features: list[frozenset[str]] | None, where: str) -> list[MllamError]:
    problems: list[MllamError] = []
    known = set().union(*features) if features else set()
    for name, value in values.items():
        if features is not None and name not in known:
            what = f"{DATASTORE} makes no such state variable{did_you_mean(name, known)}"
            problems.append(_config(f"{where}.{name}", what))
        elif not _is_number(value):
            problems.append(_config(f"{where}.{name}", f"must be a number, not {value!r}"))
    return problems


def state_features(datastore: Mapping[str, Any]) -> list[frozenset[str]] | None:
    """Return the names of the state variables that ``data/datastore.yaml`` makes, in neural-lam's order.

    A name that holds a level is ``z500`` or ``z500.0``, as the archive has its levels: each variable is a set
    of possible names. None where the archive must be opened to know.
    """
    names: list[frozenset[str]] = []
    for _, source in _inputs(datastore):
        if source.get("target_output_variable") != "state":
            continue
        mapping = _section(_section(source, "dim_mapping"), "state_feature")
        form, dims, chosen = (
            mapping.get("name_format"),
            mapping.get("dims") or [],
            source.get("variables") or {},
        )
        derived = _section(source, "derived_variables")
        if not isinstance(form, str) or len(dims) > 1 or (dims and derived):
            return None
        for variable in [*chosen, *derived]:
            levels: Any = [None]
            if dims:
                selection = chosen.get(variable) if isinstance(chosen, Mapping) else None
                levels = _section(selection, dims[0]).get("values")
            if not isinstance(levels, list):
                return None
            for level in levels:
                forms = [level, float(level), int(level)] if _is_number(level) and level % 1 == 0 else [level]
                try:
                    names.append(frozenset(form.format(var_name=variable, **dict.fromkeys(dims, f)) for f in forms))
                except (KeyError, IndexError, ValueError):
                    return None
    return names


def check(parameters: Parameters) -> list[MllamError]:
    """Return every problem of ``data/datastore.yaml`` that can be known without opening any data."""
    return [found for found in _look_at_datastore(parameters.files[DATASTORE]) if not isinstance(found, Note)]


def notes(parameters: Parameters) -> list[Note]:
    """Return what a user should be told of ``data/datastore.yaml`` although it is allowed."""
    return [found for found in _look_at_datastore(parameters.files[DATASTORE]) if isinstance(found, Note)]


def _look_at_datastore(datastore: Mapping[str, Any]) -> list[MllamError]:
    if not _section(datastore, "inputs"):
        return [_datastore("inputs", "must name the archives to read")]
    problems = [found for name, source in _inputs(datastore) for found in _check_input(name, source, datastore)]
    variables = _section(_section(datastore, "output"), "variables")
    for category, dims in {"state": ("time", "grid_index"), "static": ("grid_index",)}.items():
        wanted = [*dims, f"{category}_feature"]
        given = variables.get(category)
        if not isinstance(given, list) or set(map(str, given)) != set(wanted):
            what = f"neural-lam needs it, with the dimensions {', '.join(wanted)}"
            problems.append(_datastore(f"output.variables.{category}", what))
    projection = _section(_section(datastore, "extra"), "projection")
    if not {"class_name", "kwargs"} <= projection.keys():
        what = "neural-lam draws no map without its class_name and kwargs"
        problems.append(_datastore("extra.projection", what))
    return problems + _check_splits(datastore)


def _check_input(name: str, source: Mapping[str, Any], datastore: Mapping[str, Any]) -> list[MllamError]:
    problems: list[MllamError] = []
    path, target = source.get("path"), str(source.get("target_output_variable"))
    if isinstance(path, str) and not _is_remote(path) and _inside(path) is None:
        what = f"{path} lies outside the repository: link it into it, or write an absolute path"
        problems.append(_datastore(f"inputs.{name}.path", what))
    outputs = _section(_section(datastore, "output"), "variables")
    if target not in outputs:
        what = f"output.variables has no {target}{did_you_mean(target, outputs)}"
        return [*problems, _datastore(f"inputs.{name}.target_output_variable", what)]
    mapping = _section(source, "dim_mapping")
    if missing := [str(dim) for dim in outputs[target] or [] if dim not in mapping]:
        what = f"lacks {', '.join(missing)}: {target} has that dimension"
        problems.append(_datastore(f"inputs.{name}.dim_mapping", what))
    grid = _section(mapping, "grid_index").get("dims")
    if "grid_index" in mapping and grid != ["x", "y"]:
        what = f"must be [x, y], by which neural-lam knows a grid, not {grid!r}"
        problems.append(_datastore(f"inputs.{name}.dim_mapping.grid_index.dims", what))
    return problems


def _check_splits(datastore: Mapping[str, Any]) -> list[MllamError]:
    output = _section(datastore, "output")
    splitting = _section(output, "splitting")
    splits = _section(splitting, "splits")
    problems: list[MllamError] = []
    if splitting.get("dim") != "time":
        problems.append(_datastore("output.splitting.dim", "must be time: neural-lam splits nothing else"))
    for name in SPLITS:
        if name not in splits:
            what = "is missing: neural-lam needs train, val and test"
            problems.append(_datastore(f"{_SPLITTING}.{name}", what))
    bounds = _section(_section(output, "coord_ranges"), "time")
    for key in ("start", "end"):
        if isinstance(bounds.get(key), datetime.date):
            problems.append(_datastore(f"output.coord_ranges.time.{key}", "must be text: write it in quotes"))
    for name in splits:
        split = _section(splits, name)
        start, end = _time(split.get("start")), _time(split.get("end"))
        if start is None or end is None:
            what = "must have a start and an end, such as 2025-12-01T00:00"
            problems.append(_datastore(f"{_SPLITTING}.{name}", what))
        elif start >= _last(split["end"]):
            what = f"starts at {split['start']}, which is not before its end, {split['end']}"
            problems.append(_datastore(f"{_SPLITTING}.{name}", what))
        elif (start < (_time(bounds.get("start")) or start)) or (end > (_time(bounds.get("end")) or end)):
            what = f"{split['start']} to {split['end']} reaches beyond output.coord_ranges.time"
            what += f", {bounds.get('start')} to {bounds.get('end')}"
            problems.append(_datastore(f"{_SPLITTING}.{name}", what))
    return problems + _overlaps(_spans(datastore)) + _check_statistics(_section(splits, "train"))


def _spans(datastore: Mapping[str, Any]) -> dict[str, tuple[datetime.datetime, datetime.datetime]]:
    """Return first and last time of each split that is well formed."""
    splits = _section(_section(_section(datastore, "output"), "splitting"), "splits")
    spans: dict[str, tuple[datetime.datetime, datetime.datetime]] = {}
    for name in splits:
        start, end = _time(_section(splits, name).get("start")), _section(splits, name).get("end")
        if start and _time(end) and start < _last(end):
            spans[name] = (start, _last(end))
    return spans


def _overlaps(spans: Mapping[str, tuple[datetime.datetime, datetime.datetime]]) -> list[MllamError]:
    problems: list[MllamError] = []
    ordered = sorted(spans.items(), key=lambda item: item[1])
    for (one, (_, end)), (other, (start, _)) in itertools.pairwise(ordered):
        where = f"{_SPLITTING}.{other}"
        if start < end:
            what = f"starts at {start:%Y-%m-%dT%H:%M}, before {one} ends at {end:%Y-%m-%dT%H:%M}"
            problems.append(_datastore(where, what))
        elif start == end:
            what = f"shares {start:%Y-%m-%dT%H:%M} with {one}: that field is in both"
            problems.append(Note(what, f"{DATASTORE}: {where}"))
    return problems


def check_lengths(datastore: Mapping[str, Any], needed: Mapping[str, int]) -> list[MllamError]:
    """Refuse splits too short for one sample; only where the file itself gives the time step.

    Parameters
    ----------
    datastore : Mapping
        What ``data/datastore.yaml`` says.
    needed : Mapping
        The time steps that neural-lam must find in each split.
    """
    bounds = _section(_section(_section(datastore, "output"), "coord_ranges"), "time")
    first, step = _time(bounds.get("start")), _duration(bounds.get("step"))
    if first is None or step is None:
        return []
    problems: list[MllamError] = []
    for name, (start, end) in _spans(datastore).items():
        count = math.floor((end - first) / step) - math.ceil((start - first) / step) + 1
        problems += _too_short(name, count, needed)
    return problems


def _too_short(name: str, count: int, needed: Mapping[str, int]) -> list[MllamError]:
    if count >= needed.get(name, 1):
        return []
    what = f"has {count} time steps, and neural-lam needs {needed[name]} for one sample: lengthen it,"
    return [_datastore(f"{_SPLITTING}.{name}", f"{what} or lower ar_steps or num_future_forcing_steps")]


def _check_statistics(train: Mapping[str, Any]) -> list[MllamError]:
    key = f"{_SPLITTING}.train.compute_statistics"
    statistics = _section(train, "compute_statistics")
    ops, dims = list(statistics.get("ops") or []), list(statistics.get("dims") or [])
    if missing := [op for op in ("mean", "std", "diff_mean", "diff_std") if op not in ops]:
        return [_datastore(f"{key}.ops", f"lacks {', '.join(missing)}: neural-lam normalises by them")]
    if set(map(str, dims)) != {"grid_index", "time"}:
        what = "must be grid_index and time: neural-lam wants one number a variable"
        return [_datastore(f"{key}.dims", what)]
    # calc_stats replaces the dataset by its differences at each diff_ operation, for all that follow.
    if max(ops.index("mean"), ops.index("std")) > min(ops.index("diff_mean"), ops.index("diff_std")):
        what = "mean and std must stand before diff_…, or mllam-data-prep takes them of the differences"
        return [_datastore(f"{key}.ops", what)]
    if ops.index("diff_mean") < ops.index("diff_std"):
        what = "diff_std stands after diff_mean: mllam-data-prep 0.7 takes it of the differences' differences"
        return [Note(f"{what}; put it first", f"{DATASTORE}: {key}.ops")]
    return []


def check_dependencies(parameters: Parameters, deps: Collection[str]) -> list[MllamError]:
    """Refuse archives in the repository that DVC does not know as inputs of the dataset.

    Parameters
    ----------
    parameters : Parameters
    deps : collection of str
        Of the stage ``prepare_dataset`` in ``dvc.yaml``; a folder stands for all that is in it.
    """
    declared = {posixpath.normpath(dep) for dep in deps}
    problems: list[MllamError] = []
    for name, source in _inputs(parameters.files[DATASTORE]):
        path = source.get("path")
        if not isinstance(path, str) or _is_remote(path) or posixpath.isabs(path):
            continue
        inside = _inside(path)
        if inside and not declared & {inside, *map(str, Path(inside).parents)}:
            what = f"{inside} is no dependency of prepare_dataset: add it to the stage's deps in dvc.yaml"
            problems.append(_datastore(f"inputs.{name}.path", what))
    return problems


def check_sources(root: Path, parameters: Parameters, needed: Mapping[str, int] | None = None) -> list[MllamError]:
    """Open each archive's metadata, and compare them with what ``data/datastore.yaml`` asks for.

    Parameters
    ----------
    root : Path
        The repository, to which relative paths refer.
    parameters : Parameters
        Found good by `mllam_exps.params.check`.
    needed : Mapping, optional
        The time steps that neural-lam must find in each split.

    Returns
    -------
    list of MllamError
        A `Note` for what could not be looked at: a remote archive out of reach, or no mllam-data-prep here.
    """
    try:
        from mllam_data_prep.config import Config
    except ImportError as error:
        return [Note("the archives were not looked at", DATASTORE, f"this Python has no {error.name}")]
    try:
        config = Config.from_yaml_file(str(root / DATASTORE))
    except Exception as error:  # whatever mllam-data-prep raises, it refuses the file
        return [UsageError(_in_one_line(error), DATASTORE, "mllam-data-prep refuses it")]
    problems: list[MllamError] = []
    ranges = set(config.output.coord_ranges or {})
    for name, source in config.inputs.items():
        # mllam-data-prep drops a range at the first input without that dimension, for all inputs after it.
        ranges &= set(config.output.variables[source.target_output_variable])
        dataset = _open(root, name, source.path)
        if isinstance(dataset, MllamError):
            problems.append(dataset)
            continue
        with warnings.catch_warnings(), dataset:
            warnings.simplefilter("ignore")
            problems += _check_variables(name, source, dataset)
            problems += _check_extent(name, dataset, config, ranges, needed or {})
    return problems


def _check_extent(
    name: str, dataset: Any, config: Any, ranges: Collection[str], needed: Mapping[str, int]
) -> list[MllamError]:
    """Check what is left of an archive's grid and times when the ranges have been taken from it."""
    from mllam_data_prep.ops.selection import select_by_kwargs

    source, wanted = config.inputs[name], (config.output.coord_ranges or {}).get("time")
    time = getattr(source.dim_mapping.get("time"), "dim", None)
    try:
        key = f"inputs.{name}.coord_ranges"
        dataset = select_by_kwargs(dataset, **(source.coord_ranges or {}))
        key = "output.coord_ranges.time"
        axis = dataset[[time]].rename({} if time == "time" else {time: "time"}) if time in dataset.coords else None
        if axis is not None and "time" in ranges:
            axis = select_by_kwargs(axis, time=wanted)
    except Exception as error:  # this is what mllam-data-prep itself would raise
        return [_datastore(key, f"{name}: {_in_one_line(error)}")]
    problems = [] if axis is None else _check_times(name, axis["time"].values, config, needed)
    if axis is not None and wanted and "time" not in ranges:
        whole = select_by_kwargs(axis, time=wanted).sizes["time"] == axis.sizes["time"]
        if not whole:
            what = "mllam-data-prep ignores output.coord_ranges.time after an input without time"
            problems.append(_datastore(f"inputs.{name}", f"{what}: put those without time last"))
    sizes = [int(dataset.sizes[dim]) for dim in ("x", "y") if dim in dataset.sizes]
    if source.target_output_variable == "state" and sizes and min(sizes) <= 2 * BOUNDARY:
        grid = " × ".join(map(str, sizes))
        what = f"its grid of {grid} points lies within neural-lam's boundary of {BOUNDARY} points a side:"
        problems.append(_datastore(f"inputs.{name}", f"{what} no interior is left and training gives NaN"))
    return problems


def _check_variables(name: str, source: Any, dataset: Any) -> list[MllamError]:
    problems: list[MllamError] = []
    for variable in source.variables or []:
        where = f"inputs.{name}.variables"
        if variable not in dataset:
            problems.append(
                _datastore(where, f"{source.path} has no {variable}{did_you_mean(variable, dataset.data_vars)}")
            )
            continue
        if extra := [dim for dim in dataset[variable].dims if dim not in source.dims]:
            problems.append(_datastore(f"inputs.{name}.dims", f"lacks {', '.join(extra)}, which {variable} has"))
        selections = source.variables[variable] if isinstance(source.variables, Mapping) else {}
        for coord, selection in selections.items():
            if coord not in dataset[variable].coords:
                problems.append(_datastore(f"{where}.{variable}", f"{variable} has no coordinate {coord}"))
            elif isinstance(selection.values, list):
                there = dataset[coord].values.ravel().tolist()
                lacks = ", ".join(str(value) for value in selection.values if value not in there)
                if lacks:
                    problems.append(_datastore(f"{where}.{variable}.{coord}", f"{source.path} lacks {lacks}"))
    for variable, derived in (source.derived_variables or {}).items():
        for value in derived.kwargs.values():
            wanted = value.removeprefix("ds_input.") if str(value).startswith("ds_input.") else None
            if wanted and wanted not in dataset.variables:
                what = f"{source.path} has no {wanted}{did_you_mean(wanted, map(str, dataset.variables))}"
                problems.append(_datastore(f"inputs.{name}.derived_variables.{variable}", what))
    return problems


def _check_times(name: str, times: Any, config: Any, needed: Mapping[str, int]) -> list[MllamError]:
    import numpy as np

    if times.dtype.kind != "M" or not times.size:
        return []
    problems: list[MllamError] = []
    for split, span in config.output.splitting.splits.items():
        start, end, last = (np.datetime64(time) for time in (_time(span.start), _time(span.end), _last(span.end)))
        if start < times[0] or end > times[-1]:
            there = " to ".join(np.datetime_as_string(time, unit="m") for time in (times[0], times[-1]))
            what = f"{span.start} to {span.end} reaches beyond the times of {name}, {there}"
            problems.append(_datastore(f"{_SPLITTING}.{split}", what))
        else:
            problems += _too_short(split, int(((times >= start) & (times <= last)).sum()), needed)
    return problems


def _open(root: Path, name: str, path: str) -> Any:
    """Open an archive as mllam-data-prep does, lazily; or say why not."""
    where = f"{DATASTORE}: inputs.{name}.path"
    if not _is_remote(path):
        if not (root / path).exists():
            return UsageError(f"there is no {path}", where)
        try:
            return _open_dataset(str(root / path))
        except Exception as error:  # each engine raises its own
            return UsageError(f"{path} is no archive that xarray opens", where, _in_one_line(error))
    found: list[Any] = []

    def reach() -> None:
        try:
            found.append(_open_dataset(path))
        except FileNotFoundError:
            found.append(UsageError(f"there is no {path}", where))
        except Exception as error:  # no network, no credentials, no such protocol here …
            found.append(Note(f"{path} was not looked at", where, _in_one_line(error)))

    # Some stores try again for minutes; a daemon thread can be left behind.
    thread = threading.Thread(target=reach, daemon=True)
    thread.start()
    thread.join(_REMOTE_SECONDS)
    return found[0] if found else Note(f"{path} was not looked at", where, f"no answer within {_REMOTE_SECONDS} s")


def _open_dataset(path: str) -> Any:
    import xarray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return xarray.open_zarr(path, chunks=None)
        except ValueError:
            return xarray.open_dataset(path)


def _in_one_line(error: BaseException) -> str:
    """Say in one line what dataclass-wizard, xarray and mllam-data-prep say in many."""
    owner = getattr(error, "class_name", None)
    if key := getattr(error, "json_key", None):
        return f"unknown key {key} in {owner}{did_you_mean(key, getattr(error, 'fields', None) or [])}"
    if missing := getattr(error, "missing_fields", None):
        return f"{owner} lacks {', '.join(missing)}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _section(mapping: Any, key: str) -> Mapping[str, Any]:
    """Return a part of a file, empty where the file has something else there."""
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _inputs(datastore: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    inputs = _section(datastore, "inputs")
    return ((str(name), _section(inputs, name)) for name in inputs)


def _unknown_keys(values: Mapping[str, Any], right: Collection[str], prefix: str) -> list[MllamError]:
    return [_config(f"{prefix}{key}", f"unknown key{did_you_mean(key, right)}") for key in values if key not in right]


def _config(key: str, what: str) -> MllamError:
    return UsageError(what, f"{CONFIG}: {key}")


def _datastore(key: str, what: str) -> MllamError:
    return UsageError(what, f"{DATASTORE}: {key}")


def _is_remote(path: str) -> bool:
    return "://" in path or "::" in path


def _inside(path: str) -> str | None:
    """Return a path within the repository, an absolute one as it is, and None for one that leaves it."""
    path = posixpath.normpath(path)
    return None if path.split("/")[0] == ".." else path


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _time(value: Any) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.astimezone(datetime.UTC).replace(tzinfo=None) if found.tzinfo else found


def _last(value: Any) -> datetime.datetime:
    """Return the last moment of a split's end: a day without an hour lasts all day, as xarray slices it."""
    end = _time(value)
    assert end is not None
    whole_day = len(str(value)) == len("2025-12-01")
    return end + datetime.timedelta(days=1, microseconds=-1) if whole_day else end


def _duration(value: Any) -> datetime.timedelta | None:
    match = _DURATION.fullmatch(str(value))
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return datetime.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds) or None


def main(words: list[str]) -> None:
    """Look at the archives, and print what was found as one line of JSON."""
    from mllam_exps import arguments, params

    root = Path(words[0])
    parameters = params.load(root)
    found: list[MllamError] = [*notes(parameters), *check_dependencies(parameters, words[1:])]
    found += check_sources(root, parameters, params.steps_needed(parameters, arguments.known()))
    problems = [
        {"what": problem.what, "where": problem.where, "why": problem.why, "next": problem.next}
        for problem in found
        if not isinstance(problem, Note)
    ]
    print(json.dumps({"problems": problems, "notes": [str(note) for note in found if isinstance(note, Note)]}))


if __name__ == "__main__":
    main(sys.argv[1:])
