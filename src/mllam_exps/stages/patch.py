"""What a patch is: a change, at run time, of a program that other people write.

Each has a file of its own, with what it is for, the versions that it was tried with, the
text of the issue for those who can make it unnecessary, and when it can go. On a version
that it was not tried with we look for the spot that it changes, and say aloud where that
is not there: a patch that no longer fits is left out, or the program is not started if
its results would be wrong without it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from mllam_exps.base.errors import MllamError

_BUILD = re.compile(r"\+(cpu|cu\d+|rocm[\d.]*)$")


@dataclass(frozen=True)
class Issue:
    """An issue for the people who write the program, ready to be filed."""

    repository: str
    title: str
    body: str


@dataclass(frozen=True)
class Patch:
    """One change of a program.

    Parameters
    ----------
    name : str
        As its module.
    purpose : str
        What it is for, in a sentence.
    tried : mapping
        The versions that it was tried with, by program.
    spots : mapping
        What it changes or relies on, ``module:Class.attribute``, and a piece of that
        one's source which is there as long as the patch is needed; empty for any.
    until : str
        When it can go.
    issue : Issue
        For those who write the program.
    needed : bool
        Whether results would be wrong, or not safe, without it.
    """

    name: str
    purpose: str
    tried: Mapping[str, tuple[str, ...]]
    spots: Mapping[str, str]
    until: str
    issue: Issue
    needed: bool = False

    def fits(self) -> bool:
        """Tell whether it can be applied, and say so if it cannot.

        Raises
        ------
        MllamError
            If it cannot, and is needed.
        """
        untried = self.untried()
        missing = self.missing() if untried else ""
        if not missing:
            return True
        what = f"the patch {self.name} does not fit {', '.join(untried)}: {missing}"
        why = f"it is there so that {self.purpose}"
        if self.needed:
            tried = [f"{name} {version[-1]}" for name, version in self.tried.items()]
            raise MllamError(what, why=why, next=f"install {', '.join(tried)}")
        print(f"warning: {what}; left out ({why})", flush=True)
        return False

    def untried(self) -> list[str]:
        """Return the programs, with their versions, that it was not tried with; one that is not installed is such."""
        found = {name: _version(name) for name in self.tried}
        return [
            f"{name} {version}"
            for name, version in found.items()
            if version not in self.tried[name]
        ]

    def missing(self) -> str:
        """Return what is not there of what it changes; empty if all is."""
        for spot, text in self.spots.items():
            try:
                found = _find(spot)
            except (ImportError, AttributeError):
                return f"there is no {spot}"
            if text and text not in inspect.getsource(found):
                return f"{spot} has no `{text}`"
        return ""


def _version(name: str) -> str:
    """Return the installed version of a program, whatever build of it; a checkout's own stays another one."""
    try:
        return _BUILD.sub("", metadata.version(name))
    except metadata.PackageNotFoundError:
        return "absent"


def _find(spot: str) -> Any:
    """Return the object that ``module:Class.attribute`` names, and of a property its function."""
    module, _, path = spot.partition(":")
    found: Any = importlib.import_module(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    if isinstance(found, functools.cached_property):
        return found.func
    return found.fget if isinstance(found, property) else found
