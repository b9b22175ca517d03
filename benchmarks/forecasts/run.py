"""What keeping forecasts costs: ``python benchmarks/forecasts/run.py [--repeat N] [--repository PATH]``.

Where the example was run (`make run`), with its network and dataset, from all starts of
the training split, in turns, the loops in a process of their own:

- the forward passes alone: `infer`'s own loop, which forgets what the network returns;
- the raw write: the same fields as plain files of four bytes a number, in one go each;
- `infer`'s own loop, which keeps them: claims, units, CF's layout, compression, marks.

Imports, network and dataset count in none of them. The target is a ratio of 1.2 at most
of the last to the first two together.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam import infer
from mllam_exps.stages.neural_lam.file_names import INFERENCE
from mllam_exps.stages.neural_lam.forecasts.plan import STORE, Plan
from mllam_exps.stages.neural_lam.parameters import params

ROOT = Path(__file__).parents[2]
FORWARD, OURS = "forward", "ours"
TARGET = 1.2


def loop(way: str, arguments: list[str]) -> None:
    """Run `infer`'s loop in this process, and print how many seconds it took."""
    import torch

    from mllam_exps.stages.neural_lam.programs import infer as program
    from mllam_exps.stages.neural_lam.programs import one_forecaster

    class Timed(one_forecaster.OneForecaster):  # type: ignore[misc]
        """The same, with a clock."""

        def on_test_start(self) -> None:
            self.begun = time.perf_counter()

        def on_test_end(self) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            print(json.dumps(time.perf_counter() - self.begun), flush=True)

        def test_step(self, batch: Any, batch_idx: int) -> None:
            if way == OURS:
                super().test_step(batch, batch_idx)
                return
            self._units.popleft()
            self.model.common_step(batch)

    one_forecaster.OneForecaster = Timed
    options = program.told(arguments)
    program.set_environment()
    program.compute(Plan.read(options.plan), options, options.plan.parent)


def planned(root: Path, scratch: Path, asked: dict[str, Any]) -> list[str]:
    """Return the arguments of `infer`'s program, whose plan lies in a scratch folder."""
    scratch.mkdir()
    files = {**params.load(root).files, INFERENCE: asked}
    context = StageContext(root, scratch, files, experiment="benchmark")
    infer.STAGE.inputs(context)
    return infer.STAGE.command(context)[3:]


def seconds(root: Path, way: str, arguments: list[str]) -> float:
    """Return how long a loop took, in a process of its own."""
    command = [sys.executable, __file__, "--way", way, *arguments]
    done = subprocess.run(
        command, check=False, cwd=root, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return float(done.stdout.splitlines()[-1])


def raw_write(store: Path, folder: Path) -> tuple[float, float]:
    """Write the fields of a store as plain files; return the seconds, and how many GB they are."""
    import numpy as np
    import xarray as xr

    folder.mkdir()
    with xr.open_zarr(store, chunks=None) as kept:
        whole = {name: one for name, one in kept.data_vars.items() if one.ndim > 2}
        fields = {name: np.asarray(one) for name, one in whole.items()}
    begun = time.perf_counter()
    for name, values in fields.items():
        for number, one in enumerate(values):
            one.tofile(folder / f"{name}-{number}")
    took = time.perf_counter() - begun
    return took, sum(one.nbytes for one in fields.values()) / 1e9


def main() -> None:
    """Measure, and print the ratio."""
    if sys.argv[1:2] == ["--way"]:
        loop(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--repository", type=Path, default=ROOT)
    parser.add_argument("--split", default="train")
    parser.add_argument("--steps", type=int, default=4)
    given = parser.parse_args()
    root = given.repository.resolve()
    os.chdir(root)
    asked = {"split": given.split, "steps": given.steps}
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}")
    ratios = []
    for number in range(given.repeat):
        with tempfile.TemporaryDirectory(dir=root) as directory:
            here = Path(directory)
            ways = [FORWARD, OURS] if number % 2 else [OURS, FORWARD]
            took = {
                way: seconds(root, way, planned(root, here / way, asked))
                for way in ways
            }
            raw, size = raw_write(here / OURS / STORE, here / "raw")
        ratios.append(took[OURS] / (took[FORWARD] + raw))
        print(
            f"  {number + 1}: forward passes {took[FORWARD]:.2f} s, raw write of {size:.2f} GB {raw:.2f} s,"
            f" ours {took[OURS]:.2f} s: ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f} (target: {TARGET})")


if __name__ == "__main__":
    main()
