"""Inputs that lie in the repository and not in its clone: why, and what to type so that experiments have them."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from mllam_exps.base import symlinks
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc.stages.sources import refuse_of_another_repository
from mllam_exps.machines import workspace
from mllam_exps.machines.way_in import way_in

_ABSENT = re.compile(r"'([^']+)' does not exist")
"""How DVC (3.67) says that a file of `vars` is not there: its path, as seen from the current directory."""
_VALUES = "params.yaml"
"""What DVC (3.67) fills ``dvc.yaml`` in from, without a word where it is not there."""
_WHY = "what is submitted is what git tracks, as with `dvc exp run --queue`"


def refuse_dangling(clone: Path, path: str, origin: Path) -> None:
    """Refuse a parameter file that is a link, and leads somewhere in a repository, and nowhere in its clone.

    Raises
    ------
    UsageError
        With what to type.
    """
    if (clone / path).is_symlink():
        refuse_absent(clone, path, origin)


def refuse_absent(clone: Path, path: str, origin: Path) -> None:
    """Refuse a parameter file that is there in a repository, and not in its clone.

    Raises
    ------
    UsageError
        With what to type.
    """
    if not (clone / path).exists() and (origin / path).exists():
        raise refusal(clone, path, origin, is_parameters=True)


def refuse_unreadable(clone: Path, origin: Path, error: MllamError) -> None:
    """Refuse stages that DVC reads in a repository, and cannot read in its clone.

    Raises
    ------
    Problems
        With each file of values for the ``${…}`` in ``dvc.yaml`` that only the
        repository has; or with what DVC said, and what to look at.
    """
    problems: list[MllamError] = []
    for named in [*_ABSENT.findall(str(error)), clone / _VALUES]:
        path = os.path.relpath(os.path.realpath(named), os.path.realpath(clone))
        try:
            refuse_absent(clone, path, origin)
        except UsageError as problem:
            problems.append(problem)
    if not problems:
        what = error.what.replace(f"{os.path.relpath(clone)}/", "")
        why = "DVC can read the repository as it lies here, and not what git tracks"
        problems = [UsageError(what, why=why, next="git status --ignored")]
    raise Problems(problems=problems)


def refusal(
    clone: Path, path: str, origin: Path, *, is_parameters: bool = False
) -> UsageError:
    """Say why what is there is not in what git would submit.

    Parameters
    ----------
    clone, origin : Path
        The clone, and the user's repository.
    path : str
        An input, seen from either.
    is_parameters : bool
        Whether it is a file that DVC reads parameters from.

    Raises
    ------
    UsageError
        If it belongs to a DVC repository inside.
    """
    refuse_of_another_repository(origin, path)
    led, where = symlinks.led(origin, path), "" if is_parameters else "dvc.yaml"
    told = f"the parameter file {path}" if is_parameters else f"the input {path}"
    taken_in = way_in(origin, path, by_git_alone=is_parameters)
    if led and not led.outside and not os.path.lexists(clone / led.end):
        leads_to = f"{led.end}, which git does not track"
        what = f"{told} lies behind a link, {led.link}: it is {leads_to}"
        if led.is_link:
            what = f"{told} is a link to {leads_to}"
        way_out = f"name {led.end} in deps, instead of the link"
        return UsageError(what, where, next=taken_in if is_parameters else way_out)
    if led and (link := _leads_out(origin, path)):
        leads = "a link that leads out of the repository by a relative path"
        what = f"{told} is {leads}"
        if link != path:
            what = f"{told} lies behind {link}, {leads}"
        why = "what is submitted runs in another folder, where it leads nowhere"
        end = shlex.quote(os.path.realpath(origin / link))
        way_out = f"ln -sfn {end} {workspace.typed(origin, link)}"
        if not os.path.lexists(clone / link):
            way_out += f"; {way_in(origin, link)}"
        return UsageError(what, where, why, way_out)
    what = f"{told} is not tracked"
    if led and not os.path.lexists(clone / led.link):
        what = f"{told} lies behind {led.link}, a link that git does not track"
        if led.is_link:
            what = f"{told} is a link that git does not track"
    return UsageError(what, where, _WHY, taken_in)


def _leads_out(origin: Path, path: str) -> str:
    """Return the link on the way that leaves the repository by a relative path; empty where none does."""
    root = Path(os.path.realpath(origin))
    top = symlinks.top_of(root)
    for at in symlinks.chain(root / path):
        if not (at.is_symlink() and at.is_relative_to(top)):
            continue
        target = at.readlink()
        end = Path(os.path.normpath(at.parent / target))
        if not target.is_absolute() and not end.is_relative_to(top):
            return os.path.relpath(at, root)
    return ""
