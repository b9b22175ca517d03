"""`mllam-exps submit` with accounting on, and with the cluster's own limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.experiment import Experiment, eventually
from support.slurm_cluster import start_cluster
from support.submissions import rows, settled
from test_submit_slurm import (  # noqa: F401 - the same tests, on the cluster of this module
    made,
    started,
    test_a_sweep_leaves_nothing_running_and_makes_everything_once,
    test_what_goes_wrong_in_a_chain_is_told_and_gone_on_from,
    toy,
)

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of four nodes with accounting, which enforces limits."""
    for cluster in start_cluster(
        tmp_path_factory.mktemp("slurm") / "cluster", accounting=True
    ):
        user = os.environ.get("USER") or "root"
        for words in (
            ["add", "account", "team"],
            ["add", "user", user, "account=team"],
        ):
            cluster.command("sacctmgr", "--immediate", "--quiet", *words)
        with cluster.conf.open("a") as conf:
            conf.write("AccountingStorageEnforce=limits\n")
        cluster.stop("slurmctld")
        cluster.start("slurmctld")
        cluster.wait()
        yield cluster


@pytest.mark.parametrize("limit", [2, 3])
def test_what_the_cluster_does_not_take_waits(
    made: Experiment,  # noqa: F811
    cluster: Any,
    limit: int,
):
    user = os.environ.get("USER") or "root"
    cluster.command(
        "sacctmgr",
        "--immediate",
        "modify",
        "user",
        user,
        "set",
        f"MaxSubmitJobs={limit}",
    )
    known = ("scontrol", "show", "assoc_mgr", "flags=assoc", f"users={user}")
    eventually(
        lambda: f"MaxSubmitJobs={limit}(" in cluster.command(*known).stdout,
        20,
        "slurmctld knows the limit",
    )
    try:
        said = made.ok(
            *("mllam-exps", "submit", "-n", f"c{limit}"),
            *("-S", f"toy.yaml:grow.seconds=0.{limit}1,0.{limit}2,0.{limit}3"),
        )
        assert "AssocMaxSubmitJobLimit" in said, said
        names = [f"c{limit}-{n}" for n in (1, 2, 3)]
        # Nobody looks: the last job of each submits what fits.
        eventually(
            lambda: len(list(made.store.parent.glob("experiments/*/result.json"))) == 3,
            200,
            "all are saved",
        )
        assert {settled(made, *names)[name]["state"] for name in names} == {"done"}
        assert set(started(made).values()) == {1}
        assert made.starts() == 3
        assert {row["state"] for row in rows(made).values() if row["user"]} == {"done"}
    finally:
        cluster.command(
            "sacctmgr", "--immediate", "modify", "user", user, "set", "MaxSubmitJobs=-1"
        )
