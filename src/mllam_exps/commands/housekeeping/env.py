"""``mllam-exps env``: every package that numbers were made with; compared, and had again."""

from __future__ import annotations

import json
from pathlib import Path

from mllam_exps.base import terminal
from mllam_exps.base.errors import MllamError
from mllam_exps.base.terminal import say, warn
from mllam_exps.environments import comparing, finding, making
from mllam_exps.environments.comparing import Difference
from mllam_exps.stages.packages import FACTS, Environment
from mllam_exps.views.context import Context
from mllam_exps.views.histories import Histories

HERE = "here"


def record(name: str, *, as_json: bool) -> None:
    """Print the environment of an experiment; without a name, that in which stages run here."""
    found = _of(name)
    if as_json:
        print(json.dumps(found.to_record(), indent=1))
        return
    for what in FACTS:
        if value := getattr(found, what):
            say(f"{what:9} {value}")
    for package in found.packages:
        say(f"{package.name} {comparing.told(package)}")


def compare(first: str, second: str, *, as_json: bool) -> None:
    """Print how the environment of an experiment differs from that of another one, or from the one here.

    Raises
    ------
    MllamError
        With exit code 1, if they differ.
    """
    found = [*comparing.differences(_of(first), _of(second))]
    if as_json:
        told = [{"what": d.what, "first": d.first, "second": d.second} for d in found]
        print(json.dumps(told, indent=1))
    elif found:
        _print(found, first, second or HERE)
    if found:
        raise MllamError(f"{len(found)} things differ")
    if not as_json:
        say(f"{first} had the same packages as {second or 'stages have here'}")


def sync(name: str, folder: Path) -> None:
    """Make a virtual environment that is the same as an experiment's.

    Raises
    ------
    MllamError
        With exit code 1, if something of it cannot be had.
    """
    wanted = _of(name)
    place = folder.resolve()
    lacking = making.make(wanted, place, say)
    for line in lacking:
        warn(f"note: cannot be had: {line}")
    python = str(place / "bin/python")
    found = [*comparing.differences(wanted, finding.ask([python]))]
    if found:
        _print(found, name, folder.name)
        raise MllamError(f"{len(found)} things differ")
    say(f"{folder}: the same as that of {name}")
    say(f"`venv: {place}` in a machine file has stages run with it")


def _of(name: str) -> Environment:
    if name:
        return finding.of_runs(name, Histories().runs_of(name))
    here = Context.open()
    return finding.of_machine(here.machine, here.workspace.origin)


def _print(found: list[Difference], first: str, second: str) -> None:
    from rich.table import Table

    table = Table("what", first, second, box=None, pad_edge=False)
    for one in found:
        table.add_row(*map(terminal.plain, (one.what, one.first, one.second)))
    terminal.console().print(table)
