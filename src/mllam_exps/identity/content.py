"""What files hold: their hashes, as DVC names them, and whether they still hold it.

Reading a file again is the proof. Where that takes long, a file is read only if its
*mark* (time of its last change and inode) is another one than when it was hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed

QUICK_BYTES = 100 * 2**20
"""Up to so many bytes are read again: 0.15 s (730 MB/s measured for MD5 on one core), 0.5 s where it is shared."""
QUICK_FILES = 1000
"""Up to so many files are read again: opening one takes up to half a millisecond on a network file system."""
FEW, MOST_THREADS = 32, 4
"""Files that one thread hashes, and threads that hash more: no more than a job has cores, and few on a login node."""
WRITABLE = 0o222

Described = Mapping[str, Any]
"""A file or a folder: its ``digest``, ``size`` and ``files``, with ``relpath``, ``md5``, ``size`` and ``mark`` of each,
and ``isexec`` where its owner may execute it; of a single file ``files`` is None, and ``mark`` and ``isexec`` its own.
What DVC does not know of a folder that a program made: ``folders``, the empty ones in it, and ``left_out``, what was
there and does not count, with the reason."""


def md5_of_file(path: Path) -> str:
    """Return the MD5 by which DVC names a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.md5(usedforsecurity=False)
        ).hexdigest()


def digest_of_folder(files: Iterable[Mapping[str, Any]]) -> tuple[str, bytes]:
    """Return a folder's digest, and the object that DVC (3.67) keeps under it.

    Parameters
    ----------
    files : iterable of mapping
        ``{"md5": …, "relpath": …}`` of each file in it.
    """
    listing = sorted(
        ({"md5": f["md5"], "relpath": f["relpath"]} for f in files),
        key=lambda f: str(f["relpath"]),
    )
    content = json.dumps(listing, sort_keys=True).encode()
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}.dir", content


def describe(
    path: Path, files_in: Callable[[Path], Iterable[Path]] | None = None
) -> dict[str, Any]:
    """Hash a file, or a folder with all files below it that count. As DVC (3.67), links to folders are not followed.

    Parameters
    ----------
    files_in : callable, optional
        Returns the files of a folder that count; without it all do.

    Raises
    ------
    CheckFailed
        If a link in it leads nowhere, or something is no file: a pipe, say; if DVC
        could not list it.
    """
    if not path.is_dir():
        return _looked_at(path, "digest") | {"files": None} | executable(path)
    names: dict[Path, str] = {}
    for file in sorted(files_in(path) if files_in else _all_files(path)):
        names[file] = file.relative_to(path).as_posix()
        if not is_utf8(names[file]):
            what = f"a name in {path.name} is not UTF-8, which DVC needs"
            raise CheckFailed(what, why=ascii(names[file]))
    looked = _all_looked_at(list(names))
    told = zip(names.values(), looked, strict=True)
    return _folder_of([{"relpath": name} | found for name, found in told])


