"""Inputs that are not what they seem: a pointer in the place of a file, and files that DVC does not count."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from mllam_exps.base.errors import UsageError, some_of
from mllam_exps.base.git import run_git, shown

_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LARGEST_POINTER = 1024
"""How a pointer of git-lfs begins, and how many bytes it has at most (git-lfs 3.3, docs/spec.md)."""


def refuse_pointers(root: Path, path: str, files: Iterable[str]) -> None:
    """Refuse an input of which git-lfs has not brought the content: it would be the experiment's, and no clone's.

    Parameters
    ----------
    files : iterable of str
        The real paths of its files.

    Raises
    ------
    UsageError
        Naming the file.
    """
    for file in sorted(files):
        place = Path(file)
        if place.stat().st_size > _LARGEST_POINTER:
            continue
        with place.open("rb") as opened:
            is_pointer = opened.read(len(_POINTER)) == _POINTER
        if is_pointer:
            inside = os.path.relpath(file, os.path.realpath(root / path))
            name = path if inside == "." else f"{path}/{inside}"
            what = f"{name} is a pointer of git-lfs, and not the file itself"
            why = "its content is not here, and a clone of the experiment would have it"
            way_out = "git lfs install --local; git lfs pull"
            raise UsageError(what, "dvc.yaml", why, way_out)


def overlooked(root: Path, path: str, counted: Collection[str]) -> list[str]:
    """Say which files of a folder git keeps and DVC does not count: programs may read them all the same.

    Parameters
    ----------
    root, path : Path, str
        A clone, and an input.
    counted : collection of str
        The real paths of the files that DVC counts.

    Returns
    -------
    list of str
        One note, or none.
    """
    if not (root / path).is_dir():
        return []
    listed = run_git(root, "ls-files", "-z", "--", f":(literal){path}").stdout
    found = []
    for file in filter(None, listed.split("\0")):
        place = root / file
        # What DVC needs for itself no program reads.
        is_dvc_s = ".dvc" in Path(file).parts or place.name == ".dvcignore"
        if place.is_file() and not is_dvc_s and os.path.realpath(place) not in counted:
            found.append(shown(file))
    if not found:
        return []
    why = "named by .dvcignore, or in a DVC repository of its own"
    what = f"DVC does not count {some_of(found)} in the input {path}"
    return [f"{what}: {why}. Editing it would not run a stage again"]
