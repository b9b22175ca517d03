"""Clusters for tests: a plain one, as most look to their users, and one that keeps accounts and enforces limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.slurm_cluster import start_cluster


@pytest.fixture(scope="module")
def plain_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of four nodes without accounting."""
    yield from start_cluster(tmp_path_factory.mktemp("slurm") / "cluster")


@pytest.fixture(scope="module")
def accounting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of four nodes with accounting, which enforces limits."""
    folder = tmp_path_factory.mktemp("slurm") / "accounting"
    for cluster in start_cluster(folder, accounting=True):
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


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Any:
    """The plain cluster, or the one that a test names (`ON_BOTH`, `WITH_ACCOUNTING`)."""
    return request.getfixturevalue(getattr(request, "param", "plain_cluster"))
