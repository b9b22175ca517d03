"""Runs the commands of a stage that is not ours: ``python -m mllam_exps.stages.programs.shell STAGE FOLDER COMMAND…``.

As DVC (3.67) does: each command in a shell of its own, the user's, without its startup
files; the first that fails is the end. Whatever they leave running ends with them, and
with this process: what is made is hashed when they are done, and nobody may write to it
after that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from mllam_exps.stages.programs import fence

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 10.0
_WITHOUT_STARTUP_FILES = {
    "bash": ["--noprofile", "--norc"],
    "zsh": ["--no-rcs"],
    "fish": ["--no-config"],
}


class Told(Exception):
    """A signal tells this process to end."""


def main(stage: str, folder: str, *commands: str) -> int:
    """Run the commands; return the exit code of the last, as shells tell it."""
    libc = ctypes.CDLL(None)
    # What a command leaves behind becomes a child of ours, in whatever session it is.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _tell)
    # Whoever started us asked the kernel to kill us when it dies: then our children
    # would go on.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    fence.guard(_give_up)
    try:
        code = _run_each(stage, folder, commands)
    except Told:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_children(signal.SIGTERM, GRACE_SECONDS)
        code = 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ended = _end_children(signal.SIGKILL, GRACE_SECONDS)
    if not code and not ended:
        # A process that waits for a file system that does not answer, say: SIGKILL
        # reaches it when that does.
        left = ", ".join(str(child.pid) for child in psutil.Process().children())
        print(
            f"error: the commands left processes running that cannot be ended ({left}); they may still write"
        )
        return 1
    return code


def _tell(_number: int, _frame: object) -> None:
    raise Told


def _run_each(stage: str, folder: str, commands: tuple[str, ...]) -> int:
    shell = os.environ.get("SHELL") or "/bin/sh"
    options = _WITHOUT_STARTUP_FILES.get(Path(shell).name, [])
    environ = os.environ | {"DVC_ROOT": str(Path.cwd()), "DVC_STAGE": stage}
    for ours, theirs in (
        ("MLLAM_EXPS_EXPERIMENT", "DVC_EXP_NAME"),
        ("MLLAM_EXPS_COMMIT", "DVC_EXP_BASELINE_REV"),
    ):
        if value := os.environ.get(ours):
            environ[theirs] = value
    for command in commands:
        print(">", command, flush=True)
        code = subprocess.Popen(
            [shell, *options, "-c", command], cwd=folder, env=environ
        ).wait()
        if code:
            return code if code > 0 else 128 - code
    return 0


def _end_children(number: signal.Signals, patience: float) -> bool:
    """Send a signal to all children, and to theirs, which become ours, until there is none or patience ends.

    Returns
    -------
    bool
        Whether there is none.
    """
    until = time.monotonic() + patience
    told: set[int] = set()
    while _has_children():
        if time.monotonic() > until:
            return False
        for child in psutil.Process().children():
            if number is signal.SIGKILL or child.pid not in told:
                told.add(child.pid)
                with contextlib.suppress(psutil.Error):
                    child.send_signal(number)
        time.sleep(0.05)
    return True


def _has_children() -> bool:
    """Tell whether any child is left, asking those that have ended how they did.

    The kernel knows: whatever a child leaves behind is ours before that child counts as
    ended. A list of processes can miss one that was forked while the list was being
    made.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _give_up() -> None:
    """End at once, with all children."""
    _end_children(signal.SIGKILL, GRACE_SECONDS)
    os._exit(fence.EXIT_CODE)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
