"""``python -m mllam_exps.stages.neural_lam.new_input.program``: makes a small dataset, and forecasts from it.

It runs in a folder that is laid out as the experiment's repository, with `asked.PLAN`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam import keeping
from mllam_exps.stages.neural_lam.data.rehearsal import in_one_line
from mllam_exps.stages.neural_lam.file_names import (
    DATASET,
    DATASTORE,
    MODELS,
    PARAMS,
)
from mllam_exps.stages.neural_lam.forecasts import store
from mllam_exps.stages.neural_lam.forecasts.plan import STORE, Plan
from mllam_exps.stages.neural_lam.new_input.asked import (
    TRAINED_ON,
    NewInput,
    datastore_of,
    refuse,
    refuse_another,
    settings,
)
from mllam_exps.stages.neural_lam.parameters import arguments, inference, params, starts
from mllam_exps.stages.neural_lam.programs import infer

SCRATCH_FOLDER = "scratch"


def main() -> None:
    """Do both; what is refused is written down."""
    os.environ["ZARR_ARRAY__WRITE_EMPTY_CHUNKS"] = "True"
    work = Path.cwd()
    try:
        forecast(work)
    except MllamError as error:
        refuse(work, error.problem)
        print(error, file=sys.stderr)
        sys.exit(Exit.USAGE)


def forecast(work: Path) -> None:
    """Make the dataset and the forecasts.

    Raises
    ------
    MllamError
        If the input does not fit the experiment, or gives no forecast.
    """
    asked = NewInput.read(work)
    make_dataset(work, asked)
    scratch = work / SCRATCH_FOLDER
    scratch.mkdir()
    files = {**params.load(work).files}
    given = inference.told(_inference(work, asked))
    environment = {"MLLAM_EXPS_COMMIT": asked.commit}
    context = StageContext(
        work, scratch, files, asked.experiment, environment=environment
    )
    plan = _plan(context, given, asked)
    words = {
        "plan": plan.write(scratch),
        "seed": files[PARAMS]["seed"],
        "batch_size": given["batch_size"],
        "precision": given["precision"],
        "devices": given["devices"],
    }
    told = f"forecasts: {len(plan.starts)}, of {plan.steps} steps each"
    print(told, flush=True)
    infer.main([f"--{name}={value}" for name, value in words.items()])
    names = plan.variables or keeping.times_and_variables(context)[1]
    keeping.check_store(scratch / STORE, names, plan.starts, plan.steps)
    store.finish(scratch / STORE, Path(asked.output))


def _inference(work: Path, asked: NewInput) -> dict[str, Any]:
    """Return what ``data/inference_params.yaml`` says, where the experiment has it, less its own starts.

    Raises
    ------
    UsageError
        If nobody says how many steps a forecast runs.
    """
    given = {**settings(work), "split": None, "starts": asked.starts or None}
    if asked.steps is not None:
        given["steps"] = asked.steps
    if given.get("steps") is None:
        what = "the experiment does not say how many steps a forecast runs"
        raise UsageError(what, next="--steps N")
    return given


def _plan(context: StageContext, given: Mapping[str, Any], asked: NewInput) -> Plan:
    window = inference.window(
        given, params.Parameters(context.params), arguments.known()
    )
    series, _ = keeping.times_and_variables(context)
    wanted = {"starts": asked.starts} if asked.starts else {"split": "test"}
    chosen = starts.chosen(wanted, series, window, "the new input")
    checkpoint = f"{MODELS}/{given['checkpoint']}.ckpt"
    archives = {name: asked.inputs[name] for name in asked.new}
    told = {
        **keeping.attributes(context, checkpoint, "infer"),
        "input": ", ".join(sorted(set(archives.values()))),
    }
    return Plan(
        inference.isoformat(chosen),
        steps=window.steps,
        past=window.past,
        future=window.future,
        checkpoint=checkpoint,
        single_member=bool(
            params.Parameters(context.params).training.get("load_single_member")
        ),
        variables=given.get("variables"),
        kind=given["layout"],
        standard_names=given.get("standard_names") or {},
        attributes=told,
    )


def make_dataset(work: Path, asked: NewInput) -> None:
    """Make ``data/datastore.zarr`` of the new input, with the statistics of the training.

    Raises
    ------
    UsageError
        If it lies on another grid, or has other variables.
    """
    import xarray as xr
    from mllam_data_prep.config import Config

    making = importlib.import_module("mllam_data_prep.create_dataset")
    datastore = yaml_files.read(work / DATASTORE, DATASTORE)
    first, last = _limits(datastore, asked)
    made_by = datastore_of(datastore, asked.inputs, first, last)
    (work / DATASTORE).write_text(yaml.safe_dump(made_by, sort_keys=False))
    try:
        made = making.create_dataset(Config.from_yaml_file(str(work / DATASTORE)))
    except Exception as error:  # whatever mllam-data-prep raises, it refuses the input
        what = f"mllam-data-prep makes no dataset of it: {in_one_line(error)}"
        raise UsageError(what, "the new input") from error
    with xr.open_zarr(work / TRAINED_ON, chunks=None) as trained:
        refuse_another(made, trained)
        statistics = [
            name for name in map(str, trained.data_vars) if "__train__" in name
        ]
        made = made.assign({name: trained[name].load() for name in statistics})
        made.to_zarr(work / DATASET, mode="w", consolidated=True)
    print(f"a dataset of {first} to {last}, with the training's statistics", flush=True)


def _limits(datastore: Mapping[str, Any], asked: NewInput) -> tuple[str, str]:
    """Return first and last time of the new input.

    Raises
    ------
    UsageError
        If it does not open, or has no times.
    """
    import numpy as np
    import xarray as xr

    for name in asked.new:
        source = datastore["inputs"][name]
        if "time" not in (source.get("dims") or ()):
            continue
        mapped = (source.get("dim_mapping") or {}).get("time") or {}
        try:
            with xr.open_zarr(asked.inputs[name], chunks=None) as opened:
                times = opened[mapped.get("dim") or "time"].values
        except Exception as error:  # each engine raises its own
            what = f"{asked.inputs[name]} is no zarr with times"
            raise UsageError(what, f"--input {name}", in_one_line(error)) from error
        first, last = (np.datetime_as_string(one, "m") for one in (times[0], times[-1]))
        return str(first), str(last)
    what = "none of the new inputs has a time: name one that has"
    raise UsageError(what, "--input", next="--input NAME=FILE")


if __name__ == "__main__":
    main()
