"""Everything that is looked at before anything starts: the environment, the machine file and every parameter file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps import schedulers, stages
from mllam_exps.attempts import job_request
from mllam_exps.base import ownership, records
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.machines import environment, job_environment, values
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.schedulers import Uncertain
from mllam_exps.stages import tracking
from mllam_exps.stages.asking import ask as ask_program
from mllam_exps.stages.contract import Size, Stage
from mllam_exps.stages.preflight import Ask

CHECKED_FILE = "logs/checked.txt"
CHECKED = "the environment and every parameter file were checked by `mllam-exps run check_for_venv_path`\n"

if TYPE_CHECKING:
    from mllam_exps.identity.definition import Input


def check_environment(machine: Machine, origin: Path) -> None:
    """Refuse a scheduler, a script, a virtual environment or a run store that is not there.

    Raises
    ------
    UsageError
        With the place that named it.
    """
    for script in machine.environment.source:
        path = origin / values.FOLDER / Path(script).expanduser()
        if not path.is_file():
            raise UsageError(
                "there is no such script", str(path), "environment.source names it"
            )
    scheduler = schedulers.get(machine.scheduler, origin)
    if missing := scheduler.missing():
        raise UsageError(
            missing,
            where=machine.origin("scheduler"),
            next="work on a host of the cluster, or with another machine, e.g. MLLAM_MACHINE=local",
        )
    python = environment.python(machine)
    if not os.access(python, os.X_OK):
        raise UsageError(
            f"no Python in the virtual environment {machine.venv}",
            where=machine.origin("environment.venv"),
            why=f"{python} is missing or not executable",
            next="set MLLAM_VENV_PATH, or environment.venv in the machine file, to one with mllam-exps[models] in it",
        )
    if machine.paths.run_store is not None:
        try:
            # As the run store makes it: in a folder of a group it is the group's.
            records.folder(machine.paths.run_store, ownership.STICKY)
            tempfile.TemporaryFile(dir=machine.paths.run_store).close()
        except OSError as error:
            raise UsageError(
                "the run store cannot be written",
                f"{machine.origin('paths.run_store')}: {machine.paths.run_store}",
                reasons.of_os_error(error),
                "MLLAM_MACHINE_OPTIONS=paths.run_store=DIRECTORY names another; docs/team.md: what a team shares",
            ) from error
    # An address with a password in it is refused here, not after a run was claimed.
    tracking.environment(origin, {**os.environ, **environment.variables(machine)})


def check_programs(
    machine: Machine, needed: Iterable[str], versions: Mapping[str, Any]
) -> None:
    """Refuse an environment that lacks one of the programs that make the numbers."""
    absent = [name for name in needed if versions.get(name, "absent") == "absent"]
    if absent:
        python = environment.python(machine)
        way_out = f"{python} -m pip install 'mllam-exps[models]'"
        key = "environment.venv"
        if machine.environment.container is not None:
            key, way_out = "environment.container", "name an image that has them"
        raise UsageError(
            f"{', '.join(absent)} not installed in {machine.programs}",
            where=machine.origin(key),
            next=way_out,
        )


def check_parameters(workspace: Workspace, machine: Machine) -> None:
    """Check every key of every parameter file that the stages of ``dvc.yaml`` name.

    Raises
    ------
    Problems
        With one line for each thing that is wrong.
    """
    if machine.environment.container is not None:
        # What is wrong with it is said before its programs are asked for anything.
        _checked_programs(workspace, machine)
    python = environment.program_file(machine, workspace.origin)
    problems: list[MllamError] = []
    for preflight in stages.preflights(workspace.root):
        problems += preflight.check_parameters(workspace.root, python)
    if problems:
        raise Problems(problems=problems)


def check_in_environment(workspace: Workspace, machine: Machine) -> None:
    """Refuse what only the stages' environment can tell to be wrong.

    Raises
    ------
    MllamError
        Naming the key.
    """
    for preflight in stages.preflights(workspace.root):
        preflight.check_in_environment(workspace.root, asking(workspace, machine))


def check_jobs(
    workspace: Workspace, machine: Machine, others: Iterable[str] = ()
) -> list[str]:
    """Ask the scheduler whether it would take the stages' jobs, before the first of them waits in its queue.

    Parameters
    ----------
    others : iterable of str
        Stages with commands of their own that are to become jobs, too.

    Returns
    -------
    list of str
        What could not be asked, and what will not reach a job.

    Raises
    ------
    Problems
        With one line for each kind of job that would be refused.
    """
    # Only what dvc.yaml runs: a site may refuse what a stage that is not there would
    # ask for.
    sizes = sizes_of(workspace) | dict.fromkeys(others, Size())
    scheduler = schedulers.get(machine.scheduler, workspace.origin)
    notes = [] if scheduler.inherits else job_environment.left_behind(os.environ)
    try:
        told = list(job_request.objections(workspace, machine, sizes))
    except Uncertain as doubt:
        return [
            *notes,
            f"{machine.scheduler} could not be asked whether it would take the jobs: {doubt}",
        ]
    problems: list[MllamError] = [
        UsageError(
            "the scheduler would refuse its job",
            where=f"{stage}: machine {machine.name}",
            why=objection.why,
            next=f"mllam-exps machine show --script {stage}",
        )
        for stage, objection in told
        if objection.final
    ]
    if problems:
        raise Problems(problems=problems)
    return [
        *notes,
        *(
            f"{stage}: its job will have to wait: {objection.why}"
            for stage, objection in told
        ),
    ]


def sizes_of(workspace: Workspace) -> dict[str, Size]:
    """Return how many nodes and devices each stage of ``dvc.yaml`` takes that runs a program of ours."""
    used = stages.used(workspace.root)
    return {name: stage.size(workspace.root) for name, stage in used.items()}


def kind_of_jobs(workspace: Workspace) -> str:
    """Return what tells the jobs of one experiment from those of another, to a scheduler: nodes and devices."""
    return str(sorted(sizes_of(workspace).items()))


def check_sources(
    workspace: Workspace, machine: Machine, stage: Stage, inputs: Iterable[Input]
) -> list[str]:
    """Look into the data that a stage reads.

    Parameters
    ----------
    inputs : iterable of Input
        Those of the stage, as `mllam_exps.dvc.stages.pipeline` reads them.

    Returns
    -------
    list of str
        What could not be looked at, said aloud, and no error.

    Raises
    ------
    MllamError
        With what is wrong.
    """
    ask = asking(workspace, machine)
    return stage.check_sources(workspace.root, workspace.origin, inputs, ask)


def asking(workspace: Workspace, machine: Machine) -> Ask:
    """Return what runs a module in the stages' environment: the login node's may lack its libraries."""

    def ask(module: str, *words: str) -> Any:
        asked = [*environment.program(machine), "-P", "-m", module, *words]
        answer = ask_program(
            environment.wrap(machine, workspace.origin, asked),
            cwd=workspace.root,
            env=schedulers.child_environment(os.environ),
            patience=None,  # it may read years of data
        )
        try:
            return answer.found
        except ValueError:
            return answer.complaint

    return ask


def versions_text(workspace: Workspace, machine: Machine) -> tuple[str, list[str]]:
    """Return what ``version.mllam.txt`` says of the programs as they are now, and notes on what could not be read."""
    from mllam_exps.stages import versions

    preflights = stages.preflights(workspace.root)
    programs, modules = _checked_programs(workspace, machine)
    archives: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for preflight in preflights:
        found, told = preflight.archives(workspace.root, remembered=True)
        archives |= found
        notes += told
    for module in modules:
        # Among the archives, which dvc.yaml tracks as a whole: what a dataset is made
        # by, beside what it is made of.
        archives[f"{versions.MODULE}{module}"] = {
            "path": module,
            "version": programs.pop(f"{versions.MODULE}{module}"),
        }
    recipes = {name: stages.get(name).recipe for name in sorted(stages.all_names())}
    return versions.content(programs, recipes, archives), notes


def _checked_programs(
    workspace: Workspace, machine: Machine
) -> tuple[dict[str, str], list[str]]:
    """Return the versions of the stages' programs, which have to be there, and the modules that are told as well."""
    preflights = stages.preflights(workspace.root)
    modules = {name for one in preflights for name in one.modules(workspace.root)}
    programs = _programs(workspace, machine, sorted(modules))
    needed = dict.fromkeys(name for one in preflights for name in one.programs)
    check_programs(machine, needed, programs)
    return programs, sorted(modules)


