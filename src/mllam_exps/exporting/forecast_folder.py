"""A folder from which a service forecasts by itself: its manifest, and what holds its parts to that.

Nothing in it names a place outside of it, so that it can lie anywhere. What a part is
for, the stage's own program says; here a part is a file with a hash.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.base.records import Record, Trouble
from mllam_exps.base.shapes import Shape, count, dict_of, list_of, maybe, of_shape, text

MANIFEST = "manifest.json"
README = "README.md"
"""For people: it may be changed."""
ENVIRONMENT = "environment.json"
REQUIREMENTS = "requirements.txt"
OURS = "mllam-exps"
"""The name of this program among the others."""
MOST = 5
"""Parts that are named, where more are wrong."""
_PART: Shape = {"sha256": text, "size": count}
_MADE_BY = "mllam-exps export EXP --inference -o FOLDER makes it anew"


@dataclass(frozen=True)
class Manifest(Record):
    """What the folder is, and what has to lie in it.

    Parameters
    ----------
    experiment, commit : str
        Which one it is.
    parts : mapping
        ``sha256`` and ``size`` of each file, by its path in the folder.
    programs : mapping
        Versions of the programs that it is for, by name.
    container : str
        Which image the experiment's programs ran in; empty where they ran in none.
    licence : str
        An identifier of SPDX's, or empty.
    exported : str
        When, in UTC.
    sources : mapping
        The archive among the parts from which a program is installed, by its name.
    adopted : sequence of str
        What of it somebody made by hand, as people read it.
    """

    SHAPE: ClassVar[Shape] = {
        "experiment": text,
        "commit": text,
        "parts": dict_of(of_shape(_PART)),
        "programs": dict_of(text),
        "container": maybe(text),
        "licence": maybe(text),
        "exported": maybe(text),
        "sources": maybe(dict_of(text)),
        "adopted": maybe(list_of(text)),
    }

    experiment: str
    commit: str
    parts: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    licence: str = ""
    exported: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    adopted: Sequence[str] = ()


def seal(folder: Path, said: Manifest) -> None:
    """Write the manifest of a folder whose parts are all there."""
    files = {*_files(folder)} - {MANIFEST, README}
    parts = {path: _identity(folder / path) for path in sorted(files)}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = {**said.to_record(), "parts": parts, "exported": now}
    told = {name: value for name, value in record.items() if value != ""}
    records.replace(folder / MANIFEST, told)


def read(folder: Path) -> Manifest:
    """Return what the manifest of a folder says.

    Raises
    ------
    UsageError
        If there is none, or it is damaged.
    """
    found = Manifest.look(folder / MANIFEST)
    if found is None:
        what = "is no folder that mllam-exps export --inference made"
        raise UsageError(what, str(folder), f"it has no {MANIFEST}", _MADE_BY)
    if isinstance(found, Trouble):
        raise UsageError(found.why, str(found.path), next=_MADE_BY)
    for path in found.parts:
        # Whoever wrote the manifest names no file elsewhere.
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            what = f"names {path}, which is no part of a folder"
            raise UsageError(what, str(folder / MANIFEST), next=_MADE_BY)
    return found


def hold(folder: Path, said: Manifest, is_read: Callable[[str], bool]) -> None:
    """Refuse a folder of which a part is missing, is another, or is one too many.

    Parameters
    ----------
    is_read : callable
        Tells of a path whether the program would read a file there.

    Raises
    ------
    Problems
        Naming each part.
    """
    problems = [*_misfits(folder, said, is_read)]
    if (more := len(problems) - MOST) > 0:
        what = f"{more} more of its parts are not as they have to be"
        problems[MOST:] = [UsageError(what, str(folder))]
    if problems:
        raise Problems(problems=problems)


def _misfits(
    folder: Path, said: Manifest, is_read: Callable[[str], bool]
) -> Iterator[MllamError]:
    for path, known in said.parts.items():
        place = folder / path
        if not place.is_file():
            yield UsageError("this part is missing", str(place), next=_MADE_BY)
        elif not _is_same(place, known):
            what = f"is not the part that was exported with {said.experiment}"
            why = f"its sha256 is not that in {MANIFEST}: it was changed, or comes from another export"
            yield UsageError(what, str(place), why, _MADE_BY)
    for path in sorted(_files(folder)):
        if is_read(path) and path not in said.parts:
            what = f"does not belong to this export of {said.experiment}"
            way_out = "take it out of the folder"
            why = f"{MANIFEST} does not name it"
            yield UsageError(what, str(folder / path), why, way_out)


def is_export_of(folder: Path, experiment: str, commit: str) -> bool:
    """Tell whether a folder is an export of an experiment, and holds nothing else."""
    found = None if folder.is_symlink() else Manifest.look(folder / MANIFEST)
    if not isinstance(found, Manifest):
        return False
    if (found.experiment, found.commit) != (experiment, commit):
        return False
    return {*_files(folder)} <= {*found.parts, MANIFEST, README}


def lay_out(
    folder: Path, said: Manifest, work: Path, owned: Callable[[str], bool]
) -> None:
    """Lay the parts out in another folder, as links but for those that the program changes there."""
    for path in said.parts:
        place = work / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if owned(path):
            place.write_bytes((folder / path).read_bytes())
        else:
            place.symlink_to((folder / path).resolve())


def other_versions(
    said: Manifest, here: Mapping[str, str], archive_of: Callable[[str], str]
) -> list[str]:
    """Return in words which programs are not those that a folder is for.

    Parameters
    ----------
    here : mapping
        The versions of those that count.
    archive_of : callable
        Tells the sha256 of the archive that a program was installed from. One from the
        folder is right: its version says no more how it was developed.
    """
    others = []
    for name, found in here.items():
        wanted = said.programs.get(name, found)
        source = said.parts.get(said.sources.get(name, ""), {}).get("sha256")
        if found != wanted and (source is None or archive_of(name) != source):
            others.append(f"{name} is {found}, and the folder is for {wanted}")
    return others


def _files(folder: Path) -> Iterator[str]:
    for above, _, names in os.walk(folder):
        for name in names:
            yield (Path(above) / name).relative_to(folder).as_posix()


def _identity(file: Path) -> dict[str, str | int]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"sha256": digest, "size": file.stat().st_size}


def _is_same(file: Path, known: Mapping[str, str | int]) -> bool:
    """Tell whether a file is the part that it should be; one of another size is not read."""
    if file.stat().st_size != known["size"]:
        return False
    return _identity(file)["sha256"] == known["sha256"]
