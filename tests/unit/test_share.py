"""A share: its rights, what is found wrong in it, and what becomes of a umask."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

from mllam_exps.base import records
from mllam_exps.base.errors import UsageError
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import access_lists, founding, inspection, joining
from mllam_exps.sharing.share import Share, at, group_of

FOLDER, FILE = stat.S_IFDIR, stat.S_IFREG


@pytest.fixture
def umask() -> Iterator[None]:
    """The umask that most people have, whatever ours is; ours is back afterwards."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def share(tmp_path: Path, umask: None) -> Share:
    """A new share of this user's own group."""
    made = Share(tmp_path / "share")
    for step in founding.steps(made.directory, os.getgid()):
        step.do()
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def told(share: Share) -> dict[str, str]:
    """What is wrong, by the name of the file or folder."""
    return {
        str(one.path.relative_to(share.directory)): one.what
        for one in inspection.findings(share)
    }


@pytest.mark.parametrize(
    ("inside", "kind", "right", "wrong"),
    [
        ("", FOLDER, 0o3770, 0o3775),
        ("hooks", FOLDER, 0o2750, 0o2770),
        ("config", FILE, 0o640, 0o660),
        ("refs/exps/ab/cd", FOLDER, 0o2770, 0o2750),
        ("objects/ab/cdef", FILE, 0o440, 0o400),
        ("files/md5/ab", FOLDER, 0o2770, 0o770),
        ("files/md5/ab/cdef", FILE, 0o440, 0o666),
        ("cache/files/md5/ab/cdef", FILE, 0o444, 0o644),
        ("cache/runs/ab", FOLDER, 0o2770, 0o2700),
        ("cache", FOLDER, 0o3770, 0o2770),
        ("cache/mllam-exps", FOLDER, 0o3775, 0o2775),
        ("cache/mllam-exps/runs", FOLDER, 0o3775, 0o3755),
        ("cache/mllam-exps/runs/train-1/attempts", FOLDER, 0o3775, 0o3755),
    ],
)
def test_each_place_has_its_rights(inside: str, kind: int, right: int, wrong: int):
    share = Share(Path("/share"))
    for mode, is_right in ((right, True), (wrong, False)):
        rights = share.rights(PurePath(inside), kind | mode)
        assert (mode == (mode | rights.must) & ~rights.must_not) is is_right


@pytest.mark.parametrize(
    ("inside", "kind"),
    [
        ("cache/mllam-exps/runs/train-1/attempts/1", FOLDER),
        ("cache/mllam-exps/runs/train-1/attempts/1/work", FOLDER),
        ("cache/mllam-exps/experiments/save-1", FOLDER),
        ("cache/mllam-exps/runs/train-1/run.json", FILE),
    ],
)
def test_what_has_one_writer_in_the_run_store_is_let_be(inside: str, kind: int):
    rights = Share(Path("/share")).rights(PurePath(inside), kind)
    assert (rights.must, rights.must_not, rights.default) == (0, 0, None)


def test_a_share_is_the_group_s_and_nobody_else_s_whatever_the_umask(share: Share):
    assert mode_of(share.directory) == 0o3770
    assert told(share) == {}
    assert founding.steps(share.directory, os.getgid()) == []
    if not access_lists.are_known(share.directory):
        pytest.skip("this file system has no access lists")
    made = share.directory / "refs/exps/ab"
    made.mkdir(parents=True)
    (made / "ref").write_text("")
    assert mode_of(made) == 0o2770
    assert mode_of(made / "ref") == 0o660


def test_a_run_s_folders_are_the_group_s_and_an_attempt_its_owner_s(share: Share):
    run = RunStore(share.run_store).run("train-" + 32 * "1")
    run.make()
    attempts = run.directory / "attempts"
    assert mode_of(attempts) & 0o1070 == 0o1070
    assert mode_of(attempts.parent) & 0o2070 == 0o2070
    assert mode_of(records.folder(attempts / "1", 0o755)) & 0o022 == 0
    assert told(share) == {}


