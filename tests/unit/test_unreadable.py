"""A file that cannot be parsed is told with its line, its column, and the line itself, whoever reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.parameters import overrides, parameter_files

BROKEN = {
    "toy.yaml": ("grow:\n  epochs: 3\n  at: }\n", "toy.yaml:3:7: "),
    "toy.json": ('{"grow": 1,\n "at": }\n', "toy.json:2:8: "),
    "toy.toml": ("[grow]\nat = }\n", "toy.toml:2:"),
    "toy.py": ("grow = 1\nat = }\n", "toy.py:2:6: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_parameter_file(tmp_path: Path, name: str):
    text, where = BROKEN[name]
    (tmp_path / name).write_text(text)
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    with pytest.raises(UsageError) as read:
        parameter_files.read(tmp_path / name)
    assert str(read.value).startswith(str(tmp_path / where))
    assert "}`" in read.value.why, "the line itself is shown"
    with pytest.raises(UsageError) as set_:
        overrides.apply(tmp_path, {name: ["grow=2"]}, {})
    assert str(set_.value).startswith(where)


@pytest.mark.parametrize("name", BROKEN)
def test_what_git_could_not_merge(tmp_path: Path, name: str):
    file = tmp_path / name
    file.write_text("a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> other\n")
    with pytest.raises(UsageError) as read:
        parameter_files.read(file)
    assert str(read.value).startswith(f"{file}:2: holds git's conflict markers")
    assert f"git add {file}" in read.value.next
