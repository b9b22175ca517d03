"""The shapes of a run's records: what each field of them holds. Anybody in the team may have written them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from mllam_exps.records import Kind, Shape, count, dict_of, flag, list_of, maybe, number, of_shape, text
from mllam_exps.run_keys import is_key

_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")


def digest(value: Any) -> bool:
    """Tell whether a value is a hash as DVC (3.67) names content by: it becomes part of a path in its cache."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def inside(value: Any) -> bool:
    """Tell whether a value names a file in a folder, and none outside of it: it is read and written there."""
    if not isinstance(value, str) or value in {"", "."} or "\0" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


PROCESS: dict[str, Kind] = {"host": text, "boot": text, "pid": count, "started": number}
STARTED = PROCESS | {"time": maybe(number), "node": maybe(text)}
CLAIMED: Shape = {
    "claimed_by": of_shape(PROCESS),
    "experiment": text,
    "job_name": text,
    "scheduler": text,
    "time": number,
    "uid": maybe(count),
    "workspace": maybe(text),
}
END: Shape = {"outcome": text, "reason": text, "time": maybe(number), "by": maybe(text)}
OUTPUT: Shape = {"digest": digest, "size": maybe(number), "files": maybe(count), "isexec": maybe(flag)}
LISTED: dict[str, Kind] = {"relpath": inside, "md5": digest}
FILE: Shape = LISTED | {"size": maybe(number)}
DESCRIBED: Shape = {"digest": digest, "size": maybe(number), "files": maybe(list_of(of_shape(FILE)))}
READ: Shape = {"run": maybe(is_key), "md5": digest}
RESULT: Shape = {
    "inputs": maybe(dict_of(of_shape(READ))),
    "attempt": count,
    "outputs": dict_of(of_shape(OUTPUT)),
    "commit": maybe(text),
    "time": maybe(number),
}
PROGRESS: Shape = {"text": maybe(text), "seconds_left": maybe(number)}
JOBS: dict[str, Shape] = {
    "local": PROCESS,
    "slurm": {
        "id": lambda value: text(value) or count(value),
        "name": text,
        "submitted": number,
        "script": maybe(text),
    },
}
"""What a scheduler's own record of a job holds."""
