"""What `mllam-exps doctor` sees: each thing that would stop somebody, made so here."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base.errors import Problems, UsageError
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import founding, health
from mllam_exps.sharing.health import Sign, State
from mllam_exps.sharing.share import Share

Disk = namedtuple("Disk", "f_bavail f_blocks f_frsize f_files f_favail")


class Repository:
    """DVC's settings alone."""

    def __init__(self, **sections: Mapping[str, Any]) -> None:
        self.sections = sections

    def settings(self, section: str) -> Mapping[str, Any]:
        return self.sections.get(section, {})


def states(found: Iterator[Sign]) -> list[tuple[str, State]]:
    return [(one.topic, one.state) for one in found]


def test_an_unknown_author_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    assert health._identity(tmp_path).state is State.WRONG
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = A\n")
    assert "user.email is not set" in health._identity(tmp_path).what
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = A\n\temail = a@b.c\n")
    assert health._identity(tmp_path).what == "commits are by A <a@b.c>"


def test_a_folder_that_cannot_be_written_to_is_told_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert health._place("cache", tmp_path / "not/yet").state is State.FINE

    def denied(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(health.tempfile, "TemporaryFile", denied)
    sign = health._place("cache", tmp_path / "not/yet")
    assert sign.state is State.WRONG
    assert f"{tmp_path}, " in sign.what
    assert sign.next == "mllam-exps share check"


@pytest.mark.parametrize(
    ("disk", "state", "word"),
    [
        (Disk(50, 100, 10**9, 100, 50), State.FINE, "free"),
        (Disk(1, 100, 10**9, 100, 50), State.NOTE, "hardly any room left"),
        (Disk(50, 100, 10**9, 100, 1), State.NOTE, "hardly any files left"),
        (Disk(50, 100, 10**9, 0, 0), State.FINE, "free"),
    ],
)
def test_a_disk_that_will_soon_be_full_is_noted(
    disk: Disk, state: State, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    sign = health._room("cache", tmp_path)
    assert sign.state is state
    assert word in sign.what


def test_locks_that_keep_nobody_out_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = RunStore(tmp_path / "store")
    assert health._locks(store).state is State.FINE

    @contextmanager
    def none(*_: object, **__: object) -> Iterator[str]:
        yield "mine"

    # This process believes that it has it, and so does the other one.
    monkeypatch.setattr(health, "lock", none)
    sign = health._locks(store)
    assert sign.state is State.WRONG
    assert "has no locks that work" in sign.what


def test_a_share_of_which_something_is_wrong_is_told(tmp_path: Path):
    share = Share(tmp_path / "share")
    for step in founding.steps(share.directory, os.getgid()):
        step.do()
    assert states(health._share(share.cache)) == [("share", State.FINE)]
    assert states(health._share(tmp_path)) == []
    share.run_store.chmod(0o2755)
    [sign] = health._share(share.cache)
    assert sign.state is State.WRONG
    assert sign.next == "mllam-exps share check --fix"


def test_what_is_another_s_to_mend_is_asked_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    share = Share(tmp_path / "share")
    for step in founding.steps(share.directory, os.getgid()):
        step.do()
    share.cache.chmod(0o2777)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    [sign] = health._share(share.cache)
    assert sign.next.startswith("ask ")
    assert sign.next.endswith(f"share check --fix {share.directory}")


def test_a_remote_that_is_not_there_is_wrong(tmp_path: Path):
    core = {"remote": "r"}
    for section, state in (
        ({}, State.NOTE),
        ({"r": {"url": "s3://far/away"}}, State.NOTE),
        ({"r": {"url": str(tmp_path / "gone")}}, State.WRONG),
        ({"r": {"url": str(tmp_path)}}, State.FINE),
    ):
        repository: Any = Repository(core=core if section else {}, remote=section)
        [sign] = health._remotes(repository)
        assert sign.state is state


def test_passwords_that_others_may_read_are_wrong_and_are_not_told(tmp_path: Path):
    (tmp_path / ".netrc").write_text("password geheim")
    (tmp_path / ".netrc").chmod(0o600)
    settings = tmp_path / ".dvc/config.local"
    settings.parent.mkdir()
    settings.write_text("[core]\n")
    settings.chmod(0o644)
    assert states(health._secrets(tmp_path, tmp_path)) == [("secrets", State.FINE)]
    (tmp_path / ".netrc").chmod(0o640)
    settings.write_text("[remote]\n password = geheim\n")
    found = list(health._secrets(tmp_path, tmp_path))
    assert [one.next for one in found] == [
        f"chmod 600 {tmp_path / '.netrc'}",
        f"chmod 600 {settings}",
    ]
    assert not any("geheim" in one.what for one in found)


def test_what_a_look_raises_is_what_is_wrong():
    def refuse() -> Sign:
        first = UsageError("no such queue", "train", next="mllam-exps machine show")
        raise Problems(problems=[first, UsageError("another")])

    sign = health._asked("jobs", refuse)
    assert (sign.topic, sign.state) == ("jobs", State.WRONG)
    assert (sign.what, sign.next) == ("train: no such queue", "mllam-exps machine show")
