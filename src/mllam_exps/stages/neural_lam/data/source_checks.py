"""Checks of the archives that ``data/datastore.yaml`` names, by their metadata and coordinates: no field is read.

Run as a module with ROOT and KNOWN it looks at them where the programs are installed,
and prints ``{"problems": [{what, where, why, next}], "notes": [text]}`` as its last
line. KNOWN is what DVC knows of the inputs of ``prepare_dataset``, as JSON: ``{"deps":
[path], "made": [path], "added": [path], "origin": path}``.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages.neural_lam.data import (
    extent_checks,
    made_checks,
    named_paths,
    region_checks,
    rehearsal,
    variable_checks,
)
from mllam_exps.stages.neural_lam.data.archive_opening import Known, open_archive
from mllam_exps.stages.neural_lam.data.rehearsal import in_one_line
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters import verification
from mllam_exps.stages.neural_lam.parameters.dataset_checks import notes
from mllam_exps.stages.neural_lam.parameters.datastore_file import Note

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.params import Parameters


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
        why = f"this Python has no {error.name}"
        return [Note("the archives were not looked at", DATASTORE, why)]
    problems: list[MllamError] = []
    with rehearsal.importable(root) as modules:
        for file in (DATASTORE, *named_paths.interior_of(parameters.files[DATASTORE])):
            if not (root / file).is_file():
                where = f"{DATASTORE}: {named_paths.CROPPING}"
                return [*problems, UsageError(f"there is no file {file}", where)]
            try:
                config = Config.from_yaml_file(str(root / file))
            except (
                Exception
            ) as error:  # whatever mllam-data-prep raises, it refuses the file
                why = "mllam-data-prep refuses it"
                return [*problems, UsageError(in_one_line(error), file, why)]
            if file == DATASTORE:
                problems += _check_config(root, config, needed or {}, known or Known())
            else:
                problems += _check_interior(root, file, config, known)
    if known is not None:
        for module in sorted(modules):
            if not named_paths.is_covered(str(module), known.deps):
                where = f"{DATASTORE}: derived_variables"
                problems.append(named_paths.no_dependency(where, str(module)))
    return problems


def _check_config(
    root: Path, config: Any, needed: Mapping[str, int], known: Known
) -> list[MllamError]:
    problems: list[MllamError] = []
    archives: dict[str, Any] = {}
    applied = set(config.output.coord_ranges or {})
    for name, source in config.inputs.items():
        # mllam-data-prep drops a range at the first input without that dimension, for
        # all inputs after it.
        applied &= set(config.output.variables.get(source.target_output_variable, ()))
        where = f"{DATASTORE}: inputs.{name}.path"
        dataset = open_archive(root, where, source.path, known)
        if isinstance(dataset, MllamError):
            problems.append(dataset)
            continue
        archives[name] = dataset
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problems += variable_checks.check(name, source, dataset)
            problems += extent_checks.check(name, dataset, config, applied)
    if not problems:
        problems += _rehearse(config, archives, needed, verification.regions(root))
    for dataset in archives.values():
        dataset.close()
    return problems


def _rehearse(
    config: Any,
    archives: Mapping[str, Any],
    needed: Mapping[str, int],
    regions: Mapping[str, Any],
) -> list[MllamError]:
    made = rehearsal.rehearse(config, archives)
    if isinstance(made, MllamError):
        return [made]
    problems = made_checks.check(made, config, needed)
    # What is cropped has another edge than the rehearsed dataset.
    if config.output.domain_cropping is None:
        projection = (config.extra or {}).get("projection", {})
        problems += region_checks.check(made, projection, regions)
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
        where = f"{file}: inputs.{name}.path"
        dataset = open_archive(root, where, source.path, known or Known())
        if isinstance(dataset, MllamError):
            problems.append(dataset)
        else:
            dataset.close()
    return problems


def main(words: list[str]) -> None:
    """Look at the archives, and print what is wrong with them as one line of JSON."""
    from mllam_exps.stages.neural_lam.parameters import arguments, params

    root, known = Path(words[0]), Known(**json.loads(words[1]))
    parameters = params.load(root)
    told: list[MllamError] = [*notes(parameters)]
    told += named_paths.check_dependencies(
        parameters.files[DATASTORE],
        known.deps,
        exists=lambda path: known.there(root, path),
    )
    needed = params.steps_needed(parameters, arguments.known())
    told += check_sources(root, parameters, needed, known)
    answer: dict[str, list[Any]] = {"problems": [], "notes": []}
    for error in told:
        if isinstance(error, Note):
            answer["notes"].append(str(error))
        else:
            fields = ("what", "where", "why", "next")
            problem = {field: getattr(error, field) for field in fields}
            answer["problems"].append(problem)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
