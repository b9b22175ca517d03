"""Where DVC's cache is, without DVC: the same place as DVC says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mllam_exps.dvc.cache_place import cache_directory
from mllam_exps.dvc.repository import Repository


@pytest.mark.parametrize(
    ("file", "text", "is_simple"),
    [
        ("", "", True),
        ("repo/.dvc/config", "[cache]\n    dir = ../shared\n", True),
        ("repo/.dvc/config.local", "[Cache]\n    dir = /somewhere/a b\n", True),
        (
            "repo/.dvc/config.local",
            "['remote \"x\"']\n    url = /r\n[core]\n    remote = x\n",
            True,
        ),
        ("global/config", "[cache]\n    dir = ../theirs\n", True),
        ("repo/.dvc/config", "[cache]\n    dir = 'a, b'\n    type = symlink\n", True),
        ("repo/.dvc/config", "[cache]\n    dir = ~/cache\n", True),
    ],
)
def test_it_is_where_dvc_has_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    text: str,
    is_simple: bool,
):
    for level in ("global", "system"):
        (tmp_path / level).mkdir()
        monkeypatch.setenv(f"DVC_{level.upper()}_CONFIG_DIR", str(tmp_path / level))
    root = tmp_path / "repo"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    if file:
        (tmp_path / file).write_text(text)
    expected = Repository.open(root, check=False).cache_directory
    if is_simple:
        monkeypatch.setattr(Repository, "open", None)
    assert cache_directory(root) == expected
