"""How a training begins that goes on from another one: with its weights alone, or with all but what was changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.neural_lam import checkpoints

WEIGHTS = "MLLAM_EXPS_WEIGHTS"
"""The environment variable that names the checkpoint whose weights are taken."""


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
        if asked is None or trainer.lr_scheduler_configs:
            return
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if group["lr"] != asked and trainer.is_global_zero:
                    told = f"the learning rate was {group['lr']}, and is {asked} now"
                    print(told, flush=True)
                group["lr"] = asked
