"""An evaluation counts only with every score, and with the examples that were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import synthetic
from support.checkpoints import lose_a_block, save

from mllam_exps import stages
from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam.evaluate import check_pictures, sampling
from mllam_exps.stages.neural_lam.parameters import params

pytestmark = pytest.mark.models
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    root = synthetic.make_experiment(tmp_path / "work")
    return StageContext(
        root, tmp_path / "scratch", params.load(root).files, experiment="x"
    )


def test_command(context: StageContext) -> None:
    words = stages.get("evaluate").command(context)
    assert words[:4] == [
        "python",
        "-m",
        "mllam_exps.stages.neural_lam.programs.neural_lam",
        "evaluate",
    ]
    expected = (
        "--eval=test",
        "--load=saved_models/min_val_loss.ckpt",
        "--ar_steps_eval=2",
        "--hidden_dim=4",
    )
    assert set(expected) <= set(words)
    assert not any("checkpoint" in word for word in words)


def test_sampling_follows_the_parameters(context: StageContext) -> None:
    assert sampling(context).split == "test"
    assert (
        sampling(context).steps,
        sampling(context).past,
        sampling(context).limit,
    ) == (2, 1, None)
    smoke = StageContext(
        context.work, context.scratch, context.params, smoke=True, nodes=2, devices=2
    )
    assert sampling(smoke).limit == 8 * 4


def test_a_missing_or_cut_off_checkpoint_is_refused_before_the_program_starts(
    context: StageContext,
) -> None:
    stage = stages.get("evaluate")
    for path in ("data/datastore.zarr", "data/graph/tiny"):
        (context.work / path).mkdir(parents=True)
    with pytest.raises(
        CheckFailed, match=r"saved_models/min_val_loss\.ckpt: the input is missing"
    ) as refused:
        stage.inputs(context)
    assert "dvc repro train" in str(refused.value)
    path = save(context.work / "saved_models/min_val_loss.ckpt")
    stage.inputs(context)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckFailed, match="cut off"):
        stage.inputs(context)
    import torch

    save(path, big=torch.ones(100_000))
    stage.inputs(context)
    lose_a_block(path)
    with pytest.raises(CheckFailed, match=r"(?s)is damaged.*mllam-exps verify"):
        stage.inputs(context)


def test_pictures(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="no example forecast"):
        check_pictures(tmp_path, ["msl", "t2m"])
    (tmp_path / "msl_a.png").write_bytes(PNG)
    with pytest.raises(CheckFailed, match="1 pictures of 2 variables"):
        check_pictures(tmp_path, ["msl", "t2m"])
    (tmp_path / "t2m_a.png").write_bytes(PNG)
    check_pictures(tmp_path, ["msl", "t2m"])
    (tmp_path / "t2m_a.png").write_bytes(b"")
    with pytest.raises(CheckFailed, match="no PNG"):
        check_pictures(tmp_path, ["msl", "t2m"])


def test_no_scores_by_neural_lam_is_a_failure(context: StageContext) -> None:
    with pytest.raises(CheckFailed, match="neural-lam left no readable scores"):
        stages.get("evaluate").finish(context)
