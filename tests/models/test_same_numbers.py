"""A training that was stopped at an epoch's end and goes on ends as one that was never stopped, to the bit.

Here with a small network that draws where it can; `test_stage_programs` has neural-lam's.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

pl = pytest.importorskip("pytorch_lightning")
torch = pytest.importorskip("torch")

from pytorch_lightning.loops import evaluation_loop, training_epoch_loop  # noqa: E402
from support import ranks  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from mllam_exps.stages.contract import SAVE_AND_END  # noqa: E402
from mllam_exps.stages.neural_lam import callbacks, checkpoints  # noqa: E402
from mllam_exps.stages.neural_lam.patches import draw_as_if_never_stopped  # noqa: E402
from mllam_exps.stages.neural_lam.training import random_state  # noqa: E402

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]

EPOCHS, SAMPLES = 3, 12


class Waves(Dataset):
    """Samples that can be told from each other."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        return index, torch.sin(torch.arange(4.0) * (index + 1))


class Data(pl.LightningDataModule):
    """Loads as neural-lam's module does."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.how = {"num_workers": workers, "persistent_workers": workers > 0}

    def train_dataloader(self) -> Any:
        return DataLoader(Waves(), batch_size=2, shuffle=True, **self.how)

    def val_dataloader(self) -> Any:
        return DataLoader(Waves(), batch_size=4, **self.how)


class Drawing(pl.LightningModule):
    """Draws in each step, and where an epoch begins; logs as neural-lam's module does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 4)
        )
        self.seen: dict[int, list[int]] = {}

    def on_train_epoch_start(self) -> None:
        torch.rand(1)

    def loss(self, batch: Any) -> Any:
        return (self.layers(batch[1]) - batch[1]).square().mean()

    def training_step(self, batch: Any, index: int) -> Any:
        self.seen.setdefault(self.current_epoch, []).extend(batch[0].tolist())
        loss = self.loss(batch)
        self.log_dict({"train_loss": loss}, on_step=True, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        loss = self.loss(batch)
        self.log_dict({"val_mean_loss": loss}, on_epoch=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def _each(folder: Path) -> Any:
    return pl.callbacks.ModelCheckpoint(
        dirpath=folder, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True
    )


def train(
    folder: Path, workers: int, load: Path | None = None, **more: Any
) -> dict[str, Any]:
    """Train to the end, keeping each epoch's checkpoint; return weights, losses and order."""
    pl.seed_everything(1, workers=True, verbose=False)
    settings: dict[str, Any] = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "callbacks": [_each(folder)],
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    model = Drawing()
    pl.Trainer(**settings | more).fit(
        model, datamodule=Data(workers), ckpt_path=load, weights_only=True
    )
    return {"weights": model.state_dict(), "seen": model.seen}


def go_on(folder: Path, epoch: int, workers: int, **more: Any) -> dict[str, Any]:
    """Go on, in the folder, as from a stop after an epoch: later losses are not there yet."""
    losses = folder / "epochs.csv"
    if losses.exists():  # of rank zero
        rows = losses.read_text().splitlines(keepends=True)
        losses.write_text("".join(rows[: epoch + 2]))
    return train(folder, workers, folder / f"epoch={epoch}.ckpt", **more)


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(
        float((weight - other["weights"][name]).abs().max())
        for name, weight in one["weights"].items()
    )


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the scratch folder of what looks like a run of ours, with the patch for one test."""
    monkeypatch.setenv(callbacks.SCRATCH, str(tmp_path))
    for owner, name in (
        (training_epoch_loop._TrainingEpochLoop, "on_run_start"),
        (evaluation_loop._EvaluationLoop, "reset"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back at the end
    draw_as_if_never_stopped.apply()
    return tmp_path


@pytest.mark.parametrize(
    ("workers", "sanity", "interval"),
    [
        (0, 2, 1),
        # The workers of the validation are there before the stop, or begin after it.
        (2, 0, 1),
        (2, 0, 2),
    ],
)
def test_stopped_after_each_epoch(
    scratch: Path, workers: int, sanity: int, interval: int
) -> None:
    how = {"num_sanity_val_steps": sanity, "check_val_every_n_epoch": interval}
    unbroken = train(scratch, workers, **how)
    losses = (scratch / "epochs.csv").read_text()
    for epoch in range(EPOCHS - 1):
        again = go_on(scratch, epoch, workers, **how)
        later = {n: order for n, order in unbroken["seen"].items() if n > epoch}
        assert again["seen"] == later
        assert largest_difference(again, unbroken) == 0.0
        assert (scratch / "epochs.csv").read_text() == losses


@pytest.mark.parametrize(
    ("workers", "epoch", "batch"),
    [(0, 0, 2), (0, 1, 4), (2, 0, 2), (2, 1, 1), (2, 2, 3)],
)
def test_stopped_within_an_epoch(
    scratch: Path, workers: int, epoch: int, batch: int
) -> None:
    """When its time limit is near: the rest of the epoch sees the samples that are left, and draws what was left."""
    unbroken = train(scratch / "unbroken", workers)
    (scratch / "epochs.csv").unlink()

    class Told(callbacks.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            if (trainer.current_epoch, module.trainer.fit_loop.batch_idx) == (
                epoch,
                batch - 1,
            ):
                (scratch / SAVE_AND_END).touch()
                for one in trainer.callbacks:
                    if isinstance(one, callbacks.EndInTime):
                        one._looked = -math.inf  # a second has gone by

    with pytest.raises(SystemExit):
        train(scratch / "stopped", workers, callbacks=[Told(), _each(scratch)])
    (scratch / SAVE_AND_END).unlink()
    [saved] = scratch.rglob(checkpoints.WITHIN_EPOCH)
    again = train(scratch / "again", workers, saved)
    order = unbroken["seen"][epoch][2 * batch :]
    assert again["seen"] == {epoch: order} | {
        n: seen for n, seen in unbroken["seen"].items() if n > epoch
    }
    assert largest_difference(again, unbroken) == 0.0


def test_what_keeps_the_state_changes_nothing_and_is_passed_over(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = train(scratch / "ours", 0)
    monkeypatch.delenv(callbacks.SCRATCH)
    bare = train(scratch / "bare", 0)
    assert bare["seen"] == ours["seen"]
    assert largest_difference(bare, ours) == 0.0
    kept = torch.load(scratch / "ours/epoch=0.ckpt", weights_only=True)
    assert random_state.KEY in kept
    assert train(scratch, 0, scratch / "ours/epoch=1.ckpt")["seen"].keys() == {2}


@pytest.mark.parametrize("ranks", [0, 3])
def test_a_checkpoint_without_this_many_states_is_gone_on_from_and_it_is_said(
    scratch: Path, capsys: pytest.CaptureFixture[str], ranks: int
) -> None:
    unbroken = train(scratch, 0)
    path = scratch / "epoch=1.ckpt"
    content = torch.load(path, weights_only=True)
    kept = content.pop(random_state.KEY)
    if ranks:
        content[random_state.KEY] = {**kept, "ranks": kept["ranks"] * ranks}
    torch.save(content, path)
    assert go_on(scratch, 1, 0)["seen"][2] != unbroken["seen"][2]
    said = capsys.readouterr().out
    what = "of 3 processes, and not of 1" if ranks else "of none"
    assert said.count(f"holds the random state {what}: samples come in another") == 1


def test_two_ranks(scratch: Path) -> None:
    """With workers, Lightning alone would take the order of the first epoch again."""
    two = ranks.run(__file__, scratch)
    told = [json.loads(rank.out.splitlines()[-1]) for rank in two]
    for epoch in ("1", "2"):
        halves = [rank["unbroken"][epoch] for rank in told]
        assert sorted(halves[0] + halves[1]) == list(range(SAMPLES))
        assert [rank["again"][epoch] for rank in told] == halves
    assert [rank["difference"] for rank in told] == [0.0, 0.0]


if __name__ == "__main__":
    ranks.fork(Path(sys.argv[1]))
    two = {"num_nodes": 2, "strategy": "ddp"}
    draw_as_if_never_stopped.apply()
    unbroken = train(Path(sys.argv[1]), 1, **two)
    again = go_on(Path(sys.argv[1]), 0, 1, **two)
    told = {
        "unbroken": unbroken["seen"],
        "again": again["seen"],
        "difference": largest_difference(again, unbroken),
    }
    print(json.dumps(told))
