"""Checks of the archives that ``data/datastore.yaml`` names, by their metadata and coordinates: no field is read.

Run as a module with ROOT and KNOWN it looks at them where the programs are installed,
and prints ``{"problems": [{what, where, why, next}], "notes": [text]}`` as its last
line. KNOWN is what DVC knows of the inputs of ``prepare_dataset``, as JSON: ``{"deps":
[path], "made": [path], "added": [path], "origin": path}``.
"""

from __future__ import annotations

import difflib
import json
import shlex
import sys
import threading
import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.spelling import did_you_mean
from mllam_exps.stages.neural_lam.data import archives as source_archives
from mllam_exps.stages.neural_lam.data import (
    axis_checks,
    made_checks,
    named_paths,
    rehearsal,
)
from mllam_exps.stages.neural_lam.data.rehearsal import in_one_line
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.dataset_checks import notes
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    BOUNDARY_POINTS,
    Note,
    problem,
)

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.params import Parameters

_REMOTE_SECONDS = 60


@dataclass(frozen=True)
class Known:
    """What DVC knows of the inputs of ``prepare_dataset``: paths, as in ``dvc.yaml``.

    Parameters
    ----------
    deps : Collection of str
        All of them.
    made : Collection of str
        Those that stages make, which need not be there yet.
    added : Collection of str
        Those that were added with ``dvc add``, which may have to be checked out.
    origin : str
        The user's own repository, where ROOT is a clone of it: files may be there that
        git does not track.
    """

    deps: Collection[str] = ()
    made: Collection[str] = ()
    added: Collection[str] = ()
    origin: str = ""

    def there(self, root: Path, path: str) -> bool:
        """Tell whether a path is there, for whoever reads what is said of it."""
        return (root / path).exists() or bool(
            self.origin and Path(self.origin, path).exists()
        )


def check_sources(
    root: Path,
    parameters: Parameters,
    needed: Mapping[str, int] | None = None,
    known: Known | None = None,
) -> list[MllamError]:
    """Open each archive's metadata, and have mllam-data-prep make the dataset without its fields.

    Parameters
    ----------
    root : Path
        The repository, to which relative paths refer.
    parameters : Parameters
        Found good by `mllam_exps.stages.neural_lam.parameters.param_checks.check`.
    needed : Mapping, optional
        The time steps that neural-lam must find in each split.
    known : Known, optional
        What DVC knows of the inputs; without it, modules of the repository are not held
        against it.

    Returns
    -------
    list of MllamError
        A `Note` for what could not be looked at: a remote archive out of reach, or no
        mllam-data-prep here.
    """
    try:
        from mllam_data_prep.config import Config
    except ImportError as error:
        return [
            Note(
                "the archives were not looked at",
                DATASTORE,
                f"this Python has no {error.name}",
            )
        ]
    problems: list[MllamError] = []
    with rehearsal.importable(root) as modules:
        for file in (DATASTORE, *named_paths.interior_of(parameters.files[DATASTORE])):
            try:
                config = Config.from_yaml_file(str(root / file))
            except (
                Exception
            ) as error:  # whatever mllam-data-prep raises, it refuses the file
                return [
                    *problems,
                    UsageError(in_one_line(error), file, "mllam-data-prep refuses it"),
                ]
            if file == DATASTORE:
                problems += _check_config(root, config, needed or {}, known or Known())
            else:
                problems += _check_interior(root, file, config, known)
    if known is not None:
        left_out = [
            str(module)
            for module in sorted(modules)
            if not named_paths.is_covered(str(module), known.deps)
        ]
        problems += [
            named_paths.no_dependency(f"{DATASTORE}: derived_variables", module)
            for module in left_out
        ]
    return problems


def _check_config(
    root: Path, config: Any, needed: Mapping[str, int], known: Known
) -> list[MllamError]:
    problems: list[MllamError] = []
    archives: dict[str, Any] = {}
    ranges = set(config.output.coord_ranges or {})
    for name, source in config.inputs.items():
        # mllam-data-prep drops a range at the first input without that dimension, for
        # all inputs after it.
        ranges &= set(config.output.variables.get(source.target_output_variable, ()))
        dataset = _open(root, f"{DATASTORE}: inputs.{name}.path", source.path, known)
        if isinstance(dataset, MllamError):
            problems.append(dataset)
            continue
        archives[name] = dataset
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problems += _check_variables(name, source, dataset)
            problems += _check_extent(name, dataset, config, ranges)
    if not problems:
        made = rehearsal.rehearse(config, archives)
        problems += (
            [made]
            if isinstance(made, MllamError)
            else made_checks.check(made, config, needed)
        )
    for dataset in archives.values():
        dataset.close()
    return problems


