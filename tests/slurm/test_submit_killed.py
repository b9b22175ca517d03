"""The submitter dies, at whatever point: the next submission ends with each run made once."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from support.experiment import Experiment, eventually
from support.slurm_cluster import visit
from support.submissions import rows, shown, started, submit

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

POINTS = int(os.environ.get("KILLED_POINTS", "5"))
"""At how many points the submitter dies in `make test`."""
SEED = int(os.environ.get("KILLED_SEED") or random.SystemRandom().randrange(2**32))
"""Draws these points; one of a failure, to have it again."""


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
try:
    cli.main()
finally:
    print("points:", next(points) - 1)
"""


def submit_and_die(made: Experiment, point: int) -> tuple[list[str], int, str]:
    """Submit two experiments, and die at a point; return the words, the exit code and what was said."""
    seconds = f"toy.yaml:grow.seconds=0.0{point}1,0.0{point}2"
    words = ["-n", f"k{point}", "-S", seconds]
    command = (sys.executable, "-c", KILLER, str(point), "submit")
    done = made.command(*command, *words)
    return words, done.returncode, done.stdout


def drawn(points: int) -> list[int]:
    """Return a point of each of as many parts of the submission, from its beginning to its end."""
    rng = random.Random(SEED)
    print(f"KILLED_SEED={SEED} has the same points again")
    bounds = [1 + points * part // POINTS for part in range(POINTS + 1)]
    return [
        rng.randrange(begin, end)
        for begin, end in itertools.pairwise(bounds)
        if begin < end
    ]


def test_wherever_submit_is_killed_the_next_one_ends_with_each_run_made_once(
    made: Experiment,
):
    """The submitter dies before or after some of its changes to the store, and of its calls of Slurm."""
    assert kill_and_go_on(made, drawn) >= POINTS - 1


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_at_every_point(made: Experiment):
    assert kill_and_go_on(made, lambda points: range(1, points + 1)) >= 50


def kill_and_go_on(made: Experiment, pick: Callable[[int], Iterable[int]]) -> int:
    """Kill submitters at some of their points and submit again; return how many were killed, once all is made."""
    _, code, said = submit_and_die(made, 0)
    assert code == 0, said
    killed = 0
    for point in pick(int(said.rpartition("points: ")[2])):
        words, code, said = submit_and_die(made, point)
        if code:
            assert code == -signal.SIGKILL, said
            killed += 1
            submit(made, *words)
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
    return killed
