"""What Lightning calls inside a training or evaluation of ours: progress, losses, the stop at NaN, labels.

Lightning (2.6 seen) adds the callbacks that `factory` returns to every Trainer of every
process in an environment where mllam-exps is installed. Outside our runs there are
none. What they keep in checkpoints (`random_state`) is passed over by who does not know
it, so a checkpoint made with them loads without them, and the other way round.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from mllam_exps.base.errors import NotFinite
from mllam_exps.stages.contract import ENDED_IN_TIME, SAVE_AND_END
from mllam_exps.stages.neural_lam.checkpoints import COLUMNS, NOT_FINITE, WITHIN_EPOCH
from mllam_exps.stages.neural_lam.training.beginning import (
    AskedLearningRate,
    Schedule,
    TakeWeights,
)
from mllam_exps.stages.neural_lam.training.random_state import RandomState
from mllam_exps.stages.programs.telling import PROGRESS, SCRATCH, replace

CHECK_EVERY = 50
"""Batches between two looks at the loss."""

# As neural-lam 0.7 logs them (models/module.py).
_TRAIN = ("train_loss_epoch", "train_loss")
_VALIDATION = ("val_mean_loss",)


def factory() -> list[Callback]:
    """Return the callbacks of a run of ours; none where `MLLAM_EXPS_SCRATCH` is not set.

    Entry point ``pytorch_lightning.callbacks_factory``.
    """
    scratch = os.environ.get(SCRATCH)
    if not scratch:
        return []
    folder = Path(scratch)
    if "mlflow" in sys.modules:
        from mllam_exps.stages import mlflow_patch

        mlflow_patch.apply()
    # The order matters: a loss that is not finite is not written down, nor saved, as
    # Lightning saves last.
    return [
        TakeWeights(),
        AskedLearningRate(),
        Schedule(),
        RandomState(),
        StopAtNaN(),
        Losses(folder / "epochs.csv"),
        Progress(folder / PROGRESS),
        EndInTime(folder),
        Labels(folder),
    ]


class Progress(Callback):  # type: ignore[misc]  # Lightning is not followed by mypy
    """Tell how far it is, by replacing a small file about once a second.

    Parameters
    ----------
    path : Path
        The file. ``done`` counts finished epochs of ``total`` (batches in an
        evaluation), ``text`` names the one that is worked on, ``batch`` of ``batches``
        tells how far that is; ``seconds_left`` is None until it can be known.
    interval : float
        Seconds between two writes.
    """

    def __init__(self, path: Path, interval: float = 1.0) -> None:
        self.path = path
        self.interval = interval
        self._written = -math.inf
        self._began = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._epochs: list[float] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Say in the log with which epoch a training goes on that began before."""
        done = trainer.current_epoch
        if trainer.is_global_zero and done:
            number = f"epoch {done + 1} of {trainer.max_epochs}"
            print(f"going on with {number}", flush=True)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Start the epoch's clock."""
        self._began, self._first = time.monotonic(), None
        self._fit(trainer, 0, now=True)

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell the batch."""
        if (
            self._first is None
        ):  # the first batch warms up: the rate is taken from the second on
            self._first = (batch_idx + 1, time.monotonic())
        self._fit(trainer, batch_idx + 1)

    def on_validation_batch_end(  # noqa: PLR0917  # Lightning's signature
        self,
        trainer: Any,
        module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show that it is alive, in a long validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._fit(trainer, _count(trainer.num_training_batches) or 0)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Learn how long an epoch takes, validation included."""
        self._epochs = [*self._epochs, time.monotonic() - self._began][-5:]
        self._fit(
            trainer, _count(trainer.num_training_batches) or 0, ended=True, now=True
        )

    def on_test_batch_end(  # noqa: PLR0917  # Lightning's signature
        self,
        trainer: Any,
        module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Tell the batch of an evaluation."""
        total = _count(trainer.num_test_batches)
        done = batch_idx + 1
        if self._first is None:
            self._first = (done, time.monotonic())
        left = None
        if total and done > self._first[0]:
            left = (
                (time.monotonic() - self._first[1])
                / (done - self._first[0])
                * (total - done)
            )
        told = {
            "text": _of("batch", done, total),
            "done": done,
            "total": total,
            "seconds_left": left,
        }
        self._write(trainer, told, done == total)

    def _fit(
        self, trainer: Any, batch: int, ended: bool = False, now: bool = False
    ) -> None:
        total = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        batches = _count(trainer.num_training_batches)
        told = {
            "text": _of("epoch", trainer.current_epoch + 1, total),
            "done": trainer.current_epoch + ended,
            "total": total,
            "seconds_left": None,
            "batch": batch,
            "batches": batches,
        }
        epoch = self._epoch_takes(batch, batches)
        if total and batches and epoch is not None:
            told["seconds_left"] = max(
                0.0, epoch * (total - trainer.current_epoch - batch / batches)
            )
        self._write(trainer, told, now)

    def _epoch_takes(self, batch: int, batches: int | None) -> float | None:
        if self._epochs:
            return sum(self._epochs) / len(self._epochs)
        if self._first and batches and batch > self._first[0]:
            return (
                (time.monotonic() - self._first[1]) / (batch - self._first[0]) * batches
            )
        return None

    def _write(self, trainer: Any, told: Mapping[str, Any], now: bool = False) -> None:
        moment = time.monotonic()
        if not trainer.is_global_zero or (
            moment - self._written < self.interval and not now
        ):
            return
        self._written = moment
        left = told["seconds_left"]
        with contextlib.suppress(
            OSError
        ):  # a full disk ends a training at its checkpoint, not here
            replace(
                self.path,
                json.dumps(
                    {**told, "seconds_left": None if left is None else round(left, 1)}
                ),
            )


class Losses(Callback):  # type: ignore[misc]
    """Write the training and validation loss of each epoch, counted from 1, to a CSV file.

    Parameters
    ----------
    path : Path
        The file; rows already there, of epochs before the one resumed from, are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[int, dict[str, str]] = {}
        self._validation: float | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Keep the rows of the epochs that are done."""
        if trainer.is_global_zero:
            self._rows = {
                n: row
                for n, row in _rows(self.path).items()
                if n <= trainer.current_epoch
            }

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Remember the validation loss until its epoch ends."""
        if not trainer.sanity_checking:
            self._validation = _metric(trainer, _VALIDATION)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Write the epoch's row."""
        validation, self._validation = self._validation, None
        train = _metric(trainer, _TRAIN)
        if not trainer.is_global_zero:
            return
        number = trainer.current_epoch + 1
        values = (str(number), _shown(train), _shown(validation))
        self._rows[number] = dict(zip(COLUMNS, values, strict=True))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for _, row in sorted(self._rows.items()))
        try:
            replace(self.path, text.getvalue())
        except OSError as error:
            warnings.warn(
                f"the losses of epoch {number} could not be written: {error}",
                stacklevel=1,
            )


