"""The commands of the README, as typed, on a tiny experiment with the real programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support import synthetic
from support.experiment import Experiment, eventually

from mllam_exps.base import records

pytestmark = [pytest.mark.models, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def tiny(tiny_once: Any) -> Experiment:
    """A tiny experiment that has been run once."""
    experiment: Experiment = tiny_once.experiment
    return experiment


OURS = ("--", ".", ":!mlartifacts")
"""What git shows but for the pictures that go to MLflow: the tiny experiment has no .gitignore."""
RESULTS = ("prepare_dataset", "create_graph", "train", "evaluate")


def run_of(tiny: Experiment, stage: str, index: int = -1) -> Path:
    # One that begins at this moment has no record yet.
    begun = [run for run in tiny.runs(stage) if (run / "run.json").exists()]
    return max(begun, key=lambda run: (run / "run.json").stat().st_mtime)


def training(tiny: Experiment) -> dict:
    return json.loads((tiny.root / "metrics/train.json").read_text())


def test_dvc_has_something_to_show(tiny: Experiment):
    shown = tiny.ok("dvc", "exp", "show", "--csv")
    for column in (
        "train_loss",
        "best_val_loss",
        "gain_over_persistence.mean",
        "hidden_dim",
    ):
        assert column in shown
    tiny.ok("dvc", "plots", "show", "-o", "page")
    page = (tiny.root / "page/index.html").read_text()
    assert "Training and validation loss" in page
    assert "RMSE of forecast and persistence" in page
    assert "plots/forecasts" in page
    assert "msl" in tiny.ok("dvc", "metrics", "show")
    table = tiny.ok("mllam-exps", "scores")
    assert "persistence" in table
    pictures = json.loads(tiny.ok("mllam-exps", "scores", "--json"))["pictures"]
    assert pictures
    assert all((tiny.root / picture).stat().st_size > 10_000 for picture in pictures)


def test_nothing_is_done_twice(tiny: Experiment):
    again = tiny.ok("dvc", "exp", "run")
    for stage in RESULTS:
        assert f"Stage '{stage}' didn't change, skipping" in again


def test_version_file_tells_every_program(tiny: Experiment):
    versions = yaml.safe_load((tiny.root / "version.mllam.txt").read_text())
    assert versions["neural-lam"] != "absent"
    assert versions["torch"].startswith("2.")
    assert versions["mllam-exps"]["train"] >= 1


def finished(tiny: Experiment, name: str) -> int:
    """Return how many of MLflow's runs are finished; what an attempt logs last is sent when it has ended."""
    asked = "SELECT count(*) FROM runs WHERE status = 'FINISHED' AND name LIKE ?"
    with closing(sqlite3.connect(tiny.root / "mlflow.db")) as database:
        return int(database.execute(asked, [name]).fetchone()[0])


def test_mlflow_has_all_three_programs(tiny: Experiment):
    eventually(lambda: finished(tiny, "%") == 3, 60, "all is sent")
    with closing(sqlite3.connect(tiny.root / "mlflow.db")) as database:
        runs = dict(
            database.execute(
                "SELECT run_uuid, name FROM runs WHERE status = 'FINISHED'"
            )
        )
        tags = database.execute("SELECT run_uuid, key, value FROM tags").fetchall()
        metrics = {
            key for (key,) in database.execute("SELECT DISTINCT key FROM metrics")
        }
        [artifacts] = set(
            database.execute(
                "SELECT artifact_location FROM experiments WHERE experiment_id != 0"
            )
        )
    kinds = {name.partition("-")[0]: run for run, name in runs.items()}
    assert set(kinds) == {"prepare", "train", "eval"}
    for kind, stage in (
        ("prepare", "prepare_dataset"),
        ("train", "train"),
        ("eval", "evaluate"),
    ):
        of_run = {key: value for run, key, value in tags if run == kinds[kind]}
        assert of_run["stage"] == stage
        assert of_run["machine"] == "local"
        assert len(of_run["git_commit"]) == 40
        assert of_run["run_key"].startswith(stage)
        assert runs[kinds[kind]].endswith(of_run["experiment"])
    assert {"output_bytes", "val_mean_loss"} <= metrics
    assert any(name.startswith("train_loss") for name in metrics)
    assert artifacts[0].startswith(str(tiny.root / "mlartifacts"))
    assert not (tiny.root / "mlruns").exists()


