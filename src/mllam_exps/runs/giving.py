"""Gives the files that an attempt made to DVC's cache, or a copy to a workspace (step 3 of `outputs`).

What a colleague's attempt made lies where they can change it at any moment, also after
it was looked at, or put a link to another file in its place. So their files are copied,
and compared while that is done; those of attempts of our own become hard links.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path, PurePath

from mllam_exps.base import beneath, ownership
from mllam_exps.dvc.cache import Cache
from mllam_exps.identity.content import (
    Described,
    digest_of_folder,
    files_of,
    is_quick,
    make_executable,
)
from mllam_exps.runs import layout

CHANGED = "holds something else than what was made, or lies behind a link"
MEMORY_SECONDS = 60.0
"""For so long a process remembers that a large output was as it should be: a sweep asks a hundred times."""
_looked_at: dict[tuple[str, str], float] = {}


class Another(Exception):
    """A file below a colleague's folder is not what their record says."""

    def __init__(self, inside: PurePath) -> None:
        super().__init__(str(inside))
        self.inside = inside


def lately(known: tuple[str, str]) -> bool:
    """Tell whether something large was looked at a moment ago."""
    return time.monotonic() - _looked_at.get(known, -MEMORY_SECONDS) < MEMORY_SECONDS


def note_looked_at(known: tuple[str, str]) -> None:
    """Note that something large is as it should be; what is small is read each time."""
    _looked_at[known] = time.monotonic()


def place_for(file: Path, output: Path, target: Path) -> Path:
    """Return where a file of an output goes if that is laid out at `target`; its folder is made."""
    place = target if file == output else target / file.relative_to(output)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def copy(directory: Path, path: str, described: Described, target: Path) -> None:
    """Copy what git keeps to where nothing lies; writable, because people do write there.

    Parameters
    ----------
    directory : Path
        The attempt's.

    Raises
    ------
    Another
        If a file was changed since it was looked at.
    """
    output = PurePath(layout.OUTPUTS, path)
    if described["files"] is not None:
        target.mkdir(parents=True, exist_ok=True)
    for file, known in files_of(directory / output, described).items():
        place = place_for(file, directory / output, target)
        inside = file.relative_to(directory)
        if _copied(directory, inside, place) != known["md5"]:
            place.unlink(missing_ok=True)
            raise Another(inside)
        if known.get("isexec"):
            make_executable(place)


def add_to_cache(
    cache: Cache, directory: Path, described: Mapping[str, Described]
) -> None:
    """Give files of an attempt their second name, in DVC's cache; what is damaged there is replaced.

    Parameters
    ----------
    directory : Path
        The attempt's.
    described : mapping
        Its outputs, or files and folders in them, by path.

    Raises
    ------
    Another
        If a colleague's file is not what their record says.
    """
    with beneath.held(directory) as held:
        is_ours = not ownership.objection_to(held.stat())
        for path, one in described.items():
            _add(cache, held, PurePath(layout.OUTPUTS, path), one, is_ours)


def _add(
    cache: Cache, directory: Path, output: PurePath, described: Described, is_ours: bool
) -> None:
    files = files_of(directory / output, described)
    if not lately(known := (cache.directory, described["digest"])):
        cache.drop_damaged({str(one["md5"]): one.get("size") for one in files.values()})
        if not is_quick(files):
            note_looked_at(known)
    missing = {}
    for file, one in files.items():
        if not cache.holds(one["md5"]):
            missing[str(one["md5"])] = file
    if missing and is_ours:
        cache.add(missing)
    elif missing:
        _copy_into_cache(cache, directory, missing)
    if described["files"] is not None:
        digest, content = digest_of_folder(described["files"])
        cache.drop_damaged({digest: len(content)})
        if not cache.holds(digest):
            cache.add_content(digest, content)


def _copy_into_cache(
    cache: Cache, directory: Path, missing: Mapping[str, Path]
) -> None:
    """Copy a colleague's files to where nobody else can write, compare them, and give DVC's cache the copies."""
    with cache.building_site() as ours:
        copies = {}
        for digest, file in missing.items():
            copies[digest] = ours / digest
            inside = file.relative_to(directory)
            if _copied(directory, inside, copies[digest]) != digest:
                raise Another(inside)
        cache.add(copies)


def _copied(directory: Path, inside: PurePath, target: Path) -> str:
    """Copy a file, and return its hash; nothing where a link is in the way, or no file is there."""
    try:
        made = beneath.open_file(directory, inside)
    except OSError as error:
        if error.errno not in beneath.NO_FILE:
            raise
        return ""
    return beneath.copy(made, target)
