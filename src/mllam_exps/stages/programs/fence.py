"""Ends a program whose attempt is over, or has lost the run, wherever the program runs.

The attempt's own process ends its program when the run is taken from it. On a cluster
the program's processes are children of Slurm's daemons on several nodes: where those
daemons die, nobody would end them. So each of them looks itself, at two files of the
run store.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

VARIABLE = "MLLAM_EXPS_ATTEMPT"
PERIOD = 2.0
EXIT_CODE = 75


def guard(end: Callable[[], None] = lambda: os._exit(EXIT_CODE)) -> None:
    """Watch the attempt that the environment names, in a thread, and end with it.

    Parameters
    ----------
    end : callable
        Ends this process, and those of its own that would not notice.
    """
    attempt = os.environ.get(VARIABLE)
    if attempt:
        threading.Thread(target=_watch, args=(Path(attempt), end), daemon=True).start()


def _watch(attempt: Path, end: Callable[[], None]) -> None:
    # The claim of the next attempt is the fencing token; see `mllam_exps.runs.store`.
    over = (attempt / "end.json", attempt.with_name(f"{int(attempt.name) + 1}.json"))
    while not any(path.exists() for path in over):
        time.sleep(PERIOD)
    print(f"attempt {attempt.name} is over: ending", flush=True)
    end()
