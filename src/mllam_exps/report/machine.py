"""``mllam-exps machine``: what would be used, and from where each value comes."""

from __future__ import annotations

import json
import os

from mllam_exps import machine_show, machines
from mllam_exps.report.here import Here
from mllam_exps.workspace import Workspace


def show(name: str | None, *, as_json: bool) -> None:
    """Print one machine, by default the one that would be used here."""
    # A named machine is shown even where the one that would be picked here has a broken file.
    machine = Here.open().machine if name is None else machines.load(Workspace.here().origin, name, os.environ)
    if as_json:
        print(json.dumps(machine_show.as_dict(machine), indent=1))
        return
    from rich.console import Console

    Console().print(machine_show.as_table(machine))


def show_all() -> None:
    """Print the names of the machines of this repository, the one that would be used marked as git marks a branch."""
    here = Here.open()
    for name in machines.names(here.workspace.origin):
        print(f"{'*' if name == here.machine.name else ' '} {name}")
