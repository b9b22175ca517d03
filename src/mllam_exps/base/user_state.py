"""The folder of what one user keeps for all repositories: in the home, which the hosts of a cluster share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mllam_exps.base import ownership, records


def of(environ: Mapping[str, str]) -> Path:
    """Return where the folder lies for a process with these variables."""
    state = environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):  # as the XDG specification says
        state = os.path.join(environ.get("HOME") or Path.home(), ".local", "state")  # noqa: PTH118 - text is enough
    return Path(state, "mllam-exps")


def folder() -> Path:
    """Return the folder of this process, and make it; one of this host alone where the home takes no files.

    Raises
    ------
    OSError
        If there is neither.
    """
    found = of(os.environ)
    try:
        records.folder(found, ownership.PRIVATE)
        if os.access(found, os.W_OK):
            return found
    except OSError:  # read-only on the nodes of some sites
        pass
    found = Path(tempfile.gettempdir(), f"mllam-exps-{os.getuid()}")
    if not ownership.is_ours_alone(records.folder(found, ownership.PRIVATE)):
        raise PermissionError(f"{found} is not ours alone")
    return found
