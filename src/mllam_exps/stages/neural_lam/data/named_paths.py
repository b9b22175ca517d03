"""Checks the paths that ``data/datastore.yaml`` names: each must count as an input of the dataset."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import inputs_of, section

CROPPING = "output.domain_cropping.interior_dataset_config_path"


def named(datastore: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key and the path of everything that the file names by a path."""
    for name, source in inputs_of(datastore):
        path = source.get("path")
        if isinstance(path, str):
            yield f"inputs.{name}.path", path
    for path in interior_of(datastore):
        yield CROPPING, path


def interior_of(datastore: Mapping[str, Any]) -> list[str]:
    """Return the configuration of the dataset by which this one is cropped: none or one."""
    cropping = section(section(datastore, "output"), "domain_cropping")
    path = cropping.get("interior_dataset_config_path")
    return [path] if isinstance(path, str) else []


def check(datastore: Mapping[str, Any], file: str = DATASTORE) -> list[MllamError]:
    """Refuse paths that mean another place for everybody, or in every workspace."""
    problems: list[MllamError] = []
    for key, path in named(datastore):
        where = f"{file}: {key}"
        if path.startswith("~") or "$" in path:
            problems.append(_to_be_expanded(where, path))
        elif not is_remote(path) and _inside(path) is None:
            what = f"{path} lies outside the repository: link it into it, or write an absolute path"
            problems.append(UsageError(what, where))
        elif key == CROPPING and not is_inside(path):
            what = (
                f"{path} lies outside the repository, and its content would not count"
            )
            way_out = "copy it into data/, and write that path"
            problems.append(UsageError(what, where, next=way_out))
    return problems


def _to_be_expanded(where: str, path: str) -> MllamError:
    """Refuse a path with ~ or a variable: xarray expands ~, for each user another one, and no variable."""
    way_out = "write the path out"
    expanded = os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111 - an unknown ~user stays as it is
    if "$" not in expanded:
        way_out = f"write it out: {expanded}"
    what = f"{path} is another place for everybody"
    return UsageError(what, where, next=way_out)


def check_dependencies(
    datastore: Mapping[str, Any],
    deps: Collection[str],
    file: str = DATASTORE,
    exists: Callable[[str], bool] = lambda _path: True,
) -> list[MllamError]:
    """Refuse files of the repository that DVC does not know as inputs of the dataset.

    Parameters
    ----------
    datastore : Mapping
        ``data/datastore.yaml``, or another file of mllam-data-prep.
    deps : collection of str
        Of the stage ``prepare_dataset`` in ``dvc.yaml``; a folder stands for all that
        is in it.
    file : str
        Where it stands.
    exists : callable
        Whether a path of the repository is there: what is not is missing, and to
        declare it would not help.
    """
    problems: list[MllamError] = []
    for key, path in named(datastore):
        if is_inside(path) and not is_covered(path, deps) and exists(path):
            problems.append(no_dependency(f"{file}: {key}", posixpath.normpath(path)))
    return problems


def no_dependency(where: str, path: str) -> MllamError:
    """Return the refusal of a file that is no dependency, with the line that declares it."""
    what = f"{path} is no dependency of prepare_dataset: its content would not count, and no run would find it"
    way_out = f"add the line `- {path}` to deps of prepare_dataset in dvc.yaml"
    return UsageError(what, where, next=way_out)


def is_covered(path: str, deps: Collection[str]) -> bool:
    """Tell whether a path, or a folder that it lies in, is among the dependencies."""
    declared = {posixpath.normpath(dep) for dep in deps}
    path = posixpath.normpath(path)
    return not declared.isdisjoint({path, *map(str, Path(path).parents)})


def is_remote(path: str) -> bool:
    """Tell whether a path is a URL, or a chain of them as fsspec takes."""
    return "://" in path or "::" in path


def is_inside(path: str) -> bool:
    """Tell whether a path lies within the repository."""
    if is_remote(path) or posixpath.isabs(path):
        return False
    return _inside(path) is not None


def _inside(path: str) -> str | None:
    """Return a path within the repository, an absolute one as it is, and None for one that leaves it."""
    path = posixpath.normpath(path)
    return None if path.split("/")[0] == ".." else path
