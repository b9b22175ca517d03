"""What ``data/inference_params.yaml`` asks for, and what of it cannot be."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import DATASTORE, INFERENCE
from mllam_exps.stages.neural_lam.forecasts import layout
from mllam_exps.stages.neural_lam.parameters import starts
from mllam_exps.stages.neural_lam.parameters.arguments import Argument
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    SPLITS,
    duration_of,
    last_of,
    section,
    splits_of,
    state_features,
    time_of,
    time_range_of,
)
from mllam_exps.stages.neural_lam.parameters.params import CHECKPOINT, Parameters, given

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.arguments import Arguments

_OWN = {
    "checkpoint": CHECKPOINT,
    "split": Argument("split", "", "str", choices=SPLITS),
    "steps": Argument("steps", "", "int"),
    "layout": Argument("layout", "", "str", choices=layout.LAYOUTS),
    "batch_size": Argument("batch_size", "", "int"),
    "devices": Argument("devices", "", "int"),
    "num_nodes": Argument("num_nodes", "", "int"),
    "num_workers": Argument("num_workers", "", "int"),
}
_OF_OTHER_FORM = ("starts", "variables", "standard_names")
_OF_NEURAL_LAM = ("precision",)
DEFAULTS: Mapping[str, Any] = {
    "checkpoint": CHECKPOINT.default,
    "layout": layout.START,
    "batch_size": 4,
    "precision": 32,
    "devices": 1,
    "num_nodes": 1,
    "num_workers": 0,
}


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file says, with our values where it says nothing."""
    return {**DEFAULTS, **given(values)}


def read(root: Path) -> dict[str, Any]:
    """Read the file below `root`.

    Raises
    ------
    UsageError
        If it is missing, or not YAML.
    """
    return yaml_files.read(root / INFERENCE, INFERENCE)


def window(
    values: Mapping[str, Any], parameters: Parameters, known: Arguments
) -> starts.Window:
    """Return what a forecast reads: its forcing window is the training's.

    Parameters
    ----------
    values : mapping
        From `told`.
    """
    training = parameters.training
    width = {
        name: training.get(name, known.train[name].default)
        for name in ("num_past_forcing_steps", "num_future_forcing_steps")
    }
    return starts.Window(int(values["steps"]), *(int(one) for one in width.values()))


def series(datastore: Mapping[str, Any]) -> starts.Series | None:
    """Return the times that ``data/datastore.yaml`` asks for; None where only the data say them."""
    limits = time_range_of(datastore)
    first, step = time_of(limits.get("start")), duration_of(limits.get("step"))
    if first is None or step is None or time_of(limits.get("end")) is None:
        return None
    count = math.floor((last_of(limits["end"]) - first) / step) + 1
    spans = {}
    for name in splits_of(datastore):
        split = section(splits_of(datastore), name)
        begin = time_of(split.get("start"))
        if begin is None or time_of(split.get("end")) is None:
            return None  # its own check tells
        spans[name] = (begin, last_of(split["end"]))
    return starts.Series([first + step * n for n in range(count)], spans)


def check(
    values: Mapping[str, Any], parameters: Parameters, arguments: Arguments
) -> list[MllamError]:
    """Return every problem of the file, without opening any data."""
    problems = [*_keys(values, arguments), *_starts_or_split(values)]
    problems += _variables(values, parameters.files[DATASTORE])
    if problems:
        return problems
    known = series(parameters.files[DATASTORE])
    if known is not None:
        try:
            its_window = window(told(values), parameters, arguments)
            starts.chosen(told(values), known, its_window)
        except UsageError as problem:
            problems.append(problem)
    return problems


def _keys(values: Mapping[str, Any], arguments: Arguments) -> Iterator[MllamError]:
    own = {**_OWN, **{name: arguments.train[name] for name in _OF_NEURAL_LAM}}
    right = [*own, *_OF_OTHER_FORM]
    for key, value in values.items():
        where = f"{INFERENCE}: {key}"
        if key not in right:
            yield UsageError(f"unknown key{did_you_mean(key, right)}", where)
        elif key in own and value is not None:
            problem = own[key].problem(value)
            least = 0 if key == "num_workers" else 1
            if not problem and own[key].type == "int" and key in _OWN and value < least:
                problem = f"must be {least} or more, not {value}"
            if problem:
                yield UsageError(problem, where)
    if values.get("steps") is None:
        what = "is missing: say how many steps a forecast runs"
        yield UsageError(what, f"{INFERENCE}: steps")
    names = values.get("standard_names")
    if names is not None and not _is_text(names):
        what = "must hold lines of `variable: CF's standard name`"
        yield UsageError(what, f"{INFERENCE}: standard_names")


def _is_text(names: Any) -> bool:
    return isinstance(names, Mapping) and all(
        isinstance(one, str) for pair in names.items() for one in pair
    )


def _starts_or_split(values: Mapping[str, Any]) -> Iterator[MllamError]:
    times, split = values.get("starts"), values.get("split")
    where = f"{INFERENCE}: starts"
    if times is None and split is None:
        what = "say which forecasts are made: split, or starts"
        yield UsageError(what, INFERENCE)
    elif times is not None and split is not None:
        what = f"split: {split} is given as well; set one of the two to null"
        yield UsageError(what, where)
    elif isinstance(times, Mapping):
        limits = ("start", "end", "step")
        for key in times:
            if key not in limits:
                what = f"unknown key{did_you_mean(key, limits)}"
                yield UsageError(what, f"{where}.{key}")
    elif times is not None and not (isinstance(times, list) and times):
        yield UsageError("must be a list of times, or hold start, end and step", where)


def _variables(
    values: Mapping[str, Any], datastore: Mapping[str, Any]
) -> Iterable[MllamError]:
    names = values.get("variables")
    if names is None:
        return []
    where = f"{INFERENCE}: variables"
    if not (isinstance(names, list) and names):
        return [UsageError("must be a list of state variables, or null", where)]
    features = state_features(datastore)
    if features is None:
        return []
    known = [name for feature in features for name in sorted(feature)]
    return [unknown_variable(name, known) for name in names if name not in known]


def unknown_variable(name: Any, known: Iterable[str]) -> MllamError:
    """Return the refusal of a variable that the model does not forecast."""
    known = list(known)
    near = did_you_mean(name, known)
    what = f"the model forecasts no {name}{near or ': it has ' + ', '.join(known)}"
    return UsageError(what, f"{INFERENCE}: variables")


def isoformat(times: Iterable[datetime.datetime]) -> list[str]:
    """Return times as text."""
    return [time.isoformat() for time in times]
