"""Phases of a training: each has a key of its own; what a later one changes repeats no earlier one."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import CheckFailed
from mllam_exps.dvc.stages import phases
from mllam_exps.identity.definition import Input, Output, RunDefinition
from mllam_exps.runs import outputs
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam import train
from mllam_exps.stages.neural_lam.checkpoints import Checkpoint
from mllam_exps.stages.neural_lam.parameters import phases as listed
from mllam_exps.stages.neural_lam.training import history
from mllam_exps.stages.neural_lam.training.history import Before

TRAINING = "data/training_params.yaml"


def whole(*several: dict[str, Any], parent: Any = None, **common: Any) -> RunDefinition:
    training = {"hidden_dim": 4, "lr": 0.1, **common}
    if several:
        training["phases"] = list(several)
    return RunDefinition(
        "train",
        {TRAINING: training, "version.mllam.txt": {"resume_from.train": parent}},
        (Input("data/graph", "create_graph-" + "0" * 32, None, tracked=True),),
        (Output("saved_models", cached=True), Output("plots/loss.csv", cached=False)),
    )


def keys(*several: dict[str, Any], **more: Any) -> list[str]:
    return [one.key for one in phases.by_name(whole(*several, **more)).values()]


THREE = ({"epochs": 2}, {"epochs": 1, "lr": 0.01}, {"epochs": 1, "lr": 0.001})


def test_each_phase_is_a_run_that_reads_what_the_one_before_made():
    found = phases.by_name(whole(*THREE))
    assert list(found) == ["train:1", "train:2", "train"]
    first, second, third = found.values()
    assert [one.stage for one in found.values()] == ["train"] * 3
    assert [one.phase for one in found.values()] == [1, 2, 3]
    assert first.params[TRAINING] == {"hidden_dim": 4, "lr": 0.1, "epochs": 2}
    assert third.params[TRAINING] == {"hidden_dim": 4, "lr": 0.001, "epochs": 1}
    assert second.inputs[1:] == (
        Input(".phase-before/saved_models", first.key, None, tracked=True),
        Input(".phase-before/plots/loss.csv", first.key, None, tracked=False),
    )
    assert {one.run for one in third.inputs[1:]} == {second.key}


def test_a_change_of_a_phase_repeats_it_and_those_behind_it():
    before = keys(*THREE)
    last = keys(*THREE[:2], {**THREE[2], "lr": 0.002})
    assert (last[:2], last[2] != before[2]) == (before[:2], True)
    middle = keys(THREE[0], {**THREE[1], "lr": 0.02}, THREE[2])
    assert middle[0] == before[0]
    assert not {*middle[1:]} & {*before[1:]}
    assert keys(*THREE, {"epochs": 1})[:3] == before


def test_a_first_phase_is_no_training_without_phases():
    # What is made says which phase it is.
    assert keys({"epochs": 2}, {"epochs": 1})[0] != keys(epochs=2)[0]
    assert (
        keys({"epochs": 2}, {"epochs": 1})[0] == keys({"epochs": 2}, {"epochs": 3})[0]
    )


def test_the_first_phase_alone_goes_on_from_another_experiment():
    parent = {"files": {"saved_models/last.ckpt": "0" * 32}, "weights_only": False}
    first, second = phases.by_name(
        whole({"epochs": 2}, {"epochs": 1}, parent=parent)
    ).values()
    assert first.parent == parent
    assert second.parent == {}
    others = keys({"epochs": 2}, {"epochs": 1})
    assert {first.key, second.key}.isdisjoint(others)


def test_a_run_is_read_back_with_its_phase():
    second = phases.by_name(whole(*THREE))["train:2"]
    assert RunDefinition.from_record(second.to_record(), second.key).phase == 2
    assert "phase" not in whole().to_record()


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("train", "train"),
        ("train:2", "train"),
        ("train@a:1", "train@a"),
        ("part@00:00", "part@00:00"),  # of a matrix, and no program of ours
        ("sub/dvc.yaml:1", "sub/dvc.yaml:1"),
    ],
)
def test_names_of_phases(name: str, stage: str):
    assert phases.stage_of(name) == stage


def test_a_command_of_one_s_own_has_none():
    own = RunDefinition("train", whole(*THREE).params, (), (), commands=("make",))
    assert list(phases.by_name(own)) == ["train"]


def test_what_the_phase_before_made_is_found_where_that_made_it():
    assert outputs.as_made(".phase-before/plots/loss.csv") == "plots/loss.csv"
    assert outputs.as_made("plots/loss.csv") == "plots/loss.csv"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("two", "phases: must be a list of what differs in each phase"),
        ([], "phases: must be a list"),
        ([{"epochs": 1}, 3], "phases: must be a list"),
        ([{"hidden_dim": 2}], "phases.0.hidden_dim: does not differ between phases"),
        ([{"epoch": 2}], "phases.0.epoch: unknown key"),
        (
            [{}, {"optimizer": "new"}],
            "phases.1.optimizer: must be keep or reset, not 'new'",
        ),
        (
            [{"optimizer": "reset"}],
            "phases.0.optimizer: means nothing in the first phase",
        ),
    ],
)
def test_mistakes_in_the_list_are_named(given: Any, told: str):
    [found] = listed.problems({"phases": given})
    assert told in str(found)
    assert not list(listed.problems({"phases": [{"epochs": 2}, {"optimizer": "keep"}]}))


@pytest.mark.parametrize(
    ("several", "lacks"),
    [
        ([{"epochs": 4}, {"epochs": 1}], False),  # that of the first counts on
        ([{"epochs": 4}, {"epochs": 1, "loss": "mae"}], True),
        (
            [{"epochs": 5}, {"epochs": 1, "loss": "mae"}],
            False,
        ),  # the sixth is validated
        ([{"epochs": 5}, {"epochs": 1, "optimizer": "reset"}], True),
        ([{"epochs": 1}], True),
        ([{"epochs": 1}, {"epochs": 1}], False),
    ],
)
def test_phases_need_a_validation_behind_what_makes_losses_others(several, lacks: bool):
    assert listed.lacks_best(several, 200, 2) is lacks


def rows(*losses: float, first: int = 1) -> history.Losses:
    return [
        {"epoch": float(n), "train": loss, "validation": None}
        for n, loss in enumerate(losses, first)
    ]


def context(root: Path, **more: Any) -> StageContext:
    return StageContext(root, root, {}, **more)


def test_losses_are_counted_on(tmp_path: Path):
    first = history.joined(history.NOTHING, rows(4.0, 3.0), 1)
    # The optimizer goes on: Lightning counts on, too.
    second = history.joined(Before(2, first, {}), rows(2.0, first=3), 2)
    # It begins anew.
    third = history.joined(Before(0, second, {}), rows(1.5, 1.0), 3)
    assert [row["epoch"] for row in third] == [1, 2, 3, 4, 5]
    assert [row["phase"] for row in third] == [1, 1, 2, 3, 3]
    history.write(tmp_path / "loss.csv", third)
    assert (tmp_path / "loss.csv").read_text().splitlines()[:2] == [
        "epoch,train,validation,phase",
        "1,4.0,,1",
    ]
    assert history.read(tmp_path / "loss.csv") == third
    # Of a checkpoint from elsewhere nothing is known but how far it is.
    assert history.joined(Before(7, [], {}), rows(1.0, first=8), None)[0]["epoch"] == 8


def test_metrics_hold_those_of_each_phase():
    first = history.with_phase({"epochs": 2}, {"epochs": 2}, history.NOTHING, 1)
    earlier = Before(0, rows(4.0, 3.0), first)
    best = Checkpoint(Path("best"), 1, 10, 0.5)
    losses = history.joined(earlier, rows(2.0), 2)
    found = history.metrics(losses, best, earlier)
    assert found == {
        "epochs": 3,
        "train_loss": 2.0,
        "best_val_loss": 0.5,
        "best_epoch": 3,
    }
    found = history.with_phase(found, {"epochs": 1}, earlier, 2)
    assert found["phases"] == {"1": {"epochs": 2}, "2": {"epochs": 1}}
    history.check_metrics(found)
    found["phases"]["2"]["train_loss"] = math.nan
    with pytest.raises(CheckFailed, match=r"phases: 2: train_loss is nan"):
        history.check_metrics(found)


def test_phases_are_numbered_as_the_training_s_own_list_has_them(tmp_path: Path):
    (tmp_path / "plots").mkdir()
    history.write(
        tmp_path / "plots/loss.csv", history.joined(history.NOTHING, rows(4.0, 3.0), 2)
    )
    of_another = history.before(context(tmp_path, parent=tmp_path, phase=1), 2)
    joined = history.joined(of_another, rows(1.0, first=3), 1)
    assert [row.get("phase") for row in joined] == [None, None, 1]
    history.write(tmp_path / "plots/loss.csv", joined)
    own = history.before(context(tmp_path, parent=tmp_path, phase=2), 3)
    assert [row["phase"] for row in own.losses] == [None, None, 1]


def test_weights_alone_bring_history_to_the_next_phase_alone(tmp_path: Path):
    (tmp_path / "plots").mkdir()
    history.write(tmp_path / "plots/loss.csv", rows(1.0))
    of_another = context(tmp_path, parent=tmp_path, weights_only=True)
    assert history.before(of_another, 0) == history.NOTHING
    next_one = context(tmp_path, parent=tmp_path, weights_only=True, phase=2)
    assert history.before(next_one, 0).epochs == 1
    assert history.before(context(tmp_path), 0) == history.NOTHING


def test_the_checkpoint_that_is_gone_on_from_is_opened_once(
    tmp_path: Path, monkeypatch
):
    last = tmp_path / "saved_models/last.ckpt"
    last.parent.mkdir()
    opened: list[Path] = []

    def describe(path: Path) -> Any:
        opened.append(path)
        return SimpleNamespace(epochs=int(path.read_text()))

    monkeypatch.setattr(train.checkpoints, "describe", describe)
    for number, epochs in enumerate((7, 12), start=1):
        last.write_text(str(epochs))
        for phase in (None, 1, 2):
            one = context(tmp_path, parent=tmp_path, phase=phase)
            assert train.begun_with(one) == epochs
        assert len(opened) == number
    assert train.begun_with(context(tmp_path, parent=tmp_path, weights_only=True)) == 0


def test_the_parameters_of_the_last_phase_are_those_that_are_evaluated():
    assert listed.last({"lr": 0.1, "phases": [{"lr": 0.2}, {"loss": "mae"}]}) == {
        "lr": 0.1,
        "loss": "mae",
    }
    assert listed.last({"lr": 0.1}) == {"lr": 0.1}
    assert listed.in_phase({"phases": [{"a": 1}, {"a": 2}]}, 1) == {"a": 1}
