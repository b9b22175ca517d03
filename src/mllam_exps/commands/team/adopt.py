"""``mllam-exps adopt STAGE PATH``: a dataset, graph or training that was made by hand, as what a stage makes."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path

from mllam_exps.base.terminal import say
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import Workspace
from mllam_exps.sharing import adopted


def adopt(stage: str, place: Path, *, force: bool) -> None:
    """Take it over, and say what git has to keep with it.

    Raises
    ------
    UsageError
        If it is not there, or the stage's own check does not pass.
    """
    workspace = Workspace.here()
    machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
    found = adopted.adopt(workspace, machine, stage, place, force=force)
    say(f"{found.line}\n{adopted.FILE} says so wherever these hashes are")
    kept = shlex.join([adopted.FILE, "dvc.lock", VERSIONS_FILE])
    say(f"  → git add {kept}, and git commit: jobs read what git has")
