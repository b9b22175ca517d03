"""Small JSON records on a shared file system: written whole or not at all, created by one writer only.

Everything that decides who may do what in the run store rests on two operations that POSIX file systems, network file
systems included, do atomically: ``rename`` over a file, and ``link`` to a name that must not exist yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from pathlib import Path
from typing import Any


def keep_others_out() -> None:
    """Let this process make nothing that everybody can write to, whatever umask it was started with."""
    os.umask(os.umask(0o077) | 0o002)


def _write_temporary(path: Path, record: dict[str, Any], *, flush: bool = True) -> Path:
    """Write `record` beside `path`, flushed to disk, and return the temporary file."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            if flush:
                os.fsync(file.fileno())
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails does not say where
        # A full disk leaves an empty file of that name; nobody reads it, and nobody should find it either.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def replace(path: Path, record: dict[str, Any], *, flush: bool = True) -> None:
    """Write `record` to `path`; a reader sees the old one or the new one, whatever happens meanwhile.

    Parameters
    ----------
    flush : bool
        Whether it has to outlive a power failure of the moment: what can be found out again need not.
    """
    _write_temporary(path, record, flush=flush).replace(path)


def create(path: Path, record: dict[str, Any]) -> bool:
    """Write `record` to `path` if nobody has yet.

    Returns
    -------
    bool
        True for the one caller, on whatever host, whose record stands; False for all others.
    """
    temporary = _write_temporary(path, record)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def look_afresh(directory: Path) -> None:
    """Make this host look at a directory as it is now.

    A network file system remembers for up to a minute that a file is not there (NFS: ``acdirmax``). Changing the
    directory brings its state along with the server's answer, and what was remembered is dropped where it differs.
    """
    with contextlib.suppress(OSError):
        probe = directory / f".look-{socket.gethostname()}-{os.getpid()}"
        probe.touch()
        probe.unlink()


def read(path: Path, *required: str) -> dict[str, Any] | None:
    """Return the record at `path`, or None where there is none.

    A file that is no JSON object, or lacks a `required` key, counts as none: we never write one, but a disk that lost
    its last blocks may hold one.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return record if isinstance(record, dict) and all(key in record for key in required) else None
