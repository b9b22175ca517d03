"""``mllam-exps run STAGE``: the one command that ``dvc.yaml`` calls."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path

from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.base.processes import ProcessIdentity, caller
from mllam_exps.base.terminal import warn
from mllam_exps.dvc import command_line, ignored
from mllam_exps.dvc.command_line import DvcCommand
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.machines import machine_files
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import (
    Workspace,
    leftovers,
    other_stages_here,
    refuse_other_stages,
)
from mllam_exps.preflight import checks, parents
from mllam_exps.preflight.missing_inputs import missing_inputs
from mllam_exps.preflight.opened import current_versions, open_pipeline
from mllam_exps.submission import backlog, standing


def run(stage: str, *, force: bool = False, take_over: bool = False) -> None:
    """Run one stage of the workspace that the current directory is in.

    Parameters
    ----------
    stage : str
        A stage of ``dvc.yaml``.
    force : bool
        Make the result again although it is known; the known one is set aside.
    take_over : bool
        Start a new attempt although one may still live where it cannot be seen.

    Raises
    ------
    MllamError
        With all that a user needs.
    """
    workspace = Workspace.here()
    machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
    checks.check_environment(machine, workspace.origin)
    checks.check_parameters(workspace, machine)
    if stage == "check_for_venv_path":
        check_for_venv_path(workspace, machine)
    elif stage == "mllam_version":
        mllam_version(workspace, machine)
    else:
        _run_in_store(stage, workspace, machine, force=force, take_over=take_over)


def check_for_venv_path(workspace: Workspace, machine: Machine) -> None:
    """Say where stages will run; everything has been checked when this is called."""
    checks.check_in_environment(workspace, machine)
    dvc = caller()
    repo = Repository.open_here(workspace.root)
    _check_inputs(repo, dvc)
    _ignore_outputs(repo)
    for note in checks.check_jobs(workspace, machine):
        warn(f"note: {note}")
    warn(
        f"machine {machine.name} ({machine.scheduler}), programs from {machine.programs}: checked"
    )
    if dvc is not None and workspace.root == workspace.origin:
        for line in leftovers(workspace.root, since=dvc.started):
            warn(f"note: {line}")
    # Always the same words: what is written here must not make anything stale.
    path = workspace.root / checks.CHECKED_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(checks.CHECKED, encoding="utf-8")


def _check_inputs(repo: Repository, dvc: ProcessIdentity | None) -> None:
    """Refuse to begin where DVC would end at a stage whose input nobody has.

    Where it cannot be told which stages DVC comes to, that is told only.

    Raises
    ------
    Problems
        With one line for each input that is missing.
    """
    asked = command_line.asked(dvc.command() if dvc is not None else [])
    if asked is not None and asked.lacking:
        return
    found = missing_inputs(repo, asked or DvcCommand())
    problems: list[MllamError] = list(found)
    if problems and asked is not None:
        raise Problems(problems=problems)
    for problem in problems:
        warn(f"note: {problem}")


def _ignore_outputs(repo: Repository) -> None:
    """Let git ignore what DVC's cache will hold, as DVC itself does when a stage has run.

    DVC (3.67) takes its lines away again where a later stage fails, and writes none for
    a stage that it skips: the next `git add --all` would take the outputs into git. A
    line that is there before it starts, it leaves.
    """
    pipeline = Pipeline(repo, versions=dict)
    become = ignored.after(repo.root, pipeline.made_for_cache())
    ignored.write(repo.root, become)
    repo.have_staged(become)


def mllam_version(workspace: Workspace, machine: Machine) -> None:
    """Write ``version.mllam.txt``."""
    text, notes = current_versions(workspace, machine, not_saved=standing.not_saved)
    for note in notes:
        warn(f"note: {note}")
    (workspace.root / VERSIONS_FILE).write_text(text, encoding="utf-8")


def _run_in_store(
    stage: str, workspace: Workspace, machine: Machine, *, force: bool, take_over: bool
) -> None:
    from mllam_exps import stages
    from mllam_exps.attempts.driver import Driver

    pipeline, store = open_pipeline(workspace, machine)
    entry = pipeline.stage(stage)
    other = other_stages_here(workspace.root)
    if other and not Path(entry.wdir).resolve().is_relative_to(other):
        refuse_other_stages(workspace.root)
    if not entry.is_ours:
        what = (
            f"stage {stage} has a command of its own: DVC runs it, or a submitted job"
        )
        quoted = shlex.quote(stage)
        way_out = f"dvc repro {quoted}, or mllam-exps submit {quoted}"
        raise UsageError(what, "dvc.yaml", next=way_out)
    program = stages.get(stage)
    checks.check_versions_file(workspace.root, pipeline.versions(), stage)
    definition = pipeline.definition(stage)
    run = store.run(definition.key)
    if force:
        if names := standing.names_of_waiting(run):
            why = f"experiments at work need what it made: {', '.join(names)}"
            way_out = f"wait, or mllam-exps cancel {names[0]}"
            raise UsageError("cannot be made again now", "--force", why, way_out)
        run.set_aside()
    if run.result is None:
        inputs = definition.inputs
        notes = checks.check_sources(workspace, machine, program, inputs)
        if program.goes_on is not None:
            places = workspace.origin, workspace.root
            known = parents.Trainings(store)
            notes += parents.hint(known, definition, program.goes_on, *places)
        for note in notes:
            warn(f"note: {note}")
    backlog.go_on(store)
    driver = Driver(
        workspace,
        machine,
        pipeline,
        store,
        take_over=take_over,
        wanted_by=standing.names_of_waiting,
    )
    driver.drive(stage)
