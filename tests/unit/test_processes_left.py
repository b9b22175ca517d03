"""What a killed attempt has left running is ended before the next one starts its program."""

from __future__ import annotations

import os
import subprocess

from mllam_exps.base import processes


def test_processes_with_a_variable_are_ended() -> None:
    def started(attempt: str) -> subprocess.Popen[bytes]:
        mine = {"MLLAM_EXPS_ATTEMPT": attempt, "PATH": os.environ["PATH"]}
        return subprocess.Popen(["sleep", "60"], env=mine)

    old, other = started("/store/runs/a/1"), started("/store/runs/a/10")
    try:
        processes.end_those_with("MLLAM_EXPS_ATTEMPT=/store/runs/a/1")
        assert old.wait(timeout=60) == -9
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
