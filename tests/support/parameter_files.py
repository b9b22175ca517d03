"""Good parameter files of a small experiment, and what makes them bad."""

from __future__ import annotations

import copy
from typing import Any

from mllam_exps.stages.neural_lam.file_names import CONFIG, DATASTORE
from mllam_exps.stages.neural_lam.parameters.params import Parameters

S = "output/splitting/splits"
SPLITS = "output.splitting.splits"


def source(target: str, variables: Any, dims: list[str], **more: Any) -> dict[str, Any]:
    time = {"time": {"method": "rename", "dim": "time"}} if "time" in dims else {}
    features = {"method": "stack_variables_by_var_name", "name_format": "{var_name}"}
    return {
        "path": "examples/tiny.zarr",
        "dims": dims,
        "variables": variables,
        "dim_mapping": {
            **time,
            "grid_index": {"method": "stack", "dims": ["x", "y"]},
            f"{target}_feature": features,
        },
        "target_output_variable": target,
        **more,
    }


GOOD: dict[str, Any] = {
    "schema_version": "v0.6.0",
    "dataset_version": "v1",
    "output": {
        "variables": {
            "state": ["time", "grid_index", "state_feature"],
            "static": ["grid_index", "static_feature"],
        },
        "coord_ranges": {
            "time": {
                "start": "2025-12-02T00:00",
                "end": "2025-12-08T00:00",
                "step": "PT6H",
            }
        },
        "splitting": {
            "dim": "time",
            "splits": {
                "train": {
                    "start": "2025-12-02T00:00",
                    "end": "2025-12-03T18:00",
                    "compute_statistics": {
                        "ops": ["mean", "std", "diff_std", "diff_mean"],
                        "dims": ["grid_index", "time"],
                    },
                },
                "val": {"start": "2025-12-04T00:00", "end": "2025-12-05T18:00"},
                "test": {"start": "2025-12-06T00:00", "end": "2025-12-08T00:00"},
            },
        },
    },
    "inputs": {
        "surface": source("state", ["t2m", "msl"], ["time", "x", "y"]),
        "land": source("static", ["lsm"], ["x", "y"]),
    },
    "extra": {"projection": {"class_name": "LambertConformal", "kwargs": {}}},
}
MISSING = object()


def changed(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with ``{"a/b": value}`` set, or taken out."""
    values = copy.deepcopy(good)
    for key, value in changes.items():
        section = values
        *parents, last = key.split("/")
        for parent in parents:
            section = section[parent]
        if value is MISSING:
            del section[last]
        else:
            section[last] = value
    return values


def experiment(changes: dict[str, Any] | None = None) -> Parameters:
    return Parameters({DATASTORE: changed(GOOD, changes or {}), CONFIG: {}})
