"""Whose a file is, and who else may have written it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mllam_exps.base import ownership
from mllam_exps.base.errors import MllamError

NOBODY = 2**31 - 2
"""A user's number that no user has."""


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (0o644, ""),
        (0o600, ""),
        (0o664, "can be written to by others"),
        (0o646, "can be written to by others"),
    ],
)
def test_a_file_that_others_may_write_is_not_trusted(
    tmp_path: Path, mode: int, why: str
):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    assert ownership.objection(path) == why
    assert ownership.is_ours_alone(path) is not bool(why)
    if not why:
        ownership.check(path, "ask its owner")
        return
    with pytest.raises(MllamError) as caught:
        ownership.check(path, "ask its owner")
    assert (caught.value.why, caught.value.next) == (f"it {why}", "ask its owner")


def test_a_link_and_what_is_not_there_are_not_trusted(tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert ownership.objection(link) == "is a link"
    missing = ownership.objection(tmp_path / "none")
    assert missing == "cannot be looked at (No such file or directory)"


def test_a_file_of_another_user_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    me = ownership.user_name(os.getuid())
    assert ownership.is_mine(tmp_path)
    assert not ownership.is_mine(tmp_path / "none")
    assert ownership.owner_of(tmp_path / "none/below") == me
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    assert ownership.objection(tmp_path) == f"belongs to {me}"
    assert not ownership.is_mine(tmp_path)
    assert ownership.user_name(NOBODY) == str(NOBODY)


def test_where_nothing_can_be_looked_at_nobody_is_the_owner(
    monkeypatch: pytest.MonkeyPatch,
):
    def lstat(_path: Path) -> os.stat_result:
        raise PermissionError

    monkeypatch.setattr(os, "lstat", lstat)
    assert ownership.owner_of(Path("/a/b")) == "nobody"
