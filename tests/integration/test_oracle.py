"""Nothing false: random pipelines, random doings, and every saved experiment held against the truth (`oracle`)."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from support.experiment import environment
from support.oracle import digest, inline, truth
from support.oracle.world import World

from mllam_exps.attempts import workdir
from mllam_exps.base.errors import MllamError
from mllam_exps.submission.afterwards import AfterResult

SECONDS = float(os.environ.get("ORACLE_SECONDS", "75"))
LEAST = int(os.environ.get("ORACLE_LEAST", "30"))
"""How long each of two processes looks, and how many worlds it looks at in any case."""
MANY = int(os.environ.get("ORACLE_MANY", "3000"))
"""How many worlds the long test looks at."""

SHRINK = bool(os.environ.get("ORACLE_SHRINK"))
"""Whether to look for the shortest story of a fault, for up to five minutes."""

AGAIN = os.environ.get("ORACLE_AGAIN", "")
"""``SEED:ROUNDS`` of a world to look at first."""


@dataclass
class Tally:
    """What was looked at."""

    least: int
    seconds: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    worlds: int = 0
    saved: int = 0
    refused: int = 0
    failed: int = 0
    retried: int = 0

    @property
    def told(self) -> str:
        """What was found, where nothing was false."""
        return (
            f"{self.worlds} worlds, {self.saved} experiments saved, 0 false; "
            f"{self.refused} submissions refused, {self.failed} failed as they should, "
            f"{self.retried} retried"
        )

    @property
    def enough(self) -> bool:
        """Whether to stop."""
        return (
            self.worlds >= self.least and time.monotonic() - self.begun > self.seconds
        )


def dvc(*words: str) -> tuple[int, str, str]:
    """Run a command of DVC's in this process."""
    from dvc.cli import main

    return inline.said(main, list(words))


@functools.cache
def command_line() -> Any:
    """Return our commands: to build them takes longer than most of them do."""
    from mllam_exps import cli

    return typer.main.get_command(cli.app)


def ours(*words: str) -> tuple[int, str, str]:
    """Run a command of ours in this process."""

    def call() -> int:
        try:
            command_line()(list(words), standalone_mode=False)
        except MllamError as error:
            print(f"error: {error}")
            return int(error.exit)
        return 0

    return inline.said(call)


def in_processes(environ: dict[str, str]) -> tuple[Callable, Callable, Callable]:
    """Return what runs DVC's commands and ours as people do, and what waits for submitted experiments."""

    def run(program: str) -> Callable[..., tuple[int, str, str]]:
        def call(*words: str) -> tuple[int, str, str]:
            done = subprocess.run(
                [program, *words],
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
            return done.returncode, done.stdout, done.stderr

        return call

    def work(root: Path) -> None:
        command = ["mllam-exps", "status", "--watch"]
        subprocess.run(
            command,
            cwd=root,
            env=environ,
            capture_output=True,
            check=False,
            timeout=900,
        )

    return run("dvc"), run("mllam-exps"), work


def look_at_a_world(
    world: World, rounds: int, scratch: Path, tally: Tally, *, slow: bool = False
) -> None:
    """Do things in one repository, and hold what was saved against the truth."""
    world.root.mkdir(parents=True)
    world.begin()
    for _ in range(rounds):
        for _ in range(world.rng.randint(1, 4)):
            world.act(slow=slow)
        world.submit()
    found = world.falsehoods(scratch)
    assert not found, "\n".join([world.told, *found])
    tally.worlds += 1
    tally.saved += len(world.submitted)
    tally.refused += world.refused
    tally.failed += world.failed
    tally.retried += world.retried


def look_at_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """Look at random worlds until the tally is full."""
    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)

    @settings(
        max_examples=max(tally.least, 1000),
        phases=[Phase.explicit]
        if AGAIN
        else list(Phase)
        if SHRINK
        else [Phase.generate],
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**64), rounds=st.integers(1, 3))
    def look(seed: int, rounds: int) -> None:
        if AGAIN or not tally.enough:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            with inline.in_one_process() as scheduler:
                scheduler.rng = random.Random(seed)
                world = World(
                    folder / "first",
                    random.Random(seed),
                    dvc,
                    ours,
                    lambda _: scheduler.run_all(),
                )
                scheduler.between = world.between
                look_at_a_world(world, rounds, folder / "scratch", tally)
            truth.clean(folder)

    if AGAIN:
        look = example(
            seed=int(AGAIN.partition(":")[0]), rounds=int(AGAIN.partition(":")[2])
        )(look)
    look()
    print(tally.told)
    assert AGAIN or tally.saved > tally.worlds // 2


@pytest.mark.parametrize("process", ["one", "other"])
def test_every_saved_experiment_holds_what_its_own_files_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: str
):
    look_at_worlds(tmp_path, monkeypatch, Tally(LEAST, SECONDS))


@pytest.mark.long
@pytest.mark.timeout(5 * 3600)
def test_the_same_of_many_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    look_at_worlds(tmp_path, monkeypatch, Tally(MANY))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_same_in_processes_of_their_own(tmp_path: Path):
    """With DVC's queue and temporary workspaces, too."""
    environ = environment(tmp_path / "home")
    tally = Tally(int(os.environ.get("ORACLE_REAL", "12")))
    while not tally.enough:
        seed = random.SystemRandom().randrange(2**64)
        folder = tmp_path / str(seed)
        world = World(folder / "first", random.Random(seed), *in_processes(environ))
        look_at_a_world(world, 2, folder / "scratch", tally, slow=True)
        truth.clean(folder)
    print(tally.told)


