"""The real neural-lam on a real Slurm: whatever ends its jobs, a training ends as one that nothing ever happened to.

To the bit, each epoch's losses once, and at most an epoch done twice each time.
``OUTLIVE_LIMITS`` and ``OUTLIVE_KILLS`` say how many time limits and kills one training
meets, ``OUTLIVE_MINUTES`` how long such a limit is: neural-lam has to be imported, and
come further, in each.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.experiment import Experiment, eventually
from support.slurm_cluster import start_cluster
from support.submissions import ours, settled
from support.trainings import (
    NAME,
    Training,
    Weights,
    columns,
    differences,
    kill,
    make_ready,
)

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.models,
    pytest.mark.long,
    pytest.mark.timeout(3 * 3600),
]

LIMITS = int(os.environ.get("OUTLIVE_LIMITS", "20"))
KILLS = int(os.environ.get("OUTLIVE_KILLS", "20"))
MINUTES = int(os.environ.get("OUTLIVE_MINUTES", "1"))
EPOCHS = max(8 * LIMITS, 3 * KILLS, 24)
SLOW = 2.5 * MINUTES
"""Seconds for a batch, three of which are an epoch, while there is more to come."""
OFTEN = {"max_attempts": 20}
"""For attempts that are killed before they have come to anything, again and again."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster whose nodes have room for neural-lam, and a partition whose jobs give way."""
    folder = tmp_path_factory.mktemp("slurm") / "cluster"
    yield from start_cluster(folder, memory=4000, preemption=True)


@pytest.fixture(autouse=True)
def whole(cluster: Any) -> Iterator[None]:
    """The cluster is empty and whole after each test."""
    yield
    cluster.command("scancel", f"--user={os.getuid()}")
    for daemon in cluster.daemons:
        cluster.start(daemon)
    cluster.resume()
    cluster.wait()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """An experiment that lacks its training."""
    return make_ready(tmp_path_factory.mktemp("ready"), epochs=EPOCHS)


@pytest.fixture(scope="module")
def unbroken(
    ready: Experiment, cluster: Any, tmp_path_factory: pytest.TempPathFactory
) -> Weights:
    """What the training makes where nothing happens to it."""
    training = Training.of(ready, tmp_path_factory.mktemp("unbroken"), cluster)
    training.submit()
    made = training.made()
    assert training.newest == 1
    assert len(made.losses) == 1 + EPOCHS
    return made


@pytest.fixture
def training(ready: Experiment, cluster: Any, tmp_path: Path) -> Training:
    """The same training, to be disturbed; of itself it would take longer than any test."""
    found = Training.of(ready, tmp_path, cluster)
    found.pace(SLOW)
    return found


def hold(made: Weights, unbroken: Weights) -> None:
    """Hold what was made, and all its losses, against the unbroken training."""
    assert not differences(made, unbroken)
    assert made.losses == unbroken.losses


def follows(training: Training, number: int, seconds: float = 900) -> None:
    """Wait until the attempt behind another one has started."""

    def another() -> bool:
        assert not training.is_over, f"nothing follows {number}"
        return training.newest > number

    eventually(another, seconds, f"what follows {number}")


