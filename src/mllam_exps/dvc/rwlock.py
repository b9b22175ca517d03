"""DVC's own lock of files: whom it names, and whether it is one that nobody will ever release.

DVC (3.67) names processes by their numbers alone. One that died, or works, on another
host counts as living here if some other program has its number: every command is
refused then, for ever. One whose number nobody has is dropped, though it may live there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mllam_exps.base import records
from mllam_exps.base.errors import Problem

FILE = "rwlock"


@dataclass(frozen=True)
class Holder:
    """A process that DVC's lock names.

    Parameters
    ----------
    number : int
        The process's, on the host where it works.
    command : str
        As DVC writes it down.
    """

    number: int
    command: str

    @property
    def is_another_here(self) -> bool:
        """Whether the process of that number on this host is another program."""
        try:
            said = " ".join(psutil.Process(self.number).cmdline())
        except psutil.NoSuchProcess:
            return False  # DVC drops it by itself
        except (psutil.Error, ValueError):
            return False  # a number that no process has
        return not said.endswith(self.command)


def stuck(temporary: Path) -> Problem | None:
    """Return why DVC refuses every command in a workspace; None where it does not.

    Parameters
    ----------
    temporary : Path
        DVC's own folder of the workspace, ``.dvc/tmp``.
    """
    place = temporary / FILE
    way_out = f"rm {place}, once no dvc works in this workspace on any host"
    try:
        held = json.loads(records.read_own_bytes(place))
        holders = dict.fromkeys(_holders(held))
    except OSError:
        return None
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ):
        what = "it is damaged, so that DVC refuses every command"
        return Problem(what, str(place), next=way_out)
    for one in holders:
        if one.is_another_here:
            what = f"it names process {one.number}, `{one.command}`"
            why = "that is another program on this host: it works on another one, or died there"
            return Problem(what, str(place), why, way_out)
    return None


def _holders(held: dict[str, Any]) -> Iterator[Holder]:
    for infos in (*held.get("write", {}).values(), *held.get("read", {}).values()):
        for info in infos if isinstance(infos, list) else [infos]:
            if info:
                yield Holder(int(info["pid"]), str(info["cmd"]))
