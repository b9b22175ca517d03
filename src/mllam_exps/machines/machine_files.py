"""Reads machine files, applies options, checks the result, and notes where each value comes from.

A result never depends on a machine file. `mllam_exps.machines.model` says what may stand in them.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.identity.run_keys import SAVE, base_name
from mllam_exps.machines import machine_problems, strict_yaml
from mllam_exps.machines.model import Resources, Settings
from mllam_exps.machines.values import FOLDER

STAGES = ("check_for_venv_path", "mllam_version", SAVE)
"""Stages of ours in any repository; the others are those of its ``dvc.yaml``."""
BUILT_IN = "local"
"""The machine that is there without a file: this host, as it is."""

_LISTS = {"hosts", "modules", "source", "types", "command", "on"}
_SECTIONS = (["resources"], ["environment"], ["paths"], ["notify"], ["retry"])


class Machine(Settings):
    """A machine as it will be used: its settings, its name, and where each value comes from."""

    name: str
    file: Path | None
    """Its file, if it has one."""
    origins: dict[str, str]
    """By dotted key: ``machines/x.yaml:12``, ``MLLAM_MACHINE_OPTIONS`` or ``MLLAM_VENV_PATH``."""

    @property
    def venv(self) -> Path:
        """The virtual environment of the stages' programs; without any setting the running one."""
        return self.environment.venv or Path(sys.prefix)

    @property
    def programs(self) -> str:
        """Where the stages' programs are: the container's image, or else the virtual environment."""
        container = self.environment.container
        return container.image if container is not None else str(self.venv)

    def resources_for(self, stage: str) -> Resources:
        """Return what a stage's job asks for: the stage's own values on top of the default's.

        Parameters
        ----------
        stage : str
            A stage of dvc.yaml; ``train@a`` (of a ``foreach`` or ``matrix``) has the
            resources of ``train``.
        """
        stage = base_name(stage)
        default = self.resources.get("default", Resources())
        if stage == SAVE:
            default = default.for_keeping_books()
        if stage not in self.resources:
            return default
        return self.resources[stage].over(default)

    def origin(self, key: str) -> str:
        """Return where a value comes from, by its dotted key; ``default`` where nobody set it."""
        while key:
            if key in self.origins:
                return self.origins[key]
            key = key.rpartition(".")[0]
        return "default"

    def resource_origin(self, stage: str, key: str) -> str:
        """Return where a value of `resources_for` comes from; ``key`` may be ``sbatch.constraint``."""
        for section in (base_name(stage), "default"):
            dotted = f"resources.{section}.{key}"
            if dotted in self.origins:
                return self.origins[dotted]
        return "default"


def names(root: Path) -> list[str]:
    """Return the names of the machines that a repository knows, sorted; ``local`` is always one."""
    return sorted({path.stem for path in (root / FOLDER).glob("*.yaml")} | {BUILT_IN})


def load(root: Path, name: str, environ: Mapping[str, str] | None = None) -> Machine:
    """Read and check a machine.

    Parameters
    ----------
    root : Path
        The repository.
    name : str
        ``machines/<name>.yaml``, or ``local``, which needs no file.
    environ : Mapping, optional
        Where MLLAM_MACHINE_OPTIONS and MLLAM_VENV_PATH are looked for; by default the
        file alone counts.

    Raises
    ------
    UsageError, Problems
        Everything that is wrong with the file or the options, a line each.
    """
    environ = environ or {}
    if not root.is_dir():
        raise gone(root)
    file = root / FOLDER / f"{name}.yaml"
    shown = f"{FOLDER}/{name}.yaml"
    data, lines = _read(root, name)
    origins = {key: f"{shown}:{line}" for key, line in lines.items()}
    known = _stages(root) | {"default"}
    options = environ.get("MLLAM_MACHINE_OPTIONS", "")
    problems = _override(data, origins, options, known)
    if venv := environ.get("MLLAM_VENV_PATH"):
        key = ["environment", "venv"]
        problems += _put(data, origins, key, venv, "MLLAM_VENV_PATH")
    settings, wrong = machine_problems.check(data, origins, shown, known)
    if settings is None or problems or wrong:
        raise Problems(problems=problems + wrong)
    given = {key: getattr(settings, key) for key in settings.model_fields_set}
    own_file = file if file.is_file() else None
    return Machine(name=name, file=own_file, origins=origins, **given)


