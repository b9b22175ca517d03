"""Which files a command names."""

from __future__ import annotations

from pathlib import Path

import pytest

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
