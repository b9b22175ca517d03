"""``python -m mllam_exps.stages.neural_lam.programs.infer --plan=FILE …``: forecasts of a trained network, to a zarr.

Each process computes for itself, with one device: nothing is shared but the store and
the claims (`forecasts.claims`). Under Slurm they are the tasks of the job; elsewhere the
first one starts the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, first_line
from mllam_exps.stages.contract import ENDED_IN_TIME, SAVE_AND_END
from mllam_exps.stages.neural_lam.forecasts.claims import Claims
from mllam_exps.stages.neural_lam.forecasts.plan import STORE, Plan
from mllam_exps.stages.neural_lam.forecasts.store import Store, Unit
from mllam_exps.stages.neural_lam.patches import (
    forecast_from_any_time,
    keep_boundary_mask,
    leave_new_memory_alone,
    trust_no_checkpoint,
)
from mllam_exps.stages.neural_lam.programs.neural_lam import set_environment
from mllam_exps.stages.neural_lam.ranks import is_first_process
from mllam_exps.stages.programs import fence
from mllam_exps.stages.programs.telling import PROGRESS, SCRATCH, replace

LOCAL_RANK = "LOCAL_RANK"
"""Which of the processes on its node this is; Lightning reads it, too."""


def told(arguments: list[str]) -> argparse.Namespace:
    """Return what the stage says."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--config_path", default="data/config.yaml")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--precision", default="32")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--limit", type=int)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Write the forecasts that are not there yet."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = told(arguments)
    set_environment()
    fence.guard()
    scratch = options.plan.parent
    # Our callbacks are those of a training or an evaluation.
    os.environ.pop(SCRATCH, None)
    others = start_others(arguments, options.devices)
    try:
        claims = compute(Plan.read(options.plan), options, scratch)
    except BaseException:
        for other in others:
            other.terminate()
        raise
    # One that failed costs nothing: what it has left has been computed here.
    for other in others:
        other.wait()
    if claims.stopped and claims.store.missing():
        print("the time limit is near: what is written stays", flush=True)
        return ENDED_IN_TIME
    return 0


def start_others(arguments: list[str], devices: int) -> list[subprocess.Popen[bytes]]:
    """Start this program for each other device, where nobody else has started it."""
    if devices == 1 or LOCAL_RANK in os.environ or "SLURM_PROCID" in os.environ:
        return []
    os.environ[LOCAL_RANK] = "0"
    command = [sys.executable, "-P", "-m", __spec__.name, *arguments]
    return [
        subprocess.Popen(command, env={**os.environ, LOCAL_RANK: str(number)})
        for number in range(1, devices)
    ]


def compute(plan: Plan, options: argparse.Namespace, scratch: Path) -> Claims:
    """Load the network, and compute what this process claims."""
    import pytorch_lightning as pl
    import torch
    from lightning_fabric.plugins.environments import LightningEnvironment
    from neural_lam.config import load_config_and_datastore

    from mllam_exps.stages.neural_lam.programs.one_forecaster import OneForecaster

    trust_no_checkpoint.apply()
    leave_new_memory_alone.apply()
    keep_boundary_mask.apply()
    pl.seed_everything(options.seed, workers=True, verbose=False)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # as neural-lam's evaluation does
    config, datastore = load_config_and_datastore(config_path=options.config_path)
    model = load(plan.checkpoint, config, datastore)
    forecaster = model.forecaster
    layout = plan.layout(datastore, with_spread=forecaster.predicts_std)
    store = Store(scratch / STORE, layout)
    store.lay_out()
    take(plan, store)
    claims = Claims(
        store, options.batch_size, scratch / SAVE_AND_END, limit=options.limit
    )
    units: deque[list[Unit]] = deque()
    samples = samples_of(plan, datastore)
    progress = Progress(scratch / PROGRESS, store, options.limit)
    loader = torch.utils.data.DataLoader(
        samples.dataset,
        batch_sampler=samples.batches(claims, units),
        num_workers=options.num_workers,
        multiprocessing_context="spawn" if options.num_workers else None,
        prefetch_factor=1 if options.num_workers else None,
    )
    trainer = pl.Trainer(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=device(torch.cuda.device_count()),
        plugins=[LightningEnvironment()],  # each process is alone, also under Slurm
        precision=precision(options.precision),
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.test(OneForecaster(model, store, units, progress.tell), dataloaders=loader)
    progress.tell(now=True)
    return claims


def take(plan: Plan, store: Store) -> None:
    """Take the forecasts that other runs have made; what cannot be taken is computed."""
    for path, starts in plan.taken.items():
        try:
            store.take(Path(path), starts)
        except (OSError, KeyError, ValueError) as error:
            print(f"note: {path}: {first_line(error)}: not taken", flush=True)


def load(checkpoint: str, config: Any, datastore: Any) -> Any:
    """Build the network that a checkpoint describes, with its weights; as neural-lam does, but on any device.

    Raises
    ------
    CheckFailed
        If the graph or the variables are those of another network.
    """
    import torch
    from neural_lam import train_model
    from neural_lam.models.module import ForecasterModule

    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    args = content["hyper_parameters"]["args"]
    predictor = train_model.build_predictor(
        train_model.MODELS[args.model], args, config, datastore
    )
    forecaster = train_model.ARForecaster(predictor, datastore)
    try:
        return ForecasterModule.load_from_checkpoint(
            checkpoint,
            map_location="cpu",
            weights_only=True,
            forecaster=forecaster,
            datastore=datastore,
        )
    except RuntimeError as error:
        # torch (2.13) lists what does not fit, a line each, below a heading.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckFailed(
            "the checkpoint does not fit data/datastore.zarr and its graph",
            where=checkpoint,
            why=lines[1] if len(lines) > 1 else lines[0],
            next="dvc repro train",
        ) from error


