"""Finds the files by which DVC knows a repository, where they are links, and a copy of it has not what they lead to."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterator
from pathlib import Path

from mllam_exps.base import symlinks
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.base.git import git
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.machines import workspace

STAGES = "dvc.yaml"
READ_BY_DVC = (STAGES, "dvc.lock", "*.dvc", ".dvcignore")
"""The names of files that DVC (3.67) reads wherever they lie; without one of them it sees another repository."""
SETTINGS = ".dvc/config"
_LINK = "120000"
"""How git (2.39) calls a link in its index."""


def refuse(clone: Path, origin: Path, said: str = "") -> None:
    """Refuse links that lead somewhere in a repository, and nowhere in its clone, where DVC reads what they lead to.

    `dvc exp run --temp` (3.67) calls such a file "not a .dvc file", and takes the
    settings in one for none. Stages that lie elsewhere are refused in any case: DVC
    commits the link alone, and no experiment holds what it has run.

    Parameters
    ----------
    clone, origin : Path
        The clone, and the repository, seen from the same folder.
    said : str
        What DVC said when it could not read the clone: what is named there is refused,
        too.

    Raises
    ------
    Problems
        Naming each link, and what to type.
    """
    problems: list[MllamError] = []
    if (led := symlinks.led_out(clone, origin, STAGES)) and (clone / STAGES).exists():
        why = "an experiment would not hold its stages, and could not be saved once they are changed there"
        problems.append(UsageError(led.sentence, STAGES, why, _copied(STAGES, origin)))
    for path in _lost(clone, origin):
        if _is_read_by_dvc(path) or path in said:
            problems.append(_sentence(path, origin))
    if problems:
        raise Problems(problems=problems)


def refuse_folder(clone: Repository, stage: StageEntry, origin: Path) -> None:
    """Refuse a stage that runs behind a link which git does not track: its clone has an empty folder there.

    Parameters
    ----------
    clone : Repository
        All that lies in it is tracked.
    origin : Path
        The user's repository.

    Raises
    ------
    UsageError
        Naming the link, and what to write.
    """
    folder = clone.relative(stage.wdir)
    if Path(folder).is_absolute():  # in a part of git's repository that is not DVC's
        return
    led = symlinks.led(origin, folder)
    if led is None or symlinks.led(clone.root, folder):
        return
    what = f"runs in {folder}, and {led.link} is a link that git does not track"
    why = "its job works in a copy of what git tracks, and would run in an empty folder"
    way_out = f"write {shlex.quote(led.end)} in wdir instead"
    if led.outside:
        way_out = "name a folder of the repository in wdir"
    raise UsageError(what, f"dvc.yaml: {stage.name}", why, way_out)


def _lost(clone: Path, origin: Path) -> Iterator[str]:
    """Yield the links that git tracks, and that lead nowhere in the clone alone."""
    for entry in git(clone, "ls-files", "--stage", "-z").split("\0"):
        mode, _, path = entry.partition("\t")
        if not mode.startswith(_LINK):
            continue
        if not (clone / path).exists() and (origin / path).exists():
            yield path


def _is_read_by_dvc(path: str) -> bool:
    name = Path(path).name
    return path == SETTINGS or any(fnmatch.fnmatch(name, one) for one in READ_BY_DVC)


def _sentence(path: str, origin: Path) -> UsageError:
    real, root = (origin / path).resolve(), origin.resolve()
    if real.is_relative_to(root):
        end = real.relative_to(root).as_posix()
        what = f"is a link to {end}, which git does not track"
        way_out = f"git add --force {workspace.typed(origin, end)}"
    else:
        what = "is a link that leads out of the repository by a relative path"
        way_out = _copied(path, origin)
    why = "what is submitted runs in another folder, where DVC reads nothing behind it"
    return UsageError(what, path, why, way_out)


def _copied(path: str, origin: Path) -> str:
    """Return the command that puts in the place of a link what it leads to."""
    real = shlex.quote(str((origin / path).resolve()))
    return f"cp --remove-destination {real} {workspace.typed(origin, path)}"
