"""How many jobs a user may still submit, whoever counts them at the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.attempts import job_quota
from mllam_exps.attempts.job_quota import Quota, Room
from mllam_exps.schedulers.local import NAME_VARIABLE, LocalScheduler


class Site:
    """A scheduler with jobs of this user's."""

    name = "local"
    limits = False

    def __init__(self, jobs: dict[str, str]) -> None:
        self.jobs = jobs

    def outage(self) -> str:
        return ""

    def names(self) -> dict[str, str]:
        return dict(self.jobs)


def room(quota: Quota, site: Any, limit: int, origin: str = "/here") -> Room:
    """Return the room of a machine file."""
    machine: Any = SimpleNamespace(max_jobs=limit)
    return quota.room(machine, site, origin)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's locks lie."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/mllam-exps"


def test_who_takes_the_room_is_named(tmp_path: Path):
    for name, origin in (("theirs", "/there"), ("ours", "/here")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "spec.json").write_text(json.dumps({"origin": origin}))
    site = Site(
        {
            "gr%C3%BCn/train-0123abcd": str(tmp_path / "theirs"),
            "gr%C3%BCn/save-0123abcd": str(tmp_path / "theirs"),
            "gr%C3%BCn/report-0123abcd": "",
            "firefox": "",
        }
    )
    with Quota() as quota:
        place = room(quota, site, 3)
        assert place.look()
        place.take("lr-1/train-89abcdef", tmp_path / "ours")
        assert not place.look()
        assert place.full == (
            "3 of your jobs at once (max_jobs in the machine file), and there are grün/report,"
            " grün/train of /there, lr-1/train"
        )
        assert not room(quota, site, 3).look(), "what was taken counts for all"
        assert room(quota, site, 4).look()


def test_two_that_count_at_one_moment_take_one_place_once():
    site = Site({})
    fulls: list[str] = []

    def submit(name: str) -> None:
        with Quota() as quota:
            place = room(quota, site, 1)
            if place.look():
                time.sleep(0.2)  # it lays out what its job needs
                site.jobs[f"{name}/grow-0123abcd"] = ""
            fulls.append(place.full)

    both = [threading.Thread(target=submit, args=(name,)) for name in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(site.jobs) == 1
    assert sorted(map(bool, fulls)) == [False, True]


def test_who_counts_for_long_is_named_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(job_quota, "PATIENCE", 0.1)
    with Quota() as first, Quota() as second:
        assert room(first, Site({}), 1).look()
        place = room(second, Site({}), 1)
        assert not place.look()
        assert f"your process {os.getpid()} on " in place.full
        assert "mllam-exps advance" in place.full
        first.release()
        assert room(second, Site({}), 1).look()


def test_jobs_of_another_home_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("XDG_STATE_HOME")
    started = []
    for home in (tmp_path / "a", tmp_path / "b"):
        home.mkdir()
        environ = os.environ | {"HOME": str(home), NAME_VARIABLE: f"{home.name}/job"}
        started.append(
            subprocess.Popen(
                ["sleep", "60"], env=environ, cwd=home, start_new_session=True
            )
        )
    try:
        for home in (tmp_path / "a", tmp_path / "b"):
            monkeypatch.setenv("HOME", str(home))
            assert LocalScheduler().names() == {f"{home.name}/job": str(home)}
    finally:
        for process in started:
            process.kill()
            process.wait()