class Samples:
    """neural-lam's samples of all times of a dataset.

    Parameters
    ----------
    dataset : neural_lam.weather_dataset.WeatherDataset
    first : sequence of int
        The sample of each initial time of the plan, of an ensemble its first member's.
    """

    def __init__(self, dataset: Any, first: Sequence[int]) -> None:
        self.dataset = dataset
        self.first = first

    def batches(self, claims: Claims, units: deque[list[Unit]]) -> Iterator[list[int]]:
        """Yield the samples of each batch that is claimed, and note in `units` which it holds."""
        for batch in claims:
            units.append(batch)
            yield [self.first[unit.start] + unit.member for unit in batch]


def samples_of(plan: Plan, datastore: Any) -> Samples:
    """Return the samples that a plan needs."""
    import numpy as np
    from neural_lam.weather_dataset import WeatherDataset

    forecast_from_any_time.apply(datastore)
    dataset = WeatherDataset(
        datastore=datastore,
        split=forecast_from_any_time.SPLIT,
        ar_steps=plan.steps,
        num_past_forcing_steps=plan.past,
        num_future_forcing_steps=plan.future,
        load_single_member=plan.single_member,
    )
    times = dataset.da_state["time"].values.astype("datetime64[s]")
    places = np.searchsorted(times, np.array(plan.starts, "datetime64[s]"))
    members = 1
    if datastore.is_ensemble and not plan.single_member:
        members = int(dataset.da_state.sizes["ensemble_member"])
    first = (places - max(2, plan.past) + 1) * members
    return Samples(dataset, [int(one) for one in first])


def precision(value: str) -> Any:
    """Return what Lightning wants: a number where it is one."""
    return int(value) if value.isdecimal() else value


def device(count: int) -> Any:
    """Return which devices Lightning takes for this process: one, of those that it sees its own."""
    local = int(os.environ.get("SLURM_LOCALID") or os.environ.get(LOCAL_RANK) or 0)
    return [local % count] if count else 1


class Progress:
    """Tells how many forecasts are there.

    Parameters
    ----------
    path : Path
        ``progress.json``.
    store : Store
    limit : int, optional
        How many are asked for, where not all are.
    """

    def __init__(self, path: Path, store: Store, limit: int | None) -> None:
        self.path = path
        self.store = store
        self.total = len(store.units[:limit])
        self._before = len(store.done())
        self._began = time.monotonic()
        self._told = 0.0

    def tell(self, *, now: bool = False) -> None:
        """Write it down, about once a second; the first process does it for all."""
        moment = time.monotonic()
        if not is_first_process() or (moment - self._told < 1 and not now):
            return
        self._told = moment
        done = len(self.store.done())
        made = done - self._before
        left = (moment - self._began) / made * (self.total - done) if made else None
        record = {
            "text": f"forecast {done}/{self.total}",
            "done": done,
            "total": self.total,
            "seconds_left": None if left is None else round(left, 1),
        }
        replace(self.path, json.dumps(record))


if __name__ == "__main__":
    sys.exit(main())