class StopAtNaN(Callback):  # type: ignore[misc]
    """Stop at a loss or a weight that is not finite, before a checkpoint of it is written.

    Looking at a loss makes the host wait for the GPU. So losses are kept where they
    are, and looked at together every `CHECK_EVERY` batches and after the epoch's last,
    before its validation; the message still names the batch. (neural-lam 0.7 logs each
    step, which waits anyway; this adds no wait of its own.)

    Every rank takes part in each look, and all of them stop together: one that stopped
    alone would leave the others waiting in a collective until its timeout.
    """

    def __init__(self, every: int = CHECK_EVERY) -> None:
        self.every = every
        self._losses: list[tuple[int, Any]] = []

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch's loss, and look from time to time."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self._losses.append((batch_idx, loss.detach()))
        if (
            batch_idx + 1
        ) % self.every == 0 or batch_idx + 1 == trainer.num_training_batches:
            self._look(trainer)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Look at the validation loss, before the best checkpoint is chosen by it."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        loss = _metric(trainer, _VALIDATION)
        told = (
            f"the validation loss is {loss}"
            if loss is not None and not math.isfinite(loss)
            else ""
        )
        self._stop(trainer, told, f"epoch {trainer.current_epoch + 1}")

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Look at the rest of the losses, and at the weights, which become ``last.ckpt`` in a moment."""
        # Lightning (2.6) reduces the epoch's metrics over the ranks when they are first
        # asked for, and on rank zero its progress bar just did: the others have to meet
        # it there before they take part in a look.
        _metric(trainer, _TRAIN)
        self._look(trainer)
        import torch

        # A last batch with a finite loss and an infinite gradient shows in the weights
        # only. One wait.
        floats = [
            weight.detach()
            for weight in module.parameters()
            if weight.is_floating_point() and weight.numel()
        ]
        finite = not floats or bool(
            torch.stack([torch.isfinite(weight).all() for weight in floats]).all()
        )
        told = "" if finite else "the weights are not finite"
        self._stop(trainer, told, f"end of epoch {trainer.current_epoch + 1}")

    def _look(self, trainer: Any) -> None:
        import torch

        losses, self._losses = self._losses, []
        told, where = "", f"epoch {trainer.current_epoch + 1}"
        if losses:
            values = torch.stack(
                [loss.float().mean() for _, loss in losses]
            ).tolist()  # the one wait for the GPU
            for (index, _), value in zip(losses, values, strict=True):
                if not math.isfinite(value):
                    told, where = (
                        f"the training loss is {value}",
                        f"{where}, batch {index + 1}",
                    )
                    break
        self._stop(trainer, told, where)

    def _stop(self, trainer: Any, told: str, where: str) -> None:
        if not trainer.strategy.reduce_boolean_decision(bool(told), all=False):
            return
        raise NotFinite(
            told or "another rank stopped at a loss that is not finite",
            where,
            next=NOT_FINITE,
        )


class EndInTime(Callback):  # type: ignore[misc]
    """Save within the epoch and end, when the attempt was told that its time limit is near.

    Several ranks decide together: one that ended alone would leave the others waiting.

    Parameters
    ----------
    scratch : Path
        Where the file appears that says so.
    every : int
        Batches between two looks of several ranks, which take a collective.
    """

    def __init__(self, scratch: Path, every: int = 10) -> None:
        self.scratch = scratch
        self.every = every
        self._looked = 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look, and save and end."""
        done = batch_idx + 1
        # At the end of an epoch it is saved anyway.
        if done == trainer.num_training_batches or not self._looks_now(trainer, done):
            return
        asked = trainer.is_global_zero and (self.scratch / SAVE_AND_END).exists()
        if not trainer.strategy.reduce_boolean_decision(asked, all=False):
            return
        folder = Path(trainer.checkpoint_callback.dirpath)
        trainer.save_checkpoint(folder / WITHIN_EPOCH)
        if trainer.is_global_zero:
            reached = trainer.current_epoch + done / trainer.num_training_batches
            told = {
                "text": f"saved within epoch {trainer.current_epoch + 1}",
                "done": reached,
                "total": trainer.max_epochs,
            }
            with contextlib.suppress(OSError):
                replace(self.scratch / PROGRESS, json.dumps(told))
            print("the time limit is near: saved within the epoch", flush=True)
        raise SystemExit(ENDED_IN_TIME)

    def _looks_now(self, trainer: Any, done: int) -> bool:
        if trainer.world_size > 1:
            return done % self.every == 1
        now = time.monotonic()
        if now - self._looked < 1.0:
            return False
        self._looked = now
        return True


