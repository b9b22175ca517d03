"""Variables that lead into the user's repository: in an attempt they lead into its copy of it.

A program that imports its modules by ``PYTHONPATH=$PWD/src`` would read what the user
edits meanwhile, and not what its run is known by.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_STAY = ("HOME", "MLFLOW_", "WANDB_", "MLLAM_", "DVC_")
"""Where a user's home or a tracking database lies, which an attempt has no copy of."""


def redirected(environ: Mapping[str, str], origin: Path, work: Path) -> dict[str, str]:
    """Return an environment whose paths into a repository lead into a copy of it, as far as that has them.

    Parameters
    ----------
    origin, work : Path
        The user's repository, and the copy. What only the user's has stays what it is:
        its virtual environment, say.
    """
    found = dict(environ)
    for name, value in environ.items():
        if not name.startswith(_STAY):
            parts = [_into(part, origin, work) for part in value.split(os.pathsep)]
            found[name] = os.pathsep.join(parts)
    return found


def _into(path: str, origin: Path, work: Path) -> str:
    if not path.startswith("/"):
        return path
    for place in (Path(path), Path(os.path.realpath(path))):
        if place.is_relative_to(origin):
            copy = work / place.relative_to(origin)
            if os.path.lexists(copy):
                return str(copy)
    return path
