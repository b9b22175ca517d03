"""The nearest right word, for messages about a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(word: Any, right: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the nearest right word, or nothing where none is near."""
    near = difflib.get_close_matches(str(word), list(right), n=1)
    return f"; did you mean {near[0]}?" if near else ""
