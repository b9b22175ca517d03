"""Files that DVC reads and that are links: what a clone has not is refused before anything is submitted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mllam_exps.base.errors import Problems
from mllam_exps.preflight import lost_links


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository beside a folder that has a file."""
    root = tmp_path / "here/repo"
    (root / ".dvc").mkdir(parents=True)
    (root.parent / "outside").mkdir()
    (root.parent / "outside/f").write_text("x: 1\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    monkeypatch.chdir(root)
    return root


def refused(origin: Path, tmp_path: Path, said: str = "") -> list[tuple[str, str]]:
    """Return what is refused, and what is to be typed, where all is tracked, and the clone lies deeper."""
    subprocess.run(["git", "-C", str(origin), "add", "-A"], check=True)
    clone = tmp_path / "store/deep/down/clone"
    shutil.copytree(origin, clone, symlinks=True)
    try:
        lost_links.refuse(clone, origin, said)
    except Problems as several:
        return [(one.where, one.next) for one in several.problems]
    return []


@pytest.mark.parametrize(
    "name", ["dvc.yaml", "dvc.lock", "big.nc.dvc", ".dvcignore", ".dvc/config"]
)
def test_what_dvc_reads_is_not_lost_in_the_clone(
    origin: Path, tmp_path: Path, name: str
):
    outside = origin.parent / "outside/f"
    up = "../" * (1 + name.count("/"))
    (origin / name).symlink_to(f"{up}outside/f")
    copied = f"cp --remove-destination {outside} {name}"
    assert refused(origin, tmp_path) == [(name, copied)]


def test_stages_that_lie_elsewhere_are_refused_and_settings_are_not(
    origin: Path, tmp_path: Path
):
    outside = origin.parent / "outside/f"
    (origin / "dvc.yaml").symlink_to(outside)
    (origin / ".dvcignore").symlink_to(outside)
    (origin / ".dvc/config").symlink_to(outside)
    copied = f"cp --remove-destination {outside} dvc.yaml"
    assert refused(origin, tmp_path) == [("dvc.yaml", copied)]


def test_a_link_inside_of_the_repository_is_none_of_that(origin: Path, tmp_path: Path):
    (origin / "inside").write_text("stages: {}\n")
    (origin / "dvc.yaml").symlink_to("inside")
    assert refused(origin, tmp_path) == []


def test_what_dvc_names_when_it_cannot_read_the_clone_is_refused_too(
    origin: Path, tmp_path: Path
):
    (origin / "v.yaml").symlink_to("../outside/f")
    (origin / "w.yaml").symlink_to("../outside/f")
    said = "No such file or directory: 'store/deep/down/clone/v.yaml'"
    assert [where for where, _ in refused(origin, tmp_path, said)] == ["v.yaml"]


def test_a_link_to_what_git_does_not_track(origin: Path, tmp_path: Path):
    (origin / ".gitignore").write_text("mine\n")
    (origin / "mine").write_text("stages: {}\n")
    (origin / "dvc.yaml").symlink_to("mine")
    subprocess.run(["git", "-C", str(origin), "add", "-A"], check=True)
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "-C", str(origin), "checkout-index", "-a", f"--prefix={clone}/"],
        check=True,
    )
    subprocess.run(["git", "init", "-q", str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "add", "-A"], check=True)
    with pytest.raises(Problems) as caught:
        lost_links.refuse(clone, origin)
    [one] = caught.value.problems
    assert (one.where, one.next) == ("dvc.yaml", "git add --force mine")
