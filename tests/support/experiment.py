"""Experiments to test with: a toy one, whose stages take no neural-lam, in real git and DVC repositories."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support import forked

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / "toy"
PARAMETER_FILES = [
    "params.yaml",
    "data/config.yaml",
    "data/datastore.yaml",
    "data/training_params.yaml",
    "data/evaluate_params.yaml",
]
PATIENCE = 120.0
"""Seconds for which a test waits for what is to come: on a busy machine it may come late."""
FORKED = {"env", "timeout", "stderr"}
"""What `forked.run` can be told."""


@dataclass
class Experiment:
    """A git and DVC repository with an experiment, and the commands a user types there."""

    root: Path
    environ: dict[str, str]

    def command(self, *argv: str, **options) -> subprocess.CompletedProcess[str]:
        """Run a command here and return what it did, its output with stderr merged in."""
        options = {
            "env": self.environ,
            "timeout": 240,
            "stderr": subprocess.STDOUT,
        } | options
        if options.keys() <= FORKED and forked.serves(argv, options["env"]):
            return forked.run(argv, cwd=self.root, **options)
        return subprocess.run(
            argv,
            cwd=self.root,
            text=True,
            stdout=subprocess.PIPE,
            check=False,
            **options,
        )

    def ok(self, *argv: str, **options) -> str:
        """Run a command that has to succeed."""
        done = self.command(*argv, **options)
        assert done.returncode == 0, (
            f"{' '.join(argv)} exited with {done.returncode}:\n{done.stdout}"
        )
        return done.stdout

    def start(self, *argv: str, **options) -> subprocess.Popen[str]:
        """Start a command as the leader of a process group, as a terminal does."""
        return subprocess.Popen(
            argv,
            cwd=self.root,
            env=self.environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )

    def set(self, file: str, **values) -> None:
        """Change values of a parameter file; ``grow__at`` is ``grow.at``."""
        path = self.root / file
        data = yaml.safe_load(path.read_text())
        for name, value in values.items():
            *parents, last = name.split("__")
            place = data
            for parent in parents:
                place = place[parent]
            place[last] = value
        path.write_text(yaml.safe_dump(data, sort_keys=False))

    def hold(self, how: str = "wait", epochs: int = 4) -> None:
        """Let the program of `grow` stop after its first epoch: until `go_on`, or for ever where it stalls.

        An attempt that goes on from a checkpoint does not.
        """
        grow = {"do": how, "at": 1, "once": True, "epochs": epochs, "seconds": 0.1}
        self.set("toy.yaml", **{f"grow__{key}": value for key, value in grow.items()})

    def go_on(self) -> None:
        """Let the program of `grow` go on that waits for this word."""
        Path(self.environ["TOY_COUNT"]).with_name("go-on").touch()

    def starts(self) -> int:
        """Return how often the program of `grow` was started."""
        count = Path(self.environ["TOY_COUNT"])
        return len(count.read_text().splitlines()) if count.exists() else 0

    @property
    def store(self) -> Path:
        """The run store."""
        return self.root / ".dvc/cache/mllam-exps/runs"

    def runs(self, stage: str) -> list[Path]:
        """Return the directories of a stage's runs."""
        return sorted(self.store.glob(f"{stage}-*"))

    def status(self, stage: str = "") -> list[dict[str, Any]]:
        """Return what `mllam-exps status` says of the runs, or those of a stage."""
        rows = json.loads(
            self.ok("mllam-exps", "status", "--json", stderr=subprocess.DEVNULL)
        )
        return [
            cell
            for row in rows
            for cell in row["stages"]
            if stage in {"", cell["stage"]}
        ]

    def clone(self, directory: Path) -> Experiment:
        """Clone the repository, sharing nothing but git."""
        subprocess.run(
            ["git", "clone", "-q", str(self.root), str(directory)],
            check=True,
            env=self.environ,
        )
        return Experiment(directory, self.environ)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a user with a home and a git identity of their own."""
    home.mkdir(exist_ok=True)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_", "MLLAM_", "GIT_", "MLFLOW_", "SLURM_", "XDG_"))
    }
    # For `make test-minimums`: a light environment, whose stages run in one of their own.
    if venv := os.environ.get("STAGES_VENV"):
        inherited["MLLAM_VENV_PATH"] = venv
    (home / ".gitconfig").write_text(
        "[user]\n\tname = A Researcher\n\temail = researcher@example.org\n"
    )
    return inherited | {
        "HOME": str(home),
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "site-cache"),
        "TOY_COUNT": str(home / "count"),
        # Several processes with a thread for each core get in each other's way: ten
        # times slower, seen on two cores.
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
    }


def make_repository(directory: Path, environ: dict[str, str]) -> Experiment:
    """Put what lies in `directory` into git and DVC."""
    experiment = Experiment(directory, environ)
    (directory / ".gitignore").write_text("/mlflow.db*\n")
    for command in (
        ["git", "init", "-q", "-b", "main"],
        [sys.executable, "-m", "dvc", "init", "-q"],
    ):
        experiment.ok(*command)
    experiment.ok("git", "add", "-A")
    experiment.ok("git", "commit", "-qm", "An experiment")
    return experiment


def make_toy(directory: Path, environ: dict[str, str]) -> Experiment:
    """Make a toy experiment."""
    (directory / "data").mkdir(parents=True)
    for file in PARAMETER_FILES:
        shutil.copy(ROOT / file, directory / file)
    for file in ("dvc.yaml", "toy.yaml"):
        shutil.copy(TOY / file, directory / file)
    return make_repository(directory, environ)


def eventually(condition, seconds: float = PATIENCE, what: str = "") -> None:
    """Wait until `condition()` holds; for `PATIENCE` in any case."""
    seconds = max(seconds, PATIENCE)
    until = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        assert now < until, f"not within {seconds} s: {what or condition}"
        # Who asks without a pause takes the processors from those that are waited for.
        time.sleep(max(0.05, 2 * (now - began)))
