"""What a stage's own commands leave running ends with them: what they made is hashed then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

RUN = """
import sys
from mllam_exps.stages.programs import shell
{before}
sys.exit(shell.main('s', '.', *sys.argv[1:]))
"""

DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
os._exit(0)
"""


def run(
    folder: Path, *commands: str, before: str = "pass"
) -> subprocess.CompletedProcess[str]:
    """Run commands as a stage's; nothing that they leave behind can keep us waiting."""
    (folder / "said.txt").touch()
    with (folder / "said.txt").open("w") as said:
        words = [sys.executable, "-P", "-c", RUN.format(before=before), *commands]
        return subprocess.run(words, cwd=folder, check=False, stdout=said, stderr=said)


def left(mark: str) -> list[psutil.Process]:
    """Return the processes that carry a mark among their arguments, and end them."""
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if mark in (process.info["cmdline"] or [])
    ]
    for process in found:
        process.kill()
    return found


def test_a_process_that_forked_twice_is_ended_with_the_stage(tmp_path: Path):
    """A third of them escaped when children were looked for in a list of processes alone."""
    (tmp_path / "daemon.py").write_text(DAEMON)
    for number in range(6):
        mark = f"{tmp_path}-{number}"
        assert run(tmp_path, f"{sys.executable} daemon.py {mark}").returncode == 0
        assert not left(mark), f"try {number}"


def test_a_process_that_no_list_names_is_ended_with_the_stage(tmp_path: Path):
    """The list of processes is empty at the first look, as it is where a process forks and ends while it is made."""
    before = "real, first = shell.psutil.Process.children, iter([lambda _: []])"
    before += "; shell.psutil.Process.children = lambda self: next(first, real)(self)"
    mark = f"{tmp_path}-left"
    assert (
        run(
            tmp_path,
            f"{sys.executable} -c 'import time; time.sleep(60)' {mark} &",
            before=before,
        ).returncode
        == 0
    )
    assert not left(mark)


def test_results_do_not_count_while_somebody_can_write_to_them(tmp_path: Path):
    before = (
        "shell.GRACE_SECONDS = 0.3; shell.psutil.Process.send_signal = lambda *_: None"
    )
    mark = f"{tmp_path}-left"
    done = run(
        tmp_path,
        f"{sys.executable} -c 'import time; time.sleep(60)' {mark} &",
        before=before,
    )
    [process] = left(mark)
    assert done.returncode == 1
    assert f"cannot be ended ({process.pid})" in (tmp_path / "said.txt").read_text()
