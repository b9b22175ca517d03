"""Small JSON records on a shared file system: written whole or not at all, created by one writer only.

Everything that decides who may do what in the run store rests on two operations that
POSIX file systems, network file systems included, do atomically: ``rename`` over a
file, and ``link`` to a name that must not exist yet.

A team writes to one store, with different versions of this program and different
umasks; so readers check each record. A record that is not what it should be counts as
absent: readers name it once, and go on.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from mllam_exps.base import ownership
from mllam_exps.base.ownership import owner_of
from mllam_exps.base.shapes import Shape, misfit
from mllam_exps.base.terminal import warn

FORMAT = 1
"""Of all records; raised for a record that older versions would misunderstand. Records without a format are older."""

LARGEST_FILE = 2**29
"""Bytes; the manifest of a million files has some 200 MB. A larger file would fill the memory."""

_READ = stat.S_IRGRP | stat.S_IXGRP
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True)
class Trouble:
    """Says why a record, or what lies in its place, cannot be used.

    Parameters
    ----------
    path : Path
        Where.
    why : str
        In words.
    hidden : bool
        Whether others may be able to read the record: then it is not damaged.
    """

    path: Path
    why: str
    hidden: bool = False

    def __str__(self) -> str:
        """Return a line that names the file and its owner."""
        return f"{self.path} {self.why}; it belongs to {owner_of(self.path)}"


_told: set[Path] = set()


def tell(trouble: Trouble) -> None:
    """Print a trouble, once."""
    if trouble.path not in _told:
        _told.add(trouble.path)
        warn(f"note: {trouble}")


def keep_others_out() -> None:
    """Let this process make no file that everybody can write to, whatever its umask was."""
    os.umask(os.umask(0o077) | 0o002)


def let_group_read(place: Path) -> None:
    """Let the group of a folder read what this process and its children make, whatever the umask, if it may look there.

    For processes that make nothing elsewhere: a job, in a team's run store.
    """
    with contextlib.suppress(OSError):
        if _of_its_group(place):
            os.umask(os.umask(0o077) & ~_READ)


def _of_its_group(folder: Path) -> int:
    """Return what a group may do in a folder, if what is made there is its own (setgid, r-x); else nothing."""
    mode = folder.stat().st_mode
    is_its_own = mode & stat.S_ISGID and mode & _READ == _READ
    return mode & stat.S_IRWXG if is_its_own else 0


@contextlib.contextmanager
def for_nobody_else_to_write() -> Iterator[None]:
    """While this lasts, files that this process and its children make are writable to their user only, not to the team.

    For processes with one thread that makes files: the umask is the process's.
    """
    before = os.umask(0o077)
    os.umask(before | ownership.OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def _write_temporary(
    path: Path, record: Mapping[str, Any], *, flush: bool = True
) -> Path:
    """Write `record` beside `path`, flushed to disk, and return the temporary file."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        # Records are replaced, never changed: nobody else has to write to one.
        descriptor = os.open(temporary, _NEW_FILE, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if _of_its_group(path.parent):
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                os.fchmod(descriptor, mode | stat.S_IRGRP)
            json.dump({"format": FORMAT} | dict(record), file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            if flush:
                os.fsync(file.fileno())
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails does not say where
        # A full disk leaves an empty file of that name; nobody reads it, and nobody
        # should find it either.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def replace(path: Path, record: Mapping[str, Any], *, flush: bool = True) -> None:
    """Write `record` to `path`; a reader sees the old one or the new one, whatever happens meanwhile.

    Parameters
    ----------
    flush : bool
        Whether the record has to outlive a power failure. One that can be found out
        again need not.
    """
    _write_temporary(path, record, flush=flush).replace(path)


def create(path: Path, record: Mapping[str, Any]) -> bool:
    """Write `record` to `path` if nobody has yet.

    Returns
    -------
    bool
        True for the one caller, on whatever host, whose record stands; False for all
        others.
    """
    temporary = _write_temporary(path, record)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _probe(directory: Path) -> float:
    """Change a directory, and return the time of that by the clock of its file system."""
    host = socket.gethostname()
    probe = directory / f".look-{host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    descriptor = os.open(probe, _NEW_FILE, 0o644)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


def look_afresh(directory: Path) -> None:
    """Make this host look at a directory as it is now.

    A network file system remembers for up to a minute that a file is absent (NFS:
    ``acdirmax``). When this host changes the directory, the server's answer carries the
    directory's new state, and the host forgets the old one. A user who may only read
    has to wait.
    """
    with contextlib.suppress(OSError):
        _probe(directory)


def now(directory: Path) -> float:
    """Return the time by the clock of a directory's file system; the clocks of hosts differ by minutes.

    Where this process cannot write, it returns the time by the host's clock.
    """
    try:
        return _probe(directory)
    except OSError:
        return time.time()


def read(
    path: Path, *required: str, shape: Shape | None = None
) -> dict[str, Any] | None:
    """Return the record at `path`, or None where there is none.

    A record counts as absent, and a note about it is printed, if it is no JSON object,
    lacks a `required` field, has a field of another kind than `shape` says, cannot be
    read, or comes from a newer version.
    """
    record = look(path, *required, shape=shape)
    if isinstance(record, Trouble):
        tell(record)
        return None
    return record


def look(
    path: Path, *required: str, shape: Shape | None = None
) -> dict[str, Any] | Trouble | None:
    """Return the record at `path`, why it cannot be used, or None where nothing is there."""
    try:
        content = read_own_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Trouble(path, *_cannot_be_read(error))
    record = _decoded(content)
    if isinstance(record, str):
        return Trouble(path, f"is damaged: {record}")
    if _take_format(record) > FORMAT:
        newer = "was written by a newer version of mllam-exps: update this one"
        return Trouble(path, newer, hidden=True)
    wrong = _lacking(record, required) or misfit(record, shape or {})
    if wrong:
        return Trouble(path, f"is damaged: {wrong}")
    return record


def _decoded(content: bytes) -> dict[str, Any] | str:
    """Return the JSON object in a file's content; where there is none, what is wrong."""
    try:
        record = json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return "it holds no JSON"
    return record if isinstance(record, dict) else "it holds no JSON object"


def _take_format(record: dict[str, Any]) -> int:
    """Take the format out of a record, and return it; 0 if the record is older than formats."""
    written_in = record.get("format")
    # An output of that name, in a manifest, is something else.
    if not isinstance(written_in, int):
        return 0
    del record["format"]
    return written_in


def _lacking(record: Mapping[str, Any], required: Sequence[str]) -> str:
    for name in required:
        if name not in record:
            return f"it has no `{name}`"
    return ""


_NO_RECORD: dict[int | None, str] = {
    errno.ELOOP: "it is a link",
    errno.EFBIG: "it is too large for a record",
    errno.EISDIR: "no file, or not in a folder",
    errno.ENXIO: "no file, or not in a folder",
    errno.ENOTDIR: "no file, or not in a folder",
}
"""What lies in the place of a record, by the error with which it cannot be opened."""


def _no_number(name: str) -> float:
    raise ValueError(name)


def _cannot_be_read(error: OSError) -> tuple[str, bool]:
    """Return why a record cannot be read, and whether it may be a good one all the same."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "cannot be read by you (permission denied)", True
    if error.errno in _NO_RECORD:
        return f"is damaged: {_NO_RECORD[error.errno]}", False
    return f"cannot be read ({error.strerror})", True


def open_file(path: Path, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """Open a file in a folder that others may write to: follow no link, and wait for no pipe.

    Returns
    -------
    int
        The descriptor.

    Raises
    ------
    OSError
        If it is no regular file: ELOOP for a link, EISDIR for anything else.
    """
    descriptor = os.open(
        path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EISDIR, "no regular file", str(path))
    return descriptor


def read_own_bytes(path: Path) -> bytes:
    """Return the content of a regular file, unless it is too large for a record; see `open_file`."""
    with os.fdopen(open_file(path), "rb") as file:
        too_large = os.fstat(file.fileno()).st_size > LARGEST_FILE
        content = b"" if too_large else file.read(LARGEST_FILE + 1)
    # It may have grown since its size was asked for.
    if too_large or len(content) > LARGEST_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def touch(path: Path) -> None:
    """Make a file, or give it the present time; see `open_file`."""
    descriptor = open_file(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def folder(path: Path, mode: int = 0o777) -> Path:
    """Make a folder, unless it exists, and the folders above it.

    In a folder of a group (setgid) that group may do in it what `mode` says, and what
    it may do in the one above, whatever the umask.

    Raises
    ------
    OSError
        ELOOP, if a link of a colleague's lies in its place: what is written there would
        be written elsewhere.
    """
    if not path.parent.exists():
        folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode)
        _open_to_group(path, mode)
    if ownership.is_others_link(path):
        raise OSError(errno.ELOOP, f"a link of {owner_of(path)}'s", str(path))
    return path


def own_folder(path: Path) -> None:
    """Make a folder that is its owner's to write to; in a folder of a group, the group's to read, whatever the umask.

    Raises
    ------
    FileExistsError
        If something is there.
    """
    path.mkdir(ownership.OWN)
    _open_to_group(path, ownership.OWN)


def _open_to_group(path: Path, mode: int) -> None:
    """Let the group into a folder that was just made; not into what a link in its place leads to."""
    if not (bits := mode & _of_its_group(path.parent)):
        return
    made = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(made, stat.S_IMODE(os.fstat(made).st_mode) | bits)
    finally:
        os.close(made)


def entries(path: Path) -> Iterator[str]:
    """Yield the names in a folder, sorted; if it cannot be read, or is a colleague's link, note that and yield none."""
    found = listing(path)
    if isinstance(found, Trouble):
        tell(found)
    else:
        yield from found


def listing(path: Path) -> list[str] | Trouble:
    """Return the names in a folder, sorted, or why nobody can tell; none where there is no folder."""
    if ownership.is_others_link(path):
        return Trouble(path, "is a link, and nothing behind it counts")
    try:
        return sorted(os.listdir(path))  # noqa: PTH208 - names are wanted
    except FileNotFoundError:
        return []
    except OSError as error:
        return Trouble(path, *_cannot_be_read(error))


def changed_at(path: Path) -> float:
    """Return when a file was last changed, by the file system's clock; 0 if that is unknown."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


@dataclass(frozen=True)
class Record:
    """A record of one kind, with a type for what it holds."""

    SHAPE: ClassVar[Shape] = {}
    """What each of its fields holds."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says. Fields of newer versions are left out."""
        known = {one.name for one in fields(cls)}
        return cls(
            **{
                name: value
                for name, value in record.items()
                if name in known and value is not None
            }
        )

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record at `path`; None where none can be used, which is told."""
        found = read(path, shape=cls.SHAPE)
        return None if found is None else cls.from_record(found)

    @classmethod
    def look(cls, path: Path) -> Self | Trouble | None:
        """Return the record at `path`, why it cannot be used, or None where nothing is there."""
        found = look(path, shape=cls.SHAPE)
        return cls.from_record(found) if isinstance(found, dict) else found
