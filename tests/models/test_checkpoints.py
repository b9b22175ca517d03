"""Checkpoints are found whole, carried with what belongs to them, and never run code."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.checkpoints import Evil, lose_a_block, save

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.going_on import Taken
from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.neural_lam.going_on import GOES_ON

pytestmark = pytest.mark.models


def test_a_good_one_says_how_far_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt")
    assert checkpoints.check(path, epochs=3) == checkpoints.Checkpoint(path, 3, 30, 0.5)
    assert (
        checkpoints.check(save(tmp_path / "unvalidated.ckpt", best=None)).best_loss
        is None
    )


def test_fewer_epochs_than_asked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="trained 3 epochs, 5 were asked for"):
        checkpoints.check(save(tmp_path / "last.ckpt"), epochs=5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(CheckFailed, match=r"the weight layer\.weight is not finite"):
        checkpoints.check(save(tmp_path / "last.ckpt", weight=value))
    with pytest.raises(CheckFailed, match="lowest validation loss"):
        checkpoints.check(save(tmp_path / "last.ckpt", best=value))


def test_a_cut_off_one_is_refused_and_not_found(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert checkpoints.find(tmp_path) == []
    with pytest.raises(CheckFailed, match="cut off"):
        checkpoints.check(path)
    # A zip in one piece that is no checkpoint.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(CheckFailed, match="does not load"):
        checkpoints.check(path)
    with pytest.raises(CheckFailed, match="no such checkpoint"):
        checkpoints.check(tmp_path / "none.ckpt")


def test_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = save(tmp_path / "last.ckpt", evil=Evil(marker))
    with pytest.raises(CheckFailed, match="refused unread") as refused:
        checkpoints.check(path)
    assert "\n" not in str(refused.value)
    assert not marker.exists()


def test_the_program_never_runs_code_either(tmp_path: Path) -> None:
    """Also not where the caller insists on weights_only=False, as neural-lam's own loader does."""
    marker = tmp_path / "ran"
    path = save(tmp_path / "last.ckpt", evil=Evil(marker))
    code = f"""
from mllam_exps.stages.neural_lam.programs import neural_lam
neural_lam.set_environment()
import torch
torch.load({str(path)!r}, weights_only=False)
"""
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode != 0
    assert "UnpicklingError" in done.stderr
    assert not marker.exists()


def test_the_newest_comes_first_and_takes_its_companions_along(tmp_path: Path) -> None:
    earlier, later = tmp_path / "1", tmp_path / "2"
    last = save(earlier / "train-x/checkpoints/last.ckpt", epochs=2)
    best = save(earlier / "train-x/checkpoints/min_val_loss.ckpt", epochs=1)
    (earlier / "epochs.csv").write_text("epoch,train,validation\n1,2.0,3.0\n")
    os.utime(last, (1000, 1000))
    assert checkpoints.find(earlier) == [last]
    carried = checkpoints.carry(earlier, later)
    assert carried == later / "carried/last.ckpt"
    assert carried.stat().st_mtime == 1000
    assert carried.stat().st_ino != last.stat().st_ino
    assert (carried.parent / best.name).read_bytes() == best.read_bytes()
    assert (carried.parent / "epochs.csv").exists()

    # On the time limit Lightning saves beside the checkpoints, in the middle of an
    # epoch.
    on_limit = save(earlier / "train-x/hpc_ckpt_1.ckpt", epochs=3)
    assert checkpoints.find(earlier) == [on_limit, last]
    again = checkpoints.carry(earlier, tmp_path / "3")
    assert again is not None
    names = {path.name for path in again.parent.iterdir()}
    assert names == {"hpc_ckpt_1.ckpt", "last.ckpt", "min_val_loss.ckpt", "epochs.csv"}

    # A third attempt that died before its first epoch left nothing but what was carried
    # to it.
    assert checkpoints.carry(later, tmp_path / "4") == tmp_path / "4/carried/last.ckpt"
    assert (tmp_path / "4/carried/epochs.csv").exists()
    assert checkpoints.carry(tmp_path / "none", tmp_path / "5") is None


def test_one_that_has_lost_a_block_is_passed_over(tmp_path: Path) -> None:
    """torch loads it, with zeros for weights."""
    earlier = tmp_path / "1"
    before = save(earlier / "carried/last.ckpt", epochs=1)
    last = save(earlier / "train-x/checkpoints/last.ckpt", epochs=2, big=ones())
    os.utime(before, (1000, 1000))
    lose_a_block(last)
    assert checkpoints.find(earlier) == [last, before]
    assert not bool((checkpoints.load(last)["big"] == 1).all())
    carried = checkpoints.carry(earlier, tmp_path / "2")
    assert carried is not None
    assert checkpoints.describe(carried).epochs == 1
    with pytest.raises(CheckFailed, match="is damaged"):
        checkpoints.check(last)
    before.write_bytes(last.read_bytes())
    last.unlink()
    assert checkpoints.carry(earlier, tmp_path / "3") is None
    assert not checkpoints.find(tmp_path / "3")


@pytest.mark.parametrize("cut_off", [False, True])
def test_one_whose_best_one_is_damaged_is_passed_over(
    tmp_path: Path, cut_off: bool
) -> None:
    """Training could go on without it, and would take the best of the rest for the best of all."""
    earlier = tmp_path / "1"
    made = earlier / "train-x/checkpoints"
    before = save(earlier / "carried/last.ckpt", epochs=1)
    older = save(earlier / "carried/min_val_loss.ckpt", epochs=1, best=2.0)
    last = save(made / "last.ckpt", epochs=3)
    best = save(made / "min_val_loss.ckpt", epochs=2, best=1.0, big=ones())
    for path in (before, older):
        os.utime(path, (1000, 1000))
    assert checkpoints.carry(earlier, tmp_path / "2") is not None
    if cut_off:
        os.truncate(best, best.stat().st_size // 2)
    else:
        lose_a_block(best)
    carried = checkpoints.carry(earlier, tmp_path / "3")
    assert carried is not None
    assert checkpoints.describe(carried).epochs == 1
    assert checkpoints.describe(carried.with_name(best.name)).best_loss == 2.0
    older.unlink()
    carried = checkpoints.carry(earlier, tmp_path / "4")
    assert [path.name for path in (tmp_path / "4/carried").iterdir()] == [last.name]


def test_no_training_begins_with_what_is_damaged(tmp_path: Path) -> None:
    """The last one of another training, or its best one where that is taken."""
    made = tmp_path / "parent/saved_models"
    last = save(made / "last.ckpt", big=ones())
    best = save(made / "min_val_loss.ckpt", big=ones())
    lose_a_block(best)
    with pytest.raises(CheckFailed, match=r"min_val_loss\.ckpt: .* damaged"):
        GOES_ON.begin(tmp_path / "parent", tmp_path / "1", Taken())
    begun = GOES_ON.begin(tmp_path / "parent", tmp_path / "2", Taken(best=False))
    assert begun == tmp_path / "2/carried/last.ckpt"
    assert not begun.with_name(best.name).exists()
    lose_a_block(last)
    for taken in (Taken(best=False), Taken(weights_only=True)):
        with pytest.raises(CheckFailed, match=r"last\.ckpt: .* damaged"):
            GOES_ON.begin(tmp_path / "parent", tmp_path / "3", taken)


def ones() -> Any:
    import torch

    return torch.ones(100_000)
