"""What the files hold that git keeps in a commit: their digests, as they would be in ``dvc.lock``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mllam_exps.base.git import git_bytes
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.dvc.sources import without_memory
from mllam_exps.identity.content import digest_of_folder


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
    found = _digest(repo, path)
    if found != expected and _filtered(commit, path, files) == expected:
        return expected
    return found


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


def _filtered(commit: Commit, path: str, files: list[str]) -> str:
    """Return its digest as git would check it out."""
    listed = []
    for file in files:
        told = f"{commit.revision}:{file.removeprefix('/')}"
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
