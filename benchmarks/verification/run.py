"""How much memory scores take: ``python benchmarks/verification/run.py [--starts N] [--training N]``.

Forecasts and analyses of DANRA's size (589 x 789 points, five variables, 20 lead times),
chunked as the stages write them, are made as they are read: a set that is larger than
the memory need not lie on a disk. What the process took at most is what the system
says. The errors are known beforehand, and so the scores.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from mllam_exps.stages.neural_lam.forecasts.layout import tiles
from mllam_exps.stages.neural_lam.scoring import truth
from mllam_exps.verification.scorecard import Wanted, score

ROWS, COLUMNS, VARIABLES, LEADS = 589, 789, 5, 20
STEP, BETWEEN = np.timedelta64(6, "h"), 4
"""From one analysis to the next; and how many lie between two starts."""
FIRST = np.datetime64("2020-01-01", "ns")
TARGET_GB = 2.0
PATTERN = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype("float32")


def fields(number: int, rows: slice = np.s_[:], columns: slice = np.s_[:]) -> Any:
    """Return the weather at one time, somewhere: a pattern that comes and goes."""
    return PATTERN[rows, columns] * np.float32(1 + 0.2 * np.sin(number / 7))


def analyses(count: int) -> Any:
    """Return a dataset as mllam-data-prep makes it: a long list of points, a time a chunk."""

    def made(block_info: Any = None) -> Any:
        (number, _), *_ = block_info[None]["array-location"]
        values = fields(number).ravel()
        return np.broadcast_to(values[None, :, None], (1, values.size, VARIABLES)) + 0

    chunks = ((1,) * count, (ROWS * COLUMNS,), (VARIABLES,))
    none = np.zeros((0, 0, 0), "float32")
    state = dask.array.map_blocks(made, chunks=chunks, dtype="float32", meta=none)
    y, x = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    coordinates = {
        "time": FIRST + np.arange(count) * STEP,
        "x": ("grid_index", x * 2500.0),
        "y": ("grid_index", y * 2500.0),
        "state_feature": [f"v{n}" for n in range(VARIABLES)],
    }
    whole = xr.Dataset(
        {"state": (("time", "grid_index", "state_feature"), state)}, coordinates
    )
    return truth.of_dataset(whole, "the analyses")


def forecasts(begin: int, count: int) -> Any:
    """Return forecasts as `infer` keeps them, whose error grows by 0.1 with each lead time."""

    def made(block_info: Any = None) -> Any:
        (start, _), (lead, to), rows, columns = block_info[None]["array-location"]
        at = begin + start * BETWEEN
        values = [
            fields(at + one, slice(*rows), slice(*columns)) + np.float32(one / 10)
            for one in range(lead + 1, to + 1)
        ]
        return np.stack(values)[None]

    shape = (count, LEADS, ROWS, COLUMNS)
    sizes = (1, LEADS, *tiles(LEADS, (ROWS, COLUMNS)))
    chunks = dask.array.core.normalize_chunks(sizes, shape)
    dims = ("reference_time", "lead_time", "yc", "xc")
    return xr.Dataset(
        {
            f"v{n}": (
                dims,
                dask.array.map_blocks(
                    made,
                    chunks=chunks,
                    dtype="float32",
                    meta=np.zeros((0,) * 4, "float32"),
                    name=f"forecast-{n}",
                ),
            )
            for n in range(VARIABLES)
        },
        {
            "reference_time": FIRST + (begin + np.arange(count) * BETWEEN) * STEP,
            "lead_time": ("lead_time", 6 * np.arange(1, LEADS + 1), {"units": "hours"}),
            "yc": np.arange(ROWS) * 2500.0,
            "xc": np.arange(COLUMNS) * 2500.0,
        },
    )


def peak() -> float:
    """Return how much memory this process has had at most, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Score, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=60)
    parser.add_argument("--training", type=int, default=1464)
    given = parser.parse_args()
    own = forecasts(given.training, given.starts)
    was = analyses(given.training + given.starts * BETWEEN + LEADS)
    training = (was.time.values[0], was.time.values[given.training - 1])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    print(f"{platform.platform()}, {os.cpu_count()} cores, {memory:.1f} GB")
    sizes = [one.nbytes / 1e9 for one in (own, was)]
    print("forecasts {:.1f} GB, analyses {:.1f} GB".format(*sizes), end=": ")
    print(f"{sum(sizes) / TARGET_GB:.1f} times what may be taken, ", end="")
    print(f"{sum(sizes) / memory:.1f} times this machine's memory", flush=True)
    begun, last = time.perf_counter(), [0.0]

    def tell(done: int, total: int) -> None:
        if (now := time.perf_counter()) > last[0] + 10:
            last[0] = now
            took = f"{now - begun:.0f} s, {peak():.2f} GB"
            print(f"  {done}/{total}: {took}", flush=True)

    spectra_at = [LEADS * STEP]
    scores = score({"own": own}, was, Wanted(training, spectra_at=spectra_at), tell)
    took = time.perf_counter() - begun
    errors = scores["rmse.v0"].sel(forecast_source="own").values
    assert np.allclose(errors, np.arange(1, LEADS + 1) / 10, rtol=1e-4)
    print(f"most memory: {peak():.2f} GB (target: {TARGET_GB:g}), {took:.0f} s")


if __name__ == "__main__":
    main()
