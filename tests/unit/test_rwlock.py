"""DVC's lock of files: a process of another host is told from one that works here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mllam_exps.dvc import rwlock

COMMAND = "dvc exp run -n x"


def held(number: int, command: str = COMMAND) -> str:
    info = {"pid": number, "cmd": command}
    return json.dumps({"read": {"/r/a": [info]}, "write": {"/r/b": info}})


def test_a_number_that_another_program_has_here_is_told(tmp_path: Path):
    assert rwlock.stuck(tmp_path) is None
    place = tmp_path / rwlock.FILE
    place.write_text(held(os.getpid()))
    found = rwlock.stuck(tmp_path)
    assert found is not None
    assert found.what == f"it names process {os.getpid()}, `{COMMAND}`"
    assert found.next.startswith(f"rm {place}")


def test_one_that_works_here_is_none_and_one_that_is_gone_dvc_drops(tmp_path: Path):
    words = ["-c", "input()", "dvc", "exp", "run", "-n", "x"]
    working = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE)
    place = tmp_path / rwlock.FILE
    place.write_text(held(working.pid))
    assert rwlock.stuck(tmp_path) is None
    working.communicate(b"\n")
    assert rwlock.stuck(tmp_path) is None
    for text in (held(-1), "{}"):
        place.write_text(text)
        assert rwlock.stuck(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"read"',
        '{"write": {"/a": {"pid": "x"}}}',
        '{"write": {"/a": {"pid": 1e999}}}',
        "[]",
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_damaged_one_is_told(tmp_path: Path, text: str):
    (tmp_path / rwlock.FILE).write_text(text)
    found = rwlock.stuck(tmp_path)
    assert found is not None
    assert "it is damaged" in found.what
