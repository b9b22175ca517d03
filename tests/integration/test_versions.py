"""Exact versions: read without importing, of releases, development installs and hidden packages."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mllam_exps.base.errors import MllamError
from mllam_exps.stages import versions


def git(folder: Path, *arguments: str) -> str:
    """Run git as a user without any configuration."""
    environ = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    for who in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{who}_NAME": "a", f"GIT_{who}_EMAIL": "a@example.org"}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def install(
    site: Path,
    name: str,
    version: str,
    direct_url: dict | None = None,
    record: str = "",
) -> None:
    """Make what pip leaves of an installed package."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 0 in a README\n"
    )
    (info / "RECORD").write_text(record)
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty site-packages that comes first."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(
        sys.modules, "neural_lam", raising=False
    )  # another test may have imported the real one
    return site


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a git checkout of a package under development, with one commit."""
    folder = tmp_path / "check out"
    (folder / "neural_lam").mkdir(parents=True)
    (folder / "neural_lam/__init__.py").write_text("")
    (folder / "neural_lam/model.py").write_text("width = 4\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def editable(folder: Path) -> dict:
    return {"url": folder.as_uri(), "dir_info": {"editable": True}}


def test_release_and_absent(site: Path) -> None:
    install(site, "some-program", "1.2.3")
    found = versions.installed(["some-program", "no-such-program"])
    assert found["some-program"] == "1.2.3"
    assert found["no-such-program"] == versions.ABSENT
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_torch_with_its_build(site: Path) -> None:
    install(site, "torch", "2.9.0")
    (site / "torch").mkdir()
    (site / "torch/version.py").write_text(
        "from typing import Optional\n__version__ = '2.9.0+cu128'\ndebug = False\n"
    )
    assert versions.installed(["torch"])["torch"] == "2.9.0+cu128"


def test_editable_clean_and_dirty(site: Path, checkout: Path) -> None:
    install(site, "neural-lam", "0.7.0+gdeadbeef", editable(checkout))
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    tell = lambda: versions.installed(["neural-lam"])["neural-lam"]  # noqa: E731
    assert tell() == f"0.7.0+g{commit}"

    (checkout / "neural_lam/model.py").write_text("width = 8\n")
    changed = tell()
    assert (
        changed.startswith(f"0.7.0+g{commit}.d")
        and len(changed) == len(f"0.7.0+g{commit}.d") + 8
    )
    git(checkout, "add", ".")
    assert tell() == changed, "staging changes nothing"

    (checkout / "notes.log").write_text("no source\n")
    assert tell() == changed
    (checkout / "neural_lam/extra.py").write_text("")
    assert tell() not in {changed, f"0.7.0+g{commit}"}, "a new source file counts"
    (checkout / "neural_lam/extra.py").unlink()
    (checkout / "neural_lam/model.py").unlink()
    assert tell() not in {changed, f"0.7.0+g{commit}"}, "so does one that is gone"


def test_dirt_does_not_depend_on_git_configuration(
    site: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "neural-lam", "0.7.0", editable(checkout))
    (checkout / "neural_lam/model.py").write_text("width = 8\n")
    before = versions.installed(["neural-lam"])
    for name, value in {
        "diff.noprefix": "true",
        "diff.context": "9",
        "color.ui": "always",
        "diff.relative": "true",
    }.items():
        git(checkout, "config", name, value)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert versions.installed(["neural-lam"]) == before


def test_editable_outside_git_counts_by_its_sources(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1\n")
    install(site, "neural-lam", "0.7.0", editable(folder))
    first = versions.installed(["neural-lam"])["neural-lam"]
    assert first.startswith("0.7.0+d")
    (folder / "a.py").write_text("x = 2\n")
    assert versions.installed(["neural-lam"])["neural-lam"] != first


def test_installed_from_git_and_from_a_folder(site: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    install(
        site,
        "torch-geometric",
        "2.3.1",
        {"url": "https://x/y.git", "vcs_info": {"vcs": "git", "commit_id": commit}},
    )
    install(
        site,
        "zarr",
        "3.0",
        {"url": "file:///x", "dir_info": {}},
        "zarr/a.py,sha256=abc,3\nzarr-3.0.dist-info/RECORD,,\n",
    )
    found = versions.installed(["torch-geometric", "zarr"])
    assert found["torch-geometric"] == "2.3.1+g0123456789ab"
    assert (
        found["zarr"]
        == "3.0+d" + hashlib.sha256(b"zarr/a.py,sha256=abc,3").hexdigest()[:8]
    )


def test_a_checkout_on_the_path_hides_the_installed_one(
    site: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "neural-lam", "0.7.0")
    (site / "neural_lam").mkdir()
    (site / "neural_lam/__init__.py").write_text("")
    assert versions.installed(["neural-lam"])["neural-lam"] == "0.7.0"
    monkeypatch.syspath_prepend(str(checkout))
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert versions.installed(["neural-lam"])["neural-lam"] == f"0.7.0+g{commit}"


def test_of_environment(tmp_path: Path) -> None:
    found = versions.of_environment([sys.executable], cwd=tmp_path)
    assert found == versions.installed()
    assert set(found) == {*versions.PROGRAMS, "python"}


def test_of_environment_behind_a_talkative_wrapper() -> None:
    wrapped = [
        "sh",
        "-c",
        'echo "Loading module python/3.11"; exec "$@"',
        "sh",
        sys.executable,
    ]
    assert (
        versions.of_environment(wrapped)["python"] == versions.installed([])["python"]
    )


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (["/no/such/python"], "No such file"),
        (["sh", "-c", "echo no module >&2; exit 1"], "no module"),
        (["true"], "exit code 0"),
    ],
)
def test_of_environment_says_what_is_wrong(python: list[str], said: str) -> None:
    with pytest.raises(MllamError, match=said):
        versions.of_environment(python)


def test_heavy_programs_are_not_imported() -> None:
    code = (
        "import sys; from mllam_exps.stages import versions; versions.installed(); "
        "print([m for m in ('torch', 'numpy', 'xarray', 'mlflow', 'yaml', 'fsspec') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_content_is_sorted_stable_and_read_back() -> None:
    archives = {"era5": {"version": "v1", "path": "/data/era5.zarr", "metadata": None}}
    recipes = {"train": 1, "create_graph": 2}
    text = versions.content(
        {"torch": "2.13.0+cpu", "python": "3.11", "numpy": "2.4.6"}, recipes, archives
    )
    assert text == versions.content(
        dict(
            reversed([("torch", "2.13.0+cpu"), ("python", "3.11"), ("numpy", "2.4.6")])
        ),
        {"create_graph": 2, "train": 1},
        {"era5": {"path": "/data/era5.zarr", "metadata": None, "version": "v1"}},
    )
    assert text.startswith("# Exact versions")
    read = yaml.safe_load(text)
    assert list(read) == sorted(read)
    assert read["python"] == "3.11", "a version is never a number"
    assert read["mllam-exps"] == recipes
    assert read["archives"] == archives


def test_differences() -> None:
    expected = {
        "torch": "2.12.0",
        "numpy": "2.4.6",
        "neural-lam": "0.7.0",
        "mllam-exps": {"train": 1},
    }
    found = {
        "torch": "2.13.0+cpu",
        "numpy": "2.4.6",
        "mllam-exps": {"train": 2, "evaluate": 1},
        "zarr": "3",
    }
    assert versions.differences(expected, found) == [
        "mllam-exps.train 2, the key says 1",
        "neural-lam absent, the key says 0.7.0",
        "torch 2.13.0+cpu, the key says 2.12.0",
    ]
    assert versions.differences(found, found) == []
