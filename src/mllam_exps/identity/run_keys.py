"""Run keys: the names of runs, and of their directories in the run store."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

SAVE = "save"
"""The last job of an experiment, as a stage: it saves what the others made."""

KEY = re.compile(r"[A-Za-z0-9_.@%~-]+-[0-9a-f]{32}")


def is_key(value: object) -> bool:
    """Tell whether a value is a run key: it becomes part of a path."""
    return isinstance(value, str) and KEY.fullmatch(value) is not None


def key_of(stage: str, digest: str) -> str:
    """Return a run key: ``<stage>-<digest>``, a file's name whatever the stage is called (a matrix may hold paths)."""
    return f"{quote(stage, safe='@')}-{digest}"


def base_name(stage: str) -> str:
    """Return the name under which ``dvc.yaml`` has a stage; that of a matrix has what its own is behind an ``@``."""
    return stage.partition("@")[0]


def stage_of(key: str) -> str:
    """Return the stage that a run key names."""
    return unquote(key.rsplit("-", 1)[0])
