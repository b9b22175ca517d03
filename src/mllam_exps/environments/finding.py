"""Which environment an experiment had, and which one stages have here."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import mllam_exps
from mllam_exps.base.errors import UsageError
from mllam_exps.machines import environment
from mllam_exps.machines.container import digest
from mllam_exps.machines.machine_files import Machine
from mllam_exps.preflight import checks
from mllam_exps.runs import layout, outputs
from mllam_exps.runs.store import Run
from mllam_exps.stages import asking, packages
from mllam_exps.stages.packages import Environment

_ASK = (
    "import sys; sys.path.insert(0, sys.argv[1]); from mllam_exps.stages import packages; "
    "sys.path.pop(0); sys.exit(packages.main())"
)
"""What is run there: our own code, which may be missing or older there, and nothing else of ours."""
PATIENCE = 120.0
"""Seconds for an environment to tell what is in it."""


def of_runs(name: str, runs: Sequence[Run]) -> Environment:
    """Return the environment in which the last run of an experiment ran that wrote one down.

    Raises
    ------
    UsageError
        If there is no record of it here.
    """
    for run in reversed(runs):
        if (found := _of_run(run)) is not None:
            return found
    why = (
        "it was made elsewhere, by stages of one's own alone, or by an earlier version"
    )
    way_out = "mllam-exps compare EXP1 EXP2 compares the versions of the main programs"
    raise UsageError("its environment is not recorded here", name, why, way_out)


def _of_run(run: Run) -> Environment | None:
    if run.result is None:
        return None
    return Environment.read(outputs.result_attempt(run).directory / layout.ENVIRONMENT)


def of_machine(machine: Machine, origin: Path) -> Environment:
    """Return the environment in which a machine's stages run, for a repository.

    Raises
    ------
    UsageError
        If it does not tell.
    """
    checks.check_environment(machine, origin)
    container = machine.environment.container
    if container is None:
        return ask([str(environment.python(machine))])
    python = environment.wrap(machine, origin, environment.program(machine))
    with _told_as_a_user_s(container.image):
        return packages.of_container([*python, "-P"], digest(container.image))


def ask(python: Sequence[str]) -> Environment:
    """Return the environment of a Python.

    Raises
    ------
    UsageError
        If it does not tell.
    """
    ours = str(Path(mllam_exps.__file__).parents[1])
    with _told_as_a_user_s(python[-1]):
        answer = asking.ask([*python, "-c", _ASK, ours], patience=PATIENCE)
        try:
            return Environment.from_record(answer.found)
        except ValueError as error:
            raise ValueError(answer.complaint) from error


@contextlib.contextmanager
def _told_as_a_user_s(where: str) -> Iterator[None]:
    """Say of an environment that does not answer what a user can read."""
    try:
        yield
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        what = "an environment does not tell what is in it"
        raise UsageError(what, where, str(error)) from error
