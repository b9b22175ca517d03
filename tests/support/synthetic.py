"""A tiny complete experiment, made in a second: every stage of it runs in seconds.

The grid is 64 × 63: Neural-LAM takes 30 points at each side as boundary, so 4 × 3
points are forecast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = "examples/tiny/tiny.zarr"
EXAMPLE_SOURCE = "examples/north-atlantic-2025/north_atlantic_2025-12.zarr"
WIDTH, HEIGHT, TIMES, STEP_HOURS = 64, 63, 40, 6


def make_source(path: Path, *, times: int = TIMES) -> Path:
    """Write travelling waves of pressure and temperature, and a land mask, as a zarr of dims time, x, y."""
    import numpy as np
    import xarray as xr

    x = np.linspace(0.0, 630e3, WIDTH)
    y = np.linspace(0.0, 620e3, HEIGHT)
    time = np.datetime64("2025-12-01T00", "ns") + np.arange(times) * np.timedelta64(
        STEP_HOURS, "h"
    )
    phase = np.arange(times)[:, None, None] * 0.4
    wave = np.sin(x[None, :, None] / 90e3 - phase) * np.cos(
        y[None, None, :] / 70e3 + 0.5 * phase
    )
    noise = np.random.default_rng(1).normal(size=wave.shape)
    variables = {
        "msl": (
            101300 + 900 * wave + 20 * noise,
            {"units": "Pa", "long_name": "mean sea level pressure"},
        ),
        "t2m": (
            285 + 4 * wave**2 + 0.1 * noise,
            {"units": "K", "long_name": "temperature at 2 m"},
        ),
    }
    dataset = xr.Dataset(
        {
            name: (("time", "x", "y"), values.astype("float32"), attrs)
            for name, (values, attrs) in variables.items()
        },
        coords={
            "time": time,
            "x": ("x", x, {"units": "m", "long_name": "x"}),
            "y": ("y", y, {"units": "m", "long_name": "y"}),
        },
    )
    land = (np.hypot(x[:, None] - 300e3, y[None, :] - 300e3) < 150e3).astype("float32")
    dataset["lsm"] = (("x", "y"), land, {"units": "1", "long_name": "land mask"})
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.chunk({"time": 10}).to_zarr(path, mode="w", consolidated=True)
    return path


def datastore(source: str = SOURCE) -> dict[str, Any]:
    """Return mllam-data-prep's configuration of the tiny dataset."""
    grid = {"grid_index": {"method": "stack", "dims": ["x", "y"]}}
    dims = {"time": {"method": "rename", "dim": "time"}, **grid}

    def features(category: str) -> dict[str, Any]:
        return {
            f"{category}_feature": {
                "method": "stack_variables_by_var_name",
                "name_format": "{var_name}",
            }
        }

    def split(start: str, end: str, statistics: bool = False) -> dict[str, Any]:
        limits: dict[str, Any] = {"start": start, "end": end}
        if statistics:
            ops = ["mean", "std", "diff_std", "diff_mean"]
            limits["compute_statistics"] = {"ops": ops, "dims": ["grid_index", "time"]}
        return limits

    return {
        "schema_version": "v0.6.0",
        "dataset_version": "v0.1.0",
        "output": {
            "variables": {
                "static": ["grid_index", "static_feature"],
                "state": ["time", "grid_index", "state_feature"],
            },
            "coord_ranges": {
                "time": {
                    "start": "2025-12-01T00:00",
                    "end": "2025-12-10T18:00",
                    "step": "PT6H",
                }
            },
            "chunking": {"time": 5},
            "splitting": {
                "dim": "time",
                "splits": {
                    "train": split(
                        "2025-12-01T00:00", "2025-12-05T18:00", statistics=True
                    ),
                    "val": split("2025-12-06T00:00", "2025-12-08T06:00"),
                    "test": split("2025-12-08T12:00", "2025-12-10T18:00"),
                },
            },
        },
        "inputs": {
            "weather": {
                "path": source,
                "dims": ["time", "x", "y"],
                "variables": ["msl", "t2m"],
                "dim_mapping": {**dims, **features("state")},
                "target_output_variable": "state",
            },
            "ground": {
                "path": source,
                "dims": ["x", "y"],
                "variables": ["lsm"],
                "dim_mapping": {**grid, **features("static")},
                "target_output_variable": "static",
            },
        },
        "extra": {
            "missing_values": [],
            "projection": {
                "class_name": "LambertConformal",
                "kwargs": {"central_longitude": -20.0, "central_latitude": 55.0},
            },
        },
    }


TRAINING = {
    "model": "graph_lam",
    "hidden_dim": 4,
    "processor_layers": 1,
    "epochs": 3,
    "batch_size": 8,
    "lr": 0.01,
    "num_workers": 0,
    "ar_steps_eval": 2,
    "val_steps_to_log": [1],
    "num_sanity_val_steps": 0,
    "num_nodes": 1,
    "devices": 1,
}
EVALUATION = {
    "eval": "test",
    "checkpoint": "min_val_loss",
    "ar_steps_eval": 2,
    "n_example_pred": 1,
}
PARAMS = {
    "seed": 3,
    "logger": "mlflow",
    "logger_project": "tiny",
    "graph": {"name": "tiny", "archetype": "keisler", "mesh_node_distance": 60e3},
}


def make_experiment(directory: Path, *, source: Path | None = None) -> Path:
    """Write a complete tiny experiment: parameter files, ``dvc.yaml`` and the source data."""
    target = directory / SOURCE
    if source is None:
        make_source(target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source, target_is_directory=True)
    config = {
        "datastore": {"kind": "mdp", "config_path": "datastore.yaml"},
        "training": {
            "state_feature_weighting": {"__config_class__": "UniformFeatureWeighting"}
        },
    }
    files: dict[str, Any] = {
        "params.yaml": PARAMS,
        "data/config.yaml": config,
        "data/datastore.yaml": datastore(),
        "data/training_params.yaml": TRAINING,
        "data/evaluate_params.yaml": EVALUATION,
    }
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(yaml.safe_dump(content, sort_keys=False))
    # It would cost each test ten seconds.
    pipeline = without_verify((REPOSITORY / "dvc.yaml").read_text())
    (directory / "dvc.yaml").write_text(pipeline.replace(EXAMPLE_SOURCE, SOURCE))
    return directory


def without_verify(text: str) -> str:
    """Return the example's ``dvc.yaml`` without `verify`, and the forecasts that it scores."""
    text = text.replace("    - forecasts/evaluate.zarr\n", "", 1)
    before, verify, after = text.partition("  verify:\n")
    assert verify
    return before + after[after.index("\nplots:\n") + 1 :]
