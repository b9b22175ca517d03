"""Lightning goes on comparing with the best checkpoint when training continues in another folder."""

from __future__ import annotations

import os
from typing import Any

from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="keep_best_checkpoint",
    purpose="a training that goes on in another folder does not replace its best checkpoint by a worse one",
    tried={"pytorch-lightning": ("2.6.6",)},
    spots={
        "pytorch_lightning.callbacks:ModelCheckpoint.load_state_dict": "dirpath_from_ckpt"
    },
    until="Lightning takes a best checkpoint along that lies in the new folder",
    issue=Issue(
        repository="Lightning-AI/pytorch-lightning",
        title="ModelCheckpoint forgets its best score when training goes on in another folder",
        body="""\
`ModelCheckpoint.load_state_dict` restores `best_model_score`, `kth_value` and `best_k_models` only
where `dirpath` is the one in the checkpoint (2.6.6); else it warns and forgets them. Whoever gives each
attempt at a training a folder of its own, so that two attempts never write to the same files, and
copies the checkpoints there before going on, loses the best one: the first validation after the restart
counts as the best so far, and is saved over a better one.

Proposal: where the file named by `kth_best_model_path` lies, under the same name, in the new `dirpath`,
rewrite the paths and keep the scores.
""",
    ),
    needed=True,
)


def apply(loss: float | None) -> None:
    """Make Lightning take ``min_val_loss.ckpt`` in its folder, with this loss, as its best so far; None for no best."""
    PATCH.fits()
    from pytorch_lightning.callbacks import ModelCheckpoint

    restore = ModelCheckpoint.load_state_dict

    def load_state_dict(self: Any, state_dict: dict[str, Any]) -> None:
        restore(self, {**state_dict, **_relocated(self, loss)})

    ModelCheckpoint.load_state_dict = load_state_dict


def _relocated(callback: Any, loss: float | None) -> dict[str, Any]:
    """Return what Lightning's callback is to remember, with paths in its own folder."""
    import torch

    name = checkpoints.BEST if callback.monitor else checkpoints.LAST
    here = os.path.join(callback.dirpath, name)  # noqa: PTH118  (Lightning compares text)
    state = {
        "dirpath": callback.dirpath,
        "best_k_models": {},
        "best_model_score": None,
    }
    if not callback.monitor:
        return state | {"best_model_path": here, "last_model_path": ""}
    if loss is None:
        return state | {"best_model_path": "", "kth_best_model_path": ""}
    score = torch.tensor(loss)
    return state | {
        "best_k_models": {here: score},
        "best_model_score": score,
        "kth_value": score,
        "best_model_path": here,
        "kth_best_model_path": here,
        "current_score": score,
    }
