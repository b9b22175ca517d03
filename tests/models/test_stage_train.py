"""A training counts only with every epoch asked for, finite losses and finite weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import synthetic
from support.checkpoints import save

from mllam_exps import stages
from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam.parameters import params
from mllam_exps.stages.neural_lam.train import check_losses
from mllam_exps.stages.neural_lam.training import history

HEADER = "epoch,train,validation\n"
GOOD = HEADER + "1,3.0,4.0\n2,2.5,3.5\n3,2.0,3.6\n"


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    """Return the context of an attempt that trained three epochs."""
    root = synthetic.make_experiment(tmp_path / "work")
    scratch = tmp_path / "scratch"
    made = scratch / "train-lr-0.1/checkpoints"
    save(made / "last.ckpt", epochs=3, best=3.5)
    save(made / "min_val_loss.ckpt", epochs=2, best=3.5)
    (scratch / "epochs.csv").write_text(GOOD)
    return StageContext(root, scratch, params.load(root).files, experiment="lr/0.1")


def finish_and_check(context: StageContext) -> None:
    stage = stages.get("train")
    stage.finish(context)
    stage.check(context)


@pytest.mark.models
def test_outputs_of_a_good_training(context: StageContext) -> None:
    finish_and_check(context)
    assert sorted(path.name for path in (context.work / "saved_models").iterdir()) == [
        "last.ckpt",
        "min_val_loss.ckpt",
    ]
    assert (context.work / "plots/loss.csv").read_text() == GOOD
    assert json.loads((context.work / "metrics/train.json").read_text()) == {
        "epochs": 3,
        "train_loss": 2.0,
        "val_loss": 3.6,
        "best_val_loss": 3.5,
        "best_epoch": 2,
    }


@pytest.mark.models
@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (
            HEADER + "1,3.0,4.0\n2,nan,3.5\n3,2.0,3.6\n",
            "the train loss of epoch 2 is nan",
        ),
        (
            HEADER + "1,3.0,4.0\n2,2.5,inf\n3,2.0,3.6\n",
            "the validation loss of epoch 2 is inf",
        ),
        (HEADER + "1,3.0,4.0\n3,2.0,3.6\n", "the loss of epoch 2 is missing"),
        (HEADER + "1,3.0,4.0\n2,2.5,3.5\n", "the loss of epoch 3 is missing"),
        (HEADER, "the loss of epoch 1 is missing"),
        ("something else\n1\n", "no readable losses"),
        (None, "no readable losses"),
    ],
)
def test_bad_losses_are_refused(
    context: StageContext, losses: str | None, reason: str
) -> None:
    path = context.scratch / "epochs.csv"
    path.unlink() if losses is None else path.write_text(losses)
    with pytest.raises(CheckFailed, match=reason):
        finish_and_check(context)


@pytest.mark.models
def test_bad_checkpoints_are_refused(context: StageContext) -> None:
    made = context.scratch / "train-lr-0.1/checkpoints"
    save(made / "last.ckpt", epochs=2)
    with pytest.raises(CheckFailed, match="trained 2 epochs, 3 were asked for"):
        finish_and_check(context)
    save(made / "last.ckpt", epochs=3, weight=float("nan"))
    with pytest.raises(CheckFailed, match="not finite"):
        finish_and_check(context)
    save(made / "last.ckpt", epochs=3)
    (made / "min_val_loss.ckpt").write_bytes(b"PK")
    with pytest.raises(CheckFailed, match="cut off"):
        finish_and_check(context)


@pytest.mark.models
def test_a_training_without_validation_needs_no_best_checkpoint(tmp_path: Path) -> None:
    root = synthetic.make_experiment(tmp_path)
    files = {
        **params.load(root).files,
        "data/training_params.yaml": {**synthetic.TRAINING, "val_interval": 5},
    }
    context = StageContext(root, root / "scratch", files)
    save(context.scratch / "train-workspace/checkpoints/last.ckpt", best=None)
    (context.scratch / "epochs.csv").write_text(HEADER + "1,3.0,\n2,2.5,\n3,2.0,\n")
    finish_and_check(context)
    found = json.loads((root / "metrics/train.json").read_text())
    assert found == {"epochs": 3, "train_loss": 2.0}


def test_losses_by_validation_interval(tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    path.write_text(HEADER + "1,3.0,\n2,2.5,3.5\n3,2.0,\n")
    check_losses(history.read(path), 3, every=2)
    with pytest.raises(CheckFailed, match="validation loss of epoch 1 is missing"):
        check_losses(history.read(path), 3, every=1)
    assert history.metrics(history.read(path), None)["val_loss"] == 3.5


@pytest.mark.models
def test_command(context: StageContext) -> None:
    stage = stages.get("train")
    words = stage.command(context)
    assert words[:4] == [
        "python",
        "-m",
        "mllam_exps.stages.neural_lam.programs.neural_lam",
        "train",
    ]
    assert "--epochs=3" in words
    assert "--logger_run_name=train-lr-0.1" in words
    assert f"--runs_root={context.scratch}" in words
    assert "--tasks_per_node=1" in words
    assert not any(word.startswith(("--load", "--restore_opt")) for word in words)

    resumed = StageContext(
        context.work,
        context.scratch,
        context.params,
        resume_from=context.scratch / "carried/last.ckpt",
    )
    words = stage.command(resumed)
    assert f"--load={context.scratch}/carried/last.ckpt" in words
    assert "--restore_opt" in words

    smoke = StageContext(context.work, context.scratch, context.params, smoke=True)
    assert stage.command(smoke)[-3:] == [
        "--epochs=1",
        "--val_interval=1",
        "--num_sanity_val_steps=0",
    ]


@pytest.mark.models
def test_a_smoke_test_is_one_epoch(context: StageContext) -> None:
    save(context.scratch / "train-workspace/checkpoints/last.ckpt", epochs=1)
    save(context.scratch / "train-workspace/checkpoints/min_val_loss.ckpt", epochs=1)
    (context.scratch / "epochs.csv").write_text(HEADER + "1,3.0,4.0\n")
    finish_and_check(
        StageContext(context.work, context.scratch, context.params, smoke=True)
    )


def test_missing_inputs_are_named_with_what_makes_them(tmp_path: Path) -> None:
    stage = stages.get("train")
    context = StageContext(tmp_path, tmp_path, {"params.yaml": synthetic.PARAMS})
    expected = [
        ("data/config.yaml", "git checkout"),
        ("data/datastore.yaml", "git checkout"),
        ("data/datastore.zarr", "dvc repro prepare_dataset"),
        ("data/graph/tiny", "dvc repro create_graph"),
    ]
    for path, command in expected:
        with pytest.raises(
            CheckFailed, match=f"{path}: the input is missing"
        ) as refused:
            stage.inputs(context)
        assert command in str(refused.value)
        (tmp_path / path).mkdir(parents=True)
    stage.inputs(context)
