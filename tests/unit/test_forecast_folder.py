"""A folder from which a service forecasts: what is refused before anything is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mllam_exps import __version__
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.commands.running import infer
from mllam_exps.environments import requirements
from mllam_exps.exporting import forecast_folder, service_readme
from mllam_exps.exporting.forecast_folder import (
    MANIFEST,
    MOST,
    OURS,
    README,
    Manifest,
    hold,
    is_export_of,
    lay_out,
    other_versions,
    read,
    seal,
)
from mllam_exps.stages.neural_lam.new_input import asked
from mllam_exps.stages.packages import Environment, Package

FILES = {
    "data/datastore.yaml": "inputs: {ground: {path: /away/ground.zarr, dims: [x]}}\n",
    "saved_models/min_val_loss.ckpt": "weights",
    f"{asked.TRAINED_ON}/x/c/0": "0123",
}
PROGRAMS = {OURS: __version__, "torch": "2.13.0+cpu"}


def make(folder: Path, experiment: str = "e", **files: str) -> Path:
    for path, text in {**FILES, **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / README).write_text("# Ours\n")
    seal(folder, Manifest(experiment, f"{experiment}1", programs=PROGRAMS))
    return folder


def told(folder: Path) -> str:
    """Return what is said of a folder's parts; nothing where all are as they were."""
    try:
        hold(folder, read(folder), asked.is_read)
    except Problems as error:
        return str(error)
    return ""


def test_each_part_has_to_be_the_one_that_was_exported(tmp_path: Path):
    folder, other = make(tmp_path / "e"), make(tmp_path / "o", "o", **{"x.yaml": "1"})
    (folder / README).write_text("people write here")
    (folder / "run.sh").write_text("and their own files lie here")
    assert told(folder) == ""
    checkpoint = folder / "saved_models/min_val_loss.ckpt"
    # As long as before: its size tells nothing.
    checkpoint.write_text("Weights")
    assert f"{checkpoint}: is not the part that was exported with e" in told(folder)
    checkpoint.unlink()
    assert f"{checkpoint}: this part is missing" in told(folder)
    checkpoint.write_text("weights")
    added = folder / "data/inference_params.yaml"
    added.write_text("steps: 1\n")
    assert f"{added}: does not belong to this export of e" in told(folder)
    added.unlink()
    shutil.copyfile(other / MANIFEST, folder / MANIFEST)
    assert f"{folder / 'x.yaml'}: this part is missing" in told(folder)


def test_of_many_parts_a_few_are_named(tmp_path: Path):
    more = {f"{asked.TRAINED_ON}/y/c/{number}": "" for number in range(20)}
    folder = make(tmp_path / "e", **more)
    shutil.rmtree(folder / asked.TRAINED_ON)
    lines = [one for one in told(folder).splitlines() if "→" not in one]
    assert len(lines) == MOST + 1
    assert lines[-1].endswith(
        f"{21 - MOST} more of its parts are not as they have to be"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is no folder that mllam-exps export --inference made"),
        ("{", "is damaged: it holds no JSON"),
        ('{"experiment": "e", "commit": "1"}', "it has no `parts`"),
        ("../up", "names ../up, which is no part of a folder"),
        ("/etc/passwd", "names /etc/passwd, which is no part of a folder"),
    ],
)
def test_a_manifest_that_is_none(text: str | None, said: str, tmp_path: Path):
    if text is not None and not text.startswith("{"):
        parts = {text: {"sha256": "", "size": 0}}
        text = json.dumps(Manifest("e", "1", parts=parts).to_record())
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UsageError) as error:
        read(tmp_path)
    assert said in str(error.value)


def test_only_an_export_of_the_same_and_nothing_else_is_replaced(tmp_path: Path):
    folder = make(tmp_path / "e")
    (folder / "saved_models/min_val_loss.ckpt").unlink()
    assert is_export_of(folder, "e", "e1")
    assert not is_export_of(folder, "e", "e2")
    assert not is_export_of(folder, "o", "e1")
    (tmp_path / "link").symlink_to(folder)
    assert not is_export_of(tmp_path / "link", "e", "e1")
    (folder / "mine.txt").touch()
    assert not is_export_of(folder, "e", "e1")
    assert not is_export_of(tmp_path / "none", "e", "e1")


def test_what_the_program_changes_is_a_copy_and_the_rest_a_link(tmp_path: Path):
    folder, work = make(tmp_path / "e"), tmp_path / "work"
    (folder / "saved_models/other.ckpt").touch()
    lay_out(folder, read(folder), work, lambda path: path.startswith("data/"))
    assert not (work / "data/datastore.yaml").is_symlink()
    assert (work / "saved_models/min_val_loss.ckpt").read_text() == "weights"
    assert (work / f"{asked.TRAINED_ON}/x/c/0").is_symlink()
    assert not (work / "saved_models/other.ckpt").exists()