class Labels(Callback):  # type: ignore[misc]
    """Label neural-lam's own tracking run with what it belongs to.

    Parameters
    ----------
    scratch : Path
        ``tracking.json`` there names the tracking run.
    """

    def __init__(self, scratch: Path) -> None:
        self.path = scratch / "tracking.json"

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Set the labels; a tracking server that refuses them costs a warning, not the training."""
        from mllam_exps.stages.tracking import label

        logger = trainer.logger
        try:
            if logger is not None and trainer.is_global_zero:
                label(logger, self.path)
        except Exception as error:  # the clients raise their own kinds
            warnings.warn(
                f"the tracking run could not be labelled: {type(error).__name__}: {error}",
                stacklevel=1,
            )


def _metric(trainer: Any, names: tuple[str, ...]) -> float | None:
    """Return a logged value. To be called by all ranks: Lightning reduces over them at this very moment."""
    for name in names:
        if name in trainer.callback_metrics:
            return float(trainer.callback_metrics[name])
    return None


def _shown(value: float | None) -> str:
    return "" if value is None else repr(value)


def _of(what: str, number: int, total: int | None) -> str:
    return f"{what} {number}/{total}" if total else f"{what} {number}"


def _count(batches: Any) -> int | None:
    """Return a number of batches; Lightning gives a list for tests, and infinity for streams."""
    given = sum(batches) if isinstance(batches, list) else batches
    return int(given) if math.isfinite(given) else None


def _rows(path: Path) -> dict[int, dict[str, str]]:
    try:
        with path.open(newline="") as file:
            return {
                int(row["epoch"]): {name: row[name] for name in COLUMNS}
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError):  # nothing there, or nothing of ours
        return {}