def _programs(
    workspace: Workspace, machine: Machine, modules: Sequence[str]
) -> dict[str, str]:
    """Return the exact versions of the stages' programs, and of modules; of a container which image that is, too."""
    from mllam_exps.preflight import inside_container
    from mllam_exps.stages import versions

    python = [*environment.program(machine), "-P"]
    prefix = environment.wrap(machine, workspace.origin, python)
    if machine.environment.container is not None:
        return inside_container.versions_in(workspace, machine, prefix, modules)
    return versions.of_environment(prefix, workspace.root, modules)


def versions_depend_on(root: Path) -> str:
    """Return the text of the parameter files that `versions_text` depends on: experiments that share it share that."""
    files = {name for one in stages.preflights(root) for name in one.names_archives}
    return "\0".join(
        (root / file).read_text(encoding="utf-8") for file in sorted(files)
    )


def check_versions_file(root: Path, expected: Mapping[str, Any], stage: str) -> None:
    """Refuse to go on where ``version.mllam.txt`` tells DVC of other programs than there are.

    Raises
    ------
    UsageError
        With the program that differs.
    """
    import yaml

    from mllam_exps.identity.definition import VERSIONS_FILE
    from mllam_exps.stages import versions

    path = root / VERSIONS_FILE
    written = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    wrong = versions.differences(written or {}, expected)
    if wrong or not written:
        raise UsageError(
            "it is not written for the programs as they are now",
            where=VERSIONS_FILE,
            why="; ".join(wrong) or "it is missing",
            next=f"dvc repro {stage} (which runs mllam_version first), or dvc exp run",
        )