def test_a_run_is_the_group_s_to_read_whatever_its_maker_s_umask(share: Share):
    """A colleague with the umask 077 had made it for nobody else: the team made it again."""
    before = os.umask(0o077)
    try:
        run = RunStore(share.run_store).run("train-" + 32 * "1")
        run.make()
        attempt = run.directory / "attempts/1"
        records.own_folder(attempt)
        records.replace(attempt.parent / "1.json", {})
        assert mode_of(attempt) & 0o777 == 0o750
        assert mode_of(attempt.parent / "1.json") == 0o640
        closed = share.directory.parent / "closed"
        closed.mkdir()
        records.own_folder(closed / "mine")
        records.replace(closed / "mine.json", {})
        assert mode_of(closed / "mine") == 0o700
        assert mode_of(closed / "mine.json") == 0o600
        records.let_group_read(closed)
        records.let_group_read(attempt)
        (attempt / "output.txt").write_text("")
        assert mode_of(attempt / "output.txt") == 0o640
    finally:
        os.umask(before)


def test_what_is_wrong_is_found_and_mended(share: Share):
    key = share.cache / "files/md5/ab/cdef"
    key.parent.mkdir()
    key.write_text("x")
    (share.directory / "refs/heads").chmod(0o2700)
    (share.directory / "hooks").chmod(0o2770)
    share.run_store.chmod(0o3755)
    share.directory.chmod(0o2777)
    key.parent.chmod(0o777)
    key.chmod(0o644)
    assert told(share) == {
        ".": "can be written to by everybody",
        "hooks": "can be written to by the group: git runs what it names",
        "refs/heads": "cannot be written to by the group",
        "cache/files/md5/ab": "can be written to by everybody",
        "cache/files/md5/ab/cdef": "is an object of DVC's cache, and can be written to",
        "cache/mllam-exps": "cannot be written to by the group",
    }
    for one in inspection.findings(share):
        assert one.is_mine
        one.mend()
    assert told(share) == {}
    assert mode_of(share.directory) == 0o3770


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other groups")
@pytest.mark.parametrize("group_s", [7, 0])
def test_an_access_list_that_lets_in_or_keeps_out_whom_the_mode_does_not_show(
    share: Share, group_s: int
):
    if not access_lists.are_known(share.directory):
        pytest.skip("this file system has no access lists")
    # By linux/posix_acl_xattr.h: owner, a user by number, group, mask, others.
    whom = 12345
    entries = [(1, 7, -1), (2, 7, whom), (4, group_s, -1), (0x10, 7, -1), (0x20, 0, -1)]
    listed = b"".join(struct.pack("<HHi", *one) for one in entries)
    heads = share.directory / "refs/heads"
    before = mode_of(heads)
    os.setxattr(heads, "system.posix_acl_access", struct.pack("<I", 2) + listed)
    assert mode_of(heads) == before
    assert list(told(share)) == ["refs/heads"]
    [finding] = inspection.findings(share)
    assert "names others" in finding.what
    finding.mend()
    assert (told(share), mode_of(heads)) == ({}, before)


def test_a_wrong_group_is_named_and_mended_and_hands_itself_on_again(share: Share):
    folder = share.directory / "files/md5"
    os.chown(folder, -1, 54321)
    assert told(share)["files/md5"] in {
        "belongs to the group 54321",
        "does not hand its group on (setgid)",
    }
    for one in inspection.findings(share):
        one.mend()
    assert told(share) == {}
    assert mode_of(folder) & stat.S_ISGID


def test_a_umask_counts_where_there_are_no_access_lists(
    tmp_path: Path, umask: None, monkeypatch: pytest.MonkeyPatch
):
    def unknown(*_: object, **__: object) -> bytes:
        raise OSError(errno.ENOTSUP, "no access lists")

    joining.refuse_umask(tmp_path)
    monkeypatch.setattr(os, "getxattr", unknown)
    with pytest.raises(UsageError, match="your umask 022 would lock the group out"):
        joining.refuse_umask(tmp_path)
    os.umask(0o007)
    joining.refuse_umask(tmp_path)


def test_only_a_folder_of_its_own_becomes_a_share(tmp_path: Path, share: Share):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/data.nc").write_text("")
    (tmp_path / "file").write_text("")
    for name, why in (
        ("full", "neither an empty folder"),
        ("file", "is no folder"),
        ("absent/share", "there is no such folder"),
    ):
        with pytest.raises(UsageError, match=why):
            founding.steps(tmp_path / name, os.getgid())
    with pytest.raises(UsageError, match="is a share of the group"):
        founding.steps(share.directory, os.getgid() + 1)
    with pytest.raises(UsageError, match="is no share"):
        at(tmp_path / "full")
    assert at(share.directory) == share


def test_a_group_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="no group is called rooot"):
        group_of("rooot")
