"""A link to an object that is gone is found, and the object given back from wherever the share has it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from mllam_exps.sharing import dangling, unneeded
from mllam_exps.sharing.share import Share

LOST, THERE = "a" * 32, "b" * 32
DAY = datetime.date(2026, 1, 1)


@pytest.fixture
def share(tmp_path: Path) -> Share:
    """A share whose cache has two objects, and a clone with links to both."""
    share = Share(tmp_path / "share")
    for digest in (LOST, THERE):
        put(share.cache, digest)
    for name, digest in (("lost.txt", LOST), ("there.txt", THERE)):
        link = tmp_path / "clone" / "data" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(place(share.cache, digest))
    (tmp_path / "clone" / "elsewhere").symlink_to(tmp_path / "nothing")
    return share


def place(home: Path, digest: str) -> Path:
    """Return where an object lies."""
    return home / "files" / "md5" / digest[:2] / digest[2:]


def put(home: Path, digest: str) -> None:
    """Make an object."""
    place(home, digest).parent.mkdir(parents=True)
    place(home, digest).write_text(digest)


def found(share: Share) -> list[str]:
    """Return the names of links that lead nowhere, having mended them."""
    these = list(dangling.findings(share, share.directory.parent / "clone"))
    for one in these:
        one.mend()
    return [one.path.name for one in these]


def test_nothing_is_wrong_where_all_is_there(share: Share):
    assert found(share) == []


def test_what_was_set_aside_comes_back(share: Share):
    unneeded.move_aside(
        share, [one for one in unneeded.objects(share) if one.digest == LOST], DAY
    )
    assert found(share) == ["lost.txt"]
    assert found(share) == []


def test_what_the_remote_has_is_copied(share: Share):
    put(share.directory, LOST)
    place(share.cache, LOST).unlink()
    assert found(share) == ["lost.txt"]
    assert place(share.cache, LOST).stat().st_mode & 0o777 == 0o444
    assert place(share.directory, LOST).exists()


def test_what_is_nowhere_is_said(share: Share):
    place(share.cache, LOST).unlink()
    with pytest.raises(OSError, match="dvc repro makes it again"):
        found(share)
