"""What the inputs hold that lie in a checkout: their digests, as DVC writes them into ``dvc.lock``.

DVC's own objects are no help there: they take the name of the hash from ``dvc.lock``
(3.67), so that the same file has one digest where an entry of DVC 2 stands there, and
another one where none does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base import special_files, yaml_files
from mllam_exps.base.errors import UsageError, nearest
from mllam_exps.base.git import ask_git, is_ignored
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.content import is_utf8

READ_EACH_TIME = 32 * 2**20
"""Bytes up to which files are read each time. DVC remembers hashes by inode, size and time; of a file that is written
twice within one tick of the file system's clock (4 ms) all three can be the same."""


@dataclass(frozen=True)
class Content:
    """What an input holds.

    Parameters
    ----------
    digest : str
        MD5, with ``.dir`` behind a folder's.
    size : int
        Bytes of all its files.
    files : int or None
        How many, if it is a folder.
    isexec : bool
        Whether it is a file that its owner may execute.
    depends_on : frozenset of str
        The real paths of its files: links are followed.
    """

    digest: str
    size: int
    files: int | None
    isexec: bool = False
    depends_on: frozenset[str] = frozenset()

    def to_record(self) -> dict[str, Any]:
        """Return the JSON-able record of it, as those of outputs are."""
        record = {"digest": self.digest, "size": self.size, "files": self.files}
        return record | {"isexec": True} if self.isexec else record


def content_of(repository: Repository, path: Path) -> Content:
    """Return what a file or folder of a checkout holds, as DVC counts it: less what ``.dvcignore`` names.

    Raises
    ------
    MllamError
        If it is missing.
    UsageError
        If it is a folder with a link to a folder in it, which programs follow and DVC
        (3.67) does not; if the name of a file in it is not UTF-8: whatever DVC is to do
        with such a folder ends in that.
    """
    from dvc_data.hashfile.build import build

    repo, name = repository.opened, repository.relative(path)
    if not path.exists():
        raise missing(repository, path)
    if repo.dvcignore.is_ignored(repo.fs, str(path)):
        refuse_of_another_repository(repository.root, name)
        raise UsageError(
            f"the input {name} is left out by .dvcignore",
            "dvc.yaml",
            next=f"dvc check-ignore -d {name}",
        )
    files = list(files_of(repository, path))
    if not is_utf8("".join(files)):
        what, find = (
            f"a name in the input {name} is not UTF-8, which DVC needs",
            f"find {shlex.quote(name)}",
        )
        raise UsageError(
            what, "dvc.yaml", next=f"{find} | grep -axv '.*' names it: rename it"
        )
    sizes = 0
    for file in files:
        status = os.stat(file)  # noqa: PTH116 - of ten thousand files
        sizes += status.st_size
        if kind := special_files.kind_of(status):
            what = f"is a {kind}, and no file, in the input {name}"
            way_out = "put a file in its place, or name it in .dvcignore"
            raise UsageError(what, repository.relative(file), next=way_out)
    odb = (
        without_memory(repo.cache.local.path)
        if sizes <= READ_EACH_TIME
        else repo.cache.local
    )
    _, meta, obj = build(
        odb, str(path), repo.fs, "md5", ignore=repo.dvcignore, dry_run=True
    )
    real = frozenset(os.path.realpath(file) for file in files)
    return Content(
        str(obj.hash_info.value),
        int(meta.size or 0),
        meta.nfiles,
        bool(meta.isexec),
        real,
    )


def refuse_of_another_repository(root: Path, name: str) -> None:
    """Refuse an input that is, or lies in, a DVC repository inside: DVC (3.67) counts nothing of that.

    Raises
    ------
    UsageError
        Naming that repository.
    """
    for folder in (Path(name), *Path(name).parents):
        # The repository itself has no name, seen from there.
        if folder.name and (root / folder / ".dvc").is_dir():
            what = f"the input {name} belongs to {folder}, a DVC repository of its own"
            why = "DVC leaves out what belongs to another one"
            way_out = f"name a copy outside of {folder} in deps, or dvc exp run"
            raise UsageError(what, "dvc.yaml", why, way_out)


def missing(repository: Repository, path: str | Path) -> UsageError:
    """Return what to say of an input that is not there."""
    name = repository.relative(path)
    what, way_out = f"the input {name} is missing", _way_out(Path(path), name)
    return UsageError(what, where="dvc.yaml", next=way_out)


def _way_out(path: Path, name: str) -> str:
    """Say what helps where an input is missing."""
    if Path(f"{path}.dvc").is_file():
        file = shlex.quote(f"{name}.dvc")
        if was_never_here(path):
            return f"dvc update {file}"
        return f"dvc checkout {file}, or dvc pull"
    root = path.parents[len(Path(name).parts) - 1]
    if ask_git(root, "ls-tree", "HEAD", "--", name):
        return f"git restore {shlex.quote(name)}"
    names = (
        [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
    )
    if near := nearest(path.name, names):
        return f"did you mean {Path(name).with_name(near)}? correct it in dvc.yaml, or put {name} there"
    force = " --force" if is_ignored(root, name) else ""
    taken_in = f"git add{force} {shlex.quote(name)}"
    return f"put it there and {taken_in}, or correct its name in dvc.yaml"


def was_never_here(path: Path) -> bool:
    """Tell whether an input was imported without its content: `dvc import-url --no-download` (3.67) notes no hash."""
    with contextlib.suppress(UsageError):
        told = yaml_files.read(Path(f"{path}.dvc"))
        outs = told.get("outs")
        return isinstance(outs, list) and not any("md5" in out for out in outs)
    return False


def files_of(repository: Repository, path: Path) -> Iterator[str]:
    """Yield a file, or all files of a folder that DVC counts.

    Raises
    ------
    UsageError
        If it is a folder with a link to a folder in it, or with a ``.dvcignore``.
    """
    from dvc.ignore import DvcIgnore

    if not path.is_dir():
        yield str(path)
        return
    # As the user knows it: a clone lies where nobody looks.
    repo, where = repository.opened, repository.relative(path)
    for folder, folders, files in repo.dvcignore.walk(repo.fs, str(path)):
        for inside in folders:
            if os.path.islink(os.path.join(folder, inside)):  # noqa: PTH114, PTH118
                link = (Path(folder) / inside).relative_to(path).as_posix()
                what = f"contains {link}, a link to a folder, and DVC does not count what that holds"
                raise UsageError(
                    what,
                    where,
                    next="name that folder as an input, too, and remove the link",
                )
        if DvcIgnore.DVCIGNORE_FILE in files:
            inside = (
                (Path(folder) / DvcIgnore.DVCIGNORE_FILE).relative_to(path).as_posix()
            )
            why = "DVC (3.67) hashes no folder that has one in it"
            way_out = "move its lines into the .dvcignore beside dvc.yaml, with the folder before each"
            raise UsageError(f"contains {inside}", where, why, way_out)
        for file in files:
            yield os.path.join(folder, file)  # noqa: PTH118


@functools.lru_cache(maxsize=4)
def without_memory(place: str) -> Any:
    """Return DVC's object for a cache, without the memory of hashes."""
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import localfs

    return HashFileDB(localfs, place)
