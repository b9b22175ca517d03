"""What a job saw is compared with what this host sees: each difference once, with what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base import records
from mllam_exps.sharing import compute_nodes, seen
from mllam_exps.sharing.health import State

HERE: dict[str, Any] = {
    "host": "login",
    "ahead": 0.0,
    "missing": [],
    "closed": [],
    "packages": "a1",
    "python": "3.11.7",
    "cpus": 8,
    "gpus": 0,
}
THERE = HERE | {"host": "n1", "gpus": 2}


@pytest.mark.parametrize(
    ("differs", "topic", "state", "words"),
    [
        ({"missing": ["/home/lena"]}, "paths", State.WRONG, "is not there on n1"),
        ({"closed": ["/cache/"]}, "paths", State.WRONG, "cannot be written to on n1"),
        ({"ahead": -300.0}, "clock", State.NOTE, "n1 is 300 s behind"),
        ({"ahead": 61.0}, "clock", State.NOTE, "61 s ahead of"),
        ({"packages": "b2"}, "programs", State.WRONG, "packages on n1"),
        ({"python": "3.9.1"}, "programs", State.WRONG, "3.9.1, 3.11.7"),
        ({"gpus": 0}, "GPUs", State.WRONG, "sees none on n1, although 2"),
    ],
)
def test_what_differs_is_said(
    differs: dict[str, Any], topic: str, state: State, words: str
):
    found = list(compute_nodes.judged(HERE, THERE | differs, "2"))
    [wrong] = [one for one in found if one.state is not State.FINE]
    assert (wrong.topic, wrong.state) == (topic, state)
    assert words in wrong.what
    assert wrong.next


def test_all_is_fine_where_nothing_differs():
    found = list(compute_nodes.judged(HERE, THERE, "2"))
    topics = ["compute node", "paths", "clock", "programs", "GPUs"]
    assert [(one.topic, one.state) for one in found] == [
        (topic, State.FINE) for topic in topics
    ]
    # Where this host could not look, and no GPUs are asked for, there is less to say.
    found = list(compute_nodes.judged(None, THERE, ""))
    assert [one.topic for one in found] == ["compute node", "paths", "clock"]


def test_a_host_writes_down_what_it_sees(tmp_path: Path):
    there, gone = f"{tmp_path}/", f"{tmp_path}/gone/"
    asked = {"paths": [there, gone, sys.executable], "gpus": False}
    records.replace(tmp_path / "asked.json", asked)
    command = [sys.executable, "-m", seen.__name__, str(tmp_path), "there"]
    subprocess.run(command, check=True)
    found = json.loads((tmp_path / "there.json").read_text())
    assert found["missing"] == [gone]
    assert found["closed"] == []
    assert abs(found["ahead"]) < 60
    assert found["cpus"] >= 1
    assert records.look(tmp_path / "there.json", shape=seen.SEEN)