def test_programs_of_other_versions_are_named():
    said = Manifest("e", "1", programs={"torch": "2.13.0+cpu", "mlflow": "3"})
    here = {"torch": "2.12.0", "zarr": "3.1"}
    assert other_versions(said, here, lambda _: "") == [
        "torch is 2.12.0, and the folder is for 2.13.0+cpu"
    ]


def test_a_program_that_was_installed_from_the_folder_is_the_right_one():
    path = "packages/neural-lam-0.7.0.tar.gz"
    said = Manifest(
        "e",
        "1",
        parts={path: {"sha256": "ab", "size": 1}},
        programs={"neural-lam": "0.7.0+g0123456789ab.dcdef0123"},
        sources={"neural-lam": path},
    )
    here = {"neural-lam": "0.7.0"}
    assert other_versions(said, here, lambda _: "ab") == []
    assert len(other_versions(said, here, lambda _: "cd")) == 1


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**dict.fromkeys(asked.PROGRAMS, "1"), "torch": "2.13.0+cpu"}
    monkeypatch.setattr(infer.versions, "installed", lambda names: found)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("any_versions", [False, True])
def test_other_programs_are_refused_or_told_and_then_each_input_has_to_be_named(
    tmp_path: Path, any_versions: bool, capsys: pytest.CaptureFixture[str]
):
    folder = make(tmp_path / "e")
    said = read(folder)
    seal(folder, Manifest("e", "e1", programs={**said.programs, OURS: "0.0.9"}))
    output = tmp_path / "out.zarr"
    with pytest.raises(MllamError) as error:
        infer.infer_from(folder, ["weather=x"], output, any_versions=any_versions)
    differs = f"mllam-exps is {__version__}, and the folder is for 0.0.9"
    if any_versions:
        assert f"note: {differs}" in capsys.readouterr().err
        assert "has no input weather" in str(error.value)
    else:
        assert differs in str(error.value)
        assert "requirements.txt, or --other-versions" in error.value.next
    with pytest.raises(MllamError, match="no archive is named for ground"):
        infer.infer_from(folder, [], output, any_versions=True)
    assert [*tmp_path.iterdir()] == [folder]


@pytest.mark.usefixtures("here")
def test_what_a_program_that_failed_has_said_is_told_as_nobody_keeps_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    folder, program = make(tmp_path / "e"), tmp_path / "program"
    program.write_text("#!/bin/sh\necho KeyError: 7 >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(infer.sys, "executable", str(program))
    with pytest.raises(MllamError) as error:
        infer.infer_from(folder, [f"ground={folder}"], tmp_path / "out.zarr")
    assert "KeyError: 7" in capsys.readouterr().err
    assert str(error.value).startswith("its own words are above: the program that")
    assert {*tmp_path.iterdir()} == {folder, program}


def test_all_packages_as_pip_takes_them_and_what_it_cannot_have():
    address, commit = "https://github.com/mllam/neural-lam", "a" * 40
    patched = Package("wmg", "1", "git@host:w/wmg.git", commit, True, "diff --git")
    text, lacking = requirements.text(
        Environment(
            "3.11.7",
            "Linux",
            packages=(
                Package("neural-lam", "0.7.0", address, commit),
                Package("numpy", "2.4.6"),
                Package("ours", "1", "/home/me/ours", commit, editable=True),
                Package("torch", "2.13.0+cu130"),
                patched,
                Package("wheel", "1", "https://host/wheel.whl"),
                Package("dev", "1+g12", lacks="it was no release"),
                Package("mine", "1", "/home/me/mine", commit, editable=True),
            ),
        ),
        {"mine": "packages/mine-1.tar.gz"},
    )
    lines = text.splitlines()
    assert f"neural-lam @ git+{address}@{commit}" in lines
    assert "numpy==2.4.6" in lines
    assert "torch==2.13.0+cu130" in lines
    assert "wheel @ https://host/wheel.whl" in lines
    assert "--extra-index-url https://download.pytorch.org/whl/cu130" in lines
    assert "./packages/mine-1.tar.gz" in lines
    assert len(lacking) == 3
    assert lacking[2] == "dev 1+g12: it was no release"
    assert lacking[0].startswith("ours 1: it was installed from a folder")
    assert lacking[1].startswith(f"wmg 1 of ssh://git@host/w/wmg.git at {commit}: its")
    assert all(f"# {one}" in lines for one in lacking)


def test_people_read_the_one_command():
    said = Manifest(
        "e",
        "1a",
        programs=PROGRAMS,
        container="sha256:12",
        adopted=["train was taken"],
        sources={OURS: "packages/x.tar.gz"},
    )
    options = ["--input a=FILE", "--steps N"]
    text = service_readme.text(said, options, "3.11.7", ["note"], is_recorded=False)
    command = "infer --from FOLDER --input a=FILE --steps N -o FORECASTS.zarr"
    assert command in text
    assert "- train was taken\n" in text
    assert "- its programs ran in a container, sha256:12\n- note\n" in text
    assert "No licence is stated" in text
    assert text.endswith("| `packages/` | the code of packages that no index has |\n")
    assert forecast_folder.ENVIRONMENT not in text
