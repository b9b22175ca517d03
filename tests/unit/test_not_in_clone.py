"""Inputs that git does not track: what is proposed is typed here, and has to help."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.machines.way_in import way_in
from mllam_exps.preflight import not_in_clone


def write(place: Path, text: str = "1\n") -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, in which we are, beside a disk that has a file."""
    root = tmp_path / "home/repo"
    write(tmp_path / "disk/x.nc")
    write(root / ".gitignore", "/data\n*.nc\n/v.yaml\n")
    monkeypatch.chdir(root)
    typed("git init -q; git config user.name A; git config user.email a@b.c; git add .")
    return root


def typed(commands: str) -> None:
    subprocess.run(commands, shell=True, check=True)


def cloned(origin: Path) -> Path:
    """Return a copy of what git tracks."""
    clone = origin.parent.parent / f"store/clone{os.urandom(4).hex()}"
    typed(f"git checkout-index -a --prefix={clone}/")
    return clone


def linked(origin: Path, disk: Path) -> None:
    (origin / "data").symlink_to(disk)


def linked_by_a_link(origin: Path, disk: Path) -> None:
    write(origin / "links/.keep")
    (origin / "links/far").symlink_to(disk)
    (origin / "data").symlink_to("links/far")


def linked_relatively(origin: Path, disk: Path) -> None:
    (origin / "data").symlink_to("../../disk")


def linked_inside(origin: Path, disk: Path) -> None:
    write(origin / "real/x")
    typed("git add real")
    (origin / "data").symlink_to("real")


def ignored(origin: Path, disk: Path) -> None:
    write(origin / "x.nc")


@pytest.mark.parametrize(
    ("lay", "path", "told"),
    [
        (linked, "data/x.nc", "git add --force data"),
        (linked, "data", "git add --force data"),
        (linked_by_a_link, "data/x.nc", "git add --force data links/far"),
        (
            linked_relatively,
            "data/x.nc",
            "ln -sfn {disk} data; git add --force data",
        ),
        (linked_inside, "data/x", "git add --force data"),
        (ignored, "x.nc", "git add --force x.nc"),
    ],
)
def test_what_is_proposed_makes_git_track_it(
    origin: Path, lay: Callable[[Path, Path], None], path: str, told: str
):
    disk = origin.parent.parent / "disk"
    lay(origin, disk)
    found = not_in_clone.refusal(cloned(origin), path, origin)
    way_out = str(found.next).split(", or ")[-1]
    assert way_out == told.format(disk=disk)
    typed(way_out)
    assert (cloned(origin) / path).exists()


@pytest.mark.parametrize(
    ("link", "path", "told"),
    [
        ("", "z", "the input z is not tracked"),
        ("real", "z", "the input z is a link to real, which git does not track"),
        (
            "real",
            "z/x",
            "the input z/x lies behind a link, z: it is real/x, which git does not track",
        ),
        (
            "../../disk",
            "z/x.nc",
            "the input z/x.nc lies behind z, a link that leads out of the repository by a relative path",
        ),
        (
            "../../disk",
            "z",
            "the input z is a link that leads out of the repository by a relative path",
        ),
        ("{disk}", "z", "the input z is a link that git does not track"),
        (
            "{disk}",
            "z/x.nc",
            "the input z/x.nc lies behind z, a link that git does not track",
        ),
    ],
)
def test_why_an_input_is_not_in_the_clone(
    origin: Path, link: str, path: str, told: str
):
    write(origin / "real/x")
    if link:
        (origin / "z").symlink_to(link.format(disk=origin.parent.parent / "disk"))
    else:
        write(origin / "z")
    assert not_in_clone.refusal(cloned(origin), path, origin).what == told


