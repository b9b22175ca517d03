"""What a host sees of what a machine file names: run in a job, and beside it, so that the two can be compared.

``python -m mllam_exps.sharing.seen FOLDER NAME`` reads ``asked.json`` there, and writes
``NAME.json``. It starts as each attempt does, and imports as little.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from mllam_exps.base import records
from mllam_exps.base.shapes import Shape, count, flag, list_of, number, text

ASKED: Shape = {"paths": list_of(text), "gpus": flag}
SEEN: Shape = {
    "host": text,
    "ahead": number,
    "missing": list_of(text),
    "closed": list_of(text),
    "packages": text,
    "python": text,
    "cpus": count,
    "gpus": count,
}
QUESTION = "asked"


def look(folder: Path, paths: Sequence[str], *, gpus: bool) -> dict[str, Any]:
    """Return what this host sees.

    Parameters
    ----------
    folder : Path
        One that all hosts see, for the clock of its file system.
    paths : sequence of str
        What has to be there; one that ends in ``/`` has to be a folder that can be
        written to.
    gpus : bool
        Whether to look for GPUs, which takes some seconds.
    """
    return {
        "host": socket.gethostname(),
        "ahead": time.time() - records.now(folder),
        "missing": [one for one in paths if not os.path.exists(one)],  # noqa: PTH110 - False where it may not look
        "closed": [one for one in paths if one.endswith("/") and _is_closed(one)],
        "packages": _packages(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": _gpus() if gpus else 0,
    }


def _is_closed(path: str) -> bool:
    return os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK | os.X_OK)  # noqa: PTH110


def _packages() -> str:
    """Return a digest of all packages with their versions."""
    found = {f"{one.name}=={one.version}" for one in metadata.distributions()}
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:16]


def _gpus() -> int:
    """Return how many GPUs PyTorch may use; 0 without PyTorch."""
    try:
        import torch
    except ImportError:
        return 0
    return int(torch.cuda.device_count())


def main(arguments: Sequence[str]) -> int:
    """Look, and write it down."""
    folder, name = Path(arguments[0]), arguments[1]
    asked = records.read(folder / f"{QUESTION}.json", shape=ASKED)
    if asked is None:
        return 1
    found = look(folder, asked["paths"], gpus=asked["gpus"])
    records.replace(folder / f"{name}.json", found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
