"""What files hold: as DVC (3.67) hashes and lists it, and what is found where they hold something else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base.errors import CheckFailed
from mllam_exps.identity import content, listings
from mllam_exps.identity.content import (
    FEW,
    Difference,
    describe,
    differences,
    files_of,
)

A, B = "0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"
"""The MD5 of "a" and of "b"."""
FOLDER = "90d9fe10b4a0cddaefbe4549457984d9.dir"
"""What DVC 3.67 calls a folder of them, `a.txt` and `sub/b.txt`."""
EMPTY_FOLDER = "d751713988987e9331980363e24189ce.dir"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files, one of them in a folder of its own."""
    place = tmp_path / "made"
    (place / "sub").mkdir(parents=True)
    (place / "a.txt").write_text("a")
    (place / "sub" / "b.txt").write_text("b")
    return place


def test_a_file_is_described(folder: Path):
    described = describe(folder / "a.txt")
    assert (described["digest"], described["size"], described["files"]) == (A, 1, None)
    assert "isexec" not in described
    (folder / "a.txt").chmod(0o744)
    assert describe(folder / "a.txt")["isexec"] is True


def test_a_folder_is_described_by_its_files(folder: Path):
    described = describe(folder)
    assert described["digest"] == FOLDER
    assert described["size"] == 2
    found = [(file["relpath"], file["md5"]) for file in described["files"]]
    assert found == [("a.txt", A), ("sub/b.txt", B)]
    only_a = describe(folder, lambda place: [place / "a.txt"])
    assert [file["relpath"] for file in only_a["files"]] == ["a.txt"]


def pipe(place: Path) -> None:
    os.mkfifo(place / "pipe")


def dangling(place: Path) -> None:
    (place / "link").symlink_to("nowhere")


def not_utf8(place: Path) -> None:
    Path(os.fsdecode(os.fsencode(place) + b"/\xff")).write_text("")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (pipe, "pipe is a pipe, which has no content to keep"),
        (dangling, "link is a link that leads nowhere: its target is nowhere"),
        (not_utf8, r"a name in made is not UTF-8, which DVC needs: '\udcff'"),
    ],
)
def test_what_has_no_content_or_no_name_is_refused(
    folder: Path, make: Callable[[Path], None], told: str
):
    make(folder)
    with pytest.raises(CheckFailed) as caught:
        describe(folder)
    assert caught.value.problem.sentence.endswith(told)


def test_a_file_that_is_not_there_is_not_called_a_link(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        content.regular(tmp_path / "nothing")


WHOLE: dict[str, Any] = {
    "digest": "whatever",
    "size": 2,
    "files": [
        {"relpath": "a.txt", "md5": A, "size": 1, "mark": [1, 2], "isexec": True},
        {"relpath": "sub/b.txt", "md5": B, "size": 1},
        {"relpath": "subway", "md5": B, "size": 1},
    ],
    "folders": ["sub/empty", "empty"],
    "left_out": {"sub/x.tmp": "ignored", "rest/y.tmp": "ignored"},
}
SUB = {
    "digest": content.digest_of_folder([{"relpath": "b.txt", "md5": B}])[0],
    "size": 1,
    "files": [{"relpath": "b.txt", "md5": B, "size": 1}],
    "folders": ["empty"],
    "left_out": {"x.tmp": "ignored"},
}
NOTHING_IN_IT = {"digest": EMPTY_FOLDER, "size": 0, "files": []}


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (
            "a.txt",
            {"digest": A, "size": 1, "files": None, "mark": [1, 2], "isexec": True},
        ),
        ("sub/b.txt", {"digest": B, "size": 1, "files": None}),
        ("sub", SUB),
        ("empty", NOTHING_IN_IT),
        ("sub/empty", NOTHING_IN_IT),
        ("rest", NOTHING_IN_IT | {"left_out": {"y.tmp": "ignored"}}),
        ("su", None),
        ("a.txt/b", None),
    ],
)
def test_a_part_of_a_folder_is_described_as_if_it_were_alone(
    inside: str, expected: dict[str, Any] | None
):
    assert content.part_of(WHOLE, inside) == expected


def test_a_single_file_has_no_parts():
    assert content.part_of({"digest": A, "size": 1, "files": None}, "a.txt") is None


def rewritten(path: Path) -> None:
    path.chmod(0o644)
    path.write_text("x")