def test_one_parameter_changed_and_shared_between_clones(
    tiny: Experiment, tmp_path: Path
):
    path = str(tmp_path / "shared folder")
    tiny.ok("git", "init", "-q", "--bare", path)
    # Before the experiment: DVC 3.67 pushes the data of those only whose own
    # .dvc/config knows the remote.
    tiny.ok("dvc", "remote", "add", "-d", "localshare", path)
    out = tiny.ok(
        "dvc",
        "exp",
        "run",
        "-n",
        "narrow",
        "-S",
        "data/training_params.yaml:hidden_dim=8",
        timeout=600,
    )
    assert "Stage 'prepare_dataset' didn't change, skipping" in out
    assert "narrow" in tiny.ok("dvc", "exp", "list")
    tiny.ok("dvc", "exp", "push", path, "narrow")
    other = tiny.clone(tmp_path / "clone")
    other.ok("dvc", "remote", "add", "--local", "-d", "localshare", path)
    assert "narrow" in other.ok("dvc", "exp", "list", path)
    other.ok("dvc", "exp", "pull", path, "narrow")
    other.ok("dvc", "exp", "apply", "narrow")
    assert training(other) == training(tiny)
    assert (other.root / "saved_models/last.ckpt").stat().st_size > 1000
    assert "hidden_dim: 8" in (other.root / "data/training_params.yaml").read_text()
    # What a colleague made is done here, too.
    again = other.ok("dvc", "repro")
    for stage in RESULTS:
        assert f"Stage '{stage}' didn't change, skipping" in again
    tiny.ok("git", "restore", ".")


