"""Which files a command names, and what takes the room of a machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mllam_exps.attempts.job_quota import Room
from mllam_exps.preflight.named_files import named

COMMANDS = {
    "python plot.py > made.json": ["plot.py"],
    "python -u plot.py --config=set.yaml 2>made.json | tee other": [
        "plot.py",
        "set.yaml",
    ],
    "PYTHONPATH=. python -m tools.report && ./plot.py": ["tools/report.py", "plot.py"],
    "python 'a b.py' ../outside.py": ["a b.py", "../outside.py"],
    "echo plot > made.json": [],
    "python - <<'END": [],
    "cat plot.py plot.py": ["plot.py"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_a_command_names(tmp_path: Path, command: str):
    folder = tmp_path / "work"
    (folder / "tools").mkdir(parents=True)
    for name in (
        "plot.py",
        "made.json",
        "set.yaml",
        "tools/report.py",
        "a b.py",
        "../outside.py",
    ):
        (folder / name).touch()
    expected = [(folder / name).resolve() for name in COMMANDS[command]]
    assert named([command], folder.resolve()) == expected


class Busy:
    """A scheduler with jobs of another repository of this user's."""

    def outage(self) -> str:
        return ""

    def names(self) -> list[str]:
        return ["gr%C3%BCn/train-0123abcd", "gr%C3%BCn/save-0123abcd", "firefox"]


def test_who_takes_the_room_is_named():
    room = Room(SimpleNamespace(max_jobs=2), Busy())  # type: ignore[arg-type]
    assert room.look()
    room.take("lr-1/train-89abcdef")
    assert not room.look()
    assert (
        room.full
        == "2 of your jobs at once (max_jobs in the machine file), and there are grün/train, lr-1/train"
    )
