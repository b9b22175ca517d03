"""The real programs on a real Slurm: two nodes train one network together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import synthetic
from support.experiment import environment, make_repository
from support.slurm_cluster import on, start_cluster, write_machine

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.models,
    pytest.mark.long,
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster whose nodes have room for neural-lam."""
    yield from start_cluster(tmp_path_factory.mktemp("slurm") / "cluster", memory=4000)


def test_two_nodes_train_together(cluster: Any, tmp_path: Path):
    root = synthetic.make_experiment(tmp_path / "repo")
    tiny = on(cluster, make_repository(root, environment(tmp_path / "home")))
    write_machine(tiny, default={"memory": "2G"})
    tiny.set("data/training_params.yaml", num_nodes=2)
    out = tiny.ok("dvc", "repro", "train", timeout=800)
    assert "(on n[1-2])" in out
    [run] = tiny.runs("train")
    log = (run / "attempts/1/log.txt").read_text()
    assert "--nodes=2" in (run / "attempts/1/job.sh").read_text()
    for rank in (0, 1):
        assert (
            f"{rank}: Initializing distributed: GLOBAL_RANK: {rank}, MEMBER: {rank + 1}/2"
            in log
        )
    assert (tiny.root / "saved_models/last.ckpt").stat().st_size > 1000
