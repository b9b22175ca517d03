"""What nobody needs in a share goes, in two steps; what anybody may need stays, or comes back."""

from __future__ import annotations

import datetime
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mllam_exps.base.errors import MllamError
from mllam_exps.base.git import git
from mllam_exps.sharing import clones, collecting, unneeded
from mllam_exps.sharing.clones import Clone
from mllam_exps.sharing.collecting import Found
from mllam_exps.sharing.share import Share
from mllam_exps.sharing.unneeded import DAY, PATIENCE

NEEDED, IN_FOLDER, LIST, FREE = "a" * 32, "b" * 32, f"{'c' * 32}.dir", "d" * 32
LATER = 10.0
"""Seconds from now, by which what is made here counts as old."""


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")


@pytest.fixture
def share(tmp_path: Path) -> Share:
    """A share with four objects in its cache, and one in its remote."""
    share = Share(tmp_path / "share")
    git(tmp_path, "init", "-q", "--bare", str(share.directory))
    for folder in share.folders:
        folder.mkdir(parents=True)
    files = [{"md5": IN_FOLDER, "relpath": "one.txt"}]
    contents = {NEEDED: "1", IN_FOLDER: "22", LIST: json.dumps(files), FREE: "4444"}
    for digest, content in contents.items():
        put(share.cache, digest, content)
    put(share.directory, FREE, "4444")
    return share


def put(home: Path, digest: str, content: str = "x") -> Path:
    """Make an object."""
    path = home / "files" / "md5" / digest[:2] / digest[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def clone(path: Path, **facts: object) -> Clone:
    """Return a clone of one's own that needs a file and a folder."""
    own = Clone(path, os.getuid(), told=time.time() + LATER)
    return replace(own, needs=frozenset({NEEDED, LIST}), **facts)


def look(share: Share, *, age: float = -LATER, without: tuple[str, ...] = ()) -> Found:
    """Look from a clone that needs a file and a folder."""
    here = clone(share.directory.parent / "here", is_looked_at=True)
    return collecting.look(share, here, age=age, without=without)


def digests(these: tuple[unneeded.Object, ...]) -> list[str]:
    """Return what they are called."""
    return sorted(one.digest for one in these)


def test_what_nobody_needs_goes_from_cache_and_remote(share: Share):
    found = look(share)
    assert digests(found.going) == [FREE, FREE]
    assert {one.home for one in found.going} == {share.cache, share.directory}
    assert len(found.there) == 5


def test_what_came_lately_stays(share: Share):
    assert not look(share, age=DAY).going


def test_what_a_result_has_as_well_stays(share: Share):
    result = share.run_store / "outputs"
    os.link(share.cache / "files/md5" / FREE[:2] / FREE[2:], result)
    assert [one.home for one in look(share).going] == [share.directory]


@only_root
def test_what_another_clone_needs_stays_and_what_came_after_it_said_so(share: Share):
    theirs = clone(share.directory.parent / "theirs")
    (theirs.path / ".dvc").mkdir(parents=True)
    other = replace(theirs, needs=frozenset({FREE}), owner=os.getuid() + 1)
    assert tell(share, other).going == ()
    long_ago = replace(other, needs=frozenset(), told=time.time() - DAY)
    assert tell(share, long_ago).going == ()
    assert digests(tell(share, replace(other, needs=frozenset())).going) == [FREE, FREE]


def tell(share: Share, other: Clone) -> Found:
    """Look while a clone of another user's has said what it needs."""
    clones.tell(share, other)
    [record] = (share.directory / "clones").iterdir()
    os.chown(record, other.owner, -1)
    return look(share)


@only_root
def test_where_a_clone_or_a_user_has_not_said_what_is_needed_nothing_is_judged(
    share: Share,
):
    other = clone(Path("/home/lena/exps"), owner=os.getuid() + 1)
    old = replace(other, told=time.time() - PATIENCE - DAY)
    with pytest.raises(MllamError, match="needed by /home/lena/exps") as caught:
        tell(share, old)
    assert "--without /home/lena/exps" in caught.value.next
    assert look(share, without=("/home/lena/exps",)).gone == (old_read(share),)
    put(share.cache, "e" * 32)
    os.chown(share.cache / "files/md5/ee" / ("e" * 30), 54321, -1)
    with pytest.raises(MllamError, match="clones of 54321"):
        look(share, without=("/home/lena/exps",))
    assert look(share, without=("/home/lena/exps", "54321")).going


def old_read(share: Share) -> Clone:
    """Return the one clone that has said what it needs."""
    [known] = clones.known(share)
    return known


def test_what_one_says_in_the_name_of_another_does_not_count(share: Share):
    clones.tell(share, clone(Path("/home/lena/exps")))
    [record] = (share.directory / "clones").iterdir()
    record.rename(record.with_name(f"54321{record.name[record.name.index('-') :]}"))
    assert list(clones.known(share)) == []


def test_what_was_set_aside_comes_back_where_it_is_needed(share: Share):
    today = datetime.datetime.now(datetime.UTC).date()
    unneeded.move_aside(share, look(share).there, today)
    found = look(share)
    assert not found.there
    # The list of the folder's files is set aside, too: it is found there.
    assert digests(found.coming) == [NEEDED, IN_FOLDER, LIST]
    assert (digests(found.waiting), found.over) == ([FREE, FREE], ())
    unneeded.bring_back(found.coming)
    unneeded.tidy(share)
    assert digests(look(share).there) == [NEEDED, IN_FOLDER, LIST]


def test_what_nobody_missed_for_long_enough_is_deleted(share: Share):
    now = datetime.datetime.now(datetime.UTC)
    for days, is_over in ((14, False), (16, True)):
        day = (now - datetime.timedelta(days=days)).date()
        unneeded.move_aside(share, look(share).going, day)
        found = look(share)
        assert bool(found.over) is is_over
        unneeded.delete(found.over)
        unneeded.bring_back(found.waiting)
    unneeded.tidy(share)
    assert not (share.directory / "unneeded").exists()
    assert digests(look(share).there) == [NEEDED, IN_FOLDER, LIST]


def test_what_was_made_again_meanwhile_is_not_replaced(share: Share):
    unneeded.move_aside(share, look(share).going, datetime.date(2026, 1, 1))
    again = put(share.cache, FREE, "made again")
    unneeded.bring_back(list(unneeded.set_aside(share)))
    assert again.read_text() == "made again"
    assert not list(unneeded.set_aside(share))
