"""How DVC (3.67) lists the files of a folder: each by its path in it and its hash. Anybody may have written one."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from mllam_exps.base.shapes import Kind

_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")


def is_digest(value: Any) -> bool:
    """Tell whether a value is a hash as DVC (3.67) names content by: it becomes part of a path in its cache."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def is_inside(value: Any) -> bool:
    """Tell whether a value names a file in a folder, and none outside of it: it is read and written there."""
    if not isinstance(value, str) or value in {"", "."} or "\0" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


LISTED: dict[str, Kind] = {"relpath": is_inside, "md5": is_digest}
"""One file in a folder's listing, as DVC (3.67) keeps it."""