def test_what_was_made_again_and_became_another_is_followed_by_what_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """DVC knew what a program made that makes something else each time, and lost a part of that."""
    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    # The job that made the last result may have no time to save: the last job does it all.
    monkeypatch.setattr(AfterResult, "save", lambda _self: None)
    root = make_repository_of_three(tmp_path / "first")
    monkeypatch.chdir(root)
    with inline.in_one_process() as scheduler:
        assert dvc("repro", "-q")[0] == 0
        subprocess.run("git add -A && git commit -qm Done", shell=True, check=True)
        assert ours("submit", "-n", "e1", "-S", "own.yaml:x=2")[0] == 0
        scheduler.run_all()
        outs = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["once"]["outs"]
        known = next(out["md5"] for out in outs if out["path"] == "a.bin")
        Path(".dvc/cache/files/md5", known[:2], known[2:]).unlink()
        both = ("-S", "own.yaml:x=2", "-S", "own.yaml:y=2")
        assert ours("submit", "-n", "e2", *both)[0] == 0
        scheduler.run_all()
        assert "saved as" in ours("show", "e2")[1]


def test_what_dvc_made_and_keeps_nowhere_is_taken_from_the_workspace_by_a_job_that_waits_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It waited for a run of the stage, which nobody was to make."""
    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    root = make_repository_of_three(tmp_path / "first")
    monkeypatch.chdir(root)
    keep_nowhere(Path("dvc.yaml"), "a.bin", read_with="r.txt")
    with inline.in_one_process() as scheduler:
        assert dvc("repro", "-q")[0] == 0
        subprocess.run("git add -A", shell=True, check=True)
        assert ours("submit", "-n", "e1", "-S", "own.yaml:x=2")[0] == 0
        scheduler.run_all()
        assert "saved as" in ours("show", "e1")[1]


def test_an_input_that_is_found_damaged_is_told_as_what_is_wrong_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    root = make_repository_of_three(tmp_path / "first")
    monkeypatch.chdir(root)

    def refuse(*_: object, **__: object) -> None:
        raise MllamError("it is damaged")

    with inline.in_one_process(), monkeypatch.context() as damaged:
        damaged.setattr(workdir, "_from_workspace", refuse)
        assert ours("submit", "-n", "e1")[:2] == (2, "error: it is damaged\n")


@pytest.mark.parametrize("is_saved_next", [False, True])
def test_what_was_damaged_is_made_again_though_a_file_that_is_read_was_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_saved_next: bool
):
    """`retry` took it for its program's fault, which the changed file may have mended: it was stuck."""
    for name, value in environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    root = make_repository_of_three(tmp_path / "first")
    monkeypatch.chdir(root)
    keep_nowhere(Path("dvc.yaml"), "a.bin", read_with="base.txt")
    subprocess.run("git commit -qam Reads", shell=True, check=True)
    with inline.in_one_process() as scheduler:
        assert ours("submit", "-n", "e1")[0] == 0
        jobs = scheduler.waiting[:]
        made = (
            [one for one in jobs if "save" not in one[1].name]
            if is_saved_next
            else jobs[:1]
        )
        scheduler.waiting[:] = made
        monkeypatch.setattr(AfterResult, "save", lambda _self: None)
        scheduler.run_all()
        [damaged] = Path(".dvc/cache/mllam-exps/runs").glob(
            "once-*/attempts/1/outputs/b.bin"
        )
        damaged.chmod(0o644)
        damaged.write_bytes(b"damaged")
        Path("base.txt").write_text("changed\n")
        scheduler.waiting[:] = [one for one in jobs if one not in made]
        scheduler.run_all()
        assert "failed" in ours("show", "e1")[1]
        assert ours("retry", "e1")[0] == 0
        scheduler.run_all()
        assert "saved as" in ours("show", "e1")[1]


def keep_nowhere(dvc_yaml: Path, output: str, read_with: str = "base.txt") -> None:
    """Let `once` make an output that DVC does not cache, and `other` read one more file with it."""
    kept = yaml.safe_load(dvc_yaml.read_text())
    outs = [one for one in kept["stages"]["once"]["outs"] if one != output]
    kept["stages"]["once"]["outs"] = [{output: {"cache": False}}, *outs]
    kept["stages"]["other"]["deps"].append(read_with)
    dvc_yaml.write_text(yaml.safe_dump(kept))


def make_repository_of_three(root: Path) -> Path:
    """Make a repository: what `once` makes, two other stages read."""
    stages = {
        "once": {
            "cmd": "python digest.py --in=base.txt --out=a.bin --out=b.bin --nonce",
            "deps": ["base.txt"],
            "outs": ["a.bin", "b.bin"],
        },
        "reads": {
            "cmd": "python digest.py --in=b.bin --param=own.yaml:x --out=r.txt",
            "deps": ["b.bin"],
            "params": [{"own.yaml": ["x"]}],
            "outs": ["r.txt"],
        },
        "other": {
            "cmd": "python digest.py --in=a.bin --param=own.yaml:y --out=o.txt",
            "deps": ["a.bin"],
            "params": [{"own.yaml": ["y"]}],
            "outs": ["o.txt"],
        },
    }
    root.mkdir()
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / "own.yaml").write_text("x: 1\ny: 1\n")
    (root / "base.txt").write_text("a\n")
    shutil.copy(digest.__file__, root)
    commands = "git init -q -b main && dvc init -q && git add -A && git commit -qm A"
    subprocess.run(commands, shell=True, check=True, cwd=root)
    return root
