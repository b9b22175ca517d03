"""Forecasts that a stage keeps: what is said of them, and what proves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.neural_lam.data.zarr_check import (
    check_chunks,
    open_dataset,
    splits,
)
from mllam_exps.stages.neural_lam.file_names import DATASET
from mllam_exps.stages.neural_lam.parameters import starts
from mllam_exps.stages.neural_lam.parameters.datastore_file import last_of, time_of

PROGRAMS = ("neural-lam", "torch", "pytorch-lightning", "mllam-data-prep")
"""Programs whose versions the forecasts name, beside ours."""


def times_and_variables(context: StageContext) -> tuple[starts.Series, list[str]]:
    """Return the times that the dataset has, and the variables that a model of it forecasts."""
    dataset = open_dataset(context.work / DATASET)
    try:
        names = [str(name) for name in dataset["state_feature"].values]
        return _series_of(dataset), names
    finally:
        dataset.close()


def _series_of(dataset: Any) -> starts.Series:
    times = dataset["time"].values.astype("datetime64[us]").tolist()
    spans = {}
    for name, (first, last) in splits(dataset).items():
        begin = time_of(first)
        assert begin is not None
        spans[name] = (begin, last_of(last))
    return starts.Series(times, spans)


def attributes(context: StageContext, checkpoint: str, stage: str) -> dict[str, Any]:
    """Return what a store of forecasts says of where it comes from."""
    from mllam_exps import __version__
    from mllam_exps.stages import versions

    path = context.work / checkpoint
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    dataset = open_dataset(context.work / DATASET)
    data = {
        f"dataset_{name.removeprefix('dataset_')}": str(dataset.attrs[name])
        for name in ("dataset_version", "created_on", "created_with")
        if name in dataset.attrs
    }
    dataset.close()
    found = versions.installed(PROGRAMS)
    programs = {name: found[name] for name in PROGRAMS}
    environment = context.environment
    told = {
        "title": f"Forecasts of the experiment {context.experiment}",
        "source": f"neural-lam {programs['neural-lam']}, a trained graph neural network",
        "history": f"written by mllam-exps {__version__}, stage {stage}",
        "references": "https://github.com/mllam/neural-lam",
        "experiment": context.experiment,
        "git_commit": environment.get("MLLAM_EXPS_COMMIT", ""),
        "run_key": environment.get("MLLAM_EXPS_KEY", ""),
        "checkpoint": checkpoint,
        "checkpoint_sha256": digest,
        "checkpoint_epochs": checkpoints.describe(path).epochs,
        "programs": json.dumps({"mllam-exps": __version__, **programs}),
        **data,
    }
    return {name: value for name, value in told.items() if value != ""}


def check_store(path: Path, variables: Iterable[str], starts: Any, steps: int) -> None:
    """Prove a store: it opens, holds what was asked for, and each of its chunks is on disk.

    Parameters
    ----------
    path : Path
    variables : iterable of str
    starts : array of datetime64
    steps : int

    Raises
    ------
    CheckFailed
        With the first fault found.
    """
    import numpy as np

    dataset = open_dataset(path)
    try:
        for name in variables:
            if name not in dataset:
                raise CheckFailed(f"it holds no {name}", where=str(path))
            found = dataset[name].dims[0]
            have = dataset[found].values.astype("datetime64[s]")
            if not np.array_equal(have, np.asarray(starts, "datetime64[s]")):
                what = "its initial times are not those that were asked for"
                raise CheckFailed(what, where=str(path))
            if steps not in dataset[name].shape:
                raise CheckFailed(f"it has no {steps} lead times", where=str(path))
    finally:
        dataset.close()
    check_chunks(path)
