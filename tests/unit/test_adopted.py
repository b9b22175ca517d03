"""What is taken over is put into a workspace as a whole or not at all; and what others wrote of it is data."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.sharing import adopted, putting


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """What was made by hand, and a workspace that has another one in its place."""
    mine, root = tmp_path / "mine", tmp_path / "root"
    for folder, text in ((mine, "by hand"), (root / "made", "before")):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/file").write_text(text)
    return mine, root


def put(source: Path, root: Path):
    looked = {"made": putting.listing(source)}
    return putting.put({"made": source}, looked, root, root / "temporary")


def test_what_lies_in_its_place_already_stays(places: tuple[Path, Path]):
    _, root = places
    assert putting.lies_there(root / "made", root / "made")
    with put(root / "made", root):
        assert (root / "made/sub/file").read_text() == "before"
    with put(root / "made/sub", root):
        pass
    assert (root / "made/file").read_text() == "before"
    (root / "link").symlink_to("made")
    assert not putting.lies_there(root / "made", root / "link")


def test_what_lay_there_comes_back_if_anything_fails(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    mine, root = places
    with pytest.raises(KeyboardInterrupt), put(mine, root):
        assert (root / "made/sub/file").read_text() == "by hand"
        raise KeyboardInterrupt

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(MllamError, match=r"cannot be copied: .*No space"):
            put(mine, root).__enter__()
    changed = put(mine, root)
    (mine / "more").touch()
    with pytest.raises(MllamError, match="was changed while it was taken over"):
        changed.__enter__()
    assert (root / "made/sub/file").read_text() == "before"
    assert not list((root / "temporary").iterdir())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (os.mkfifo, "it is no file and no folder"),
        (lambda place: place.symlink_to("/no/such"), "No such file"),
        (lambda place: place.symlink_to(".."), "it contains itself"),
    ],
)
def test_what_is_no_file_is_refused(places: tuple[Path, Path], make: Any, told: str):
    mine, _ = places
    make(mine / "sub/bad")
    with pytest.raises(UsageError, match=told):
        putting.listing(mine)


class Held:
    """What a commit holds."""

    def __init__(self, told: dict[Any, Any]) -> None:
        self.told = told

    def mapping(self, _: str) -> dict[Any, Any]:
        return self.told

    def made(self, _: str) -> dict[str, str]:
        return {"a": "1", "b": "2"}


def test_what_others_wrote_down_is_text_or_nothing():
    bomb: list[Any] = ["x"]
    for _ in range(40):
        bomb = [bomb, bomb]
    told = {"where": bomb, "by": 3, "outs": {"a": "1", "b": "2", 3: bomb, "c": bomb}}
    [found] = adopted.of(Held({"s": told}))  # type: ignore[arg-type]
    assert (found.where, found.by, found.outs) == ("", "", {"a": "1", "b": "2"})


def test_one_of_two_outputs_that_a_run_made_the_same_is_not_enough():
    told = {"outs": {"a": "1", "b": "9"}}
    assert not list(adopted.of(Held({"s": told})))  # type: ignore[arg-type]
