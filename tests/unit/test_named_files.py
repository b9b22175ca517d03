"""Which files a command names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllam_exps.preflight.named_files import by_whole_path, history_asked, named

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


def test_what_a_command_names_of_the_repository_by_a_whole_path(tmp_path: Path):
    root = tmp_path / "repository"
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    command = (
        f"cd {root} && PYTHONPATH=/usr/lib:{root}/src python {tmp_path}/link/a.py "
        f"--out={root}/../other/b.txt c.py /bin/true '{root}/with space'"
    )
    assert by_whole_path([command, command], root) == [
        (str(root), "."),
        (f"{root}/src", "src"),
        (f"{tmp_path}/link/a.py", "a.py"),
        (f"{root}/with space", "with space"),
    ]


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ('echo "$(git describe --tags)" > v.txt', "git describe"),
        ("git -C lib log -1 > v.txt", "git log"),
        ("x=`git rev-list --count HEAD`", "git rev-list"),
        ("git rev-parse HEAD > v.txt", ""),
        ("python digit.py log", ""),
        ("git lfs pull", ""),
    ],
)
def test_commands_that_ask_git_for_its_history(command: str, asked: str):
    assert history_asked(["true", command]) == asked
