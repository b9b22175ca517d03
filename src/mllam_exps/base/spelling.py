"""The nearest right word, for messages about a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: Any, right: Iterable[str]) -> str:
    """Return the nearest right word, or nothing where none is near."""
    return next(iter(difflib.get_close_matches(str(word), list(right), n=1)), "")


def did_you_mean(word: Any, right: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the nearest right word, or nothing where none is near."""
    near = nearest(word, right)
    return f"; did you mean {near}?" if near else ""
