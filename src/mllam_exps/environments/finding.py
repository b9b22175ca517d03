"""Which environment an experiment had, and which one stages have here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mllam_exps
from mllam_exps.base.errors import UsageError
from mllam_exps.machines import environment
from mllam_exps.machines.container import digest
from mllam_exps.machines.machine_files import Machine
from mllam_exps.preflight import checks
from mllam_exps.runs import layout, outputs
from mllam_exps.runs.store import Run
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
    found = ask(environment.program(machine), container.image)
    return replace(found, container=digest(container.image))


def ask(python: Sequence[str], where: str = "") -> Environment:
    """Return the environment of a Python; `where` is the image in whose container it runs, if it does.

    Raises
    ------
    UsageError
        If it does not tell.
    """
    ours = str(Path(mllam_exps.__file__).parents[1])
    command = [*python, "-c", _ASK, ours]
    what = "an environment does not tell what is in it"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(what, where or python[-1], str(error)) from error
    except (IndexError, ValueError) as error:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[
            -1
        ]
        raise UsageError(what, where or python[-1], said) from error
    return Environment.from_record(found)
