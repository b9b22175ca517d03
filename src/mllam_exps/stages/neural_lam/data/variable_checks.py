"""Checks of what ``data/datastore.yaml`` takes from an archive: its variables, at which levels, and what it derives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import problem

_OF_INPUT = "ds_input."
"""How an argument of a derived variable begins that names a variable of the archive."""


def check(name: str, source: Any, dataset: Any) -> list[MllamError]:
    """Return every problem of the variables of one input.

    Parameters
    ----------
    name : str
        The input.
    source : mllam_data_prep.config.InputDataset
    dataset : xarray.Dataset
        Its archive.
    """
    problems: list[MllamError] = []
    for variable in source.variables or []:
        problems += _check_variable(name, source, variable, dataset)
    problems += _check_levels(name, source)
    for variable, derived in (source.derived_variables or {}).items():
        where = f"inputs.{name}.derived_variables.{variable}"
        problems += _check_derived(where, source, derived, dataset)
    return problems


def _check_variable(
    name: str, source: Any, variable: str, dataset: Any
) -> list[MllamError]:
    where = f"inputs.{name}.variables"
    if variable not in dataset:
        near = did_you_mean(variable, dataset.data_vars)
        return [problem(where, f"{source.path} has no {variable}{near}")]
    problems: list[MllamError] = []
    if extra := [dim for dim in dataset[variable].dims if dim not in source.dims]:
        what = f"lacks {', '.join(extra)}, which {variable} has"
        problems.append(problem(f"inputs.{name}.dims", what))
    if not isinstance(source.variables, Mapping):
        return problems
    for coord, selection in source.variables[variable].items():
        if coord not in dataset[variable].coords:
            what = f"{variable} has no coordinate {coord}"
            problems.append(problem(f"{where}.{variable}", what))
        elif lacking := _lacking(selection.values, dataset[coord]):
            what = f"{source.path} lacks {', '.join(lacking)}"
            problems.append(problem(f"{where}.{variable}.{coord}", what))
    return problems


def _lacking(wanted: Any, coord: Any) -> list[str]:
    """Return those values of a list that a coordinate does not have; a range needs none of its own."""
    if not isinstance(wanted, list):
        return []
    there = coord.values.ravel().tolist()
    return [str(value) for value in wanted if value not in there]


def _check_levels(name: str, source: Any) -> list[MllamError]:
    """Refuse variables of one input at other levels: mllam-data-prep (0.7) puts all on the first one's, with NaN."""
    if not isinstance(source.variables, Mapping):
        return []
    first, *others = source.variables
    levels = source.variables[first]
    problems: list[MllamError] = []
    for variable in others:
        own = source.variables[variable]
        for dim in levels.keys() & own.keys():
            if own[dim].values != levels[dim].values:
                what = f"is taken at another {dim} than {first}, and mllam-data-prep would fill it with missing values"
                way_out = "give it an input of its own, with the same path"
                where = f"{DATASTORE}: inputs.{name}.variables.{variable}.{dim}"
                problems.append(UsageError(what, where, next=way_out))
    return problems


def _check_derived(
    where: str, source: Any, derived: Any, dataset: Any
) -> list[MllamError]:
    problems: list[MllamError] = []
    for value in derived.kwargs.values():
        if not str(value).startswith(_OF_INPUT):
            continue
        wanted = value.removeprefix(_OF_INPUT)
        if wanted and wanted not in dataset.variables:
            near = did_you_mean(wanted, map(str, dataset.variables))
            problems.append(problem(where, f"{source.path} has no {wanted}{near}"))
    return problems