@pytest.mark.long
def test_an_export_forecasts_anywhere_what_its_experiment_does(
    tiny: Experiment, tmp_path: Path
):
    """In a folder that is no repository, with no git, no settings, and all that it came from gone."""
    own = shutil.copytree(tiny.root, tmp_path / "repo", symlinks=True)
    mine = Experiment(own, tiny.environ)
    name, *_ = mine.ok("dvc", "exp", "list", "-A", "--name-only").split()
    folder, source = tmp_path / "anywhere/model", tmp_path / "new.zarr"
    shutil.copytree(own / synthetic.SOURCE, source)
    told = mine.ok("mllam-exps", "export", name, "--inference", "-o", "exported")
    assert "as a folder to forecast from" in told
    words = ("--input", str(source), "--steps", "2", "-o")
    known, new = tmp_path / "known.zarr", tmp_path / "anywhere/new.zarr"
    mine.ok("mllam-exps", "infer", name, *words, str(known))
    folder.parent.mkdir()
    (own / "exported").rename(folder)
    shutil.rmtree(own)
    command = [str(Path(sys.prefix, "bin/mllam-exps")), "infer", "--from", "model"]
    nowhere = str(folder.parent)
    done = subprocess.run(
        [*command, *words, str(new)],
        cwd=nowhere,
        env={"PATH": nowhere, "HOME": nowhere, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {*folder.parent.glob("[!.]*")} == {folder, new}
    # Its attributes tell when the dataset was made.
    told_of_it = (".zattrs", ".zmetadata")
    for file in filter(Path.is_file, known.rglob("*")):
        if file.name not in told_of_it or file.parent != known:
            there = new / file.relative_to(known)
            assert there.read_bytes() == file.read_bytes(), file


@pytest.mark.long
def test_a_queue_of_experiments(tiny: Experiment):
    runs = {stage: len(tiny.runs(stage)) for stage in RESULTS}
    # Width 8 is known from the test before: its queued experiment collects all, the
    # other one shares the dataset.
    tiny.ok(
        "dvc", "exp", "run", "--queue", "-S", "data/training_params.yaml:hidden_dim=2,8"
    )
    tiny.ok("dvc", "queue", "start", "-j", "2")
    eventually(
        lambda: tiny.ok("dvc", "queue", "status").count("Success") == 2,
        600,
        "both experiments are done",
    )
    grown = {stage: len(tiny.runs(stage)) - before for stage, before in runs.items()}
    assert grown == {"prepare_dataset": 0, "create_graph": 0, "train": 1, "evaluate": 1}
    # Queued experiments are tracked in the user's own database.
    eventually(lambda: finished(tiny, "train-%") == len(tiny.runs("train")), 60)


@pytest.mark.long
def test_the_queue_of_the_readme(tiny: Experiment):
    tiny.ok(
        "dvc",
        "exp",
        "run",
        "--queue",
        "-S",
        "data/training_params.yaml:hidden_dim=1,2,4,8,16",
    )
    tiny.ok("dvc", "queue", "start")
    eventually(
        lambda: tiny.ok("dvc", "queue", "status").count("Success") >= 5,
        1000,
        "five experiments are done",
    )


def test_a_killed_training_goes_on_from_its_checkpoint(tiny: Experiment):
    tiny.set("data/training_params.yaml", epochs=15)
    driver = tiny.start("dvc", "repro", "-s", "train")
    run = None

    def has_checkpoint() -> bool:
        nonlocal run
        run = run_of(tiny, "train")
        progress = records.read(run / "attempts/1/scratch/progress.json") or {}
        return (progress.get("done") or 0) >= 3 and bool(
            list((run / "attempts/1/scratch").glob("*/checkpoints/last.ckpt"))
        )

    eventually(has_checkpoint, 120, "three epochs")
    assert run is not None
    attempt = psutil.Process(records.read(run / "attempts/1/started.json")["pid"])
    for program in attempt.children():
        program.send_signal(signal.SIGKILL)
    out, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, out
    assert "another one is to follow: the program was killed by SIGKILL" in out
    log = (run / "attempts/2/log.txt").read_text()
    assert "going on from" in log
    assert training(tiny)["epochs"] == 15
    losses = (tiny.root / "plots/loss.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in losses[1:]] == [
        str(n) for n in range(1, 16)
    ]
    tiny.ok("git", "restore", ".")


@pytest.mark.long
def test_a_loss_that_is_not_a_number_is_a_failure(tiny: Experiment):
    tiny.set("data/training_params.yaml", lr=1e30)
    done = tiny.command("dvc", "repro", "-s", "train", timeout=300)
    assert done.returncode != 0
    assert "loss is nan" in done.stdout or "loss is inf" in done.stdout
    assert not (run_of(tiny, "train") / "result.json").exists()
    tiny.ok("git", "restore", ".")


def test_an_experiment_that_cannot_work_is_refused_before_it_starts(tiny: Experiment):
    before = len(list(tiny.store.iterdir()))
    datastore = tiny.root / "data/datastore.yaml"
    config = yaml.safe_load(datastore.read_text())
    config["inputs"]["weather"]["coord_ranges"] = {
        "x": {"start": 0.0, "end": 390_000.0}
    }
    datastore.write_text(yaml.safe_dump(config, sort_keys=False))
    done = tiny.command("dvc", "exp", "run")
    assert done.returncode != 0
    assert "no interior is left" in done.stdout
    assert "Traceback" not in done.stdout
    tiny.ok("git", "restore", ".")
    done = tiny.command(
        "dvc", "exp", "run", "-S", "data/training_params.yaml:val_steps_to_log=[99]"
    )
    assert "val_steps_to_log" in done.stdout
    assert done.returncode != 0
    assert len(list(tiny.store.iterdir())) == before
    tiny.ok("git", "restore", ".")


def test_smoke_publishes_nothing(tiny: Experiment):
    before = tiny.ok("git", "status", "--short", *OURS)
    out = tiny.ok("mllam-exps", "smoke", timeout=300)
    assert "every stage works on local" in out
    assert "prepare_dataset: known" in out or "prepare_dataset: fine" in out
    assert tiny.ok("git", "status", "--short", *OURS) == before


@pytest.mark.long
def test_wandb_works_offline(tiny: Experiment):
    tiny.set("params.yaml", logger="wandb", seed=7)
    tiny.environ["WANDB_MODE"] = "offline"
    try:
        tiny.ok("dvc", "repro", "-s", "train", timeout=300)
    finally:
        del tiny.environ["WANDB_MODE"]
    assert list((tiny.root / "wandb").glob("offline-run-*"))
    tiny.ok("git", "restore", ".")


def test_no_process_of_ours_is_left(tiny: Experiment):
    def left() -> bool:
        words = [
            " ".join(p.info["cmdline"] or [])
            for p in psutil.process_iter(["cmdline"])
            if p.pid != os.getpid()
        ]
        return any("mllam_exps." in w and str(tiny.root) in w for w in words)

    eventually(lambda: not left(), 60)
