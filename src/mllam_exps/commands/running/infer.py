"""``mllam-exps infer EXP --input FILE``: forecasts of a saved experiment from input that it has not seen.

``mllam-exps infer --from FOLDER --input FILE`` makes the same forecasts of a folder that
``export --inference`` wrote: there is no repository then, and no machine file.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mllam_exps import __version__, schedulers
from mllam_exps.base import yaml_files
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import harmless, say, warn
from mllam_exps.dvc import earlier
from mllam_exps.dvc.repository import Repository
from mllam_exps.exporting import forecast_folder
from mllam_exps.exporting.forecast_folder import OURS, REQUIREMENTS, Manifest
from mllam_exps.machines import environment, machine_files
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.stages import packages, versions
from mllam_exps.stages.neural_lam.file_names import DATASTORE
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
        earlier.lay_out_needed(repo, commit, work, asked.READS, asked.outputs)
        new = NewInput({}, _place(output), [*starts], steps, name, commit.revision)
        _with_archives(work, new, inputs, workspace.root).write(work)
        log = workspace.root / "logs/infer-from-new-input.log"
        log.parent.mkdir(exist_ok=True)
        argv = [*environment.program(machine), "-P", "-m", asked.PROGRAM]
        _run(environment.wrap(machine, workspace.origin, argv), work, log)
    say(f"{output}: forecasts of {name}")


def infer_from(
    folder: Path,
    inputs: Sequence[str],
    output: Path,
    starts: Sequence[str] = (),
    steps: int | None = None,
    *,
    any_versions: bool = False,
) -> None:
    """Make forecasts from a folder of `export --inference`, with the programs beside this one.

    Parameters
    ----------
    folder : Path
        It is only read.
    inputs, output, starts, steps
        As `infer` takes them; each input has to be named, unless a URL leads to it.
    any_versions : bool
        Whether to go on with other programs than the folder is for.

    Raises
    ------
    MllamError
        If a part of the folder, a program or the input is not what it has to be.
    """
    if os.path.lexists(output):
        raise UsageError("is there already", str(output), next="name another one")
    above = output.resolve().parent
    if not above.is_dir():
        raise UsageError("there is no such folder", str(above), next="mkdir makes it")
    said = forecast_folder.read(folder)
    _hold_versions(folder, said, any_versions=any_versions)
    forecast_folder.hold(folder, said, asked.is_read)
    with tempfile.TemporaryDirectory(prefix=".mllam-exps-infer-", dir=above) as site:
        work = Path(site)
        # The program writes its own data/datastore.yaml there.
        forecast_folder.lay_out(folder, said, work, lambda path: path in asked.READS)
        told = [*starts], steps, said.experiment, said.commit
        new = NewInput({}, _place(output), *told)
        _with_archives(work, new, inputs, None).write(work)
        log = work / "log.txt"
        try:
            _run([sys.executable, "-P", "-m", asked.PROGRAM], work, log)
        except UsageError:
            raise
        except MllamError as error:
            # Nobody else keeps it.
            warn(harmless(log.read_text(errors="replace")))
            raise replace(error, where="its own words are above") from None
    say(f"{output}: forecasts of {said.experiment}")


def _hold_versions(folder: Path, said: Manifest, *, any_versions: bool) -> None:
    """Refuse other programs than a folder is for, or name them.

    Raises
    ------
    UsageError
        Unless any will do.
    """
    found = versions.installed(asked.PROGRAMS)
    here = {name: found[name] for name in asked.PROGRAMS} | {OURS: __version__}
    others = forecast_folder.other_versions(said, here, packages.archive_of)
    if others and not any_versions:
        listed = shlex.quote(str(folder / REQUIREMENTS))
        raise UsageError(
            "the programs here are others, which may forecast otherwise",
            why="; ".join(others),
            next=f"pip install --no-deps -r {listed}, or --other-versions to go on",
        )
    for other in others:
        warn(f"note: {other}")


def _with_archives(
    work: Path, asked_for: NewInput, inputs: Sequence[str], root: Path | None
) -> NewInput:
    """Return what is asked of an experiment that is laid out in a folder, with the archive of each input."""
    datastore = yaml_files.read(work / DATASTORE, DATASTORE)
    new = asked.new_ones(datastore, inputs)
    every = asked.all_of_them(datastore, new, root)
    return replace(asked_for, inputs=every, new=[*new])


def _place(output: Path) -> str:
    return str(Path(os.path.abspath(output)))  # noqa: PTH100 - a link on the way is meant


def _run(argv: list[str], work: Path, log: Path) -> None:
    """Run the program.

    Raises
    ------
    MllamError
        If it fails; it has said why.
    """
    with log.open("w") as errors:
        done = subprocess.run(
            argv,
            cwd=work,
            env=schedulers.child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stderr=errors,
            check=False,
        )
    if not done.returncode:
        return
    if refused := asked.refused(work):
        # Its folder is gone when people read this.
        where = refused.where.removeprefix(f"{work}/")
        raise UsageError(**{**asdict(refused), "where": where})
    ended = reasons.of_exit(done.returncode, reasons.read(log))
    raise MllamError("the program that forecasts failed", str(log), ended.text)
