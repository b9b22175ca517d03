"""The container in which a machine's programs run: how a site starts a command in it, and which image it is."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.base import ownership, records, user_state
from mllam_exps.base.errors import UsageError
from mllam_exps.base.shapes import Shape, text
from mllam_exps.base.terminal import warn
from mllam_exps.machines.values import DIRECTORY, IMAGE, IMAGE_NAME

if TYPE_CHECKING:
    # Each job imports this module, and needs no pydantic.
    from mllam_exps.machines.model import Container

LARGE = 1_000_000_000
"""Bytes of an image from which on it is told that it is hashed."""
_HASHED: Shape = {"which": text, "digest": text}


def start(container: Container) -> list[str]:
    """Return the words that stand before a command, so that it runs in the container.

    They are a line of bash, as the folder in which the command starts is known only
    there. No word of the command passes through it.
    """
    words = " ".join(_quoted(word, container.image) for word in container.start)
    return ["bash", "-c", f'exec {words} "$@"', "mllam-exps"]


def _quoted(word: str, image: str) -> str:
    parts = [part.replace(IMAGE, image) for part in word.split(DIRECTORY)]
    return '"$PWD"'.join(shlex.quote(part) if part else "" for part in parts)


def python(container: Container) -> list[str]:
    """Return the words that start the Python of the programs."""
    return [*start(container), container.python]


def launcher(words: Sequence[str]) -> Path:
    """Return a file that starts the Python of the programs, for what takes an interpreter's path.

    Parameters
    ----------
    words : sequence of str
        What it starts, with the environment that makes the site's own command ready.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    script = f'#!/bin/bash\nexec {shlex.join(words)} "$@"\n'
    name = hashlib.sha256(script.encode()).hexdigest()[:16]
    folder = records.folder(user_state.folder() / "containers", ownership.PRIVATE)
    place = folder / name / "python"
    if not place.exists():
        records.folder(place.parent, ownership.PRIVATE)
        half = place.with_name(f"python.{os.getpid()}")
        half.write_text(script)
        half.chmod(0o700)
        half.replace(place)
    return place


def digest(image: str) -> str:
    """Return which image it is, as ``sha256:…``: of a file that of its bytes, which is remembered until it changes.

    Raises
    ------
    UsageError
        If the file is not there, or cannot be read.
    """
    if named := IMAGE_NAME.fullmatch(image):
        return named[1]
    try:
        with Path(image).open("rb") as file:
            found = os.fstat(file.fileno())
            # A copy that takes its original's time changes the last of them.
            which = f"{found.st_size} {found.st_mtime_ns} {found.st_ino} {found.st_ctime_ns}"
            if known := _known(image, which):
                return known
            if found.st_size > LARGE:
                warn(f"note: {image} is hashed, which takes a while once")
            told = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise UsageError(
            "there is no such image",
            image,
            error.strerror or str(error),
            "environment.container.image in the machine file names it",
        ) from error
    with suppress(OSError):
        records.replace(_place(image), {"which": which, "digest": told}, flush=False)
    return told


def state(image: str) -> tuple[int, ...]:
    """Return which file an image is, and of which time and size; nothing of a name, or if it is not there."""
    try:
        # Opened, as a network file system may tell of a file as it was.
        with Path(image).open("rb") as file:
            found = os.fstat(file.fileno())
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def is_written(before: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Tell whether an image was written to; one that another took the place of stays as it was for who has it open."""
    return before[:2] == now[:2] and before != now


def _place(image: str) -> Path:
    name = hashlib.sha256(os.fsencode(image)).hexdigest()[:16]
    folder = records.folder(user_state.folder() / "images", ownership.PRIVATE)
    return folder / f"{name}.json"


def _known(image: str, which: str) -> str:
    """Return the digest of an image that was hashed before, and is as it was then."""
    with suppress(OSError):
        found = records.read(_place(image), shape=_HASHED)
        if found is not None and found["which"] == which:
            return str(found["digest"])
    return ""
