"""neural-lam's arguments, asked of environments that have it, and of such that do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages.neural_lam.parameters import arguments
from mllam_exps.stages.neural_lam.parameters.arguments import Arguments

SHIPPED = (
    Path(arguments.__file__).with_name("known_arguments") / "neural-lam-0.7.0.json"
)


@pytest.fixture(scope="module")
def shipped() -> Arguments:
    return Arguments.from_json(SHIPPED.read_text())


def site(folder: Path, direct_url: dict[str, object] | None = None) -> Path:
    """Make a folder that looks like site-packages with a neural-lam in it."""
    info = folder / "neural_lam-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: neural-lam\nVersion: 9.9\n"
    )
    if direct_url:
        (info / "direct_url.json").write_text(json.dumps(direct_url))
    return folder


def python_with(folder: Path, where: Path) -> Path:
    """Write an interpreter whose only packages are in a folder; importing neural_lam in it fails the test."""
    where.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} -S "$@"\n')
    where.chmod(0o755)
    return where


def test_the_version_in_another_environment_is_found_without_importing(
    tmp_path: Path,
) -> None:
    folder = site(tmp_path / "site")
    (folder / "neural_lam.py").write_text("raise SystemExit('imported')")
    python = python_with(folder, tmp_path / "python")
    assert arguments.installed(python) == arguments.Installed("9.9", "")


def test_the_sources_of_an_editable_install_are_those_of_the_checkout(
    tmp_path: Path,
) -> None:
    checkout = tmp_path / "a checkout"
    (checkout / "neural_lam").mkdir(parents=True)
    (checkout / "neural_lam" / "train_model.py").write_text("one")
    url = "file://" + str(checkout).replace(" ", "%20")
    folder = site(tmp_path / "site", {"url": url, "dir_info": {"editable": True}})
    python = python_with(folder, tmp_path / "python")
    before = arguments.installed(python)
    assert len(before.sources) == 64
    (checkout / "neural_lam" / "train_model.py").write_text("two")
    assert arguments.installed(python).sources not in ("", before.sources)


def test_a_folder_in_the_working_directory_is_not_taken_for_the_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = python_with(site(tmp_path / "site"), tmp_path / "python")
    decoy = site(tmp_path / "here") / "neural_lam-9.9.dist-info"
    (decoy / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: neural-lam\nVersion: 1.1\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    assert arguments.installed(python).version == "9.9"


def test_an_environment_without_neural_lam_is_told(tmp_path: Path) -> None:
    python = python_with(tmp_path, tmp_path / "python")
    with pytest.raises(UsageError, match="neural-lam is not installed there"):
        arguments.installed(python)
    with pytest.raises(UsageError, match="cannot be run: No such file"):
        arguments.installed(tmp_path / "no-python")


def test_a_neural_lam_that_cannot_be_imported_is_told_in_one_line(
    tmp_path: Path,
) -> None:
    folder = site(tmp_path / "site")
    (folder / "neural_lam").mkdir()
    (folder / "neural_lam" / "__init__.py").write_text(
        "raise RuntimeError('torch is broken')"
    )
    python = python_with(folder, tmp_path / "python")
    with pytest.raises(
        MllamError, match="could not be read: RuntimeError: torch is broken"
    ):
        arguments.extract(python)


def test_importing_costs_little() -> None:
    code = (
        "import sys, time, yaml, pydantic; start = time.process_time();"
        "import mllam_exps.stages.neural_lam.parameters.params;"
        "assert not {'torch', 'xarray', 'numpy'} & set(sys.modules);"
        "print(time.process_time() - start)"
    )
    seconds = min(
        float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)
    )
    assert seconds < 0.2  # 0.03 where nothing else runs


@pytest.mark.models
def test_what_ships_is_what_the_installed_neural_lam_says(shipped: Arguments) -> None:
    if arguments.installed().version != shipped.version:
        pytest.skip(f"neural-lam {arguments.installed().version} is installed")
    assert arguments.extract() == shipped


@pytest.mark.models
def test_graph_efm_would_be_seen_to_need_a_hierarchical_graph() -> None:
    """Not among neural-lam 0.7's models yet; the probabilistic ones share no base class with hi_lam."""
    code = (
        "from neural_lam.models import GraphEFM, GraphEFMMultiScale, GraphLAM, HiLAM\n"
        "from mllam_exps.stages.neural_lam.programs.tell_arguments import needs_hierarchical_graph as needs\n"
        "print([needs(model) for model in (GraphEFM, GraphEFMMultiScale, GraphLAM, HiLAM)])"
    )
    answer = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert answer.strip().splitlines()[-1] == "[True, False, False, True]"
