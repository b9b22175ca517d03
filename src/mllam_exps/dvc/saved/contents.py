"""What the files hold that git keeps in a commit: their digests, as they would be in ``dvc.lock``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mllam_exps.base.git import ask_git, git_bytes, run_git
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.dvc.stages.sources import without_memory
from mllam_exps.identity.content import digest_of_folder

_ATTRIBUTES = ("filter", "text", "eol", "ident", "working-tree-encoding")
_known: dict[tuple[Path, str], str] = {}
"""Digests as git keeps files and folders, by repository and git's own hash: experiments have most of them in common."""


def digest_in(repo: Repository, commit: Commit, path: str, expected: str) -> str | None:
    """Return the digest of a file or folder of a commit; None where git does not keep all of it.

    Parameters
    ----------
    repo : Repository
        The repository at this commit (`Repository.at`).
    path : str
        As it is seen from there.
    expected : str
        What it may be. Filters and line ends let a checkout hold something else than
        git keeps: these are asked only where that is not it.
    """
    name = path.removeprefix("/")
    modes = [mode for file, mode in commit.files.items() if _is_below(file, name)]
    # A link's target, and a submodule, hold what this commit does not say.
    if not modes or not all(mode.startswith("100") for mode in modes):
        return None
    files = list(_counted(repo, path))
    if not files:
        return None
    key = (
        commit.origin,
        ask_git(commit.origin, "rev-parse", f"{commit.revision}:{name}"),
    )
    if key not in _known:
        _known[key] = _digest(repo, path)
    if _known[key] == expected:
        return expected
    converted = _converted(commit, files)
    if converted and _checked_out(repo, commit, path, files, converted) == expected:
        return expected
    return _known[key]


def _is_below(file: str, name: str) -> bool:
    return file == name or file.startswith(f"{name}/")


def _counted(repo: Repository, path: str) -> Iterator[str]:
    """Yield a file, or the files of a folder that DVC counts."""
    dvc = repo.opened
    if not dvc.fs.isdir(path):
        if not dvc.dvcignore.is_ignored_file(path):
            yield path
        return
    yield from dvc.dvcignore.find(dvc.fs, path)


def _digest(repo: Repository, path: str) -> str:
    """Return what DVC hashes it to, as git keeps it."""
    from dvc_data.hashfile.build import build

    dvc = repo.opened
    if dvc.fs.isfile(path):
        with dvc.fs.open(path, "rb") as file:
            return _md5(file.read())
    odb = without_memory(dvc.cache.local.path)
    _, _, found = build(odb, path, dvc.fs, "md5", ignore=dvc.dvcignore, dry_run=True)
    return str(found.hash_info.value)


def _converted(commit: Commit, files: list[str]) -> set[str]:
    """Return the files that git converts when it checks them out: line ends, a filter's work."""
    if ask_git(commit.origin, "config", "--type=bool", "core.autocrlf") == "true":
        return {*files}
    top = Path(ask_git(commit.origin, "rev-parse", "--show-toplevel"))
    names = "".join(f"{file.removeprefix('/')}\0" for file in files)
    told = run_git(top, "check-attr", "-z", "--stdin", *_ATTRIBUTES, input=names)
    # Path, attribute, value (git 2.39), each three for one attribute of one file.
    fields = told.stdout.split("\0")[:-1]
    found = set()
    for name, value in zip(fields[::3], fields[2::3], strict=False):
        if value not in {"unspecified", "unset"}:
            found.add(f"/{name}")
    return found


def _checked_out(
    repo: Repository, commit: Commit, path: str, files: list[str], converted: set[str]
) -> str:
    """Return its digest as git would check it out."""
    listed = []
    for file in files:
        told = f"{commit.revision}:{file.removeprefix('/')}"
        digest = _digest(repo, file)
        if file in converted:
            content = git_bytes(commit.origin, "cat-file", "--filters", told) or b""
            digest = _md5(content)
        if file == path:
            return digest
        listed.append(
            {"md5": digest, "relpath": Path(file).relative_to(path).as_posix()}
        )
    return digest_of_folder(listed)[0]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
