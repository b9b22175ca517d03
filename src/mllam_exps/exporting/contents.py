"""What an export holds: the files of an experiment's commit, and of its data what is not too large."""

from __future__ import annotations

import io
import shlex
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.git import git_bytes
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.commits import Commit


@dataclass(frozen=True)
class Part:
    """An input or output of the experiment.

    Parameters
    ----------
    path : str
        As ``dvc.yaml`` names it.
    digest : str
        Its hash, as DVC works it out.
    is_output : bool
        Whether a stage made it.
    size : int or None
        Bytes; None where it is not here.
    inside : bool
        Whether the export holds it.
    is_made_each_time : bool
        Whether a stage makes it that always runs.
    """

    path: str
    digest: str
    is_output: bool
    size: int | None
    inside: bool
    is_made_each_time: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.digest.endswith(".dir")


def lay_out_files(commit: Commit, folder: Path) -> tuple[list[str], list[str]]:
    """Write the files that git has of a commit below a folder; return their paths, and those of links, left out.

    Raises
    ------
    MllamError
        If git cannot give them.
    UsageError
        If a name is not UTF-8, as names in a description have to be.
    """
    # Of a DVC repository in a folder of git's, git archive gives that folder's files.
    packed = git_bytes(commit.origin, "archive", "--format=tar", commit.revision)
    if packed is None:
        raise MllamError("git cannot archive this commit", commit.revision)
    written, left = [], []
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if not member.name.isprintable():
                what = "the name of a file is no plain UTF-8: an RO-Crate cannot say it"
                raise UsageError(
                    what, ascii(member.name), next="git mv gives it another"
                )
            # A link may lead out of the export.
            if member.isfile():
                archive.extract(member, folder, filter="data")
                written.append(member.name)
            elif not member.isdir():
                left.append(member.name)
    return sorted(written), left


def lay_out_data(
    name: str, commit: Commit, repository: Repository, folder: Path, largest: float
) -> list[Part]:
    """Copy inputs and outputs from DVC's cache below a folder, but for those that are too large, or not here.

    Parameters
    ----------
    name : str
        The experiment's.
    largest : float
        Bytes of the largest that is copied.

    Raises
    ------
    UsageError
        If the cache lacks an output.
    """
    parts, cache = [], repository.cache
    with repository.at(commit.revision) as there:
        entries = there.graph.entries
    outs = [out for entry in entries for out in entry.outs]
    each_time = {
        out.name for entry in entries if entry.always_changed for out in entry.outs
    }
    # What is `cache: false`, and ignored by git as a log is, nobody keeps.
    kept = {out.name for out in outs if out.cached}
    for path, digest in sorted((commit.inputs | commit.outputs).items()):
        is_output = path in commit.outputs
        size, inside = _size_in(folder, path), True
        if size is None:
            size = _size_in_cache(cache, digest)
            inside = size is not None and size <= largest and lies_below(path)
            if size is None and is_output and path in kept:
                what = f"DVC's cache has not all of {path}"
                raise UsageError(what, next=f"mllam-exps pull {shlex.quote(name)}")
            if inside:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                cache.copy(digest, folder / path)
        parts.append(Part(path, digest, is_output, size, inside, path in each_time))
    return parts


def _size_in(folder: Path, path: str) -> int | None:
    """Return the size of what git has of a path; None where it has nothing."""
    if not lies_below(path):
        return None
    place = folder / path
    if place.is_dir():
        return sum(one.stat().st_size for one in place.rglob("*") if one.is_file())
    return place.stat().st_size if place.is_file() else None


def _size_in_cache(cache: Cache, digest: str) -> int | None:
    if not cache.holds_all(digest):
        return None
    return int(cache.describe(digest)["size"])


def lies_below(path: str) -> bool:
    """Return whether a path leads into the repository."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts
