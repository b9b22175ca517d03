"""How a training begins that goes on from another one: with its weights alone, or with all but what was changed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.neural_lam import checkpoints

WEIGHTS = "MLLAM_EXPS_WEIGHTS"
"""The environment variable that names the checkpoint whose weights are taken."""
SCHEDULE = "MLLAM_EXPS_SCHEDULE"
"""The one with the schedule of the learning rate, as JSON: ``lr_warmup``, ``lr_final``, ``begun``."""


class TakeWeights(Callback):  # type: ignore[misc]  # Lightning is not followed by mypy
    """Give the network the weights of a checkpoint before it is trained; epochs and optimizer begin anew."""

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Load them, in every process alike.

        Raises
        ------
        CheckFailed
            If they are those of another network.
        """
        named = os.environ.get(WEIGHTS)
        if not named or stage != "fit":
            return
        content = checkpoints.load(Path(named))
        # neural-lam (0.7) renames here what older versions of it called otherwise.
        module.on_load_checkpoint(content)
        try:
            module.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            what = "the weights are those of another network"
            why = " ".join(str(error).split())
            raise CheckFailed(what, where=named, why=why) from error
        if trainer.is_global_zero:
            print("beginning with the weights of another training", flush=True)


class AskedLearningRate(Callback):  # type: ignore[misc]
    """Train with the learning rate that is asked for: a checkpoint's optimizer brings that of its own training."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Set it. neural-lam (0.7) keeps it constant; where a schedule is at work, that says it."""
        asked = getattr(module.hparams, "lr", None)
        if asked is None or trainer.lr_scheduler_configs or os.environ.get(SCHEDULE):
            return
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if group["lr"] != asked and trainer.is_global_zero:
                    told = f"the learning rate was {group['lr']}, and is {asked} now"
                    print(told, flush=True)
                group["lr"] = asked


def scheduled(
    peak: float, final: float | None, warmup: float, at: float, end: float
) -> float:
    """Return the learning rate at a moment of a training.

    It rises in a straight line to `peak`, and then falls along half a cosine to `final`
    (Loshchilov & Hutter 2017, SGDR, eq. 5, one period); without a `final` it stays.

    Parameters
    ----------
    warmup, at, end : float
        Epochs from the training's beginning on: those of the rise, those that are done,
        and all of them.
    """
    if at < warmup:
        return peak * at / warmup
    if final is None:
        return peak
    done = min(1.0, (at - warmup) / max(end - warmup, 1e-9))
    return final + 0.5 * (peak - final) * (1 + math.cos(math.pi * done))


class Schedule(Callback):  # type: ignore[misc]
    """Set the learning rate of each step, where the parameters ask for a schedule.

    The rate is worked out from how far the training is, and nothing is remembered: one
    that goes on takes the same steps as one that was never stopped.
    """

    def __init__(self) -> None:
        self._asked: dict[str, Any] = json.loads(os.environ.get(SCHEDULE) or "{}")

    def on_train_batch_start(
        self, trainer: Any, module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set it, by the middle of the step: the first one of a rise is no step of nothing."""
        if not self._asked:
            return
        begun = self._asked["begun"]
        part = (batch_idx + 0.5) / trainer.num_training_batches
        rate = scheduled(
            float(module.hparams.lr),
            self._asked["lr_final"],
            self._asked["lr_warmup"] or 0.0,
            trainer.current_epoch + part - begun,
            trainer.max_epochs - begun,
        )
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
