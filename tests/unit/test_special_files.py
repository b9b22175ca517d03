"""A pipe or a device in the place of a file: nobody waits for it, whoever opens it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mllam_exps.base import special_files
from mllam_exps.base.errors import UsageError

READS = """
import pathlib, sys
from mllam_exps.base import special_files
special_files.guard()
special_files.guard()
print(pathlib.Path("file").read_text() + pathlib.Path("null").read_text())
try:
    pathlib.Path("pipe").read_text()
except special_files.UsageError as error:
    print(error)
"""


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("one")
    (tmp_path / "null").symlink_to(os.devnull)
    done = subprocess.run(
        [sys.executable, "-c", READS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    told = "pipe: is a pipe, and no file: who reads it waits"
    read, refused, way_out = done.stdout.splitlines()
    assert read == "one"
    assert refused.startswith(told)
    assert "git restore pipe" in way_out


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_named(tmp_path: Path, kind: str):
    place = tmp_path / "x.yaml"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=f"is a {kind}, and no file"):
        special_files._look("open", (os.fsencode(place), "r", os.O_RDONLY))
    special_files._look("open", (str(place), "w", os.O_WRONLY))
    # Records are opened so: one that is a pipe is told, and stops no command.
    special_files._look("open", (str(place), None, os.O_RDONLY | os.O_NONBLOCK))
    special_files._look("open", ("/dev/zero", "r", os.O_RDONLY))
    special_files._look("open", (str(tmp_path / "absent"), "r", os.O_RDONLY))
    special_files._look("open", (3, "r", os.O_RDONLY))


def test_a_pipe_in_the_place_of_a_record_is_told_and_stops_nobody(tmp_path: Path):
    os.mkfifo(tmp_path / "run.json")
    program = """
import pathlib
from mllam_exps.base import records, special_files
special_files.guard()
print(records.look(pathlib.Path("run.json")))
"""
    command = [sys.executable, "-c", program]
    said = subprocess.check_output(command, cwd=tmp_path, text=True, timeout=30)
    assert "run.json is damaged: no file" in said


def test_a_pipe_in_shared_memory_is_named():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.mkfifo(Path(folder) / "pipe")
        with pytest.raises(UsageError, match="is a pipe, and no file"):
            special_files._look("open", (f"{folder}/pipe", "r", os.O_RDONLY))
