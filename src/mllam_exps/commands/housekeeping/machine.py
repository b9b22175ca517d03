"""``mllam-exps machine``: what would be used, and from where each value comes."""

from __future__ import annotations

import json
import os
import socket
import sys

from mllam_exps import schedulers, stages
from mllam_exps.attempts import job_request
from mllam_exps.base import terminal, yaml_files
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.identity.run_keys import base_name
from mllam_exps.machines import machine_files, machine_show
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.stages.contract import Size
from mllam_exps.views.context import Context


def _machine(name: str | None) -> Machine:
    if name is None:
        return Context.open().machine
    # Even where the one that would be picked here has a broken file.
    return machine_files.load(Workspace.here().origin, name, os.environ)


def show(name: str | None, *, script: str | None, as_json: bool) -> None:
    """Print one machine, by default the one that would be used here; or the script of one stage's job on it."""
    machine = _machine(name)
    if script is not None:
        print(_script(machine, script), end="")
        return
    if as_json:
        print(json.dumps(machine_show.as_dict(machine), indent=1))
        return

    terminal.console().print(machine_show.as_table(machine))
    print(
        "\nmllam-exps machine show --script STAGE prints what would be submitted for a stage"
    )


def _script(machine: Machine, stage: str) -> str:
    workspace = Workspace.here()
    own = yaml_files.read(workspace.root / "dvc.yaml", "dvc.yaml").get("stages") or {}
    known = stages.all_names() | set(own)
    if known.isdisjoint({stage, base_name(stage)}):
        raise UsageError(
            f"no stage {stage!r}", why=f"there are {', '.join(sorted(known))}"
        )
    program = stages.used(workspace.root).get(base_name(stage))
    if stages.has_program(stage) and not {stage, base_name(stage)} & set(own):
        program = stages.get(stage)  # of a machine file that serves other repositories
    size = program.size(workspace.root) if program else Size()
    job = job_request.example(workspace, machine, stage, size)
    return schedulers.get(machine.scheduler, workspace.origin).script(job)


def show_all() -> None:
    """Print the names of the machines of this repository, the one that would be used marked as git marks a branch."""
    root = Workspace.here().origin
    names = machine_files.names(root)
    used = ""
    try:
        # No machine is read in full: who is told to look here may have a broken file,
        # or a wrong name.
        used = machine_files.picked(root, os.environ, socket.gethostname())
    except MllamError as error:
        print(f"note: {error}", file=sys.stderr)
    for name in names:
        print(f"{'*' if name == used else ' '} {name}")
    if used and used not in names:
        print(
            f"note: MLLAM_MACHINE is {used}, which is none of them: unset it, or set another",
            file=sys.stderr,
        )
