"""The team's baseline on DANRA: its values, and that the programs take them."""

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import synthetic

from mllam_exps.machines.machine_files import load
from mllam_exps.schedulers.slurm import batch_script
from mllam_exps.stages.contract import Size
from mllam_exps.stages.neural_lam.common import size_of
from mllam_exps.stages.neural_lam.parameters import (
    arguments,
    dataset_checks,
    param_checks,
    params,
)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "danra-baseline"
ARCHIVE = "/path/to/danra/v0.5.0"
FEATURES = [
    "pres_seasurface",
    "t2m",
    "u10m",
    "v10m",
    "r2m",
    "z500hPa",
    "r700hPa",
    "u850hPa",
    "v850hPa",
]

# The archive has an absolute path, which a test can't make: it is put in place where
# mllam-data-prep opens it, so that datastore.yaml is used as it stands.
PREPARE = f"""
import importlib, sys
from mllam_data_prep import cli
module = importlib.import_module("mllam_data_prep.create_dataset")
opened = module.load_input_dataset
module.load_input_dataset = lambda fp: opened(fp.replace({ARCHIVE!r}, sys.argv[1]))
cli.call(["data/datastore.yaml"])
"""
# One batch of each kind, and errors that are raised: the program itself exits 0 when it
# fails.
TRAIN = """
import sys
import pytorch_lightning as pl
from neural_lam.train_model import main
start = pl.Trainer.__init__
few = {"limit_train_batches": 1, "limit_val_batches": 1, "num_sanity_val_steps": 0}
pl.Trainer.__init__ = lambda self, *a, **k: start(self, *a, **(k | few))
main.__wrapped__(sys.argv[1:])
"""


def read(path):
    return yaml.safe_load((EXAMPLE / path).read_text())


def test_the_pipeline_is_the_roots_but_for_the_source():
    # Its forecasts are too large to be kept, of which the root's are scored one by one.
    ours = (EXAMPLE / "dvc.yaml").read_text().splitlines()
    theirs = synthetic.without_verify((ROOT / "dvc.yaml").read_text()).splitlines()
    changed = [line for line in difflib.ndiff(theirs, ours) if line[0] in "+-?"]
    assert changed == [
        "-     deps:",
        "-     - examples/north-atlantic-2025/north_atlantic_2025-12.zarr",
    ]


@pytest.mark.parametrize(
    "path", ["params.yaml", "data/training_params.yaml", "data/evaluate_params.yaml"]
)
def test_the_files_are_laid_out_as_the_roots(path):
    root = yaml.safe_load((ROOT / path).read_text())
    assert list(read(path)) == [key for key in root if key != "keep_forecasts"]


def test_values_of_the_dataset():
    data = read("data/datastore.yaml")
    assert (data["schema_version"], data["dataset_version"]) == ("v0.6.0", "v1.0.0")
    output = data["output"]
    assert output["chunking"] == {"time": 1}
    assert output["coord_ranges"]["time"]["step"] == "PT3H"
    splits = output["splitting"]["splits"]
    assert set(splits["train"]["compute_statistics"]["ops"]) == {
        "mean",
        "std",
        "diff_mean",
        "diff_std",
    }
    assert [str(splits[name][end])[:10] for name in ("train", "val", "test") for end in ("start", "end")] == [
        "2013-11-01", "2015-10-16", "2015-10-24", "2016-10-24", "2016-11-01", "2017-11-01",
    ]  # fmt: skip
    assert list(data["inputs"])[-1] == "danra_static", (
        "an input without time ends the selection of times"
    )
    assert {source["path"] for source in data["inputs"].values()} == {
        f"{ARCHIVE}/single_levels.zarr",
        f"{ARCHIVE}/pressure_levels.zarr",
    }
    assert set(read("params.yaml")["archives"]) == set(data["inputs"])
    projection = data["extra"]["projection"]
    assert projection["class_name"] == "LambertConformal"
    assert projection["kwargs"] == {
        "central_longitude": 25.0,
        "central_latitude": 56.7,
        "standard_parallels": [56.7, 56.7],
        "globe": {
            "ellipse": None,
            "semimajor_axis": 6367470.0,
            "semiminor_axis": 6367470.0,
        },
    }


def test_values_of_training_and_evaluation():
    given = {
        key: value
        for key, value in read("data/training_params.yaml").items()
        if value is not None
    }
    assert given == {
        "model": "hi_lam", "hidden_dim": 128, "processor_layers": 4, "output_std": False, "load_single_member": False,
        "epochs": 30, "batch_size": 1, "lr": 0.001, "ar_steps_train": 1, "val_interval": 1, "ar_steps_eval": 4,
        "val_steps_to_log": [1, 2, 4], "metrics_watch": ["val_rmse"], "precision": "bf16-mixed", "devices": 8,
        "num_nodes": 2, "num_workers": 8,
    }  # fmt: skip
    evaluation = read("data/evaluate_params.yaml")
    assert (evaluation["eval"], evaluation["num_nodes"], evaluation["devices"]) == (
        "val",
        1,
        None,
    )
    assert read("data/config.yaml")["training"]["state_feature_weighting"] == {
        "__config_class__": "UniformFeatureWeighting"
    }


