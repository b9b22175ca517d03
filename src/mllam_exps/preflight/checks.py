"""Everything that is looked at before anything starts: the environment, the machine file and every parameter file."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import reasons
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.machines import carried, environment, machine_files
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.schedulers import Uncertain
from mllam_exps.stages import tracking
from mllam_exps.stages.neural_lam import file_names
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters import param_checks, params

CHECKED_FILE = "logs/checked.txt"
CHECKED = "the environment and every parameter file were checked by `mllam-exps run check_for_venv_path`\n"

if TYPE_CHECKING:
    from mllam_exps.identity.definition import Input
    from mllam_exps.stages.neural_lam.parameters.arguments import Arguments

NEEDED = ("mllam-data-prep", "neural-lam", "torch", "weather-model-graphs")


def check_environment(machine: Machine, origin: Path) -> None:
    """Refuse a scheduler, a script, a virtual environment or a run store that is not there.

    Raises
    ------
    UsageError
        With the place that named it.
    """
    for script in machine.environment.source:
        path = origin / machine_files.FOLDER / Path(script).expanduser()
        if not path.is_file():
            raise UsageError(
                "there is no such script", str(path), "environment.source names it"
            )
    if machine.scheduler == "slurm" and shutil.which("sbatch") is None:
        raise UsageError(
            "no command sbatch on this host",
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
            machine.paths.run_store.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=machine.paths.run_store).close()
        except OSError as error:
            where = f"{machine.origin('paths.run_store')}: {machine.paths.run_store}"
            raise UsageError(
                "the run store cannot be written", where, reasons.of_os_error(error)
            ) from error
    # An address with a password in it is refused here, not after a run was claimed.
    tracking.environment(origin, {**os.environ, **environment.variables(machine)})


def check_programs(machine: Machine, versions: Mapping[str, Any]) -> None:
    """Refuse an environment that lacks one of the programs that make the numbers."""
    absent = [name for name in NEEDED if versions.get(name, "absent") == "absent"]
    if absent:
        python = environment.python(machine)
        raise UsageError(
            f"{', '.join(absent)} not installed in {machine.venv}",
            where=machine.origin("environment.venv"),
            next=f"{python} -m pip install 'mllam-exps[models]'",
        )


def check_parameters(workspace: Workspace, machine: Machine) -> None:
    """Check every key of every parameter file against the programs that will read them.

    Raises
    ------
    Problems
        With one line for each thing that is wrong.
    """
    from mllam_exps.stages.neural_lam.data import named_paths
    from mllam_exps.stages.neural_lam.parameters import dataset_checks

    parameters = params.load(workspace.root)
    problems = param_checks.check(
        workspace.root, parameters, _arguments(environment.python(machine))
    )
    problems += dataset_checks.check(parameters)
    problems += named_paths.check(parameters.files[file_names.DATASTORE])
    if problems:
        raise Problems(problems=problems)


@functools.cache
def _arguments(python: Path) -> Arguments:
    """Return what the neural-lam of an environment can be told: a sweep asks for it a hundred times."""
    from mllam_exps.stages.neural_lam.parameters import arguments

    return arguments.known(python)


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
    from mllam_exps import stages
    from mllam_exps.attempts import job_request

    # Only what dvc.yaml runs: a site may refuse what a stage that is not there would
    # ask for.
    ours = params.read_yaml(workspace.root / "dvc.yaml", "dvc.yaml").get("stages") or {}
    names = [*(name for name in ours if name in stages.all_names()), *others]
    notes = carried.left_behind(os.environ) if machine.scheduler == "slurm" else []
    try:
        told = list(
            job_request.objections(
                workspace, machine, params.load(workspace.root), names
            )
        )
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


def kind_of_jobs(workspace: Workspace) -> str:
    """Return what tells the jobs of one experiment from those of another, to a scheduler: nodes and devices."""
    parameters = params.load(workspace.root)
    return str(
        [
            (parameters.nodes(stage), parameters.devices(stage))
            for stage in ("train", "evaluate")
        ]
    )


def check_sources(
    workspace: Workspace, machine: Machine, inputs: Iterable[Input]
) -> list[str]:
    """Look into the source archives of the dataset, in the stages' environment: the login node's may lack xarray.

    Parameters
    ----------
    inputs : iterable of Input
        Those of ``prepare_dataset``, as `mllam_exps.dvc.pipeline` reads them.

    Returns
    -------
    list of str
        What could not be looked at, said aloud, and no error.

    Raises
    ------
    Problems
        With one line for each thing that is wrong.
    """
    inputs = list(inputs)
    known: dict[str, Any] = {
        "origin": str(workspace.origin),
        "deps": [source.path for source in inputs],
        "made": [source.path for source in inputs if source.run],
        "added": [
            source.path for source in inputs if source.tracked and not source.run
        ],
    }
    answer = _ask(
        workspace, machine, "source_checks", str(workspace.root), json.dumps(known)
    )
    if isinstance(answer, str):
        raise UsageError(
            "the source archives do not give what it asks for", DATASTORE, answer
        )
    problems: list[MllamError] = [
        UsageError(**problem) for problem in answer["problems"]
    ]
    if problems:
        raise Problems(problems=problems)
    notes: list[str] = answer["notes"]
    return notes


def _ask(workspace: Workspace, machine: Machine, module: str, *words: str) -> Any:
    """Run a module of ours in the stages' environment; return the JSON of its last line, or what it said instead."""
    asked = [
        str(environment.python(machine)),
        "-P",
        "-m",
        f"mllam_exps.stages.neural_lam.data.{module}",
        *words,
    ]
    done = subprocess.run(
        environment.wrap(machine, workspace.origin, asked),
        cwd=workspace.root,
        env=environment.child_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[
            -1
        ]


_PROJECTIONS: set[str] = set()
"""Projections that were found good: the experiments of a sweep share theirs."""


def check_projection(workspace: Workspace, machine: Machine) -> None:
    """Refuse a projection that cartopy does not make: neural-lam would find out after the training, in evaluation.

    Raises
    ------
    UsageError
        With the key, and cartopy's own words.
    """
    extra = params.load(workspace.root).files[DATASTORE].get("extra") or {}
    projection = json.dumps(extra.get("projection"), default=str)
    if projection in _PROJECTIONS:
        return
    answer = _ask(workspace, machine, "projection_check", projection)
    if isinstance(answer, str) or answer:
        found = {"key": "", "what": answer} if isinstance(answer, str) else answer
        raise UsageError(found["what"], f"{DATASTORE}: extra.projection{found['key']}")
    _PROJECTIONS.add(projection)


def versions_text(workspace: Workspace, machine: Machine) -> tuple[str, list[str]]:
    """Return what ``version.mllam.txt`` says of the programs as they are now, and notes on what could not be read."""
    from mllam_exps import stages
    from mllam_exps.stages import versions
    from mllam_exps.stages.neural_lam.data import archives

    parameters = params.load(workspace.root)
    datastore = parameters.files[DATASTORE]
    prefix = environment.wrap(
        machine, workspace.origin, [str(environment.python(machine)), "-P"]
    )
    modules = archives.modules(datastore, workspace.root)
    programs = versions.of_environment(prefix, workspace.root, modules)
    check_programs(machine, programs)
    declared = parameters.files["params.yaml"].get("archives") or {}
    found, notes = archives.identities(
        datastore, declared, archives.last_known(workspace.root)
    )
    for module in modules:
        # Among the archives, which dvc.yaml tracks as a whole: what a dataset is made
        # by, beside what it is made of.
        found[f"{versions.MODULE}{module}"] = {
            "path": module,
            "version": programs.pop(f"{versions.MODULE}{module}"),
        }
    recipes = {name: stages.get(name).recipe for name in sorted(stages.all_names())}
    return versions.content(programs, recipes, found), notes


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