def _check_interior(
    root: Path, file: str, config: Any, known: Known | None
) -> list[MllamError]:
    """Check the configuration by which the dataset is cropped: mllam-data-prep makes that dataset as well."""
    problems = named_paths.check(asdict(config), file)
    if known is not None:
        problems += named_paths.check_dependencies(
            asdict(config), known.deps, file, lambda path: known.there(root, path)
        )
    for name, source in config.inputs.items():
        dataset = _open(
            root, f"{file}: inputs.{name}.path", source.path, known or Known()
        )
        if isinstance(dataset, MllamError):
            problems.append(dataset)
        else:
            dataset.close()
    return problems


def _check_extent(
    name: str, dataset: Any, config: Any, ranges: Collection[str]
) -> list[MllamError]:
    """Check what is left of an archive's grid and times when the ranges have been taken from it."""
    from mllam_data_prep.ops.selection import select_by_kwargs

    source, wanted = config.inputs[name], (config.output.coord_ranges or {}).get("time")
    time = getattr(source.dim_mapping.get("time"), "dim", None)
    if time in dataset.coords and (
        wrong := axis_checks.check_dates(name, str(time), dataset[time].values)
    ):
        return wrong
    axis, key = None, f"inputs.{name}.coord_ranges"
    try:
        dataset = select_by_kwargs(dataset, **(source.coord_ranges or {}))
        key = "output.coord_ranges.time"
        if time in dataset.coords:
            axis = dataset[[time]].rename({} if time == "time" else {time: "time"})
            whole = axis
            if wanted:
                # First without the step: where it is not even, mllam-data-prep prints
                # the end of an array.
                axis = select_by_kwargs(axis, time=replace(wanted, step=None))
            if gaps := axis_checks.check_times(name, axis["time"].values):
                return gaps
            if wanted and "time" in ranges:
                select_by_kwargs(axis, time=wanted)
    except Exception as error:  # this is what mllam-data-prep itself would raise
        return [problem(key, f"{name}: {in_one_line(error)}")]
    problems: list[MllamError] = []
    if axis is not None:
        if wanted and "time" not in ranges and axis.sizes["time"] < whole.sizes["time"]:
            what = "mllam-data-prep ignores output.coord_ranges.time after an input without time"
            problems.append(
                problem(f"inputs.{name}", f"{what}: put those without time last")
            )
        problems = problems or axis_checks.check_reach(
            name, axis["time"].values, config
        )
    # A dimension of another name may become x or y.
    sides = [
        getattr(source.dim_mapping.get(side), "dim", None) or side
        for side in ("x", "y")
    ]
    sides = [side for side in sides if side in dataset.sizes]
    for side in sides:
        problems += axis_checks.check_side(name, side, dataset)
    sizes = [int(dataset.sizes[side]) for side in sides]
    if (
        source.target_output_variable == "state"
        and sizes
        and min(sizes) <= 2 * BOUNDARY_POINTS
    ):
        grid = " × ".join(map(str, sizes))
        what = f"its grid of {grid} points lies within neural-lam's boundary of {BOUNDARY_POINTS} points a side:"
        problems.append(
            problem(
                f"inputs.{name}", f"{what} no interior is left and training gives NaN"
            )
        )
    return problems


def _check_variables(name: str, source: Any, dataset: Any) -> list[MllamError]:
    problems: list[MllamError] = []
    for variable in source.variables or []:
        where = f"inputs.{name}.variables"
        if variable not in dataset:
            problems.append(
                problem(
                    where,
                    f"{source.path} has no {variable}{did_you_mean(variable, dataset.data_vars)}",
                )
            )
            continue
        if extra := [dim for dim in dataset[variable].dims if dim not in source.dims]:
            problems.append(
                problem(
                    f"inputs.{name}.dims",
                    f"lacks {', '.join(extra)}, which {variable} has",
                )
            )
        selections = (
            source.variables[variable] if isinstance(source.variables, Mapping) else {}
        )
        for coord, selection in selections.items():
            if coord not in dataset[variable].coords:
                problems.append(
                    problem(
                        f"{where}.{variable}", f"{variable} has no coordinate {coord}"
                    )
                )
            elif isinstance(selection.values, list):
                there = dataset[coord].values.ravel().tolist()
                lacks = ", ".join(
                    str(value) for value in selection.values if value not in there
                )
                if lacks:
                    problems.append(
                        problem(
                            f"{where}.{variable}.{coord}",
                            f"{source.path} lacks {lacks}",
                        )
                    )
    problems += _check_levels(name, source)
    for variable, derived in (source.derived_variables or {}).items():
        for value in derived.kwargs.values():
            wanted = (
                value.removeprefix("ds_input.")
                if str(value).startswith("ds_input.")
                else None
            )
            if wanted and wanted not in dataset.variables:
                what = f"{source.path} has no {wanted}{did_you_mean(wanted, map(str, dataset.variables))}"
                problems.append(
                    problem(f"inputs.{name}.derived_variables.{variable}", what)
                )
    return problems


