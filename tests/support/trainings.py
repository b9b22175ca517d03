"""Trainings of the real neural-lam on the cluster: slowed down, disturbed, and held against one that was not."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mllam_exps.base import records
from mllam_exps.stages.neural_lam import checkpoints
from support import synthetic
from support.experiment import Experiment, environment, eventually, make_repository
from support.slurm_cluster import on, write_machine
from support.submissions import settled, submit

NAME = "night"
PACE = Path(__file__).parent / "pace"
PROGRAM = "mllam_exps.stages.neural_lam.programs.neural_lam"
ATTEMPT = "mllam_exps.attempt"


def make_ready(directory: Path, **training: Any) -> Experiment:
    """Make a tiny experiment whose dataset and graph are there, and committed."""
    root = synthetic.make_experiment(directory / "repo")
    tiny = make_repository(root, environment(directory / "home"))
    tiny.set("data/training_params.yaml", **training)
    tiny.ok("dvc", "repro", "create_graph", timeout=1800)
    for command in (("add", "-A"), ("commit", "-qm", "Ready")):
        tiny.ok("git", *command)
    return tiny


@dataclass
class Weights:
    """What a training made: the weights of both checkpoints, and the losses by epoch."""

    weights: dict[str, Any]
    losses: list[str]


@dataclass
class Training:
    """One training, submitted, in a repository, a cache and a run store of its own."""

    experiment: Experiment
    cluster: Any

    @classmethod
    def of(
        cls, ready: Experiment, directory: Path, cluster: Any, **machine: Any
    ) -> Training:
        """Copy what is ready, and write its machine file; ``pace`` there is what a test slows it down by."""
        root = Path(shutil.copytree(ready.root, directory / "repo", symlinks=True))
        experiment = on(cluster, Experiment(root, environment(directory / "home")))
        found = cls(experiment, cluster)
        found.pace(0.0)
        found.write_machine(**machine)
        return found

    def write_machine(self, **changes: Any) -> None:
        """Write the machine file."""
        resources = {"memory": "2G", **changes.pop("default", {})}
        variables = {
            "PYTHONPATH": str(PACE),
            "TEST_PACE": str(self.pace_file),
            "OMP_NUM_THREADS": "1",
        }
        changes = {"environment": {"variables": variables}} | changes
        write_machine(self.experiment, default=resources, **changes)

    @property
    def pace_file(self) -> Path:
        """The file that says how long each batch takes."""
        return self.experiment.root.parent / "pace"

    def pace(self, seconds: float) -> None:
        """Let each batch take so long."""
        path = self.pace_file.with_name("pace.new")
        path.write_text(str(seconds))
        path.replace(self.pace_file)

    def submit(self) -> None:
        """Submit the training, and nothing behind it."""
        submit(self.experiment, "-n", NAME, "train")

    def made(self, seconds: float = 1800) -> Weights:
        """Wait for its end, and return what it made, as DVC has it."""
        eventually(lambda: self.is_over, seconds, "it is saved")
        row = settled(self.experiment, NAME, seconds=300)[NAME]
        assert row["state"] == "done", row
        # DVC (3.67 seen) applies what there is, and fails, as there is no evaluation.
        self.experiment.command("dvc", "exp", "apply", NAME, timeout=600)
        self.experiment.ok("dvc", "checkout", "train", timeout=600)
        models = self.experiment.root / "saved_models"
        weights = {
            f"{file} {name}": value
            for file in (checkpoints.LAST, checkpoints.BEST)
            for name, value in checkpoints.load(models / file)["state_dict"].items()
        }
        losses = (self.experiment.root / "plots/loss.csv").read_text()
        return Weights(weights, losses.splitlines())

    @property
    def is_over(self) -> bool:
        """Whether there is an end of it, good or bad."""
        # `status` takes a second of a core that the training needs.
        return any(self.run.parents[1].glob("experiments/*/result.json"))

    @property
    def run(self) -> Path:
        """The run's directory."""
        [run] = self.experiment.runs("train")
        return run

    def attempt(self, number: int) -> Path:
        """Return the directory of an attempt."""
        return self.run / f"attempts/{number}"

    @property
    def newest(self) -> int:
        """The number of the newest attempt that has started; 0 before there is one."""
        if not self.experiment.runs("train"):
            return 0
        found = self.run.glob("attempts/*/started.json")
        return max((int(path.parent.name) for path in found), default=0)

    def began(self, number: int) -> int | None:
        """Return after how many epochs an attempt began, by its log alone: its scratch goes when the run is done.

        None if its program was not started, or was to go on and did not come so far as
        to say from where.
        """
        log = self.attempt(number) / "log.txt"
        text = log.read_text(errors="replace") if log.exists() else ""
        if (found := re.search(r"going on with epoch (\d+) of", text)) is not None:
            return int(found[1]) - 1
        started = re.search(r"^\$ .*$", text, re.MULTILINE)
        return None if started is None or "--load=" in started[0] else 0

    def reached(self, number: int) -> float | None:
        """Return how many epochs were trained when an attempt told it last."""
        told = records.read(self.attempt(number) / "scratch/progress.json")
        if told is None or "epoch" not in told.get("text", ""):
            return None
        if "batch" not in told:  # it saved within the epoch
            return float(told["done"])
        epoch = int(re.findall(r"\d+", told["text"])[0])
        return epoch - 1 + told["batch"] / told["batches"]

    def cause(self, number: int) -> str:
        """Return why an attempt ended without a result, in the words of the rules; empty while that is not known."""
        for name in ("end.json", "verdict.json"):
            told = records.read(self.attempt(number) / name) or {}
            if told.get("cause"):
                return str(told["cause"])
        return ""

    def job(self, number: int) -> str:
        """Return the id of an attempt's job."""
        told = records.read(self.attempt(number) / "job.json") or {}
        return str(told["id"])

    def nodes(self, number: int) -> list[str]:
        """Return the nodes that an attempt's job runs on; none once it has ended."""
        words = ("squeue", "-h", "--states=running", "-o", "%N", "-j", self.job(number))
        said = self.cluster.command(*words).stdout.strip()
        words = ("scontrol", "show", "hostnames", said)
        return self.cluster.command(*words).stdout.split() if said else []

    def processes(self, number: int, what: str) -> list[psutil.Process]:
        """Return an attempt's processes: of the `program`, `srun`, or the `attempt` itself."""
        # As the process of a submission or of a test has no such variable.
        mark = str(self.attempt(number))
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                variables = process.environ()
            except psutil.Error:
                continue
            if not words or variables.get("SLURM_CONF") != str(self.cluster.conf):
                continue
            is_srun = Path(words[0]).name == "srun"
            is_python = "python" in Path(words[0]).name
            if what == "attempt":
                is_it = ATTEMPT in words and words[-2:] == [str(self.run), str(number)]
            else:
                is_it = variables.get("MLLAM_EXPS_ATTEMPT") == mark
                is_it &= is_srun if what == "srun" else PROGRAM in words
                is_it &= what == "srun" or is_python
            if is_it:
                found.append(process)
        return found

    def trains(self, number: int, seconds: float = 900) -> None:
        """Wait until an attempt trains."""
        trains = lambda: None not in {self.reached(number), self.began(number)}  # noqa: E731
        eventually(trains, seconds, "it trains")

    def check_that_at_most_an_epoch_was_lost(self, reached: dict[int, float]) -> None:
        """Hold where each attempt began against how far those before it had come."""
        furthest = 0.0
        for number in range(1, self.newest + 1):
            began = self.began(number)
            if began is not None:
                assert furthest - began <= 1.0 + 1e-6, (number, furthest, began)
            furthest = max(furthest, reached.get(number, 0.0))


def differences(one: Weights, other: Weights) -> list[str]:
    """Return the names of the weights that are not the same to the bit."""
    assert one.weights.keys() == other.weights.keys()
    return [
        name
        for name, value in one.weights.items()
        if not value.equal(other.weights[name])
    ]


def columns(losses: list[str], *names: str) -> list[tuple[str, ...]]:
    """Return some columns of the losses."""
    head = losses[0].split(",")
    places = [head.index(name) for name in names]
    return [tuple(row.split(",")[place] for place in places) for row in losses[1:]]


def kill(processes: list[psutil.Process]) -> int:
    """Kill processes with SIGKILL, and return how many there were."""
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    return len(processes)
