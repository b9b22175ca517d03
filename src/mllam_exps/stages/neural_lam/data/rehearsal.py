"""Has mllam-data-prep make the dataset without its fields: what it would refuse after an hour it refuses at once.

mllam-data-prep's own ``create_dataset`` runs, on archives whose coordinates are real and
whose fields are zeros that nobody computes. So its rules (schema versions, functions of
derived variables and their arguments, units, dimensions, ranges, statistics) need not
be written here a second time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from mllam_exps.base.errors import did_you_mean
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    SPLITTING,
    Note,
    problem,
)

_LARGE = 50_000_000
"""Points of a field above which a function that computes at once is not tried."""


def rehearse(config: Any, archives: Mapping[str, Any]) -> Any:
    """Return the dataset that mllam-data-prep would make, or what it refuses.

    Parameters
    ----------
    config : mllam_data_prep.config.Config
        What ``data/datastore.yaml`` says. Cropping is left out: it computes.
    archives : Mapping
        The opened archives, by the names of the inputs.

    Returns
    -------
    xarray.Dataset or UsageError
        A `Note` where it could not be tried.
    """
    making = importlib.import_module("mllam_data_prep.create_dataset")
    # One chunk stands for all: a graph of a million chunks takes minutes to write. What
    # is no size is left as it is.
    chunking = {
        dim: -1 if size > 0 else size for dim, size in config.output.chunking.items()
    }
    output = dataclasses.replace(config.output, chunking=chunking, domain_cropping=None)
    rehearsed = dataclasses.replace(config, output=output)
    steps = _Steps(config, archives)
    with warnings.catch_warnings(), _silent(), steps.watched(making):
        warnings.simplefilter("ignore")
        try:
            return making.create_dataset(rehearsed)
        except _ComputesAtOnce:
            what = "its function computes when it is called, on fields too large to try that here"
            return Note(what, f"data/datastore.yaml: {steps.where}")
        except (
            Exception
        ) as error:  # whatever mllam-data-prep raises, it refuses the file
            return problem(steps.where or "schema_version", steps.told(error))


class _ComputesAtOnce(Exception):
    """A function of a derived variable wants numbers, and the fields are large."""


class _Steps:
    """Follows mllam-data-prep (0.7) through its steps, so that a refusal names the key that it concerns."""

    def __init__(self, config: Any, archives: Mapping[str, Any]) -> None:
        self.config = config
        self.archives = archives
        self.names = iter(config.inputs)
        self.name = ""
        self.where = ""

    @contextlib.contextmanager
    def watched(self, making: Any) -> Iterator[None]:
        """Wrap mllam-data-prep's own functions in ours; mllam-data-prep (0.7) looks all of them up in one module."""
        ours: dict[str, Callable[..., Any]] = {
            "load_input_dataset": self._load,
            "extract_variable": self._step(
                making, "extract_variable", "inputs.{name}.variables"
            ),
            "derive_variable": self._derive(making.derive_variable),
            "_check_dataset_attributes": self._step(
                making, "_check_dataset_attributes", "inputs.{name}.attributes"
            ),
            "map_dims_and_variables": self._step(
                making, "map_dims_and_variables", "inputs.{name}.dim_mapping"
            ),
            "select_by_kwargs": self._step(
                making, "select_by_kwargs", "output.coord_ranges"
            ),
            "_merge_dataarrays_by_target": self._merge(making),
            "chunk_dataset": self._step(making, "chunk_dataset", "output.chunking"),
            "calc_stats": self._step(
                making, "calc_stats", f"{SPLITTING}.train.compute_statistics"
            ),
        }
        with contextlib.ExitStack() as stack:
            for name, function in ours.items():
                stack.enter_context(mock.patch.object(making, name, function))
            yield

    def told(self, error: BaseException) -> str:
        """Return in one line what mllam-data-prep says, without what it wraps around it."""
        while type(error) is Exception and error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, ModuleNotFoundError):
            return f"there is no module {error.name}"
        if str(error) == "Empty module name":
            return "its function must be written as module.function"
        said = in_one_line(error)
        if isinstance(error, NotImplementedError):
            return f"mllam-data-prep knows no {said}"
        if isinstance(error, AttributeError):
            return f"{said}{did_you_mean(error.name or '', dir(error.obj))}"
        return said

    def _load(self, fp: str) -> Any:
        self.name = next(self.names)
        self.where = f"inputs.{self.name}"
        return without_fields(self.archives[self.name])

    def _step(self, making: Any, name: str, where: str) -> Callable[..., Any]:
        """Wrap a function so that `where` names its key while it runs; if it fails, `where` stays."""
        function = getattr(making, name)

        @functools.wraps(function)
        def step(*args: Any, **kwargs: Any) -> Any:
            before, self.where = self.where, where.format(name=self.name)
            result = function(*args, **kwargs)
            self.where = before
            return result

        return step

    def _derive(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def derive(**kwargs: Any) -> Any:
            variable = self._name_of(kwargs["derived_variable"])
            before = self.where
            self.where = f"inputs.{self.name}.derived_variables.{variable}"
            with (
                _no_computing() if _is_large(kwargs["ds"]) else contextlib.nullcontext()
            ):
                result = function(**kwargs)
            self.where = before
            return result

        return derive

    def _name_of(self, derived: Any) -> str:
        variables = self.config.inputs[self.name].derived_variables
        for name, variable in variables.items():
            if variable is derived:
                return str(name)
        return ""

    def _merge(self, making: Any) -> Callable[..., Any]:
        merge = self._step(making, "_merge_dataarrays_by_target", "inputs")

        def check_and_merge(dataarrays_by_target: Mapping[str, list[Any]]) -> Any:
            self.where = "inputs"
            for parts in dataarrays_by_target.values():
                for part in parts[1:]:
                    _hold_together(parts[0], part)
            return merge(dataarrays_by_target=dataarrays_by_target)

        return check_and_merge


def _is_large(dataset: Any) -> bool:
    return any(field.size > _LARGE for field in dataset.data_vars.values())


def _hold_together(first: Any, other: Any) -> None:
    """Refuse inputs of one output that lie elsewhere: mllam-data-prep (0.7) fills what one lacks with NaN, silently."""
    feature = first.attrs.get("variables_mapping_dim")
    # Of coordinates that are no dimension, neural-lam asks for the same x and y; a
    # height may be another.
    for name in dict.fromkeys([*first.dims, *other.dims, "x", "y"]):
        if name == feature or _is_shared(name, first, other):
            continue
        inputs = [
            part.attrs.get("source_dataset", "another input") for part in (first, other)
        ]
        what = (
            f"{inputs[1]} has another {name} than {inputs[0]}, with which it is joined"
        )
        raise ValueError(
            f"{what}: mllam-data-prep would fill what one of them lacks with missing values"
        )


def _is_shared(name: Any, first: Any, other: Any) -> bool:
    """Tell whether two arrays have the same dimension or coordinate of a name, or neither has one."""
    if first.sizes.get(name) != other.sizes.get(name):
        return False
    if name not in first.coords or name not in other.coords:
        return True
    return bool(first[name].equals(other[name]))


def without_fields(archive: Any) -> Any:
    """Return an archive with zeros for its fields, which take no memory until somebody computes them."""
    import dask.array

    zeros = {}
    for name, field in archive.data_vars.items():
        values = dask.array.zeros(field.shape, dtype=field.dtype, chunks=-1)
        zeros[name] = (field.dims, values, field.attrs)
    # As xarray.open_zarr gives them to mllam-data-prep: coordinates that are no index
    # are read when they are needed.
    return archive.assign(zeros).chunk()


@contextlib.contextmanager
def _no_computing() -> Iterator[None]:
    import dask

    def refuse(*_: Any, **__: Any) -> Any:
        raise _ComputesAtOnce

    with dask.config.set(scheduler=refuse):
        yield


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silence mllam-data-prep's log: it would tell of a dataset that it does not make."""
    from loguru import logger

    logger.disable("mllam_data_prep")
    try:
        yield
    finally:
        logger.enable("mllam_data_prep")


@contextlib.contextmanager
def importable(root: Path) -> Iterator[set[Path]]:
    """Let modules of the repository be imported, as the stage does; collects the files of those that were.

    Last in the path, so that no folder of the repository hides an installed program;
    and without `__pycache__`, which would be a change of a folder that is a dependency.
    """
    before = set(sys.modules)
    used: set[Path] = set()
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.append(str(root))
    try:
        yield used
    finally:
        sys.path.remove(str(root))
        sys.dont_write_bytecode = writes_none
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and _is_of_repository(name, Path(file), root):
                used.add(Path(file).relative_to(root))


def _is_of_repository(module: str, file: Path, root: Path) -> bool:
    """Tell whether a module is one of the repository's; an environment, and this package, may lie in it."""
    if module.startswith("mllam_exps.") or not file.is_relative_to(root):
        return False
    return not file.is_relative_to(sys.prefix)


def in_one_line(error: BaseException) -> str:
    """Say in one line what dataclass-wizard, xarray and mllam-data-prep say in many."""
    owner = getattr(error, "class_name", None)
    if key := getattr(error, "json_key", None):
        near = did_you_mean(key, getattr(error, "fields", None) or [])
        return f"unknown key {key} in {owner}{near}"
    if missing := getattr(error, "missing_fields", None):
        return f"{owner} lacks {', '.join(missing)}"
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # the text of a KeyError is what repr makes of it
    lines = text.strip().splitlines()
    line = " ".join(lines[0].split()) if lines else type(error).__name__
    return f"{line[:297]}…" if len(line) > 300 else line
