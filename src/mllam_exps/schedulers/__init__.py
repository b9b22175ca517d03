"""Schedulers: what starts an attempt, and knows of its job.

A scheduler is one module. Ours lie in this package; another package adds one by an
entry point, under the name that machine files will use::

    [project.entry-points."mllam_exps.schedulers"]
    pbs = "my_package.pbs"

The module holds four names (`SchedulerModule`):

- ``make(shared: Path) -> Scheduler``: the scheduler; ``shared`` is a folder that all
  hosts see. What it returns keeps the contract in `base.Scheduler`, whose docstrings
  are enough to write one; `local` is the shortest example.
- ``RECORD``: the shape of the record by which it knows a job again (`Job.record`), as
  `base.records.look` takes it (`base.shapes`).
- ``TRACES``: how the variables begin that it sets inside a job, e.g. ``("PBS_",)``.
  They are taken out of the environment of whatever is started anew.
- ``SETTINGS``: variables among these that are no traces of a job, but settings of the
  site, e.g. ``("PBS_CONF_FILE",)``. They stay.

One that can tell how much energy jobs took has a fifth, ``energy(jobs: Sequence[Job])
-> list[float | None]``: joules, None where that is not known. It waits for some seconds
at most, and raises nothing.

``tests/slurm/test_schedulers.py`` holds every scheduler to the contract: add a site for
the new one there. A scheduler of ours needs one line more: its name in
`machines.values.SCHEDULERS`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import LOCAL_VARIABLES
from mllam_exps.base.shapes import Shape
from mllam_exps.machines.values import SCHEDULERS, added_schedulers
from mllam_exps.schedulers.base import (
    Job,
    JobPhase,
    JobRequest,
    JobState,
    NoRoom,
    Objection,
    Scheduler,
    SilentError,
    Uncertain,
)


class SchedulerModule(Protocol):
    """What the module of a scheduler holds."""

    RECORD: Shape
    TRACES: tuple[str, ...]
    SETTINGS: tuple[str, ...]

    def make(self, shared: Path) -> Scheduler:
        """Return the scheduler."""


# Settings of the site or the user, not traces of a DVC run around us.
_SETTINGS_OF_DVC = frozenset(
    {
        "DVC_SITE_CACHE_DIR",
        "DVC_GLOBAL_CONFIG_DIR",
        "DVC_SYSTEM_CONFIG_DIR",
        "DVC_NO_ANALYTICS",
    }
)

_modules: dict[str, SchedulerModule] = {}


def module_of(name: str) -> SchedulerModule:
    """Return the module of a scheduler.

    Parameters
    ----------
    name : str
        As machine files name it.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in _modules:
        _modules[name] = _load(name)
    return _modules[name]


def _load(name: str) -> SchedulerModule:
    if name in SCHEDULERS:
        ours: SchedulerModule = importlib.import_module(f"{__name__}.{name}")
        return ours
    if entry := added_schedulers().get(name):
        added: SchedulerModule = entry.load()
        return added
    what = f"there is no scheduler {name!r} in this version"
    way_out = "pip install --upgrade mllam-exps, or install the package that has it"
    raise UsageError(what, next=way_out)


@functools.cache
def get(name: str, shared: Path) -> Scheduler:
    """Return the scheduler of that name, the same one each time.

    Parameters
    ----------
    name : str
        As machine files name it.
    shared : Path
        A folder that all hosts see, for what all processes of a user share; the run store.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    return module_of(name).make(shared)


def energy(name: str, jobs: Sequence[Job]) -> list[float | None]:
    """Return the joules of a scheduler's jobs; None where it does not know them, or tells of none."""
    ask = getattr(module_of(name), "energy", None)
    return list(ask(jobs)) if ask else [None] * len(jobs)


def record_shape(name: str) -> Shape | None:
    """Return the shape of a scheduler's own record of a job; None where nobody here knows that scheduler."""
    try:
        return module_of(name).RECORD
    except UsageError:
        return None


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for programs that we start, without what a job or a DVC around us left in it.

    A number of tasks of an outer job would count in an inner one, options in variables
    would stand beside the machine file, and ``DVC_ROOT`` would send an inner DVC
    elsewhere, as ``GIT_DIR``, which a hook has, would an inner git. Settings of the site
    stay. Those schedulers count that are ours, or that this process has used.
    """
    modules = [*map(module_of, SCHEDULERS), *_modules.values()]
    traces = (
        "DVC_",
        *LOCAL_VARIABLES,
        *(prefix for each in modules for prefix in each.TRACES),
    )
    kept = _SETTINGS_OF_DVC.union(name for each in modules for name in each.SETTINGS)
    return {
        name: value
        for name, value in environ.items()
        if name in kept or not name.startswith(traces)
    }


Schedulers = Callable[[str, Path], Scheduler]
"""What `get` is: the schedulers by name, for the runs of one store."""

__all__ = [
    "Job",
    "JobPhase",
    "JobRequest",
    "JobState",
    "NoRoom",
    "Objection",
    "Scheduler",
    "SchedulerModule",
    "Schedulers",
    "SilentError",
    "Uncertain",
    "child_environment",
    "get",
    "module_of",
    "record_shape",
]
