"""``mllam-exps doctor``: all that would stop somebody before the first job, a line each."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from itertools import chain

from mllam_exps.base import terminal
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.dvc.repository import Repository
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import Workspace
from mllam_exps.sharing import compute_nodes
from mllam_exps.sharing.health import Sign, State, signs

STYLES = {State.FINE: "green", State.NOTE: "yellow", State.WRONG: "bold red"}


def examine(*, deep: bool, as_json: bool) -> None:
    """Print what was looked at, in a job as well if it is to be `deep`; exit code 2 where something is wrong.

    Raises
    ------
    MllamError
        If anything is.
    """
    workspace = Workspace.here()
    machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
    repository = Repository.open(workspace.origin, check=False)
    found = []
    looks = [signs(workspace, machine, repository)]
    if deep:
        cache = repository.cache_directory
        looks.append(compute_nodes.signs(workspace, machine, cache))
    for sign in chain.from_iterable(looks):
        found.append(sign)
        if not as_json:
            _print(sign)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    wrong = [one for one in found if one.state is State.WRONG]
    if wrong:
        what = f"{len(wrong)} of {len(found)} would stop you"
        raise MllamError(what, next=wrong[0].next, exit=Exit.USAGE)
    if not as_json:
        terminal.say("nothing stops you: mllam-exps check looks at parameters and data")


def _print(sign: Sign) -> None:
    from rich.text import Text

    line = Text(f"{sign.state.value:<6}", STYLES[sign.state])
    line.append(terminal.plain(f"{sign.topic}: {sign.what}"), "")
    console = terminal.console(highlight=False)
    console.print(line, soft_wrap=True)
    if sign.next and sign.state is not State.FINE:
        console.print(f"       → {sign.next}", markup=False, soft_wrap=True)
