"""What a training costs through us: ``python benchmarks/training/run.py [--pairs N] [--epochs N] [--restarts N]``.

All in one run, or the parts that ``--parts`` names, with the example's data, on one
thread:

- ``kept``: pairs of the bare program and of `mllam-exps run train`, in turns, with the
  same data, graph, parameters and seed: wall and CPU seconds of the first epoch, and of
  a later one. Those of ours count the attempt itself, and what sends its points. The
  weights have to be equal to the bit;
- ``not-kept``: the same where no samples are kept in memory, as with data that are too
  large for it;
- what a save takes, both ways;
- ``restarts``: on a private Slurm cluster (as root), from a SIGKILL of the training to the first step
  of the attempt that follows by itself, split by who takes the time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.experiment import Experiment, environment, eventually  # noqa: E402
from support.slurm_cluster import start_cluster  # noqa: E402
from support.trainings import PACE, Training, kill, make_ready  # noqa: E402

from mllam_exps.stages.neural_lam import checkpoints  # noqa: E402

STOPWATCH = Path(__file__).parent / "stopwatch"
PROGRAM = "mllam_exps.stages.neural_lam.programs.neural_lam"
OURS = ("--tasks_per_node=", "--runs_root=", "--logger_run_name=")
PARTS = ["kept", "not-kept", "restarts"]
KEPT_TARGET, NOT_KEPT_TARGET = 0.85, 1.01


@dataclass
class Measured:
    """What the first epoch of a training took, and a later one: wall and CPU seconds; its saves, and its weights."""

    first_wall: float
    first_cpu: float
    later_wall: float
    later_cpu: float
    saves: list[float]
    weights: dict[str, Any]


def lines(path: Path) -> list[dict[str, Any]]:
    """Return what the stopwatch noted."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def measured(path: Path, checkpoint: Path) -> Measured:
    """Read what was noted of one training."""
    told = lines(path)
    first, second, *_ = epochs = [line for line in told if line["what"] == "epoch"]
    [ended] = [line for line in told if line["what"] == "ended"]
    later = len(epochs) - 1
    return Measured(
        second["moment"] - first["moment"],
        second["cpu"] - first["cpu"],
        (ended["moment"] - second["moment"]) / later,
        (ended["cpu"] - second["cpu"]) / later,
        [line["seconds"] for line in told if line["what"] == "saved"],
        checkpoints.load(checkpoint)["state_dict"],
    )


class Example:
    """The example, its dataset and graph made, in a folder of its own."""

    def __init__(self, directory: Path, epochs: int) -> None:
        self.directory = directory
        environ = environment(directory / "home") | {"MLLAM_MACHINE": "bench"}
        self.experiment = Experiment(directory / "example", environ)
        here = Experiment(directory, environ)
        here.ok("mllam-exps", "init", str(self.experiment.root))
        self.experiment.set("data/training_params.yaml", epochs=epochs)
        self.write_machine({})
        self.experiment.ok("dvc", "repro", "create_graph", timeout=900)
        self.arguments: list[str] = []
        self.number = 0

    def write_machine(self, variables: dict[str, str]) -> None:
        """Write the machine file: this host, and variables."""
        common = {"OMP_NUM_THREADS": "1"}
        settings = {
            "scheduler": "local",
            "environment": {"variables": common | variables},
        }
        path = self.experiment.root / "machines/bench.yaml"
        path.write_text(yaml.safe_dump(settings))

    def variables(self, *, kept: bool) -> dict[str, str]:
        """Return the variables of the next training."""
        self.number += 1
        found = {
            "PYTHONPATH": str(STOPWATCH),
            "STOPWATCH": str(self.directory / f"{self.number}.jsonl"),
        }
        return found if kept else found | {"STOPWATCH_NOTHING_KEPT": "1"}

    def through_us(self, *, kept: bool) -> Measured:
        """Train as `dvc exp run` does."""
        for run in self.experiment.runs("train"):
            shutil.rmtree(run)
        variables = self.variables(kept=kept)
        self.write_machine(variables)
        self.experiment.ok("mllam-exps", "run", "train", timeout=3600)
        if not self.arguments:
            [run] = self.experiment.runs("train")
            log = (run / "attempts/1/log.txt").read_text()
            [started] = [
                line for line in log.splitlines() if f"{PROGRAM} train" in line
            ]
            words = shlex.split(started.partition(f"{PROGRAM} train ")[2])
            self.arguments = [word for word in words if not word.startswith(OURS)]
        last = self.experiment.root / "saved_models/last.ckpt"
        return measured(Path(variables["STOPWATCH"]), last)

    def bare(self, *, kept: bool) -> Measured:
        """Train with the bare program."""
        variables = self.variables(kept=kept)
        runs = self.directory / f"bare-{self.number}"
        runs.mkdir()
        environ = self.experiment.environ | variables
        environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{runs}/mlflow.db"
        words = [sys.executable, "-m", "neural_lam.train_model", *self.arguments]
        words += [f"--runs_root={runs}", "--logger_run_name=bare"]
        Experiment(self.experiment.root, environ).ok(*words, timeout=3600)
        last = runs / "bare/checkpoints/last.ckpt"
        found = measured(Path(variables["STOPWATCH"]), last)
        shutil.rmtree(runs)
        return found


def equal(one: Measured, other: Measured) -> bool:
    """Tell whether two trainings came to the same weights, to the bit."""
    return one.weights.keys() == other.weights.keys() and all(
        value.equal(other.weights[name]) for name, value in one.weights.items()
    )


