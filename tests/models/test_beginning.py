"""How a training begins that goes on from another one: what is asked for now counts, and the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.neural_lam.training.beginning import (
    SCHEDULE,
    WEIGHTS,
    AskedLearningRate,
    Schedule,
    TakeWeights,
    scheduled,
)
from mllam_exps.stages.neural_lam.training.random_state import KEY, SEED, RandomState

pytestmark = pytest.mark.models


class Net(torch.nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.line = torch.nn.Linear(width, width)
        self.hparams = SimpleNamespace(lr=0.1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As neural-lam's, which renames what older versions called otherwise."""


def trainer(**more: Any) -> Any:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    known = {"is_global_zero": True, "lr_scheduler_configs": [], "world_size": 1}
    known |= {"global_rank": 0, "strategy": strategy, "current_epoch": 0}
    return SimpleNamespace(**known | {"state": SimpleNamespace(fn="fit")} | more)


def test_the_learning_rate_is_the_one_that_is_asked_for(capsys):
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.5)
    AskedLearningRate().on_train_start(trainer(optimizers=[optimizer]), net)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert "the learning rate was 0.5, and is 0.1 now" in capsys.readouterr().out
    optimizer.param_groups[0]["lr"] = 0.5
    of_a_schedule = trainer(optimizers=[optimizer], lr_scheduler_configs=[object()])
    AskedLearningRate().on_train_start(of_a_schedule, net)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_weights_alone_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "last.ckpt"
    other = Net()
    torch.save({"state_dict": other.state_dict()}, file)
    monkeypatch.setenv(WEIGHTS, str(file))
    net = Net()
    TakeWeights().setup(trainer(), net, "fit")
    assert torch.equal(net.line.weight, other.line.weight)
    with pytest.raises(CheckFailed, match="the weights are those of another network"):
        TakeWeights().setup(trainer(), Net(3), "fit")
    monkeypatch.delenv(WEIGHTS)
    before = Net()
    kept = before.line.weight.clone()
    TakeWeights().setup(trainer(), before, "fit")
    assert torch.equal(before.line.weight, kept)


@pytest.mark.parametrize(("seed", "goes_on"), [("1", True), ("2", False)])
def test_another_seed_draws_from_here_on(
    seed: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(SEED, "1")
    checkpoint: dict[str, Any] = {}
    RandomState().on_save_checkpoint(trainer(), Net(), checkpoint)
    monkeypatch.setenv(SEED, seed)
    keeper = RandomState()
    keeper.on_load_checkpoint(trainer(), Net(), checkpoint)
    assert keeper.goes_on is goes_on
    # One that was saved before seeds were noted goes on as before.
    del checkpoint[KEY]["seed"]
    older = RandomState()
    older.on_load_checkpoint(trainer(), Net(), checkpoint)
    assert older.goes_on


def test_the_learning_rate_rises_and_falls_along_a_cosine():
    rates = [scheduled(0.1, 0.01, 2, at, 10) for at in (0.5, 1, 2, 6, 10, 11)]
    assert rates == pytest.approx([0.025, 0.05, 0.1, 0.055, 0.01, 0.01])
    assert scheduled(0.1, None, 2, 9, 10) == 0.1  # no end is named: it stays
    assert scheduled(0.1, 0.01, 0, 0, 10) == 0.1


def test_a_schedule_depends_on_how_far_a_training_is_alone(monkeypatch):
    asked = {"lr_warmup": 1, "lr_final": None, "begun": 4}
    monkeypatch.setenv(SCHEDULE, json.dumps(asked))
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.5)
    here = trainer(optimizers=[optimizer], current_epoch=4, max_epochs=8)
    here.num_training_batches = 2
    Schedule().on_train_batch_start(here, net, None, 1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.75)
    here.current_epoch = 6
    AskedLearningRate().on_train_start(here, net)  # leaves it to the schedule
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.75)
    Schedule().on_train_batch_start(here, net, None, 0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