@pytest.mark.parametrize(
    ("lay", "path", "told"),
    [
        (linked_inside, "data/x", "git add --force data"),
        (linked_relatively, "data/x.nc", "ln -sfn {disk} data; git add --force data"),
        (ignored, "x.nc", "git add --force x.nc"),
    ],
)
def test_a_parameter_file_is_taken_in_by_git(
    origin: Path, lay: Callable[[Path, Path], None], path: str, told: str
):
    disk = origin.parent.parent / "disk"
    lay(origin, disk)
    with pytest.raises(UsageError, match=f"the parameter file {path}") as caught:
        not_in_clone.refuse_absent(cloned(origin), path, origin)
    way_out = str(caught.value.next)
    assert way_out == told.format(disk=disk)
    typed(way_out)
    not_in_clone.refuse_absent(cloned(origin), path, origin)


def test_a_link_to_parameters_that_git_ignores(origin: Path):
    write(origin / "v.yaml")
    (origin / "w.yaml").symlink_to("v.yaml")
    typed("git add w.yaml")
    with pytest.raises(UsageError, match=r"is a link to v\.yaml, which") as caught:
        not_in_clone.refuse_dangling(cloned(origin), "w.yaml", origin)
    assert caught.value.next == "git add --force v.yaml"


def test_no_link_leads_to_dvc(origin: Path):
    write(origin / "real/x")
    (origin / "z").symlink_to("real")
    typed("git add z")
    # DVC (3.67): "Cannot add files inside symlinked directories".
    assert way_in(origin, "z/x") == "git add real/x"


def test_beside_dvc_s_folder_git_takes_files_in(origin: Path):
    write(origin / "shared/x")
    below = origin / "mine"
    below.mkdir()
    (below / "data").symlink_to("../shared")
    assert way_in(below, "data/x") == "git add mine/data shared/x"


def test_large_data_go_to_dvc_where_that_takes_them(origin: Path):
    write(origin / "x.nc")
    write(origin / "data/y")
    by_dvc = "dvc add x.nc; git add x.nc.dvc"
    assert way_in(origin, "x.nc") == f"{by_dvc}, or git add --force x.nc"
    # DVC (3.67): "bad DVC file name 'data/y.dvc' is git-ignored".
    assert way_in(origin, "data/y") == "git add --force data/y"
    (origin / "empty").mkdir()
    assert way_in(origin, "empty") == "dvc add empty; git add empty.dvc"


def test_data_that_were_added_are_taken_in_by_their_dvc_file(origin: Path):
    write(origin / "x.nc")
    write(origin / "x.nc.dvc")
    write(origin / "d/y")
    write(origin / "d.dvc")
    assert way_in(origin, "x.nc") == "git add x.nc.dvc"
    assert way_in(origin, "d/y") == "git add d.dvc"
    typed("git add x.nc.dvc d.dvc")
    assert way_in(origin, "x.nc") == "dvc add x.nc"
    assert way_in(origin, "d/y") == "dvc add d"


def test_what_dvc_reads_itself_goes_to_git_alone(origin: Path):
    write(origin / "v.yaml")
    write(origin / "w.yaml")
    force = "git add --force v.yaml"
    assert way_in(origin, "v.yaml", by_git_alone=True) == force
    assert way_in(origin, "w.yaml", by_git_alone=True) == "git add w.yaml"
    write(origin / "w.yaml.dvc")
    by_git = "dvc remove w.yaml.dvc; git add w.yaml"
    assert way_in(origin, "w.yaml", by_git_alone=True) == by_git
    write(origin / "d/w.yaml")
    write(origin / "d.dvc")
    assert "copy it out of d" in way_in(origin, "d/w.yaml", by_git_alone=True)


def test_a_file_of_a_repository_inside_is_taken_in_with_that(origin: Path):
    write(origin / "nl/x.py")
    typed("git init -q nl")
    added = "git -C nl add x.py; git -C nl commit"
    assert way_in(origin, "nl/x.py") == f"{added}; git add nl"
    write(origin / "nl/.gitignore", "x.py\n")
    assert way_in(origin, "nl/x.py").startswith("git -C nl add --force x.py;")
    typed("git -C nl add --force x.py")
    assert way_in(origin, "nl/x.py") == "git add nl"
