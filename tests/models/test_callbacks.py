"""What the callbacks write and when they stop, inside real Lightning loops of a tiny model."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pl = pytest.importorskip("pytorch_lightning")
torch = pytest.importorskip("torch")

from support import ranks  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from mllam_exps.stages.contract import ENDED_IN_TIME, SAVE_AND_END  # noqa: E402
from mllam_exps.stages.neural_lam import callbacks, checkpoints  # noqa: E402
from mllam_exps.stages.neural_lam.programs import neural_lam  # noqa: E402
from mllam_exps.stages.neural_lam.ranks import is_first_process  # noqa: E402
from mllam_exps.stages.points import keep_points, kept  # noqa: E402

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),
]


class Toy(pl.LightningModule):
    """Logs as neural-lam's module does; goes wrong where it is told to."""

    def __init__(
        self,
        nan_at: tuple[int, int] | None = None,
        nan_validation: int | None = None,
        ruin: int = -1,
    ) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.nan_at, self.nan_validation, self.ruin = nan_at, nan_validation, ruin

    def training_step(self, batch: Any, index: int) -> Any:
        loss = self.layer(batch[0]).square().mean()
        if self.nan_at == (self.current_epoch, index):
            loss = loss * float("nan")
        self.log_dict({"train_loss": loss}, on_step=True, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        loss = self.layer(batch[0]).square().mean()
        if self.trainer.sanity_checking or self.nan_validation == self.current_epoch:
            loss = loss * float("nan")
        self.log_dict({"val_mean_loss": loss}, on_epoch=True, sync_dist=True)

    def test_step(self, batch: Any, index: int) -> None:
        self.layer(batch[0])

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        self.started = (self.current_epoch, index)

    def on_train_epoch_end(self) -> None: ...

    def optimizer_step(
        self, epoch: int, index: int, optimizer: Any, closure: Any
    ) -> None:
        optimizer.step(closure)
        if epoch == self.ruin and index == self.trainer.num_training_batches - 1:
            self.layer.weight.data[:] = float("inf")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def data(batches: int = 8) -> DataLoader:
    return DataLoader(TensorDataset(torch.ones(batches, 2)), batch_size=1)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the scratch folder of what looks like a run of ours."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv(callbacks.SCRATCH, str(folder))
    return folder


def trainer(folder: Path, epochs: int = 3, **more: Any) -> Any:
    checkpoint = pl.callbacks.ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="last",
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    best = pl.callbacks.ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor="val_mean_loss",
        save_on_train_epoch_end=False,
    )
    settings: dict[str, Any] = {
        "max_epochs": epochs,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "num_sanity_val_steps": 1,
        "callbacks": [checkpoint, best],
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**settings | more)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "epochs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_none_outside_our_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(callbacks.SCRATCH, raising=False)
    assert callbacks.factory() == []
    ours = (callbacks.Progress, callbacks.Losses, callbacks.StopAtNaN, callbacks.Labels)
    assert not [one for one in trainer(tmp_path).callbacks if isinstance(one, ours)]


def test_the_entry_point_brings_them_once(scratch: Path) -> None:
    found = [type(one).__name__ for one in trainer(scratch).callbacks]
    for name in ("StopAtNaN", "Losses", "Progress", "Labels"):
        assert found.count(name) == 1
    assert found.index("StopAtNaN") < found.index("ModelCheckpoint")


