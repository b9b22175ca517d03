"""One squeue for everybody: how often it is asked, and what is said when it does not answer."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.experiment import PATIENCE

from mllam_exps.schedulers.slurm import shared_squeue
from mllam_exps.schedulers.slurm.shared_squeue import Answer, Queue, Silence

FAKE = """#!{python}
import pathlib, sys, time
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as file:
    file.write(f"{{time.time()}}\\n")
calls = len((here / "calls").read_text().splitlines())
how = (here / "how").read_text()
if how == "hangs":
    time.sleep(60)
if how == "fails" or (how == "every second" and calls % 2):
    sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
print("Welcome to the cluster | maintenance on Monday")
if how == "empty":
    sys.exit()
print("mllam|JOBID|STATE|REASON|TIME|NODELIST|NAME")
if how != "no jobs":
    print("mllam|7|RUNNING|None|0:10|n1|experiment/train-1a2b|with a bar")
    print("mllam|8|PENDING|Resources|0:00||x")
"""

READER = """
import json, sys, time
from pathlib import Path
from mllam_exps.schedulers.slurm import shared_squeue
shared_squeue.PERIOD = float(sys.argv[3])
queue = shared_squeue.Queue(Path(sys.argv[1]), (sys.argv[2],))
until = time.monotonic() + float(sys.argv[4])
while time.monotonic() < until:
    answer = queue.read()
    time.sleep(0.05)
print(type(answer).__name__)
"""


@pytest.fixture
def squeue(tmp_path: Path) -> Path:
    path = tmp_path / "bin/squeue"
    path.parent.mkdir()
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    (path.parent / "how").write_text("answers")
    return path


def calls(squeue: Path) -> list[float]:
    path = squeue.parent / "calls"
    return (
        [float(line) for line in path.read_text().splitlines()] if path.exists() else []
    )


def test_an_answer(squeue: Path, tmp_path: Path):
    queue = Queue(tmp_path / "shared", (str(squeue),))
    answer = queue.read()
    assert isinstance(answer, Answer)
    assert answer.number == 1
    assert answer.jobs["7"].name == "experiment/train-1a2b|with a bar"
    assert answer.jobs["8"].reason == "Resources"
    assert answer.asked <= queue.clock()
    for _ in range(3):
        queue.read()
    assert len(calls(squeue)) == 1


@pytest.mark.parametrize(("how", "kind"), [("no jobs", Answer), ("empty", Silence)])
def test_no_jobs_are_believed_only_of_a_list(
    squeue: Path, tmp_path: Path, how: str, kind: type
):
    (squeue.parent / "how").write_text(how)
    answer = Queue(tmp_path / "shared", (str(squeue),)).read()
    assert isinstance(answer, kind)
    assert getattr(answer, "jobs", {}) == {}


def test_squeue_is_not_started_where_nobody_would_answer(squeue: Path, tmp_path: Path):
    answer = Queue(
        tmp_path / "shared", (str(squeue),), lambda: "slurmctld is down"
    ).read()
    assert isinstance(answer, Silence)
    assert answer.why == "slurmctld is down"
    assert calls(squeue) == []


def test_eight_drivers_ask_as_often_as_one(squeue: Path, tmp_path: Path):
    period = 1.0
    command = [
        sys.executable,
        "-c",
        READER,
        str(tmp_path / "shared"),
        str(squeue),
        str(period),
        "4",
    ]
    readers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    assert {reader.communicate()[0].strip() for reader in readers} == {"Answer"}
    times = calls(squeue)
    assert len(times) >= 2
    # The question is dated before squeue is started, which may take long: two calls may
    # come closer than the period.
    assert len(times) <= (times[-1] - times[0]) / period + 2


def test_failures_are_silence_only_when_they_last(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shared_squeue, "PERIOD", 0.2)
    (squeue.parent / "how").write_text("every second")
    queue = Queue(tmp_path / "shared", (str(squeue),))
    first = queue.read()
    assert isinstance(first, Silence)
    assert "Unable to contact slurm controller" in first.why
    deadline = time.monotonic() + PATIENCE
    while len(calls(squeue)) < 4:
        assert time.monotonic() < deadline
        answer = queue.read()
        time.sleep(0.02)
    assert isinstance(answer, Answer), "the last good answer stands for a while"
    monkeypatch.setattr(shared_squeue, "PATIENCE", 0.5)
    (squeue.parent / "how").write_text("fails")
    while isinstance(answer, Answer):
        assert time.monotonic() < deadline
        answer = queue.read()
        time.sleep(0.02)
    assert isinstance(answer, Silence)
    since = answer.since
    time.sleep(1.2)
    again = Queue(tmp_path / "shared", (str(squeue),)).read()
    assert isinstance(again, Silence)
    assert again.since == since, "it is said since when"


def test_a_hanging_squeue_is_given_up(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shared_squeue, "PATIENCE", 0.5)
    (squeue.parent / "how").write_text("hangs")
    answer = Queue(tmp_path / "shared", (str(squeue),)).read()
    assert isinstance(answer, Silence)
    assert "no answer within" in answer.why


def test_whoever_asked_may_have_died(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "1.question").write_text(json.dumps({"host": "n9", "pid": 1}))
    assert isinstance(Queue(shared, (str(squeue),)).read(), Silence)
    assert calls(squeue) == [], "somebody asks at this moment"
    long_ago = time.time() - 2 * shared_squeue.CLAIM_LIFE
    os.utime(shared / "1.question", (long_ago, long_ago))
    answer = Queue(shared, (str(squeue),)).read()
    assert isinstance(answer, Answer)
    assert answer.number == 2


def test_no_squeue_at_all(tmp_path: Path):
    answer = Queue(tmp_path / "shared", (str(tmp_path / "nothing"),)).read()
    assert isinstance(answer, Silence)
    assert "cannot be started" in answer.why


@pytest.mark.parametrize("written", [0, 1])
def test_squeue_is_asked_where_nothing_can_be_written(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
):
    """The disk of the run store is full, or has room for the question and none for the answer."""

    def full(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shared_squeue.records, "replace", full)
    if not written:
        monkeypatch.setattr(shared_squeue.records, "create", full)
    answer = Queue(tmp_path / "queue", (str(squeue),)).read()
    assert isinstance(answer, Answer)
    assert answer.jobs["7"].state == "RUNNING"
