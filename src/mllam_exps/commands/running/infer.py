"""``mllam-exps infer EXP --input FILE``: forecasts of a saved experiment from input that it has not seen."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mllam_exps import schedulers
from mllam_exps.base import yaml_files
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import say
from mllam_exps.dvc import earlier
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.machines import environment, machine_files
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.stages.neural_lam.file_names import DATASET, DATASTORE
from mllam_exps.stages.neural_lam.new_input import asked
from mllam_exps.stages.neural_lam.new_input.asked import NewInput


def infer(
    name: str,
    inputs: Sequence[str],
    output: Path,
    starts: Sequence[str] = (),
    steps: int | None = None,
) -> None:
    """Make forecasts here and now, in the stages' environment of this machine.

    Parameters
    ----------
    name : str
        An experiment, or a revision of git's.
    inputs : sequence of str
        As `asked.new_ones` takes them.
    output : Path
        The zarr, which is not there yet.
    starts : sequence of str
        Initial times; all that the input gives, by default.
    steps : int, optional
        How far each runs; by default as the experiment says.

    Raises
    ------
    MllamError
        If the experiment, its model or the input is not there, or they do not fit.
    """
    if os.path.lexists(output):
        raise UsageError("is there already", str(output), next="name another one")
    workspace = Workspace.here()
    machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
    checks.check_environment(machine, workspace.origin)
    repo = Repository.open(workspace.root)
    commit = earlier.commit_of(workspace.origin, name)
    if commit is None:
        what = "no experiment and no revision of git's has that name"
        raise UsageError(what, name, next="dvc exp list -A")
    with tempfile.TemporaryDirectory(
        prefix="infer-", dir=repo.temporary_directory
    ) as folder:
        work = Path(folder)
        _lay_out(repo, commit, work)
        datastore = yaml_files.read(work / DATASTORE, DATASTORE)
        new = asked.new_ones(datastore, inputs)
        every = asked.all_of_them(datastore, new, workspace.root)
        place = str(Path(os.path.abspath(output)))  # noqa: PTH100 - a link on the way is meant
        told = list(starts), steps, name, commit.revision, list(new)
        NewInput(every, place, *told).write(work)
        _run(machine, workspace, work)
    say(f"{output}: forecasts of {name}")


def _lay_out(repo: Repository, commit: Commit, work: Path) -> None:
    commit.lay_out(asked.READS, work)
    for path in asked.OUTPUTS:
        earlier.lay_out(repo, commit, path, work / path)
    place = work / asked.TRAINED_ON
    earlier.lay_out(repo, commit, DATASET, place, asked.is_no_field)


def _run(machine: Machine, workspace: Workspace, work: Path) -> None:
    """Run the program.

    Raises
    ------
    MllamError
        If it fails; it has said why.
    """
    log = workspace.root / "logs/infer-from-new-input.log"
    log.parent.mkdir(exist_ok=True)
    argv = [*environment.program(machine), "-P", "-m", asked.PROGRAM]
    with log.open("w") as errors:
        done = subprocess.run(
            environment.wrap(machine, workspace.origin, argv),
            cwd=work,
            env=schedulers.child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stderr=errors,
            check=False,
        )
    if not done.returncode:
        return
    if refused := asked.refused(work):
        raise UsageError(**asdict(refused))
    ended = reasons.of_exit(done.returncode, reasons.read(log))
    raise MllamError("the program that forecasts failed", str(log), ended.text)
