"""The stages that have a program: who knows of them, and which of them a repository uses.

Neural-LAM's four and those of other packages are known in the same way, by the
entry-point group ``mllam_exps.stages``; a stage with a command of its own needs none.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.identity.run_keys import base_name
from mllam_exps.stages.command_words import calls_us
from mllam_exps.stages.contract import Stage, StageContext
from mllam_exps.stages.preflight import Preflight

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from mllam_exps.identity.definition import RunDefinition

GROUP = "mllam_exps.stages"

__all__ = ["Stage", "StageContext", "all_names", "counting", "get", "of", "used"]


def get(name: str) -> Stage:
    """Return a stage by its name in ``dvc.yaml``; of ``foreach`` or ``matrix`` by what stands before the ``@``.

    Raises
    ------
    UsageError
        If nobody has a program for it.
    """
    name = base_name(name)
    if name not in all_names():
        raise UsageError(
            f"there is no program for the stage {name!r}",
            where="dvc.yaml",
            next=f"give it a command of its own; mllam-exps runs {', '.join(sorted(all_names()))}",
        )
    return _load(name)


@functools.cache
def _load(name: str) -> Stage:
    entry = _entries()[name]
    stage = entry.load()
    if not isinstance(stage, Stage):
        raise UsageError(
            "is no stage",
            where=f"{entry.value} (entry point {name} of {GROUP})",
            why="it is no object of a subclass of mllam_exps.stages.contract.Stage",
        )
    return stage


def of(definition: RunDefinition) -> Stage:
    """Return the stage of a run: where its definition has commands, a shell runs them."""
    if definition.commands:
        from mllam_exps.stages.shell import Shell

        return Shell(definition.stage, list(definition.commands), definition.folder)
    return get(definition.stage)


def counting(name: str, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what counts, for a stage's program, of the values that it tracks of a parameter file."""
    if not has_program(name):
        return values  # it is refused before anything starts
    return get(name).counting(file, values)


def has_program(name: str) -> bool:
    """Tell whether somebody has a program for the stage of that name."""
    return base_name(name) in all_names()


def all_names() -> set[str]:
    """Return the names of all stages that have a program, whatever repository uses them."""
    return set(_entries())


def used(root: Path) -> dict[str, Stage]:
    """Return the stages of a repository's ``dvc.yaml`` that run a program of ours, by name, in order of writing.

    A ``dvc.yaml`` that is missing, or cannot be read, has none: DVC tells of it better.
    """
    from mllam_exps.base import yaml_files  # `stages.versions` does without a parser

    try:
        written = yaml_files.read(root / "dvc.yaml", by_pyyaml=True).get("stages")
    except MllamError:
        return {}
    entries = written if isinstance(written, Mapping) else {}
    names = [
        str(name)
        for name, entry in entries.items()
        if isinstance(entry, Mapping) and calls_us(_commands(entry))
    ]
    return {name: get(name) for name in names if has_program(name)}


def _commands(entry: Mapping[str, Any]) -> list[str]:
    """Return the commands of a stage as they are written; those of a ``foreach`` stand in its ``do``."""
    inner = entry.get("do")
    cmd = (inner if isinstance(inner, Mapping) else entry).get("cmd")
    if isinstance(cmd, str):
        return cmd.splitlines()
    return (
        [line for line in cmd if isinstance(line, str)] if isinstance(cmd, list) else []
    )


def preflights(root: Path, *more: Stage) -> list[Preflight]:
    """Return what has to be looked at for the stages that a repository uses, and for some more; each once."""
    return list(
        dict.fromkeys(stage.preflight for stage in (*more, *used(root).values()))
    )


@functools.cache
def _entries() -> dict[str, EntryPoint]:
    """Return the entry points of all stages; looking for them reads the metadata of all that is installed."""
    from importlib.metadata import entry_points  # 0.1 s, which not every command needs

    return {entry.name: entry for entry in entry_points(group=GROUP)}
