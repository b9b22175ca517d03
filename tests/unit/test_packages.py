"""Every package of an environment: its version, where it came from, and how it was changed; and how two differ."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.environments import comparing
from mllam_exps.stages import packages
from mllam_exps.stages.packages import Environment, Package


def install(site: Path, name: str, version: str, direct: Any = None) -> None:
    """Make what pip leaves of a package."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    if direct:
        (folder / "direct_url.json").write_text(json.dumps(direct))


def checkout(folder: Path) -> str:
    """Make a git repository with a commit, and return that."""
    folder.mkdir()
    (folder / "a.py").write_text("a = 1\n")
    commands = (
        "git init -q && git add . && git -c user.name=A -c user.email=a@b commit -qm a"
    )
    subprocess.run(commands, shell=True, check=True, cwd=folder)
    remote = "https://anna:secret@example.org/a.git"
    subprocess.run(["git", "remote", "add", "origin", remote], check=True, cwd=folder)
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, cwd=folder, capture_output=True
    )
    return found.stdout.decode().strip()


def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Package]:
    """Return what packages are in a folder."""
    monkeypatch.syspath_prepend(str(site))
    return comparing.by_name(packages.installed())


def test_each_package_says_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site, folder = tmp_path / "site", tmp_path / "a"
    commit = checkout(folder)
    install(site, "plain_one", "1.2.post3")
    editable = {"url": f"file://{folder}", "dir_info": {"editable": True}}
    install(site, "changed", "0.1", editable)
    install(site, "copied", "0.1", {"url": f"file://{folder}", "dir_info": {}})
    vcs = {"vcs": "git", "commit_id": "c" * 40}
    install(site, "of_git", "2", {"url": "https://u:p@h/x.git", "vcs_info": vcs})
    (folder / "a.py").write_text("a = 2\n")
    (folder / "new.py").write_text("")
    found = installed(site, monkeypatch)
    assert found["plain-one"] == Package("plain-one", "1.2.post3")
    assert found["of-git"] == Package("of-git", "2", "https://h/x.git", "c" * 40)
    changed = found["changed"]
    assert (changed.url, changed.commit) == ("https://example.org/a.git", commit)
    assert changed.editable
    assert "+a = 2" in changed.patch
    assert changed.lacks == "files that git does not track: new.py"
    assert "installed from a folder" in found["copied"].lacks
    assert "secret" not in json.dumps([vars(one) for one in found.values()])


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_colleague_s_checkout_is_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is imported may be read; git refuses repositories of other users."""
    folder = tmp_path / "a"
    commit = checkout(folder)
    for place in (folder, *folder.rglob("*")):
        os.chown(place, 12345, 12345, follow_symlinks=False)
    editable = {"url": f"file://{folder}", "dir_info": {"editable": True}}
    install(tmp_path / "site", "theirs", "0.1", editable)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert installed(tmp_path / "site", monkeypatch)["theirs"].commit == commit


def test_the_first_of_a_name_is_the_one_that_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install(tmp_path / "below", "Twice", "1")
    install(tmp_path / "above", "twice", "2")
    monkeypatch.syspath_prepend(str(tmp_path / "below"))
    assert installed(tmp_path / "above", monkeypatch)["twice"].version == "2"


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    one = Environment(
        "3.11.7", "Linux", "", "", "", (Package("a", "1"), Package("b", "2", "u", "c"))
    )
    again = json.loads(json.dumps(one.to_record()))
    assert Environment.from_record(again) == one
    assert "cuda" not in again


def test_two_differ_in_what_is_said():
    one = Environment("3.11.7", "Linux", "12.4", "", "", (Package("A_b", "1"),))
    two = Environment(
        "3.12.1", "Linux", "", "", "", (Package("a-b", "1", "u", "c" * 40),)
    )
    assert [(d.what, d.first, d.second) for d in comparing.differences(one, two)] == [
        ("python", "3.11.7", "3.12.1"),
        ("cuda", "12.4", "absent"),
        ("a-b", "1", "1 at cccccccccccc"),
    ]
    assert not [*comparing.differences(one, one)]
    patched = [
        Environment("3", "L", packages=(Package("a", "1", "u", "c", True, p),))
        for p in "xy"
    ]
    [only] = comparing.differences(*patched)
    assert only.second == "1 at c, with changes, with other changes"
