"""Ends a program whose attempt is over, or has lost the run, wherever the program runs.

The attempt's own process ends its program when the run is taken from it. On a cluster
the program's processes are children of Slurm's daemons on several nodes: where those
daemons die, nobody would end them. So each of them looks itself, at two files that the
attempt has named: its own record of its end, and the claim of the next attempt, which
is the fencing token.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

VARIABLE = "MLLAM_EXPS_ENDS_WITH"
"""Names the files, in JSON, of which one is there once the attempt is over."""
PERIOD = 2.0
EXIT_CODE = 75


def guard(end: Callable[[], None] = lambda: os._exit(EXIT_CODE)) -> None:
    """Watch the attempt that the environment names, in a thread, and end with it.

    Parameters
    ----------
    end : callable
        Ends this process, and those of its own that would not notice.
    """
    named = os.environ.get(VARIABLE)
    if named:
        files = [Path(name) for name in json.loads(named)]
        threading.Thread(target=_watch, args=(files, end), daemon=True).start()


def _watch(files: Sequence[Path], end: Callable[[], None]) -> None:
    while not any(path.exists() for path in files):
        time.sleep(PERIOD)
    print("this attempt is over: ending", flush=True)
    end()
