"""Every package of an environment: its version, where it came from, and how it was changed; and how two differ."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.environments import comparing, sources
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
    subprocess.run(["git", "init", "-q"], check=True, cwd=folder)
    commit(folder)
    remote = "https://anna:secret@example.org/a.git"
    subprocess.run(["git", "remote", "add", "origin", remote], check=True, cwd=folder)
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, cwd=folder, capture_output=True
    )
    return found.stdout.decode().strip()


def commit(folder: Path) -> None:
    """Commit all that lies in a folder."""
    command = "git add . && git -c user.name=A -c user.email=a@b commit -qm a"
    subprocess.run(command, shell=True, check=True, cwd=folder)


def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Package]:
    """Return what packages are in a folder."""
    monkeypatch.syspath_prepend(str(site))
    return comparing.by_name(packages.installed())


def test_each_package_says_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site, folder = tmp_path / "site", tmp_path / "a"
    made = checkout(folder)
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
    assert (changed.url, changed.commit) == ("https://example.org/a.git", made)
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
    made = checkout(folder)
    for place in (folder, *folder.rglob("*")):
        os.chown(place, 12345, 12345, follow_symlinks=False)
    editable = {"url": f"file://{folder}", "dir_info": {"editable": True}}
    install(tmp_path / "site", "theirs", "0.1", editable)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert installed(tmp_path / "site", monkeypatch)["theirs"].commit == made


@pytest.mark.parametrize("how", ["folder", "finder", "flat"])
def test_what_an_experiment_leaves_in_a_package_s_folder_is_no_change_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    """The environment of an experiment has its own repository as a development install."""
    site, folder = tmp_path / "site", tmp_path / "a"
    checkout(folder)
    (folder / "src" / "a b").mkdir(parents=True)
    (folder / "src" / "a b" / "code.py").write_text("a = 1\n")
    (folder / "params.yaml").write_text("a: 1\n")
    commit(folder)
    editable = {"url": f"file://{folder}", "dir_info": {"editable": True}}
    install(site, "a", "0.1", editable)
    added = {
        "folder": ("_a.pth", f"import sys\n{folder}/src\n"),
        "finder": (
            "__editable___a_finder.py",
            f"MAPPING: dict[str, str] = {{'a b': '{folder}/src/a b'}}\n",
        ),
        "flat": ("_a.pth", f"{folder}\n"),
    }
    name, content = added[how]
    (site / name).write_text(content)
    (site / "a-0.1.dist-info" / "RECORD").write_text(f"{name},,\n")
    before = installed(site, monkeypatch)["a"]
    assert (before.patch, before.lacks) == ("", "")
    (folder / "params.yaml").write_text("a: 2\n")
    (folder / "a.crate").mkdir()
    (folder / "a.crate" / "metrics.json").write_text("{}")
    assert installed(site, monkeypatch)["a"] == before
    commit(folder)
    assert installed(site, monkeypatch)["a"] == before
    (folder / "src" / "a b" / "code.py").write_text("a = 2\n")
    (folder / "src" / "a b" / "new.py").write_text("a = 2\n")
    after = installed(site, monkeypatch)["a"]
    assert comparing.told(after).endswith("with changes in src/a b/code.py")
    assert after.lacks.endswith(": src/a b/new.py")


def test_a_development_install_becomes_an_archive_with_its_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home, site, export = tmp_path / "git", tmp_path / "site", tmp_path / "export"
    checkout(home)
    (home / "in").mkdir()
    (home / "in/b.py").write_text("b = 1\n")
    commit(home)
    (home / "in/b.py").write_text("b = 2\n")
    editable = {"url": f"file://{home}/in", "dir_info": {"editable": True}}
    install(site, "dev", "0.1", editable)
    wheel = {"url": "file:///w.whl", "archive_info": {"hashes": {"sha256": "ab"}}}
    install(site, "wheel", "1", wheel)
    found = installed(site, monkeypatch)
    assert packages.archive_of("wheel") == "ab"
    assert packages.archive_of("dev") == packages.archive_of("none") == ""
    export.mkdir()
    assert sources.pack(found["wheel"], export) == ""
    path = sources.pack(found["dev"], export)
    assert path == "packages/dev-0.1.tar.gz"
    with tarfile.open(export / path) as archive:
        assert {one.name for one in archive if one.isfile()} == {
            "dev-0.1/b.py",
            "dev-0.1/PKG-INFO",
        }
        assert archive.extractfile("dev-0.1/b.py").read() == b"b = 2\n"  # type: ignore[union-attr]
    # What it was cannot be had: another commit, or files that are in none.
    for lost in ({"commit": "0" * 40}, {"lacks": "files"}, {"patch": "no patch"}):
        assert sources.pack(replace(found["dev"], **lost), export) == ""
    assert [*export.rglob("*")] == [export / "packages", export / path]


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
    diff = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-a\n+{1}\n"
    same, mine, theirs = (diff.format(f"src/{w}.py", w) for w in ("same", "b", "ä c"))
    patched = [
        Environment("3", "L", packages=(Package("a", "1", "u", "c", True, p),))
        for p in (same + mine, same + theirs, same + mine.replace("+b", "+c"), "")
    ]
    assert [
        (d.first, d.second)
        for other in patched
        for d in comparing.differences(patched[0], other)
    ] == [
        (
            "1 at c, with changes in src/b.py, src/ä c.py",
            "1 at c, with other changes in src/b.py, src/ä c.py",
        ),
        (
            "1 at c, with changes in src/b.py",
            "1 at c, with other changes in src/b.py",
        ),
        ("1 at c, with changes in src/same.py, src/b.py", "1 at c"),
    ]