def _read(root: Path, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what a machine's file says, and the line of each key; ``local`` needs no file."""
    shown = f"{FOLDER}/{name}.yaml"
    file = root / shown
    if file.is_file() and re.fullmatch(r"[\w.-]+", name):
        return strict_yaml.read(file, shown)
    if name == BUILT_IN:
        return {"scheduler": "local"}, {}
    known = names(root)
    near = machine_problems.did_you_mean(name, known)
    raise UsageError(
        f"no machine named {name!r}",
        where=shown,
        why=f"there is no such file; there are {', '.join(known)}{near}",
        next="mllam-exps machine list",
    )


def gone(
    root: Path, what: str = "the repository has moved, or was deleted"
) -> UsageError:
    """Return the error for a repository that is no longer where an experiment of it was submitted from."""
    way_out = f'type where it is now: ln -s "$PWD" {shlex.quote(str(root))}, or submit its experiments again there'
    return UsageError(what, str(root), "there is no DVC repository", way_out)


def pick(root: Path, environ: Mapping[str, str], hostname: str) -> Machine:
    """Return the machine to use: MLLAM_MACHINE, else the first file whose ``hosts`` fit, else ``local``.

    Parameters
    ----------
    root : Path
        The repository.
    environ : Mapping
        The environment: MLLAM_MACHINE, MLLAM_MACHINE_OPTIONS, MLLAM_VENV_PATH.
    hostname : str
        This host's name, short or full.
    """
    return load(root, picked(root, environ, hostname), environ)


def picked(root: Path, environ: Mapping[str, str], hostname: str) -> str:
    """Return the name of the machine that `pick` returns; a machine of that name need not exist."""
    if name := environ.get("MLLAM_MACHINE"):
        return name
    own = {hostname.lower(), hostname.lower().split(".")[0]}
    for file in sorted((root / FOLDER).glob("*.yaml")):
        data, _ = strict_yaml.read(file, f"{FOLDER}/{file.name}")
        if _fits(own, data.get("hosts")):
            return file.stem
    return BUILT_IN


def _fits(hostnames: set[str], patterns: object) -> bool:
    """Tell whether one of a host's names fits one of a file's patterns; the file was not checked yet."""
    if not isinstance(patterns, list):
        return False
    wanted = [str(pattern).lower() for pattern in patterns]
    return any(fnmatch(host, pattern) for host in hostnames for pattern in wanted)


def _override(
    data: dict[str, Any], origins: dict[str, str], options: str, known: set[str]
) -> list[MllamError]:
    """Put the values of MLLAM_MACHINE_OPTIONS into the data of a file."""
    source = "MLLAM_MACHINE_OPTIONS"
    try:
        words = shlex.split(options)
    except ValueError as error:
        return [UsageError("can't be split into words", where=source, why=str(error))]
    problems: list[MllamError] = []
    for word in words:
        dotted, equals, text = word.partition("=")
        if not equals or not dotted:
            problems.append(UsageError(f"{word!r} is not key=value", where=source))
            continue
        path = dotted.split(".")
        if path[0] in known and path[0] not in Settings.model_fields:
            path = ["resources", *path]
        if path[0] not in Settings.model_fields:
            near = machine_problems.did_you_mean(
                path[0], [*Settings.model_fields, *known]
            )
            why = f"no key of a machine, and no stage{near}"
            problems.append(UsageError("is unknown", f"{source}: {dotted}", why))
            continue
        value = strict_yaml.read_value(text, may_be_list=path[-1] in _LISTS)
        problems += _put(data, origins, path, value, source)
    return problems


def _put(
    data: dict[str, Any],
    origins: dict[str, str],
    path: list[str],
    value: object,
    source: str,
) -> list[MllamError]:
    """Set one value, and note where it comes from."""
    dotted = ".".join(path)
    where = f"{source}: {dotted}"
    if isinstance(value, dict) or _has_keys(path):
        why = "it has keys of its own"
        return [UsageError("takes no single value", where, why)]
    inner = data
    for name in path[:-1]:
        if inner.get(name) is None:
            inner[name] = {}
        inner = inner[name]
        if not isinstance(inner, dict):
            why = f"{name} is a value"
            return [UsageError("has no keys of its own", where, why)]
    inner[path[-1]] = value
    origins[dotted] = source
    return []


def _has_keys(path: list[str]) -> bool:
    """Tell whether a place in a machine file holds keys, and no value: a section, or the resources of a stage."""
    return path in _SECTIONS or (path[0] == "resources" and len(path) == 2)


def _stages(root: Path) -> set[str]:
    """Return the names of stages that resources may be given for."""
    try:
        data = strict_yaml.read_loosely(root / "dvc.yaml")
        return {*STAGES, *map(str, data["stages"])}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        # A dvc.yaml that can't be read is told of by those who need it.
        return set(STAGES)
