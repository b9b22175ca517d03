"""What a failed program of ours says should be done reaches the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.neural_lam import checkpoints, train
from mllam_exps.stages.neural_lam.callbacks import NotFinite

pytestmark = pytest.mark.models

ERROR = NotFinite(
    "the training loss is nan", "epoch 2, batch 3", next=checkpoints.NOT_FINITE
)
TRACEBACK = f'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nmllam_exps.callbacks.NotFinite: {ERROR}'  # noqa: E501


@pytest.mark.parametrize("prefix", ["", "[rank0]: ", "0: [rank0]: "])
def test_after_a_nan_the_advice_is_that_of_the_error(tmp_path: Path, prefix: str):
    log = tmp_path / "log.txt"
    log.write_text(
        "".join(f"{prefix}{line}\n" for line in TRACEBACK.splitlines())
        + "Epoch 2: 10%\n"
    )
    assert reasons.way_out(log.read_text()) == checkpoints.NOT_FINITE
    assert "lower lr" in reasons.way_out(log.read_text())


def test_an_arrow_of_another_program_is_no_advice(tmp_path: Path):
    log = tmp_path / "log.txt"
    log.write_text("layer 1\n  → layer 2\nValueError: shapes differ\n  → (3, 4)\n")
    assert not reasons.way_out(log.read_text())


def test_a_loss_that_is_not_finite_is_no_reason_to_go_on():
    rows = [{"epoch": 1.0, "train": float("nan"), "validation": 1.0}]
    with pytest.raises(CheckFailed, match="train loss of epoch 1 is nan") as caught:
        train.check_losses(rows, 1)
    assert caught.value.next == checkpoints.NOT_FINITE
