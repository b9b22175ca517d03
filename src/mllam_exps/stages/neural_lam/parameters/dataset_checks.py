"""Checks of ``data/datastore.yaml``, from the file alone.

These checks find before anything starts what neural-lam and mllam-data-prep would find
after hours, or never. `mllam_exps.stages.neural_lam.data.source_checks` looks at the
archives that the file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters import split_checks
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    Note,
    inputs_of,
    problem,
    section,
)

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.params import Parameters

_OUTPUTS = {"state": ("time", "grid_index"), "static": ("grid_index",)}
"""The dimensions that neural-lam needs in each output, beside that of its variables."""

_EASTWARD = ("lon", "x", "rlon", "west", "east", "i")
"""How names of the dimension begin that is x: of degrees east, of eastings or of columns."""


def check(parameters: Parameters) -> list[MllamError]:
    """Return every problem of ``data/datastore.yaml`` that can be known without opening any data."""
    told = _look_at_datastore(parameters.files[DATASTORE])
    return [error for error in told if not isinstance(error, Note)]


def notes(parameters: Parameters) -> list[Note]:
    """Return what a user should be told of ``data/datastore.yaml`` although it is allowed."""
    told = _look_at_datastore(parameters.files[DATASTORE])
    return [note for note in told if isinstance(note, Note)]


def _look_at_datastore(datastore: Mapping[str, Any]) -> list[MllamError]:
    if not section(datastore, "inputs"):
        return [problem("inputs", "must name the archives to read")]
    output = section(datastore, "output")
    outputs = section(output, "variables")
    problems: list[MllamError] = []
    for name, source in inputs_of(datastore):
        problems += _check_input(name, source, outputs)
    problems += _check_outputs(outputs)
    problems += _check_ranges(output)
    problems += _check_chunks(output)
    problems += _check_extra(section(datastore, "extra"))
    return problems + split_checks.check(datastore)


def _check_input(
    name: str, source: Mapping[str, Any], outputs: Mapping[str, Any]
) -> list[MllamError]:
    target = str(source.get("target_output_variable"))
    if target not in outputs:
        what = f"output.variables has no {target}{did_you_mean(target, outputs)}"
        return [problem(f"inputs.{name}.target_output_variable", what)]
    problems: list[MllamError] = []
    mapping = section(source, "dim_mapping")
    if missing := [str(dim) for dim in outputs[target] or [] if dim not in mapping]:
        what = f"lacks {', '.join(missing)}: {target} has that dimension"
        problems.append(problem(f"inputs.{name}.dim_mapping", what))
    grid = section(mapping, "grid_index").get("dims")
    if "grid_index" in mapping and grid != ["x", "y"]:
        problems.append(_other_grid(f"inputs.{name}.dim_mapping", grid))
    ranges = section(source, "coord_ranges")
    return problems + split_checks.check_zones(f"inputs.{name}.coord_ranges", ranges)


def _other_grid(where: str, grid: Any) -> MllamError:
    """Refuse another grid than [x, y], and say how dimensions of other names become x and y."""
    what = f"must be [x, y], by which neural-lam knows a grid, not {grid!r}"
    names = [str(dim) for dim in grid] if isinstance(grid, list) else []
    if set(names) == {"x", "y"} or len(names) != 2:
        return problem(f"{where}.grid_index.dims", what)
    second_is_x = _is_eastward(names[1]) and not _is_eastward(names[0])
    turned_round = second_is_x or names[0] == "y"
    eastward, northward = reversed(names) if turned_round else names
    lines = []
    for new, old in (("x", eastward), ("y", northward)):
        if new != old:
            lines.append(f"`{new}: {{method: rename, dim: {old}}}`")
    way_out = (
        f"above grid_index write {' and '.join(lines)}, then dims: [x, y] in grid_index"
    )
    return UsageError(what, f"{DATASTORE}: {where}.grid_index.dims", next=way_out)


def _is_eastward(dim: str) -> bool:
    return dim.lower().startswith(_EASTWARD)


def _check_outputs(outputs: Mapping[str, Any]) -> list[MllamError]:
    problems: list[MllamError] = []
    for category, dims in _OUTPUTS.items():
        wanted = [*dims, f"{category}_feature"]
        given = outputs.get(category)
        if not isinstance(given, list) or set(map(str, given)) != set(wanted):
            what = f"neural-lam needs it, with the dimensions {', '.join(wanted)}"
            problems.append(problem(f"output.variables.{category}", what))
    return problems


def _check_ranges(output: Mapping[str, Any]) -> list[MllamError]:
    """Refuse a range that would select nothing: mllam-data-prep 0.7 selects after the stacking, which removes x."""
    dims = _output_dims(output)
    ranges = section(output, "coord_ranges")
    problems: list[MllamError] = []
    for dim in ranges:
        if dims and dim not in dims:
            what = "is ignored by mllam-data-prep, no output has that dimension: select in inputs.<name>.coord_ranges"
            problems.append(problem(f"output.coord_ranges.{dim}", what))
    return problems + split_checks.check_zones("output.coord_ranges", ranges)


def _check_chunks(output: Mapping[str, Any]) -> list[MllamError]:
    dims = _output_dims(output)
    problems: list[MllamError] = []
    for dim, size in section(output, "chunking").items():
        if dims and dim not in dims:
            what = f"is ignored by mllam-data-prep, no output has that dimension{did_you_mean(str(dim), dims)}"
            problems.append(problem(f"output.chunking.{dim}", what))
        elif not _is_chunk_size(size):
            what = f"must be a whole number of 1 or more, or -1 for one chunk of all, not {size!r}"
            problems.append(problem(f"output.chunking.{dim}", what))
    return problems


def _output_dims(output: Mapping[str, Any]) -> set[str]:
    dims: set[str] = set()
    for given in section(output, "variables").values():
        if isinstance(given, list):
            dims.update(map(str, given))
    return dims


def _is_chunk_size(size: Any) -> bool:
    if not isinstance(size, int) or isinstance(size, bool):
        return False
    return size >= 1 or size == -1


def _check_extra(extra: Mapping[str, Any]) -> list[MllamError]:
    problems: list[MllamError] = []
    if not {"class_name", "kwargs"} <= section(extra, "projection").keys():
        what = "neural-lam draws no map without its class_name and kwargs"
        problems.append(problem("extra.projection", what))
    missing = extra.get("missing_values")
    if missing is not None and not _is_list_of_text(missing):
        what = "must be a list of the variables that may hold missing values, such as [sst]"
        problems.append(problem("extra.missing_values", what))
    return problems


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
