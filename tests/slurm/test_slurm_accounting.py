"""With accounting on: the same runs on a cluster that has slurmdbd, and what only that remembers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from support.experiment import Experiment, eventually
from support.slurm_cluster import epochs, job_of, start_cluster, wrap
from test_slurm_runs import (  # noqa: F401 - the same tests, on the cluster of this module
    GROW,
    read,
    run_of,
    slow,
    test_a_failure_is_told_and_never_published,
    test_a_killed_step_is_a_failure,
    test_a_stage_is_a_job,
    test_cancelled_while_pending,
    test_cancelled_while_running,
    test_slurmctld_is_down_when_the_job_ends,
    test_what_slurm_would_refuse_is_refused_at_the_first_stage,
    test_what_will_never_run_is_an_error,
    toy,
)

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of four nodes with accounting."""
    yield from start_cluster(
        tmp_path_factory.mktemp("slurm") / "cluster", accounting=True
    )


@pytest.mark.parametrize("how", ["done", "cancelled"])
def test_accounting_remembers_a_purged_job(toy: Experiment, how: str):  # noqa: F811
    slow(toy, 0.3, 6 if how == "done" else 100)
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    job = job_of(toy)
    if how == "cancelled":
        toy.ok("scancel", job)
    else:
        eventually(lambda: bool(read(run_of(toy), "1/end.json")), 60, "the job's end")
    word = "COMPLETED" if how == "done" else "CANCELLED"
    eventually(
        lambda: word in toy.ok("sacct", "-nXPj", job, "-o", "State"),
        30,
        "accounting knows",
    )
    # What a purge answers, without waiting for MinJobAge.
    wrap(
        toy,
        "scontrol",
        'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1',
    )
    wrap(toy, "squeue", f'"$REAL" "$@" | grep -v "^{job}|"; true')
    if how == "done":
        assert "known: collected" in toy.ok(*GROW)
        assert read(run_of(toy), "1/verdict.json")["told"].startswith("COMPLETED")
    else:
        [found] = toy.status("grow")
        assert found["state"] == "cancelled", found
        assert "CANCELLED" in found["reason"]
