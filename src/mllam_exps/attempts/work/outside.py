"""What an attempt reads behind links that lead out of its working directory: others may change it while it is read.

A clone has the links that git tracks, and not what lies behind them. So its content is
compared with what it was at submission. It must not be touched while the program runs,
even if it is put back: nobody could tell what was read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mllam_exps.base import symlinks
from mllam_exps.dvc.counted import Counted
from mllam_exps.identity.content import Described, files_of
from mllam_exps.runs.attempts import Attempt

States = dict[tuple[str, Path], tuple[int, ...]]
"""By input and place: numbers that change when it is written to, replaced or moved, even if it is put back."""


class Outside:
    """What some inputs of an attempt lead to, outside of its working directory.

    Parameters
    ----------
    attempt : Attempt
        Its inputs are laid out.
    inputs : mapping
        Those that nobody but their owner keeps as they are: none of the run store's, or
        of DVC's cache. By path, each with its description.
    """

    def __init__(self, attempt: Attempt, inputs: Mapping[str, Described]) -> None:
        self._work = attempt.work
        self._own = os.path.realpath(attempt.top)
        self._inputs = inputs
        self._counted = Counted(attempt.work)

    def added(self) -> Iterator[tuple[str, Path]]:
        """Yield the files that a folder outside has now and had not at submission, each behind its input."""
        for path, described in self._inputs.items():
            place = self._work / path
            if described["files"] is None or not self._is_outside(place):
                continue
            known = files_of(place, described)
            for file in self._files(place):
                if file not in known and not is_of_python(file):
                    yield path, file

    def states(self) -> States:
        """Return the state of each file outside that is an input or part of one, and of each link on the way there."""
        found: States = {}
        for path in self._inputs:
            for place in self._outside(self._work / path):
                for step in symlinks.chain(place):
                    if (path, step) not in found and not self._is_own(step):
                        found[path, step] = _state(step)
        return found

    def _outside(self, place: Path) -> Iterator[Path]:
        """Yield an input, and the files of a folder, as far as they lead outside."""
        if self._is_outside(place):
            yield place
        if place.is_dir():
            for file in self._files(place):
                if self._is_outside(file):
                    yield file

    def _files(self, folder: Path) -> list[Path]:
        return self._counted.files(folder)

    def _is_outside(self, place: Path) -> bool:
        return not self._is_own(Path(os.path.realpath(place)))

    def _is_own(self, place: Path) -> bool:
        return place.is_relative_to(self._own)


def is_of_python(file: Path) -> bool:
    """Tell whether Python keeps it of a module that it imports: it is of that module alone, and no new input."""
    return "__pycache__" in file.parts


def _state(place: Path) -> tuple[int, ...]:
    """Return the state of a file or a link; of a folder which one it is: what else is put there is no input."""
    try:
        found = place.lstat()
    except OSError:
        return ()
    if place.is_dir() and not place.is_symlink():
        return (found.st_ino,)
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
