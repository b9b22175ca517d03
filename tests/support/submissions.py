"""Submit experiments, and say what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections import Counter

import psutil

from support.experiment import Experiment, eventually

UNTOLD = 2.0
"""Seconds after which `status` is asked again although nothing has ended."""


def ours(toy: Experiment) -> list[int]:
    """Return the processes that know of this test's folder and belong to no job, nor to a process that does.

    Jobs call sbatch, and the like, without their own variables.
    """
    mark = str(toy.root.parent)
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
            if any(mark in word for word in words) and not belongs_to_a_job(process):
                found.append(process.pid)
        except psutil.Error:
            continue
    return [pid for pid in found if pid != os.getpid()]


def belongs_to_a_job(process: psutil.Process) -> bool:
    """Tell whether a process, or one that it descends from, has a job's variables."""
    for one in (process, *process.parents()):
        # In a container not even root may read those of the first process.
        with contextlib.suppress(psutil.AccessDenied):
            if "SLURM_JOB_ID" in one.environ():
                return True
    return False


def submit(toy: Experiment, *options: str) -> list[dict]:
    """Submit, and return what is said to programs."""
    done = toy.command(
        "mllam-exps", "submit", "--json", *options, stderr=subprocess.PIPE
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(toy: Experiment, *names: str) -> dict[str, dict]:
    """Return what `status` says, by name."""
    return {
        row["name"]: row
        for row in json.loads(toy.ok("mllam-exps", "status", "--json", *names))
    }


def settled(toy: Experiment, *names: str, seconds: float = 90) -> dict[str, dict]:
    """Wait until nothing of these experiments is to come."""
    found: dict[str, dict] = {}
    seen = -1
    asked = 0.0

    def over() -> bool:
        nonlocal found, seen, asked
        # Not below these: a clone may be removed while it is looked into.
        ends = [
            *toy.store.parent.glob("*/*/attempts/*/end.json"),
            *toy.store.parent.glob("*/*/result.*"),
        ]
        now = time.monotonic()
        # To ask takes processor time, which those that are waited for need.
        if len(ends) == seen and now - asked < UNTOLD:
            return False
        seen, asked = len(ends), now
        found = rows(toy)
        return all(found[name]["over"] for name in names)

    eventually(over, seconds, f"{names} are over")
    return found


def shown(toy: Experiment) -> dict[str, dict]:
    """Return DVC's experiments by name, with their parameters and metrics, as `dvc exp show` has them."""
    [found] = [
        rev
        for rev in json.loads(toy.ok("dvc", "exp", "show", "--json"))
        if rev["rev"] != "workspace"
    ]
    return {one["name"]: one["revs"][-1]["data"] for one in found["experiments"] or []}


def started(toy: Experiment) -> Counter[str]:
    """Return how often each run was tried: how many of its attempts have started."""
    return Counter(
        path.parents[2].name for path in toy.store.glob("*/attempts/*/started.json")
    )
