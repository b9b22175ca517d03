"""Runs the commands of a stage that is not ours: ``python -m mllam_exps.programs.shell STAGE FOLDER COMMAND…``.

As DVC (3.67) does: each command in a shell of its own, the user's, without its startup files; the first that fails is
the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from mllam_exps.programs import fence

_WITHOUT_STARTUP_FILES = {"bash": ["--noprofile", "--norc"], "zsh": ["--no-rcs"], "fish": ["--no-config"]}


def main(stage: str, folder: str, *commands: str) -> int:
    """Run the commands; return the exit code of the last, as shells tell it."""
    fence.guard(lambda: os.killpg(0, signal.SIGKILL))
    shell = os.environ.get("SHELL") or "/bin/sh"
    options = _WITHOUT_STARTUP_FILES.get(Path(shell).name, [])
    environ = os.environ | {"DVC_ROOT": str(Path.cwd()), "DVC_STAGE": stage}
    for ours, theirs in (("MLLAM_EXPS_EXPERIMENT", "DVC_EXP_NAME"), ("MLLAM_EXPS_COMMIT", "DVC_EXP_BASELINE_REV")):
        if value := os.environ.get(ours):
            environ[theirs] = value
    for command in commands:
        print(">", command, flush=True)
        code = subprocess.run([shell, *options, "-c", command], cwd=folder, env=environ, check=False).returncode
        if code:
            return code if code > 0 else 128 - code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