def test_importing_costs_no_client() -> None:
    code = (
        "import sys, pytorch_lightning; before = set(sys.modules); import mllam_exps.stages.neural_lam.callbacks; "
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('mllam_exps')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (
        "mlflow" not in done.stdout
        and "pydantic" not in done.stdout
        and "dvc" not in done.stdout
    )


def test_losses_and_progress_of_a_training(scratch: Path) -> None:
    trainer(scratch, check_val_every_n_epoch=2).fit(Toy(), data(), data())
    found = rows(scratch)
    assert [row["epoch"] for row in found] == ["1", "2", "3"]
    assert [bool(row["validation"]) for row in found] == [False, True, False]
    assert all(0 <= float(row["train"]) < 100 for row in found)
    told = json.loads((scratch / "progress.json").read_text())
    assert told == {
        "text": "epoch 3/3",
        "done": 3,
        "total": 3,
        "seconds_left": 0.0,
        "batch": 8,
        "batches": 8,
    }
    assert sorted(file.name for file in scratch.iterdir()) == [
        "checkpoints",
        "epochs.csv",
        "progress.json",
    ]


def test_resumed_rows_are_merged_and_later_ones_replaced(
    scratch: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer(scratch, epochs=2).fit(Toy(), data(), data())
    assert "going on" not in capfd.readouterr().out
    before = rows(scratch)
    with (scratch / "epochs.csv").open("a") as file:
        file.write("3,99,99\n4,99,99\n9,99,99\n")
    trainer(scratch, epochs=4).fit(
        Toy(), data(), data(), ckpt_path=scratch / "checkpoints/last.ckpt"
    )
    assert "going on with epoch 3 of 4\n" in capfd.readouterr().out
    found = rows(scratch)
    assert found[:2] == before
    assert [row["epoch"] for row in found] == ["1", "2", "3", "4"]
    assert "99" not in {row["train"] for row in found}


def test_checkpoints_know_nothing_of_them(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(scratch, epochs=1).fit(Toy(), data(), data())
    saved = torch.load(scratch / "checkpoints/last.ckpt", weights_only=True)
    assert all(name.startswith("ModelCheckpoint") for name in saved["callbacks"])
    monkeypatch.delenv(callbacks.SCRATCH)
    trainer(scratch, epochs=2).fit(
        Toy(), data(), data(), ckpt_path=scratch / "checkpoints/last.ckpt"
    )


def test_progress_of_an_evaluation(scratch: Path) -> None:
    trainer(scratch).test(Toy(), data(5), verbose=False)
    told = json.loads((scratch / "progress.json").read_text())
    assert told == {"text": "batch 5/5", "done": 5, "total": 5, "seconds_left": 0.0}
    assert not (scratch / "epochs.csv").exists()


def test_seconds_left_is_estimated_within_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        now = 0.0

    monkeypatch.setattr(callbacks.time, "monotonic", lambda: Clock.now)

    class Fake:
        is_global_zero, max_epochs, current_epoch, num_training_batches = True, 4, 0, 10

    progress = callbacks.Progress(tmp_path / "progress.json", interval=0)
    told = lambda: json.loads(progress.path.read_text())  # noqa: E731
    progress.on_train_epoch_start(Fake, None)
    assert (
        told()["seconds_left"] is None
        and told()["text"] == "epoch 1/4"
        and told()["done"] == 0
    )
    for batch in range(3):
        Clock.now += 100 if batch == 0 else 2  # the first warms up
        progress.on_train_batch_end(Fake, None, None, None, batch)
    assert told()["seconds_left"] == pytest.approx(2 * 10 * 4 - 2 * 3)
    Clock.now = 130.0
    progress.on_train_epoch_end(Fake, None)
    assert told()["done"] == 1 and told()["seconds_left"] == pytest.approx(3 * 130)


def test_progress_is_written_once_a_second_and_by_rank_zero(tmp_path: Path) -> None:
    class Fake:
        is_global_zero, max_epochs, current_epoch, num_training_batches = True, 4, 0, 10

    progress = callbacks.Progress(tmp_path / "progress.json")
    for batch in range(5):
        progress.on_train_batch_end(Fake, None, None, None, batch)
    assert json.loads(progress.path.read_text())["batch"] == 1
    Fake.is_global_zero = False
    other = callbacks.Progress(tmp_path / "other.json")
    other.on_train_epoch_start(Fake, None)
    assert not other.path.exists()


@pytest.mark.parametrize(("batch", "every"), [(0, 1), (5, 50), (7, 50), (2, 4)])
def test_training_stops_at_nan_and_names_the_batch(
    scratch: Path, monkeypatch: Any, batch: int, every: int
) -> None:
    monkeypatch.setattr(callbacks.StopAtNaN.__init__, "__defaults__", (every,))
    model = Toy(nan_at=(1, batch))
    with pytest.raises(
        callbacks.NotFinite,
        match=rf"epoch 2, batch {batch + 1}: the training loss is nan",
    ):
        trainer(scratch).fit(model, data(), data())
    assert model.started[0] == 1 and model.started[1] < max(batch + every, 8)
    assert [row["epoch"] for row in rows(scratch)] == ["1"]
    saved = torch.load(scratch / "checkpoints/last.ckpt", weights_only=True)
    assert saved["epoch"] == 0 and all(
        torch.isfinite(value).all() for value in saved["state_dict"].values()
    )


def test_training_stops_at_a_nan_validation_but_not_in_the_sanity_check(
    scratch: Path,
) -> None:
    with pytest.raises(
        callbacks.NotFinite, match="epoch 2: the validation loss is nan"
    ):
        trainer(scratch).fit(Toy(nan_validation=1), data(), data())
    for name in ("last", "best"):
        assert (
            torch.load(scratch / f"checkpoints/{name}.ckpt", weights_only=True)["epoch"]
            == 0
        )


def test_ruined_weights_are_not_saved(scratch: Path) -> None:
    with pytest.raises(
        callbacks.NotFinite, match="end of epoch 2: the weights are not finite"
    ):
        trainer(scratch, check_val_every_n_epoch=5).fit(Toy(ruin=1), data(), data())
    assert (
        torch.load(scratch / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 0
    )


def test_a_rank_stops_with_the_one_that_saw_it() -> None:
    class Fake:
        current_epoch, num_training_batches = 0, 8

        class strategy:  # noqa: N801
            reduce_boolean_decision = staticmethod(lambda decision, all: True)

    with pytest.raises(callbacks.NotFinite, match="another rank"):
        callbacks.StopAtNaN(every=1).on_train_batch_end(
            Fake, None, {"loss": torch.tensor(1.0)}, None, 0
        )


def test_a_full_disk_does_not_stop_a_training(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(callbacks, "replace", full)
    trainer(scratch, epochs=1).fit(Toy(), data(), data())


@pytest.mark.parametrize("nan", [False, True])
def test_two_ranks_agree(scratch: Path, nan: bool) -> None:
    """Lightning's progress bar, on rank zero alone, must not meet our looks in one collective."""
    kept.begin(scratch / "tracking", kept.Head("0" * 32, 1), {})
    environ = {kept.VARIABLE: str(scratch / "tracking")}
    two = ranks.run(__file__, scratch, "nan" if nan else "", **environ)
    if nan:
        assert [rank.code for rank in two] == [1, 1]
        assert "NotFinite: epoch 2, batch 2: the training loss is nan" in two[0].err
        assert "NotFinite: epoch 2" in two[1].err, (
            "with a loss of its own, or with the other"
        )
    else:
        assert [rank.code for rank in two] == [0, 0], two
    assert len(rows(scratch)) == (1 if nan else 2)
    lines = [line for _, line in kept.read(scratch / "tracking")]
    logged = [line["step"] for line in lines if line.get("key") == "val_mean_loss"]
    assert logged == ([3] if nan else [3, 7]), "by one rank"
    assert {"tag": "of", "value": "rank 0"} in lines and "rank 1" not in str(lines)
    assert not [*scratch.glob("ml*")], "no run was started elsewhere"


if __name__ == "__main__":
    import mlflow

    ranks.fork(Path(sys.argv[1]))
    toy = Toy(nan_at=(1, 1) if sys.argv[2] and os.environ["NODE_RANK"] == "0" else None)
    rank = os.environ["RANK"]
    keep_points.use_where_told(first=is_first_process())
    logger = pl.loggers.MLFlowLogger(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    # As neural-lam's own logger does on each rank, where the identity is none.
    mlflow.start_run(run_id=logger.run_id, tags={"of": f"rank {rank}"})
    two = trainer(
        Path(sys.argv[1]),
        logger=logger,
        epochs=2,
        num_nodes=2,
        strategy="ddp",
        enable_progress_bar=True,
    )
    toy.log_dict = lambda values, **how: pl.LightningModule.log_dict(
        toy, values, **how, prog_bar=True
    )  # type: ignore[method-assign]
    two.fit(toy, data(), data())


def test_a_training_saves_within_the_epoch_when_its_time_is_nearly_over(scratch: Path):
    class Told(Toy):
        """Its time limit is near from the second epoch's third batch on."""

        def on_train_batch_start(self, batch: Any, index: int) -> None:
            super().on_train_batch_start(batch, index)
            if self.started == (1, 2):
                (scratch / SAVE_AND_END).touch()
                [ends] = [
                    one
                    for one in self.trainer.callbacks
                    if isinstance(one, callbacks.EndInTime)
                ]
                ends._looked = -math.inf  # a second has gone by

    with pytest.raises(SystemExit) as end:
        trainer(scratch).fit(Told(), data(), data(2))
    assert end.value.code == ENDED_IN_TIME
    saved = scratch / "checkpoints" / checkpoints.WITHIN_EPOCH
    assert checkpoints.find(scratch)[0] == saved
    told = json.loads((scratch / "progress.json").read_text())
    assert told["done"] == 1 + 3 / 8
    # It goes on with the fourth batch of the second epoch.
    (scratch / SAVE_AND_END).unlink()
    batches: list[tuple[int, int]] = []

    class Counting(Toy):
        def on_train_batch_start(self, batch: Any, index: int) -> None:
            batches.append((self.trainer.current_epoch, index))

    trainer(scratch).fit(Counting(), data(), data(2), ckpt_path=saved)
    assert batches == [(1, n) for n in range(3, 8)] + [(2, n) for n in range(8)]
    assert [row["epoch"] for row in rows(scratch)] == ["1", "2", "3"]


@pytest.mark.parametrize("in_attempt", [True, False])
def test_a_log_has_no_progress_bars_where_srun_gives_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_attempt: bool
) -> None:
    variable = "PL_TRAINER_ENABLE_PROGRESS_BAR"
    monkeypatch.setattr(neural_lam.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(neural_lam.os, "environ", {})
    if in_attempt:
        os.environ[callbacks.SCRATCH] = str(tmp_path)
    neural_lam.set_environment()
    assert os.environ.get(variable) == ("False" if in_attempt else None)
    assert os.environ.get("TERM") == ("dumb" if in_attempt else None)
