"""Checks of the archives that ``data/datastore.yaml`` names, by their metadata: no field is read.

``python -m mllam_exps.source_checks ROOT DEP…`` looks at them where the programs are installed, and prints
``{"problems": [{what, where, why, next}], "notes": [text]}`` as its last line.
"""

from __future__ import annotations

import json
import sys
import threading
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.arguments import did_you_mean
from mllam_exps.dataset_checks import (
    BOUNDARY,
    DATASTORE,
    SPLITTING,
    Note,
    check_dependencies,
    is_remote,
    last_of,
    notes,
    problem,
    time_of,
    too_short,
)
from mllam_exps.errors import MllamError, UsageError

if TYPE_CHECKING:
    from mllam_exps.params import Parameters

_REMOTE_SECONDS = 60


def check_sources(root: Path, parameters: Parameters, needed: Mapping[str, int] | None = None) -> list[MllamError]:
    """Open each archive's metadata, and compare them with what ``data/datastore.yaml`` asks for.

    Parameters
    ----------
    root : Path
        The repository, to which relative paths refer.
    parameters : Parameters
        Found good by `mllam_exps.param_checks.check`.
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
        return [problem(key, f"{name}: {_in_one_line(error)}")]
    problems = [] if axis is None else _check_times(name, axis["time"].values, config, needed)
    if axis is not None and wanted and "time" not in ranges:
        whole = select_by_kwargs(axis, time=wanted).sizes["time"] == axis.sizes["time"]
        if not whole:
            what = "mllam-data-prep ignores output.coord_ranges.time after an input without time"
            problems.append(problem(f"inputs.{name}", f"{what}: put those without time last"))
    sizes = [int(dataset.sizes[dim]) for dim in ("x", "y") if dim in dataset.sizes]
    if source.target_output_variable == "state" and sizes and min(sizes) <= 2 * BOUNDARY:
        grid = " × ".join(map(str, sizes))
        what = f"its grid of {grid} points lies within neural-lam's boundary of {BOUNDARY} points a side:"
        problems.append(problem(f"inputs.{name}", f"{what} no interior is left and training gives NaN"))
    return problems


def _check_variables(name: str, source: Any, dataset: Any) -> list[MllamError]:
    problems: list[MllamError] = []
    for variable in source.variables or []:
        where = f"inputs.{name}.variables"
        if variable not in dataset:
            problems.append(
                problem(where, f"{source.path} has no {variable}{did_you_mean(variable, dataset.data_vars)}")
            )
            continue
        if extra := [dim for dim in dataset[variable].dims if dim not in source.dims]:
            problems.append(problem(f"inputs.{name}.dims", f"lacks {', '.join(extra)}, which {variable} has"))
        selections = source.variables[variable] if isinstance(source.variables, Mapping) else {}
        for coord, selection in selections.items():
            if coord not in dataset[variable].coords:
                problems.append(problem(f"{where}.{variable}", f"{variable} has no coordinate {coord}"))
            elif isinstance(selection.values, list):
                there = dataset[coord].values.ravel().tolist()
                lacks = ", ".join(str(value) for value in selection.values if value not in there)
                if lacks:
                    problems.append(problem(f"{where}.{variable}.{coord}", f"{source.path} lacks {lacks}"))
    for variable, derived in (source.derived_variables or {}).items():
        for value in derived.kwargs.values():
            wanted = value.removeprefix("ds_input.") if str(value).startswith("ds_input.") else None
            if wanted and wanted not in dataset.variables:
                what = f"{source.path} has no {wanted}{did_you_mean(wanted, map(str, dataset.variables))}"
                problems.append(problem(f"inputs.{name}.derived_variables.{variable}", what))
    return problems


def _check_times(name: str, times: Any, config: Any, needed: Mapping[str, int]) -> list[MllamError]:
    import numpy as np

    if times.dtype.kind != "M" or not times.size:
        return []
    problems: list[MllamError] = []
    for split, span in config.output.splitting.splits.items():
        start, end, last = (np.datetime64(time) for time in (time_of(span.start), time_of(span.end), last_of(span.end)))
        if start < times[0] or end > times[-1]:
            there = " to ".join(np.datetime_as_string(time, unit="m") for time in (times[0], times[-1]))
            what = f"{span.start} to {span.end} reaches beyond the times of {name}, {there}"
            problems.append(problem(f"{SPLITTING}.{split}", what))
        else:
            problems += too_short(split, int(((times >= start) & (times <= last)).sum()), needed)
    return problems


def _open(root: Path, name: str, path: str) -> Any:
    """Open an archive as mllam-data-prep does, lazily; or say why not."""
    where = f"{DATASTORE}: inputs.{name}.path"
    if not is_remote(path):
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


def main(words: list[str]) -> None:
    """Look at the archives, and print what was found as one line of JSON."""
    from mllam_exps import arguments, params

    root = Path(words[0])
    parameters = params.load(root)
    found: list[MllamError] = [*notes(parameters), *check_dependencies(parameters, words[1:])]
    found += check_sources(root, parameters, params.steps_needed(parameters, arguments.known()))
    problems = [
        {"what": error.what, "where": error.where, "why": error.why, "next": error.next}
        for error in found
        if not isinstance(error, Note)
    ]
    print(json.dumps({"problems": problems, "notes": [str(note) for note in found if isinstance(note, Note)]}))


if __name__ == "__main__":
    main(sys.argv[1:])
