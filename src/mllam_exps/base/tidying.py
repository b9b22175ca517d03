"""Removes what lies in a folder of ours, in whose place a colleague may put a link to a home at any moment."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from mllam_exps.base import beneath, ownership


def remove(directory: Path, names: Iterable[str]) -> None:
    """Remove folders of a directory, and links, not what these lead to; nothing where others may write there."""
    with _held_if_ours(directory) as held:
        if held is None:
            return
        for name in names:
            folder = held / name
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder, ignore_errors=True)


def remove_elsewhere(directory: Path, names: Iterable[str]) -> None:
    """Remove what links of a directory lead to out of it: nobody else can have made them where that is ours alone."""
    with _held_if_ours(directory) as held:
        if held is None:
            return
        for name in names:
            folder = held / name
            is_elsewhere = not folder.resolve().is_relative_to(held.resolve())
            if folder.is_symlink() and is_elsewhere:
                shutil.rmtree(folder.resolve(), ignore_errors=True)


@contextlib.contextmanager
def _held_if_ours(directory: Path) -> Iterator[Path | None]:
    """Hold a directory that only this user can write to; None of any other."""
    with contextlib.ExitStack() as holding:
        held = None
        with contextlib.suppress(OSError):
            held = holding.enter_context(beneath.held(directory))
        is_ours = held is not None and not ownership.objection_to(held.stat())
        yield held if is_ours else None
