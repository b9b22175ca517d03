"""What goes along with an experiment, and what is told of what does not."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc_data.hashfile.transfer import TransferResult

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import exchange
from mllam_exps.dvc.saved.exchange import Exchange
from mllam_exps.dvc.saved.remotes import Remote, remote_of
from mllam_exps.dvc.saved.unmade import unmade

PIPELINE = """
stages:
  whole:
    cmd: mkdir made && cp added made/a && cp imported made/b
    deps: [added, imported]
    outs: [made]
  hidden:
    cmd: cp ignored "of the hidden" && touch here && touch stays
    deps: [ignored]
    outs: ["of the hidden", here: {cache: false}, stays: {push: false}]
  checks:
    cmd: touch checked
    always_changed: true
    outs: [checked: {cache: false}]
"""
NOT_RUN = """
  later:
    cmd: cp made/a later
    deps: [made/a]
    outs: [later]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a remote, of which one commit has all kinds of inputs and outputs."""
    root = tmp_path_factory.mktemp("exchange") / "a größe"
    root.mkdir()
    (root.parent / "elsewhere").write_text("imported")
    (root.parent / "remote").mkdir()
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / "added").write_text("added")
    (root / "ignored").write_text("ignored")
    (root / ".gitignore").write_text("/ignored\n/here\n/checked\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    with contextlib.chdir(root), Repo.init(str(root)) as repo:
        with repo.config.edit("local") as settings:
            settings["remote"] = {"there": {"url": str(root.parent / "remote")}}
            settings["core"] = {"remote": "there", "analytics": False}
        repo.add(str(root / "added"))
        repo.imp_url(str(root.parent / "elsewhere"), str(root / "imported"))
        repo.reproduce()
    (root / "dvc.yaml").write_text(PIPELINE + NOT_RUN)
    subprocess.run(["git", "-C", root, "add", "-A"], check=True)
    subprocess.run(["git", "-C", root, "commit", "-qm", "All"], check=True)
    return root


@pytest.fixture
def between(made: Path) -> Exchange:
    repository = Repository.open(made, check=False)
    return Exchange(repository, remote_of(repository, "", ""))


def head(root: Path) -> str:
    words = ["git", "-C", root, "rev-parse", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout[:-1]


def objects(folder: Path) -> set[str]:
    return {path.parent.name + path.name for path in folder.rglob("??/*")}


def test_what_was_imported_goes_along_and_what_is_not_to_be_pushed_does_not(
    made: Path, between: Exchange
):
    needed = between.needed(head(made))
    assert sorted(needed.values()) == ["added", "imported", "made", "of the hidden"]


def test_what_dvc_repro_would_run_or_not_find_is_told(made: Path, between: Exchange):
    told = unmade(between.repository, head(made))
    # What `checks` makes `dvc repro` makes each time: nobody has to have it.
    assert sorted(told) == [
        "hidden makes here, which neither git nor DVC has (cache: false)",
        "hidden makes stays, which is not to be pushed (push: false)",
        "hidden reads ignored, which neither git nor DVC has",
        "later was not run",
    ]
    # Of what dvc.yaml has nobody keep another run changes nothing.
    assert [told[one].rpartition(",")[0] for one in sorted(told)] == [
        "leave out cache: false of here in dvc.yaml",
        "leave out push: false of stays in dvc.yaml",
        "dvc add ignored, git commit",
        "",
    ]


def test_a_folder_of_which_the_list_is_gone_here_is_whole_there_afterwards(
    made: Path, between: Exchange
):
    needed = between.needed(head(made))
    between.send("first", needed)
    there = made.parent / "remote"
    everything = objects(there)
    [listed] = (one for one in needed if one.endswith(".dir"))
    part = next(iter(between.parts({listed: "made"}).keys() - {listed}))
    between.cache.path(listed).unlink()
    (there / "files/md5" / part[:2] / part[2:]).unlink()
    assert between.send("first", needed) == 1
    assert objects(there) == everything
    assert between.cache.holds_all(listed)


def test_a_remote_is_known_by_its_place_however_that_is_written(
    made: Path, between: Exchange, monkeypatch: pytest.MonkeyPatch
):
    with between.repository.opened.config.edit("local") as settings:
        settings["remote"]["other"] = {"url": str(made.parent / "other")}
    (made.parent / "link").symlink_to("other")
    monkeypatch.chdir(made)
    again = Repository.open(made, check=False)
    for place in ("../other", "../other/", str(made.parent / "link")):
        found: Remote = remote_of(again, "", place)
        assert found.name == "other"


def test_a_full_disk_at_the_remote_is_named(
    between: Exchange, made: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(_from: object, _to: object, wanted: list[object], **_: object):
        return TransferResult(set(), set(wanted))

    monkeypatch.setattr("dvc_data.hashfile.transfer.transfer", fails)
    monkeypatch.setattr(exchange, "full_disks", lambda _: "/scratch")
    with pytest.raises(MllamError, match="full: /scratch"):
        between._move(None, between.remote.opened, ["a" * 32])


def test_a_hash_as_dvc_2_gave_it_is_named(made: Path, between: Exchange):
    old = f"outs:\n- md5: {'a' * 32}\n  size: 1\n  path: old\n"
    (made / "old.dvc").write_text(old)
    call = ["git", "-C", made]
    subprocess.run([*call, "add", "old.dvc"], check=True)
    subprocess.run([*call, "commit", "-qm", "Old"], check=True)
    commit = head(made)
    subprocess.run([*call, "reset", "-q", "--hard", "HEAD~1"], check=True)
    with pytest.raises(UsageError, match="old has a hash as DVC 2 gave it"):
        between.needed(commit)