def longer(path: Path) -> None:
    path.chmod(0o644)
    path.write_text("aa")


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda _path: None, ""),
        (lambda path: path.chmod(0o644), ""),
        (rewritten, "holds something else than what was made"),
        (longer, "has 2 bytes, and had 1"),
        (replaced_by_a_folder, "is no file any more"),
        (Path.unlink, "is gone"),
    ],
)
@pytest.mark.parametrize("of_a_folder", [False, True])
@pytest.mark.parametrize("thorough", [False, True])
def test_what_differs_is_told(
    folder: Path,
    change: Callable[[Path], None],
    what: str,
    of_a_folder: bool,
    thorough: bool,
):
    path = folder / "a.txt"
    path.chmod(0o444)
    place = folder if of_a_folder else path
    files = files_of(place, describe(place))
    assert path in files
    change(path)
    found = list(differences(files, thorough=thorough))
    assert found == ([Difference(path, what)] if what else [])


def test_what_cannot_be_looked_at_is_told_and_may_be_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    files = files_of(folder, describe(folder))

    def stat(_path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", stat)
    told = {(one.what, one.certain) for one in differences(files)}
    assert told == {("cannot be read (Permission denied)", False)}


@pytest.mark.parametrize(
    ("marked", "mode", "frozen", "is_read"),
    [
        (True, 0o444, True, False),
        (True, 0o644, True, True),
        (True, 0o644, False, False),
        (False, 0o444, True, True),
    ],
)
def test_of_many_files_those_are_read_that_were_touched(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    marked: bool,
    mode: int,
    frozen: bool,
    is_read: bool,
):
    monkeypatch.setattr(content, "QUICK_BYTES", 0)
    path = folder / "a.txt"
    path.chmod(mode)
    known = {"md5": "another one", "size": 1, "mark": [0, 0]}
    if marked:
        known = known | {"mark": content.mark(path.stat())}
    found = list(differences({path: known}, frozen=frozen))
    assert bool(found) is is_read


def test_marks_are_those_of_the_files_that_lie_there_now(folder: Path):
    for place in (folder, folder / "a.txt"):
        before = describe(place)
        rewritten(folder / "a.txt")
        os.utime(folder / "a.txt", ns=(1, 1))
        after = content.marked(place, before)
        assert files_of(place, after)[folder / "a.txt"]["mark"][0] == 1
        assert after["digest"] == before["digest"]


def test_a_file_is_hashed_once_while_nothing_happens_to_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Path] = []

    def md5(path: Path) -> str:
        asked.append(path)
        return A

    files = files_of(folder / "a.txt", describe(folder / "a.txt"))
    monkeypatch.setattr(content, "md5_of_file", md5)
    monkeypatch.setattr(content, "_HASHES", {})
    monkeypatch.setattr(content, "_REMEMBERED", 1)
    for _ in range(3):
        assert not list(differences(files))
    assert len(asked) == 1
    assert not list(differences(files, thorough=True))
    os.utime(folder / "a.txt", ns=(5, 5))
    assert not list(differences(files))
    assert len(asked) == 3
    assert len(content._HASHES) == 1


@pytest.mark.parametrize(
    ("value", "is_digest"),
    [
        (A, True),
        (EMPTY_FOLDER, True),
        (A.upper(), False),
        (f"{A}/..", False),
        (A[:-1], False),
        (None, False),
    ],
)
def test_only_a_hash_becomes_part_of_a_path_in_the_cache(value: Any, is_digest: bool):
    assert listings.is_digest(value) is is_digest


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ("a", True),
        ("a/b..c", True),
        ("/a", False),
        ("../a", False),
        ("a/../../b", False),
        ("", False),
        (".", False),
        ("a\0", False),
        (3, False),
    ],
)
def test_only_what_lies_in_a_folder_is_a_file_of_it(value: Any, inside: bool):
    assert listings.is_inside(value) is inside


def test_many_files_are_described_as_each_is_alone(tmp_path: Path):
    many = tmp_path / "many"
    (many / "sub").mkdir(parents=True)
    for number in range(3 * FEW):
        (many / f"sub/{number}.bin").write_bytes(bytes([number]) * 5000 * number)
    found = describe(many)
    assert len(found["files"]) == 3 * FEW
    for one in found["files"]:
        alone = describe(many / one["relpath"])
        assert (one["md5"], one["size"]) == (alone["digest"], alone["size"])
    os.mkfifo(many / "sub/a-pipe")
    with pytest.raises(CheckFailed, match="a-pipe"):
        describe(many)
