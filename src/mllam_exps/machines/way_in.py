"""What to type so that an experiment has a file: what is submitted is what git tracks."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mllam_exps.base import symlinks
from mllam_exps.base.git import is_ignored, is_tracked
from mllam_exps.machines import workspace


def way_in(root: Path, path: str, *, by_git_alone: bool = False) -> str:
    """Return what to type, in the current directory, so that git, or DVC, takes in a file or folder that lies here.

    Parameters
    ----------
    root : Path
        The user's repository.
    path : str
        The file or folder, seen from there: links that lead out of the repository may
        lie on it.
    by_git_alone : bool
        Whether DVC's cache is no place for it: DVC reads it before it gets anything
        from there.
    """
    root = Path(os.path.realpath(root))
    if added := _added_with(root, path):
        return _of_added(root, path, added, by_git_alone=by_git_alone)
    to_add = _untracked(root, path) or [path]
    if (repository := _embedded(root, to_add[-1])) is not None:
        return _into_embedded(root, repository, to_add[-1])
    by_git = git_add(root, *to_add)
    if by_git_alone or not _may_be_added(root, path):
        return by_git
    by_dvc = f"dvc add {_typed(root, path)}; {git_add(root, f'{path}.dvc')}"
    if _is_empty(root / path):
        return by_dvc  # of a folder without files git keeps nothing
    # What a site's rules ignore is large, most often.
    ways = [by_dvc, by_git] if is_ignored(root, path) else [by_git, by_dvc]
    return ", or ".join(ways)


def git_add(root: Path, *paths: str) -> str:
    """Return the command by which git takes in files, ignored or not."""
    force = " --force" if any(is_ignored(root, path) for path in paths) else ""
    return f"git add{force} {' '.join(_typed(root, path) for path in paths)}"


def _typed(root: Path, path: str) -> str:
    return workspace.typed(root, path)


def _added_with(root: Path, path: str) -> str:
    """Return what was added with `dvc add`: a path, or a folder that it lies in; empty where neither was."""
    for one in (Path(path), *Path(path).parents):
        if one.name and (root / f"{one}.dvc").is_file():
            return one.as_posix()
    return ""


def _of_added(root: Path, path: str, added: str, *, by_git_alone: bool) -> str:
    """Return what to type where it, or a folder that it lies in, was added with `dvc add`."""
    if by_git_alone and added != path:
        copy = f"copy it out of {added}, which was added with `dvc add`"
        return f"{copy}, and name the copy, once git tracks it"
    if by_git_alone:
        # `dvc remove` (3.67) takes the file's own line out of .gitignore.
        removed = f"dvc remove {_typed(root, f'{added}.dvc')}"
        return f"{removed}; git add {_typed(root, path)}"
    if not is_tracked(root, f"{added}.dvc"):
        return git_add(root, f"{added}.dvc")
    # DVC (3.67) takes in both what its cache has lost and what came into the folder.
    return f"dvc add {_typed(root, added)}"


def _untracked(root: Path, path: str) -> list[str]:
    """Return what git does not track of that by which a path is found: links on the way, and what they lead to."""
    top = symlinks.top_of(root)
    found = []
    for at in symlinks.chain(root / path):
        if at.is_relative_to(top):
            name = os.path.relpath(at, root)
            if not is_tracked(root, name):
                found.append(name)
    return found


def _may_be_added(root: Path, path: str) -> bool:
    """Tell whether `dvc add` takes it: DVC (3.67) takes nothing behind a link, and writes no file that git ignores."""
    return not (symlinks.led(root, path) or is_ignored(root, f"{path}.dvc"))


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(file.is_file() for file in folder.rglob("*"))


def _embedded(root: Path, path: str) -> str | None:
    """Return the folder with a git repository of its own in which a path lies: git (2.39) adds no file of it."""
    top = symlinks.top_of(root)
    for folder in Path(os.path.normpath(root / path)).parents:
        if folder == top:
            return None
        if (folder / ".git").exists():
            return os.path.relpath(folder, root)
    return None


def _into_embedded(root: Path, repository: str, path: str) -> str:
    inside, folder = os.path.relpath(path, repository), _typed(root, repository)
    steps = []
    if not is_tracked(root / repository, inside):
        force = " --force" if is_ignored(root / repository, inside) else ""
        added = f"git -C {folder} add{force} {shlex.quote(inside)}"
        steps.append(f"{added}; git -C {folder} commit")
    if not is_tracked(root, repository):
        steps.append(git_add(root, repository))
    return "; ".join(steps) or git_add(root, path)