def _all_looked_at(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Return what is found of many files, read by several threads: while one is hashed, Python lets others run."""
    if len(files) < FEW:
        return [_looked_at(file, "md5") for file in files]
    from concurrent.futures import ThreadPoolExecutor  # few look at so many

    threads = min(MOST_THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads, "hash") as pool:
        return list(pool.map(lambda file: _looked_at(file, "md5"), files))


def _looked_at(path: Path, digest: str) -> dict[str, Any]:
    """Return a file's hash, called `digest` there, its size and its mark; a pipe is refused before it is opened."""
    found = regular(path)
    return {digest: md5_of_file(path), "size": found.st_size, "mark": mark(found)}


def _folder_of(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the description of a folder of these files."""
    size = sum(int(file["size"]) for file in files)
    return {"digest": digest_of_folder(files)[0], "size": size, "files": files}


def _all_files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if not file.is_dir()]


def is_utf8(name: str) -> bool:
    """Tell whether DVC (3.67) can list a file: its listings, and its database of hashes, are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def regular(path: Path) -> os.stat_result:
    """Return what is known of a file without opening it: a pipe would be waited for.

    Raises
    ------
    CheckFailed
        If it has no content: a pipe, or a link that leads nowhere.
    """
    try:
        found = path.stat()
    except OSError as error:
        if path.is_symlink():
            why = f"its target is {path.readlink()}"
            raise CheckFailed(
                f"{path.name} is a link that leads nowhere", str(path), why
            ) from error
        raise
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise CheckFailed(
            f"{path.name} is {kind}, which has no content to keep", str(path)
        )
    return found


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def executable(path: Path) -> dict[str, bool]:
    """Return what DVC (3.67) notes of a file that its owner may execute; of files in folders it notes nothing."""
    return {"isexec": True} if path.stat().st_mode & stat.S_IXUSR else {}


def make_executable(path: Path) -> None:
    """Let a file be executed."""
    path.chmod(path.stat().st_mode | 0o111)


def mark(found: os.stat_result) -> list[int]:
    """Return what is another after a file was written to, or replaced: ``ctime`` changes with each link to it, too."""
    return [found.st_mtime_ns, found.st_ino]


def files_of(place: Path, described: Described) -> dict[Path, Mapping[str, Any]]:
    """Return what is known of each file of an output or input that lies at `place`."""
    if described["files"] is None:
        return {
            place: {
                "md5": described["digest"],
                "size": described["size"],
                "mark": described.get("mark"),
                "isexec": described.get("isexec"),
            }
        }
    return {place / file["relpath"]: file for file in described["files"]}


def part_of(described: Described, inside: str) -> dict[str, Any] | None:
    """Return the description of a file or folder in a folder; None where it has none of that name."""
    files = {file["relpath"]: file for file in described["files"] or []}
    if inside in files:
        return _alone(files[inside])
    folders = described.get("folders") or []
    left_out = described.get("left_out") or {}
    files_there = [files[f] | {"relpath": name} for f, name in _below(inside, files)]
    folders_there = [name for _, name in _below(inside, folders)]
    left_out_there = {name: left_out[f] for f, name in _below(inside, left_out)}
    if not any((files_there, folders_there, left_out_there, inside in folders)):
        return None
    return _folder_of(files_there) | unknown_to_dvc(folders_there, left_out_there)


def _alone(file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of one of a folder's files, as that of a file for itself."""
    found = {"digest": file["md5"], "size": file["size"], "files": None}
    return found | {key: file[key] for key in ("mark", "isexec") if key in file}


def _below(folder: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield those of some names that lie in a folder, each with its name as seen from there."""
    for name in names:
        if name.startswith(f"{folder}/"):
            yield name, name.removeprefix(f"{folder}/")


def unknown_to_dvc(
    folders: Iterable[str], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the description of a folder holds beside what DVC knows of one."""
    found = {"folders": sorted(folders), "left_out": dict(left_out)}
    return {key: value for key, value in found.items() if value}


def marked(place: Path, described: Described) -> dict[str, Any]:
    """Return a description with the marks of the files that lie at `place` now."""
    if described["files"] is None:
        return {**described, "mark": mark(place.stat())}
    files = [
        file | {"mark": mark((place / file["relpath"]).stat())}
        for file in described["files"]
    ]
    return {**described, "files": files}


@dataclass(frozen=True)
class Difference:
    """A file that is not what it was.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What is wrong with it, to be said behind its name.
    certain : bool
        False where it could not be read: it may be as it was.
    """

    path: Path
    what: str
    certain: bool = True


def is_quick(files: Mapping[Path, Mapping[str, Any]]) -> bool:
    """Tell whether reading these files takes less than a second."""
    return (
        len(files) <= QUICK_FILES
        and sum(int(file.get("size") or 0) for file in files.values()) <= QUICK_BYTES
    )


def differences(
    files: Mapping[Path, Mapping[str, Any]],
    *,
    thorough: bool = False,
    frozen: bool = False,
    tell: Callable[[int], None] = lambda _bytes: None,
) -> Iterator[Difference]:
    """Yield the files that are not what is known of them.

    Parameters
    ----------
    files : mapping
        From `files_of`.
    thorough : bool
        Read all of them, however long it takes.
    frozen : bool
        Whether they were made read-only: one that is not is read.
    tell : callable
        Is told the size of each file that was looked at.
    """
    look = _Look(thorough or is_quick(files), anew=thorough, frozen=frozen)
    for path, known in files.items():
        try:
            found = path.stat()
            if what := look.at(path, found, known):
                yield Difference(path, what)
            tell(found.st_size)
        except (FileNotFoundError, NotADirectoryError):
            yield Difference(path, "is gone")
        except OSError as error:
            yield Difference(
                path, f"cannot be read ({os.strerror(error.errno or 0)})", certain=False
            )


@dataclass(frozen=True)
class _Look:
    """How files are looked at; see `differences`.

    Parameters
    ----------
    everything : bool
        Read all files, not only those that were touched.
    anew : bool
        Read a file although it was read a moment ago.
    """

    everything: bool
    anew: bool
    frozen: bool

    def at(self, path: Path, found: os.stat_result, known: Mapping[str, Any]) -> str:
        """Say what is wrong with a file; nothing where it is as it was."""
        size = known.get("size")
        if not stat.S_ISREG(found.st_mode):
            return "is no file any more"
        if size is not None and found.st_size != size:
            return f"has {found.st_size} bytes, and had {size}"
        if not self.everything and self._is_untouched(found, known):
            return ""
        if _hash(path, found, anew=self.anew) != known["md5"]:
            return "holds something else than what was made"
        return ""

    def _is_untouched(self, found: os.stat_result, known: Mapping[str, Any]) -> bool:
        if self.frozen and found.st_mode & WRITABLE:
            return False
        return known.get("mark") in (None, mark(found))


_HASHES: dict[tuple[int, ...], str] = {}
_REMEMBERED = 20_000


def _hash(path: Path, found: os.stat_result, *, anew: bool) -> str:
    """Hash a file once, as long as nothing at all happens to it: a process that saves a sweep asks a hundred times."""
    if anew:
        return md5_of_file(path)
    state = (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
    if state not in _HASHES:
        if len(_HASHES) >= _REMEMBERED:
            _HASHES.clear()
        _HASHES[state] = md5_of_file(path)
    return _HASHES[state]
