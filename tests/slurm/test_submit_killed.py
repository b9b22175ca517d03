"""The submitter dies, at whatever point: the next submission ends with each run made once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.experiment import Experiment, eventually
from support.slurm_cluster import visit
from support.submissions import rows, shown, started, submit

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

STEPS = (13, pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(5400)]))
"""Every so many points at which it could die are tried."""


@pytest.fixture
def made(cluster: Any, made: Experiment) -> Iterator[Experiment]:
    """A toy experiment on the cluster, its first stage done."""
    yield from visit(cluster, made)


KILLER = """
import itertools, os, signal, sys
last, points = int(sys.argv.pop(1)), itertools.count(1)
def die_if_it_is_time():
    if next(points) == last:
        os.kill(os.getpid(), signal.SIGKILL)
def counted(function):
    def call(*args, **options):
        die_if_it_is_time()
        done = function(*args, **options)
        die_if_it_is_time()
        return done
    return call
from mllam_exps import cli
from mllam_exps.schedulers.slurm import calls
os.link, os.rename, os.replace = counted(os.link), counted(os.rename), counted(os.replace)
calls.call = counted(calls.call)
sys.argv[0] = "mllam-exps"
cli.main()
"""


@pytest.mark.parametrize("step", STEPS)
def test_wherever_submit_is_killed_the_next_one_ends_with_each_run_made_once(
    made: Experiment,
    cluster: Any,
    step: int,
):
    """The submitter dies before or after each of its changes to the store, and each of its calls of Slurm."""
    killed, point = 0, 1
    while True:
        words = (
            "-n",
            f"k{point}",
            "-S",
            f"toy.yaml:grow.seconds=0.0{point}1,0.0{point}2",
        )
        done = made.command(sys.executable, "-c", KILLER, str(point), "submit", *words)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stdout
        killed += 1
        submit(made, *words)
        point += step
    assert killed >= 5, "points at which it was killed"
    names = [row["name"] for row in rows(made).values() if row["user"]]
    assert len(names) >= 2 * killed

    def is_over() -> bool:
        # As cron would: nothing else is alive for those that were killed.
        made.command("mllam-exps", "advance")
        found = rows(made)
        return all(found[name]["over"] for name in names)

    eventually(is_over, 600, "all are over")
    found = rows(made)
    assert {found[name]["state"] for name in names} == {"done"}
    counts = started(made)
    assert set(counts.values()) == {1}, counts
    assert made.starts() == len(names)
    assert set(shown(made)) == set(names)
    left = len(list(made.store.parent.glob("experiments/.new-*")))
    assert left <= 3 * killed, "what was half built, by those that were killed"
