"""What a stage's own commands leave running ends with them: what they made is hashed then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
os._exit(0)
"""


def test_a_process_that_forked_twice_is_ended_with_the_stage(tmp_path: Path):
    """A third of them escaped when children were looked for in /proc alone."""
    (tmp_path / "daemon.py").write_text(DAEMON)
    for number in range(12):
        mark = f"{tmp_path}-{number}"
        command = [
            sys.executable,
            "-P",
            "-m",
            "mllam_exps.programs.shell",
            "s",
            ".",
            f"{sys.executable} daemon.py {mark}",
        ]
        assert subprocess.run(command, cwd=tmp_path, check=False, stdout=subprocess.DEVNULL).returncode == 0
        left = [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]
        assert not left, f"try {number}"