@pytest.mark.parametrize(
    ("warning", "limits"), [(10, LIMITS), (0, max(2, LIMITS // 4))]
)
def test_a_time_limit_again_and_again(
    training: Training, unbroken: Weights, warning: int, limits: int
) -> None:
    """Each job of the training ends by its limit, with and without a warning before it."""
    training.write_machine(default={"time": MINUTES, "warning": warning})
    training.submit()
    reached: dict[int, float] = {}
    for number in range(1, limits + 1):
        follows(training, number)
        assert training.cause(number) == "time_limit", number
        reached[number] = training.reached(number) or 0.0
        print(f"{number}: reached {reached[number]:.2f} epochs", flush=True)
    training.pace(0)
    made = training.made()
    training.check_that_at_most_an_epoch_was_lost(reached)
    assert not differences(made, unbroken)
    # Of an epoch that was saved in its middle, the training loss is that of the rest.
    exact = ("epoch", "validation") if warning else ("epoch", "train", "validation")
    assert columns(made.losses, *exact) == columns(unbroken.losses, *exact)
    assert not ours(training.experiment)


def kill_node(training: Training, number: int, back_after: float) -> bool:
    """Kill a node of an attempt, as a power cut does; it comes back."""
    nodes = training.nodes(number)
    if not nodes:
        return False
    daemon = f"slurmd {nodes[-1]}"
    training.cluster.stop(daemon, signal.SIGKILL, tree=True)
    time.sleep(back_after)
    training.cluster.start(daemon)
    return True


def test_kills_at_random_moments(training: Training, unbroken: Weights) -> None:
    """Of the training's process, of what started it, of the attempt, and of nodes."""
    seed = int(os.environ.get("OUTLIVE_SEED") or random.randrange(10**6))
    print(f"OUTLIVE_SEED={seed}", flush=True)
    chance = random.Random(seed)
    training.write_machine(retry=OFTEN)
    training.submit()
    reached: dict[int, float] = {}
    killed = 0
    while killed < KILLS:
        eventually(lambda: training.newest > len(reached), 900, "the next attempt")
        number = training.newest
        what = chance.choice(["program", "srun", "attempt", "node", "node"])
        early = chance.random() < 0.25
        if not early:
            training.trains(number)
        time.sleep(chance.uniform(0.0, 12.0))
        if what == "node":
            hit = kill_node(training, number, chance.uniform(0.0, 15.0))
        else:
            hit = kill(training.processes(number, what)) > 0
        if not hit:
            continue  # early, and it is not there yet
        killed += 1
        reached[number] = training.reached(number) or 0.0
        print(f"{killed}: {what} of {number} at {reached[number]:.2f}", flush=True)
        follows(training, number)
        for between in range(number + 1, training.newest):
            reached[between] = training.reached(between) or 0.0
    training.pace(0)
    made = training.made()
    training.check_that_at_most_an_epoch_was_lost(reached)
    hold(made, unbroken)
    assert not ours(training.experiment)


def test_preempted_while_nobody_is_there(
    training: Training, unbroken: Weights, cluster: Any
) -> None:
    """A job of a partition that counts more wants its place; on the login node everything of ours is killed."""
    training.write_machine(default={"partition": "low"})
    training.submit()
    waiting = training.experiment.start("dvc", "repro", "train")
    training.trains(1)
    eventually(lambda: (training.reached(1) or 0) > 1.2, 600, "an epoch, and more")
    assert waiting.poll() is None, waiting.communicate()[0]
    assert ours(training.experiment), "somebody waits"
    os.killpg(waiting.pid, signal.SIGKILL)
    waiting.communicate()
    for pid in ours(training.experiment):
        os.kill(pid, signal.SIGKILL)
    reached = training.reached(1) or 0.0
    whole = ("sbatch", "--parsable", "--nodes=4", "--mem=3500M", "--time=5")
    said = cluster.command(*whole, "--output=/dev/null", "--wrap=sleep 20").stdout
    assert said.strip().isdigit()
    follows(training, 1)
    assert training.cause(1) == "preemption"
    training.pace(0)
    made = training.made()
    training.check_that_at_most_an_epoch_was_lost({1: reached})
    hold(made, unbroken)
    assert not ours(training.experiment)


def test_a_checkpoint_that_is_cut_off(training: Training, unbroken: Weights) -> None:
    """The one before is gone on from: that with which the attempt began."""
    training.submit()
    training.trains(1)
    eventually(lambda: (training.reached(1) or 0) > 1.2, 600, "an epoch, and more")
    kill(training.processes(1, "program"))
    follows(training, 1)
    training.trains(2)
    began = training.began(2)
    eventually(lambda: (training.reached(2) or 0) > (began or 0) + 1.2, 600, "one more")
    [node] = training.nodes(2)
    # Nothing follows before Slurm misses the node: there is time to harm its file.
    training.cluster.stop(f"slurmd {node}", signal.SIGKILL, tree=True)
    [last] = (training.attempt(2) / "scratch").glob("train-*/checkpoints/last.ckpt")
    os.truncate(last, last.stat().st_size * 2 // 3)
    training.cluster.start(f"slurmd {node}")
    follows(training, 2)
    training.pace(0)
    made = training.made()
    assert training.began(3) == began
    hold(made, unbroken)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a disk that is full")
def test_the_disk_is_full_when_it_saves(
    training: Training, unbroken: Weights, tmp_path: Path
) -> None:
    """It stops, says so, and goes on when there is room and somebody asks for it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(disk))
    subprocess.run(mount, check=True)
    try:
        training.write_machine(working_directory=str(disk / "work"))
        training.submit()
        training.trains(1)
        eventually(lambda: (training.reached(1) or 0) > 1.2, 600, "an epoch, and more")
        fill(disk)
        eventually(lambda: bool(training.cause(1)), 600, "its end")
        assert training.cause(1) == "full_disk"
        reached = training.reached(1) or 0.0
        row = settled(training.experiment, NAME)[NAME]
        assert row["state"] == "failed"
        assert "the disk is full" in str(row), row
        (disk / "full").unlink()
        training.experiment.ok("mllam-exps", "retry", NAME)
        follows(training, 1)
        training.pace(0)
        made = training.made()
        training.check_that_at_most_an_epoch_was_lost({1: reached})
        hold(made, unbroken)
    finally:
        training.cluster.command("scancel", f"--user={os.getuid()}")
        unmounted: Callable[[], bool] = lambda: (  # noqa: E731
            subprocess.run(["umount", str(disk)], check=False).returncode == 0
        )
        eventually(unmounted, 60, "unmounted")


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with (disk / "full").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def test_two_nodes(
    cluster: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One of its two processes is killed, then one of its two nodes."""
    two = make_ready(tmp_path_factory.mktemp("two"), epochs=12, num_nodes=2)
    alone = Training.of(two, tmp_path_factory.mktemp("alone"), cluster)
    alone.submit()
    unbroken = alone.made()
    training = Training.of(two, tmp_path, cluster, retry=OFTEN)
    training.pace(SLOW)
    training.submit()
    reached: dict[int, float] = {}
    for number in (1, 2):
        training.trains(number)
        further = (training.began(number) or 0) + 1.2
        eventually(lambda: (training.reached(number) or 0) > further, 600, "an epoch")  # noqa: B023
        if number == 1:
            ranks = training.processes(number, "program")
            assert len(ranks) == 2
            kill(ranks[1:])
        else:
            assert kill_node(training, number, 5)
        reached[number] = training.reached(number) or 0.0
        follows(training, number)
    # Not its time limit: Slurm does not miss a node that comes back without its task.
    assert training.cause(2) == "node_failure"
    training.pace(0)
    made = training.made()
    training.check_that_at_most_an_epoch_was_lost(reached)
    hold(made, unbroken)
