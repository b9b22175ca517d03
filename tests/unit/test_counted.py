"""What DVC counts of a folder: it is asked only where there is something that it could leave out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mllam_exps.dvc.counted import Counted


def plain(root: Path) -> None:
    """Nothing that DVC leaves out, but for a link to a folder."""
    (root / "data/inner").mkdir(parents=True)
    (root / "data/a.txt").write_text("a")
    (root / "data/.hidden").write_text("b")
    (root / "data/inner/.dvcignores").write_text("c")
    (root / "data/link").symlink_to("inner")
    (root / "data/file").symlink_to("a.txt")
    (root / "data/nowhere").symlink_to("absent")


def list_beside(root: Path) -> None:
    (root / ".dvcignore").write_text("*.txt\ndata/inner\n")


def list_on_the_way(root: Path) -> None:
    (root / "data/deep").mkdir()
    (root / "data/deep/x.txt").write_text("x")
    (root / "data/.dvcignore").write_text("x.txt\n")


def list_that_leads_nowhere(root: Path) -> None:
    (root / ".dvcignore").symlink_to("absent")


def git_in_it(root: Path) -> None:
    (root / "data/inner/.git").mkdir()


def git_file_in_it(root: Path) -> None:
    (root / "data/inner/.git").write_text("gitdir: elsewhere\n")


def hg_file_in_it(root: Path) -> None:
    (root / "data/.hg").write_text("a file counts, a folder does not")


def repository_in_it(root: Path) -> None:
    (root / "data/inner/.dvc").mkdir()


def repository_behind_a_link(root: Path) -> None:
    (root / "other/.dvc").mkdir(parents=True)
    (root / "data/other").symlink_to("../other")


def repository_itself(root: Path) -> None:
    (root / "data/.dvc").mkdir()


CHANGES = [
    list_beside,
    list_on_the_way,
    list_that_leads_nowhere,
    git_in_it,
    git_file_in_it,
    hg_file_in_it,
    repository_in_it,
    repository_behind_a_link,
    repository_itself,
]


@pytest.mark.parametrize("folder", ["data", "data/inner", "data/deep", "data/../data"])
@pytest.mark.parametrize("change", [plain, *CHANGES], ids=lambda one: one.__name__)
def test_what_counts_is_what_dvc_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    folder: str,
):
    plain(tmp_path)
    if change is not plain:
        change(tmp_path)
    found = looked(tmp_path, folder)
    monkeypatch.setattr(Counted, "_is_plain_above", lambda *_: False)
    assert found == looked(tmp_path, folder)


def looked(root: Path, folder: str) -> object:
    try:
        return Counted(root).look(root / folder)
    except Exception as error:
        return str(error)


def test_a_plain_folder_needs_no_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain(tmp_path)
    monkeypatch.setitem(sys.modules, "dvc.ignore", None)
    files, left = Counted(tmp_path).look(tmp_path / "data")
    assert len(files) == 5
    assert list(left) == [tmp_path / "data/link"]
    list_beside(tmp_path)
    with pytest.raises(ImportError):
        Counted(tmp_path).look(tmp_path / "data")
