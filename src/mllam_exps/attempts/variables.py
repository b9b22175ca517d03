"""Variables that lead into the user's repository: in an attempt they lead into its copy of it.

A program that imports its modules by ``PYTHONPATH=$PWD/src`` would read what the user
edits meanwhile, and not what its run is known by.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

_STAY = re.compile(r"HOME$|(MLFLOW|WANDB|MLLAM_EXPS|DVC)_")
"""Where a user's home or a tracking database lies, which an attempt has no copy of."""
_BETWEEN = re.compile(r"([:;,=\s\"']+)")
"""What stands between two paths in a value, or before one."""
_OPTION = re.compile(r"(-[A-Za-z])(/.*)")
"""An option with its path right behind it: ``-I/repository/src``."""


def redirected(
    environ: Mapping[str, str],
    origin: Path,
    copy: Path,
    outputs: Collection[Path] = (),
) -> dict[str, str]:
    """Return an environment whose paths into a repository lead into a copy of it.

    Parameters
    ----------
    origin, copy : Path
        The user's repository, and the copy. What the user's has and the copy lacks stays
        what it is: a virtual environment, say.
    outputs : collection of Path
        What the program makes, seen from there: it must not land in the user's, though
        the copy lacks it before.
    """
    found = dict(environ)
    for name, value in environ.items():
        if not _STAY.match(name):
            words = _BETWEEN.split(value)
            found[name] = "".join(_word(word, origin, copy, outputs) for word in words)
    return found


def _word(word: str, origin: Path, copy: Path, outputs: Collection[Path]) -> str:
    if option := _OPTION.fullmatch(word):
        return option[1] + _word(option[2], origin, copy, outputs)
    if not word.startswith("/"):
        return word
    for place in (Path(word), Path(os.path.realpath(word))):
        if place.is_relative_to(origin):
            path = place.relative_to(origin)
            if _is_in_copy(path, origin, copy, outputs):
                return str(copy / path)
    return word


def _is_in_copy(
    path: Path, origin: Path, copy: Path, outputs: Collection[Path]
) -> bool:
    """Tell whether a path is one of the copy's: it is there, will be made there, or is nowhere."""
    if os.path.lexists(copy / path) or not os.path.lexists(origin / path):
        return True
    return any(
        path == made or path in made.parents or made in path.parents for made in outputs
    )
