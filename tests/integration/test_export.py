"""An experiment as an RO-Crate: what is in it is what the experiment holds, and what is not is named."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate
from support.experiment import Experiment, environment, make_repository

from mllam_exps.exporting import forecast_folder

PIPELINE = """\
stages:
  grow:
    cmd: cat in.txt params.yaml > grown.txt
    deps: [in.txt]
    params: [lr]
    outs: [grown.txt]
  count:
    cmd: mkdir t && cp grown.txt 't/a b.txt' && cp params.yaml m.yaml
    deps: [grown.txt]
    outs: [t]
    metrics: [{m.yaml: {cache: false}}]
  log:
    cmd: mkdir -p logs && echo told > logs/told.txt
    deps: [grown.txt]
    outs: [{logs/told.txt: {cache: false}}]
  learn:
    cmd: python learn.py
    deps: [in.txt]
    outs: [saved_models, data/graph, data/datastore.zarr]
  check:
    cmd: echo checked > checked.txt
    always_changed: true
    outs: [{checked.txt: {cache: false}}]
"""

LEARN = """\
from pathlib import Path
for file in ("saved_models/min_val_loss.ckpt", "saved_models/last.ckpt", "data/graph/g/m2m.pt",
             "data/datastore.zarr/x/c/0", "data/datastore.zarr/state/c/0"):
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(file)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A repository with an experiment that DVC saved."""
    base = tmp_path_factory.mktemp("export")
    root = base / "repo"
    for path, text in {
        "dvc.yaml": PIPELINE,
        "in.txt": "one\n",
        "params.yaml": "lr: 0.1\n",
        "README.md": "# Ours\n",
        "machines/here.yaml": "scheduler: local\n",
        "learn.py": LEARN,
        "data/datastore.yaml": "inputs: {ground: {path: /of/my/machine.zarr}}\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "link.txt").symlink_to("in.txt")
    made = make_repository(root, environment(base / "home") | {"MLLAM_MACHINE": "here"})
    made.ok("dvc", "exp", "run", "-q", "-n", "e", "-S", "lr=0.2")
    return made


def read(crate: Path) -> dict[str, Any]:
    """Return the entities of a crate."""
    found = json.loads((crate / "ro-crate-metadata.json").read_text())
    return {one["@id"]: one for one in found["@graph"]}


def test_it_holds_what_the_experiment_does_and_says_how_that_was_made(
    saved: Experiment,
):
    told = saved.ok("mllam-exps", "export", "e", "--license", "CC-BY-4.0")
    assert "e as a Workflow Run RO-Crate" in told
    assert "link.txt: links, which are left out" in told
    crate = saved.root / "e.crate"
    assert (crate / "grown.txt").read_text() == "one\nlr: 0.2\n"
    assert (crate / "t/a b.txt").read_text() == "one\nlr: 0.2\n"
    assert (crate / "params.yaml").read_text() == "lr: 0.2\n"
    assert (crate / "grown.txt").stat().st_nlink == 1, "no link into DVC's cache"
    found = read(crate)
    root = found["./"]
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert root["mainEntity"] == {"@id": "dvc.yaml"}
    assert "ComputationalWorkflow" in found["dvc.yaml"]["@type"]
    grow = found["#run/grow"]
    assert grow["description"] == "cat in.txt params.yaml > grown.txt"
    assert grow["result"] == {"@id": "grown.txt"}
    lr = found["#parameter/grow/params.yaml%3Alr"]
    assert (lr["name"], lr["value"]) == ("params.yaml:lr", "0.2")
    assert {"@id": lr["@id"]} in grow["object"]
    digest = hashlib.md5(b"one\nlr: 0.2\n").hexdigest()
    assert found["grown.txt"]["identifier"] == f"md5:{digest}"
    # All that it names as a part is there, and is read by the community's library.
    parts = [one["@id"] for one in root["hasPart"]]
    assert {"dvc.yaml", "dvc.lock", "in.txt", "grown.txt", "t/", "m.yaml"} <= {*parts}
    assert all((crate / part).exists() for part in parts)
    known = ROCrate(crate)
    assert known.mainEntity.id == "dvc.yaml"
    refused = saved.command("mllam-exps", "export", "e")
    assert (refused.returncode, "is there already" in refused.stdout) == (2, True)


def test_what_is_too_large_is_named_and_a_crate_can_be_one_file(
    saved: Experiment, tmp_path: Path
):
    packed = tmp_path / "e.zip"
    told = saved.command(
        "mllam-exps", "export", "e", "-o", str(packed), "--largest", "0"
    )
    assert told.returncode == 0
    assert "grown.txt is left out, and its hash named: it has 12 B" in told.stdout
    assert "states no licence" in told.stdout
    with zipfile.ZipFile(packed) as archive:
        assert {"dvc.yaml", "ro-crate-metadata.json"} <= {*archive.namelist()}
        assert "grown.txt" not in archive.namelist()
        archive.extractall(tmp_path / "out")
    found = read(tmp_path / "out")
    assert "grown.txt" not in found
    named = found["#data/grown.txt"]
    assert named["@type"] == "PropertyValue"
    assert named["value"].startswith("md5:")
    assert found["#slot/grown.txt"]["workExample"] == {"@id": "#data/grown.txt"}


def test_what_neither_git_nor_dvc_keeps_is_named(saved: Experiment, tmp_path: Path):
    """An output with `cache: false` that git ignores, as a log is."""
    ref = ref_of(saved)
    lost = ref.removesuffix("/e") + "/lost"
    commands = f"""\
    export GIT_INDEX_FILE={tmp_path}/index
    git read-tree {ref} && git rm -q --cached logs/told.txt checked.txt
    git update-ref {lost} $(git commit-tree $(git write-tree) -m lost -p HEAD)"""
    saved.ok("sh", "-ec", commands)
    told = saved.ok("mllam-exps", "export", "lost", "-o", str(tmp_path / "x"))
    named = "note: {} is left out, and its hash named: {}"
    # Whoever reads it knows whether there is anything to do.
    why = "cache: false in dvc.yaml, and git ignores it: nobody keeps it"
    assert named.format("logs/told.txt", why) in told
    why = "its stage makes it anew each time, so that nobody has to keep it"
    assert named.format("checked.txt", why) in told
    assert "#data/logs/told.txt" in read(tmp_path / "x")


def test_what_the_cache_has_lost_is_told_and_nothing_is_left_behind(
    saved: Experiment, tmp_path: Path
):
    digest = hashlib.md5(b"one\nlr: 0.2\n").hexdigest()
    place = saved.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    place.rename(tmp_path / "kept")
    told = saved.command("mllam-exps", "export", "e", "-o", str(tmp_path / "x"))
    (tmp_path / "kept").rename(place)
    assert told.returncode == 2
    assert "DVC's cache has not all of grown.txt" in told.stdout
    assert "mllam-exps pull e" in told.stdout
    assert [*tmp_path.iterdir()] == []


def test_a_folder_to_forecast_from_holds_what_that_needs_and_no_more(
    saved: Experiment, tmp_path: Path
):
    folder = tmp_path / "f"
    export = ("mllam-exps", "export", "--inference", "-o", str(folder), "e")
    # What an earlier export of the same experiment left is replaced.
    commit = saved.ok("git", "rev-parse", ref_of(saved)).strip()
    folder.mkdir()
    (folder / "params.yaml").write_text("damaged")
    forecast_folder.seal(folder, forecast_folder.Manifest("e", commit))
    # As in a team's share; the folder goes where that is not.
    links = saved.root / ".dvc/config.local"
    links.write_text("[cache]\n    type = symlink\n")
    told = saved.ok(*export, "--license", "CC-BY-4.0")
    links.unlink()
    assert f"{folder}: e as a folder to forecast from" in told
    assert "its environment is not recorded here" in told
    of_it = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    # Of mllam-exps, which may be a development install here.
    of_it = {path for path in of_it if not path.startswith("packages/")}
    # `last.ckpt` is not the one to evaluate, `state` a field.
    parts = {
        "params.yaml",
        "data/datastore.yaml",
        "saved_models/min_val_loss.ckpt",
        "data/graph/g/m2m.pt",
        "trained_on.zarr/x/c/0",
        "requirements.txt",
    }
    assert of_it == {*parts, "manifest.json", "README.md"}
    assert (folder / "params.yaml").read_text() == "lr: 0.2\n"
    checkpoint = folder / "saved_models/min_val_loss.ckpt"
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {*manifest["parts"]} - {*manifest.get("sources", {}).values()} == parts
    assert (manifest["experiment"], manifest["commit"]) == ("e", commit)
    assert manifest["licence"] == "CC-BY-4.0"
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert manifest["parts"]["saved_models/min_val_loss.ckpt"]["sha256"] == digest
    assert "--input ground=FILE --steps N" in (folder / "README.md").read_text()
    (folder / "mine.txt").touch()
    refused = saved.command(*export)
    assert (refused.returncode, "is there already" in refused.stdout) == (2, True)
    assert [*tmp_path.iterdir()] == [folder]


def ref_of(saved: Experiment) -> str:
    return saved.ok(
        "git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/e"
    ).strip()
