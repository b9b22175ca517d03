"""Reads how old something has to be, as people type it: ``30d``."""

from __future__ import annotations

import re

from mllam_exps.base.errors import UsageError

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def seconds(text: str, option: str = "--older-than") -> float:
    """Return an age in seconds.

    Raises
    ------
    UsageError
        If it is none.
    """
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    if not match:
        raise UsageError(f"{text!r} is no age", option, next="30d, 12h, 2w")
    return int(match[1]) * _UNITS[match[2]]
