"""Makes a share: the folders of a team, with the rights that they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import git
from mllam_exps.base.ownership import PRIVATE, user_name
from mllam_exps.sharing import share
from mllam_exps.sharing.inspection import findings
from mllam_exps.sharing.share import Share

NOT_ITS_OWN = 0o2750
"""Of the folder of hooks: git runs them as whoever pushes."""


@dataclass(frozen=True)
class Step:
    """One thing that is to be done.

    Parameters
    ----------
    what : str
        For people.
    do : callable
        Does it.
    """

    what: str
    do: Callable[[], None]


def steps(place: Path, group: int, branch: str = "main") -> list[Step]:
    """Return what is still to be done until a folder is a group's share; nothing where it is one.

    Parameters
    ----------
    branch : str
        What a clone of it checks out, once that was pushed.

    Raises
    ------
    UsageError
        If it may not become one.
    """
    made = Share(place)
    refuse(place, group)
    return list(_steps(made, group, branch))


def refuse(place: Path, group: int) -> None:
    """Refuse a place that may not become a share of a group.

    Raises
    ------
    UsageError
        Naming it, and why.
    """
    if not place.exists():
        above = place.parent
        if not above.is_dir():
            raise UsageError(
                "there is no such folder", str(above), next=f"mkdir -p {above}"
            )
        if not os.access(above, os.W_OK):
            raise UsageError("is not yours to write to", str(above))
        return
    if not place.is_dir():
        raise UsageError("is no folder", str(place))
    found = place.stat()
    if os.geteuid() not in {0, found.st_uid}:
        owner = user_name(found.st_uid)
        way_out = f"mllam-exps share join {place}, or ask {owner}"
        raise UsageError(f"belongs to {owner}", str(place), next=way_out)
    if Share(place).is_there:
        if found.st_gid != group:
            has = share.group_name(found.st_gid)
            way_out = f"mllam-exps share init {place} --group {has}"
            raise UsageError(
                f"is a share of the group {has} already", str(place), next=way_out
            )
    elif any(place.iterdir()) and not share.is_repository(place):
        why = "neither an empty folder, nor a bare git repository"
        raise UsageError("cannot become a share", str(place), why)


def _steps(made: Share, group: int, branch: str) -> Iterator[Step]:
    place = made.directory
    if not place.exists():
        yield Step(f"make {place}", partial(place.mkdir, PRIVATE))
    if not place.exists() or not share.is_repository(place):
        what = "make it a bare git repository, for `dvc exp push` and `pull`"
        yield Step(what, lambda: _make_repository(place, branch))
    for folder in made.folders:
        if not folder.is_dir():
            what = f"make {folder.relative_to(place)}/"
            yield Step(what, partial(folder.mkdir, parents=True))
    if not _is_whole(made, group):
        what = f"give it to the group {share.group_name(group)}, and close it to others"
        yield Step(what, lambda: _hand_over(made, group))


def _is_whole(made: Share, group: int) -> bool:
    if not made.is_there or not all(folder.is_dir() for folder in made.folders):
        return False
    return made.group == group and not any(findings(made))


def _make_repository(place: Path, branch: str) -> None:
    # Without a template: no hook of anybody's comes along.
    git(place, "init", "--bare", "-b", branch, "--template=", "--shared=0660")
    (place / "hooks").mkdir(NOT_ITS_OWN)


def _hand_over(made: Share, group: int) -> None:
    """Give everything the rights that it must have: first the top, so that nobody comes in before."""
    shutil.chown(made.directory, group=group)
    made.directory.chmod(share.TOP)
    for finding in findings(made):
        finding.mend()