def _check_levels(name: str, source: Any) -> list[MllamError]:
    """Refuse variables of one input at other levels: mllam-data-prep (0.7) puts all on the first one's, with NaN."""
    if not isinstance(source.variables, Mapping):
        return []
    first, *others = source.variables
    problems: list[MllamError] = []
    for variable in others:
        for dim in source.variables[first].keys() & source.variables[variable].keys():
            if (
                source.variables[variable][dim].values
                != source.variables[first][dim].values
            ):
                what = f"is taken at another {dim} than {first}, and mllam-data-prep would fill it with missing values"
                way_out = "give it an input of its own, with the same path"
                where = f"{DATASTORE}: inputs.{name}.variables.{variable}.{dim}"
                problems.append(UsageError(what, where, next=way_out))
    return problems


def _open(root: Path, where: str, path: str, known: Known) -> Any:
    """Open an archive as mllam-data-prep does, lazily; or say why not."""
    if not named_paths.is_remote(path):
        if not (root / path).exists():
            return _absent(root, where, path, known)
        try:
            return _open_dataset(str(root / path))
        except Exception as error:  # each engine raises its own
            return UsageError(
                f"{path} is no archive that xarray opens", where, in_one_line(error)
            )
    found: list[Any] = []

    def reach() -> None:
        try:
            found.append(_open_dataset(path))
        except FileNotFoundError:
            # fsspec (2026.9) says so, too, of a host that it does not reach, and zarr
            # of a group.
            why = source_archives.why_not_reached(path)
            gone = UsageError(f"there is no {path}", where)
            found.append(Note(f"{path} was not looked at", where, why) if why else gone)
        except (
            Exception
        ) as error:  # no network, no credentials, no such protocol here …
            found.append(Note(f"{path} was not looked at", where, in_one_line(error)))

    # Some stores try again for minutes; a daemon thread can be left behind.
    thread = threading.Thread(target=reach, daemon=True)
    thread.start()
    thread.join(_REMOTE_SECONDS)
    return (
        found[0]
        if found
        else Note(
            f"{path} was not looked at", where, f"no answer within {_REMOTE_SECONDS} s"
        )
    )


def _absent(root: Path, where: str, path: str, known: Known) -> MllamError:
    """Say of a path where nothing is whether a stage makes it, DVC has it, or nobody."""
    if named_paths.is_covered(path, known.made):
        return Note(
            f"{path} was not looked at", where, "a stage makes it, and has not yet"
        )
    if named_paths.is_covered(path, known.added):
        tracked = next(
            added for added in known.added if named_paths.is_covered(path, [added])
        )
        return UsageError(
            f"{path} is not checked out",
            where,
            next=f"dvc checkout {tracked}.dvc, or dvc pull",
        )
    if known.there(root, path):
        quoted = shlex.quote(path)
        return UsageError(
            f"git does not track {path}",
            where,
            "no run would find it",
            f"git add {quoted}, or dvc add it",
        )
    place = Path(known.origin or root, path)
    near = difflib.get_close_matches(place.name, _names_in(place.parent), 1)
    way_out = (
        f"did you mean {Path(path).with_name(near[0])}?"
        if near
        else "correct that path, or put the archive there"
    )
    return UsageError(f"there is no {path}", where, next=way_out)


def _names_in(folder: Path) -> list[str]:
    try:
        return [found.name for found in folder.iterdir()]
    except OSError:
        return []


def _open_dataset(path: str) -> Any:
    import xarray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return xarray.open_zarr(path, chunks=None)
        except ValueError:
            return xarray.open_dataset(path)


def main(words: list[str]) -> None:
    """Look at the archives, and print what was found as one line of JSON."""
    from mllam_exps.stages.neural_lam.parameters import arguments, params

    root, known = Path(words[0]), Known(**json.loads(words[1]))
    parameters = params.load(root)
    datastore = parameters.files[DATASTORE]
    undeclared = named_paths.check_dependencies(
        datastore, known.deps, exists=lambda path: known.there(root, path)
    )
    found: list[MllamError] = [*notes(parameters), *undeclared]
    found += check_sources(
        root, parameters, params.steps_needed(parameters, arguments.known()), known
    )
    problems = [
        {"what": error.what, "where": error.where, "why": error.why, "next": error.next}
        for error in found
        if not isinstance(error, Note)
    ]
    print(
        json.dumps(
            {
                "problems": problems,
                "notes": [str(note) for note in found if isinstance(note, Note)],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
