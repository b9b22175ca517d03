"""Puts what lies outside of a workspace into it: all of it or nothing, and no file of a workspace is lost by it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError, UsageError


def lies_there(source: Path, place: Path) -> bool:
    """Tell whether what is taken over lies in its place already, and is no link to what lies elsewhere."""
    return place.exists() and not place.is_symlink() and place.samefile(source)


Listing = dict[str, tuple[int, int]]


def listing(source: Path) -> Listing:
    """Return the size and time of each file of what is taken over, by path; links are followed.

    Raises
    ------
    UsageError
        If something in it is neither a file nor a folder, or a folder contains itself.
    """
    found: Listing = {}
    _look(source, source, (), found)
    return found


def _look(
    top: Path, path: Path, above: tuple[tuple[int, int], ...], found: Listing
) -> None:
    try:
        status = path.stat()
    except OSError as error:
        why = reasons.of_os_error(error, path)
        raise UsageError("cannot be taken over", str(path), why) from error
    if stat.S_ISREG(status.st_mode):
        name = str(path.relative_to(top))
        found[name] = status.st_size, status.st_mtime_ns
        return
    which = status.st_dev, status.st_ino
    if not stat.S_ISDIR(status.st_mode) or which in above:
        why = "it contains itself" if which in above else "it is no file and no folder"
        raise UsageError("cannot be taken over", str(path), why)
    for name in sorted(os.listdir(path)):  # noqa: PTH208 - names only
        _look(top, path / name, (*above, which), found)


@contextmanager
def put(
    parts: Mapping[str, Path],
    looked: Mapping[str, Listing],
    root: Path,
    temporary: Path,
) -> Iterator[None]:
    """Copy what is taken over to its places; if what is done with it there fails, they are as they were.

    Parameters
    ----------
    parts : mapping
        Where each output lies, by its path in the workspace.
    looked : mapping
        What lay there before it was looked at: `listing`, by the same paths.
    root : Path
        The workspace.
    temporary : Path
        A folder of the workspace's for what is not yet, or no more, in its place.

    Raises
    ------
    MllamError
        If it cannot be copied, or was changed meanwhile.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="adopt-", dir=temporary) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        moved: list[str] = []
        try:
            for path, source in parts.items():
                if not lies_there(source, root / path):
                    _copy(source, new / path)
                    moved.append(path)
                _refuse_changed(source, looked[path])
            for path in moved:
                _move(root / path, old / path)
                _move(new / path, root / path)
            yield
        except BaseException:
            for path in moved:
                if not os.path.lexists(new / path):
                    _move(root / path, new / path)
                    _move(old / path, root / path)
            raise


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, place, copy_function=shutil.copyfile)
            # DVC puts links into folders that were to be read only.
            for folder, _, _ in os.walk(place):
                Path(folder).chmod(0o755)
        else:
            shutil.copyfile(source, place)
    except shutil.Error as error:
        _, _, why = error.args[0][0]
        raise MllamError("cannot be copied", str(source), str(why)) from error
    except OSError as error:
        why = reasons.of_os_error(error, place)
        raise MllamError("cannot be copied", str(source), why) from error


def _refuse_changed(source: Path, looked: Listing) -> None:
    if listing(source) != looked:
        what = "was changed while it was taken over"
        raise MllamError(what, str(source), next="wait until nobody writes to it")


def _move(path: Path, place: Path) -> None:
    if os.path.lexists(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
