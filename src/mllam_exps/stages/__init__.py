"""The stages: ours, one to a module, and those that installed packages add; imported when asked for.

A package adds a stage under the entry-point group ``mllam_exps.stages``: an object that
keeps the contract in `base`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.contract import Stage, StageContext

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from mllam_exps.identity.definition import RunDefinition

NAMES = ("prepare_dataset", "create_graph", "train", "evaluate")
"""Stages that run programs, in their order. What `check_for_venv_path` and `mllam_version` do needs no attempt."""

GROUP = "mllam_exps.stages"

__all__ = ["NAMES", "Stage", "StageContext", "all_names", "counting", "get", "of"]


def get(name: str) -> Stage:
    """Return a stage by its name in ``dvc.yaml``; of ``foreach`` or ``matrix`` by what stands before the ``@``.

    Raises
    ------
    UsageError
        If nobody has a program for it.
    """
    name = name.split("@", maxsplit=1)[0]
    if name in NAMES:
        stage: Stage = importlib.import_module(
            f"mllam_exps.stages.neural_lam.{name}"
        ).STAGE
        return stage
    if name in _added():
        added: Stage = _added()[name].load()
        return added
    raise UsageError(
        f"there is no program for the stage {name!r}",
        where="dvc.yaml",
        next=f"give it a command of its own; mllam-exps runs {', '.join(sorted(all_names()))}",
    )


def of(definition: RunDefinition) -> Stage:
    """Return the stage of a run: where its definition has commands, a shell runs them."""
    if definition.commands:
        from mllam_exps.stages.shell import Shell

        return Shell(definition.stage, list(definition.commands), definition.folder)
    return get(definition.stage)


def counting(name: str, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what counts, for a stage's program, of the values that it tracks of a parameter file.

    A stage of another package that does not say takes each value as it is.
    """
    if name.split("@", maxsplit=1)[0] not in all_names():
        return values  # it is refused before anything starts
    stage = get(name)
    return stage.counting(file, values) if hasattr(stage, "counting") else values


def has_checkpoints(name: str) -> bool:
    """Tell whether a stage's next attempt may go on from a checkpoint; of one that nobody has a program for, no."""
    try:
        return not getattr(get(name), "starts_anew", False)
    except UsageError:
        return False


def all_names() -> set[str]:
    """Return the names of all stages that have a program."""
    return {*NAMES, *_added()}


@functools.cache
def _added() -> dict[str, EntryPoint]:
    """Return the stages of other packages; looking for them reads the metadata of all that is installed."""
    from importlib.metadata import (
        entry_points,
    )  # a tenth of what a job imports, and ours do without

    return {entry.name: entry for entry in entry_points(group=GROUP)}