def test_the_cluster():
    machine = load(EXAMPLE, "cluster")
    train = machine.resources_for("train")
    assert batch_script.resource_options(train) == [
        "--account=cu_0003",
        "--time=1-00:00:00",
        "--gres=gpu:8",
        "--exclusive",
    ]
    assert batch_script.srun_options(train) == [
        "--unbuffered",
        "--label",
        "--kill-on-bad-exit=1",
    ]
    assert machine.resources_for("evaluate") == train
    dataset = machine.resources_for("prepare_dataset")
    assert batch_script.resource_options(dataset) == [
        "--account=cu_0003",
        "--time=5:00:00",
        "--gres=gpu:1",
    ]
    assert machine.environment.variables == {
        "OMP_NUM_THREADS": "56",
        "OMPI_MCA_coll_hcoll_enable": "0",
    }
    assert len(machine.environment.modules) == 5


def test_our_own_checks_pass():
    given, known = params.load(EXAMPLE), arguments.known()
    assert param_checks.check(EXAMPLE, given, known) == []
    assert dataset_checks.check(given) == []
    assert dataset_checks.notes(given) == []
    assert size_of(given.training) == Size(2, 8)
    assert size_of(given.evaluation) == Size(1, 8)


def run(folder, *command):
    environ = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "OMP_NUM_THREADS": "2",
    }
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.models
@pytest.mark.long
@pytest.mark.timeout(3000)
def test_dataset_graph_and_a_step_of_training(tmp_path):
    from support.danra import STEPS, make_sources

    shutil.copytree(EXAMPLE / "data", tmp_path / "data")
    run(tmp_path, "-c", PREPARE, make_sources(tmp_path / "archive"))
    import torch
    import xarray as xr

    with xr.open_zarr(tmp_path / "data/datastore.zarr") as dataset:
        assert list(dataset.state_feature.values) == FEATURES
        assert dataset.sizes["time"] == STEPS
        # The team's dataset has 11,763 files.
        assert len(list((tmp_path / "data/datastore.zarr").rglob("*"))) > STEPS
        for name in ("mean", "std", "diff_std", "diff_mean"):
            assert bool(dataset[f"state__train__{name}"].notnull().all()), name
        for when in (0, STEPS // 2, STEPS - 1):
            assert bool(dataset.state.isel(time=when).notnull().all())
            assert float(dataset.state.isel(time=when).std("grid_index").min()) > 0

    given, known = params.load(EXAMPLE), arguments.known()
    config = "--config_path=data/config.yaml"
    run(
        tmp_path,
        "-m",
        "neural_lam.create_graph_with_wmg",
        config,
        *params.graph_argv(given, known),
    )
    graph = tmp_path / "data/graph/hierarchical_4lvl"
    # 70 by 66 points carry two levels; DANRA's 789 by 589 carry all four.
    levels = torch.load(graph / "mesh_features.pt", weights_only=True)
    assert [len(level) for level in levels] == [81, 9]

    small = [
        "--epochs=1",
        "--num_nodes=1",
        "--num_workers=0",
        "--logger_run_name=x",
        "--runs_root=runs",
    ]
    run(tmp_path, "-c", TRAIN, config, *params.training_argv(given, known), *small)
    assert (tmp_path / "runs/x/checkpoints/last.ckpt").is_file()


@pytest.mark.models
def test_danras_own_grid_carries_four_levels():
    import numpy as np
    from weather_model_graphs.create.mesh.coords import (
        create_multirange_2d_mesh_primitives,
    )

    graph = read("params.yaml")["graph"]
    points = np.stack(
        np.meshgrid(np.arange(789) * 2500.0, np.arange(589) * 2500.0, indexing="ij"), -1
    )
    points = points.reshape(-1, 2)
    # neural-lam's own estimate of the grid's spacing.
    spacing = np.sqrt(np.prod(np.ptp(points, axis=0)) / len(points))
    levels = create_multirange_2d_mesh_primitives(
        max_num_levels=graph["max_num_levels"],
        xy=points,
        mesh_node_spacing=spacing * graph["mesh_grid_distance_ratio"],
        interlevel_refinement_factor=graph["level_refinement_factor"],
    )
    assert [len(level) for level in levels] == [19683, 2187, 243, 27]