def spread(values: list[float], unit: str) -> str:
    """Say the median, and between which values it lies."""
    return f"{statistics.median(values):7.3f} {unit} ({min(values):.3f} to {max(values):.3f})"


def compare(example: Example, pairs: int, *, kept: bool) -> None:
    """Measure pairs in turns, and print what they took."""
    ours: list[Measured] = []
    bare: list[Measured] = []
    for pair in range(pairs):
        # The arguments of the bare program are those of ours: it is first in the first pair.
        if pair % 2 == 0:
            ours.append(example.through_us(kept=kept))
            bare.append(example.bare(kept=kept))
        else:
            bare.append(example.bare(kept=kept))
            ours.append(example.through_us(kept=kept))
        load = os.getloadavg()[0]
        print(
            f"  pair {pair + 1}: bare {bare[-1].later_wall:.2f} s, {bare[-1].later_cpu:.2f} s of CPU;"
            f" ours {ours[-1].later_wall:.2f} s, {ours[-1].later_cpu:.2f} s of CPU (load {load:.1f})",
            flush=True,
        )
    target = KEPT_TARGET if kept else NOT_KEPT_TARGET
    for what in ("first_wall", "first_cpu", "later_wall", "later_cpu"):
        print(f"  {what}, bare    {spread([getattr(one, what) for one in bare], 's')}")
        print(f"  {what}, ours    {spread([getattr(one, what) for one in ours], 's')}")
        ratios = [
            getattr(one, what) / getattr(other, what)
            for one, other in zip(ours, bare, strict=True)
        ]
        print(f"  {what}, ratio   {spread(ratios, '')}, target {target}")
    for name, found in (("bare", bare), ("ours", ours)):
        saves = [1000 * seconds for one in found for seconds in one.saves]
        print(f"  a save, {name} {spread(saves, 'ms')}, {len(saves)} of them")
    same = all(equal(bare[0], one) for one in [*bare, *ours])
    print(f"  weights of all {2 * pairs} are {'equal' if same else 'NOT equal'}")


def restarts(directory: Path, number: int) -> None:
    """Kill a training again and again, and print where the time goes until it steps again."""
    noted, begun = directory / "restarts.jsonl", directory / "begun"
    ready = make_ready(directory / "ready", epochs=400)
    clusters = start_cluster(directory / "cluster", memory=4000)
    cluster = next(clusters)
    try:
        training = Training.of(ready, directory / "training", cluster)
        variables = {
            "PYTHONPATH": os.pathsep.join(map(str, (PACE, STOPWATCH))),
            "TEST_PACE": str(training.pace_file),
            "STOPWATCH": str(noted),
            "OMP_NUM_THREADS": "1",
        }
        script = training.experiment.root / "machines/begun.sh"
        training.write_machine(
            environment={"variables": variables, "source": [script.name]}
        )
        where = shlex.quote(str(begun))
        script.write_text(f"echo ${{SLURM_JOB_ID:-none}} $(date +%s.%N) >> {where}\n")
        training.pace(2.0)
        training.submit()
        found = [restart(training, noted, begun, one) for one in range(1, number + 1)]
    finally:
        cluster.command("scancel", f"--user={os.getuid()}")
        next(clusters, None)
    for what in found[0]:
        print(f"  {what:55} {spread([one[what] for one in found], 's')}")


def restart(
    training: Training, noted: Path, begun: Path, number: int
) -> dict[str, float]:
    """Kill an attempt that trains, and return what it took until the next one trains, by who takes it."""

    def stepped() -> int:
        told = lines(noted) if noted.exists() else []
        return len([line for line in told if line["what"] == "stepped"])

    eventually(lambda: stepped() == number, 300, "it trains")
    eventually(lambda: (training.reached(number) or 0) > number, 120, "an epoch")
    processes = training.processes(number, "program")
    killed = subprocess.run(
        ["date", "+%s.%N"], capture_output=True, text=True, check=True
    ).stdout
    assert kill(processes) == 1
    eventually(lambda: stepped() == number + 1, 300, "it trains again")
    told = {line["what"]: line for line in lines(noted)}
    claim = training.run / f"attempts/{number + 1}.json"
    jobs = dict(line.split() for line in begun.read_text().splitlines())
    moments = {
        "": float(killed),
        "ours: until the next job is asked for": claim.stat().st_mtime,
        "the scheduler: until that begins": float(jobs[training.job(number + 1)]),
        "ours, and srun: until the program is started": told["made"]["created"],
        "the program: imports, data, network": told["made"]["moment"],
        "the program: checkpoint, first batch": told["stepped"]["moment"],
    }
    names, times = list(moments), list(moments.values())
    split = {names[n]: times[n] - times[n - 1] for n in range(1, len(names))}
    return split | {"altogether": times[-1] - times[0]}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as directory:
        if {"kept", "not-kept"} & {*options.parts}:
            example = Example(Path(directory), options.epochs)
        for part in [part for part in PARTS[:2] if part in options.parts]:
            print(f"{options.epochs} epochs, samples {part}; a later epoch:")
            compare(example, options.pairs, kept=part == "kept")
        if "restarts" in options.parts:
            print("from a SIGKILL to the next step, on Slurm:")
            restarts(Path(directory), options.restarts)


if __name__ == "__main__":
    main()
