"""``mllam-exps machine``: what would be used, and from where each value comes."""

from __future__ import annotations

import json
import os
import socket

from mllam_exps import machine_show, machines
from mllam_exps.machines import Machine
from mllam_exps.workspace import Workspace


def _used() -> tuple[Workspace, Machine]:
    workspace = Workspace.here()
    return workspace, machines.pick(workspace.origin, os.environ, socket.gethostname())


def show(name: str | None, *, as_json: bool) -> None:
    """Print one machine, by default the one that would be used here."""
    machine = _used()[1] if name is None else machines.load(Workspace.here().origin, name, os.environ)
    if as_json:
        print(json.dumps(machine_show.as_dict(machine), indent=1))
        return
    from rich.console import Console

    Console().print(machine_show.as_table(machine))


def show_all() -> None:
    """Print the names of the machines of this repository, the one that would be used marked as git marks a branch."""
    workspace, used = _used()
    for name in machines.names(workspace.origin):
        print(f"{'*' if name == used.name else ' '} {name}")
