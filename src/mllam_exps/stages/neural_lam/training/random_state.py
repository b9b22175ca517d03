"""The random state of a training, in each of its checkpoints: a training that goes on draws what it would have drawn.

Lightning (2.6 seen) keeps weights, optimisers and counters in a checkpoint, and no
state of a random generator: a training that goes on draws another order of samples,
and other numbers in a network that draws some. Beside the state, the iterators must be
made where a training that never stopped makes them; for that there is a patch,
`mllam_exps.stages.neural_lam.patches.draw_as_if_never_stopped`. Within an epoch, the
order of its samples is drawn once more, and those that are done are passed over.

Not known here is what a dataset draws in worker processes of its own, which begin anew
(neural-lam's draws nothing).
"""

from __future__ import annotations

import os
import random
from typing import Any

from pytorch_lightning.callbacks import Callback

KEY = "mllam_exps_random_state"
"""Its place in a checkpoint: plain data, which who does not know it passes over."""
SEED = "PL_GLOBAL_SEED"
"""Where Lightning (2.6) keeps the seed that it was told."""


class RandomState(Callback):  # type: ignore[misc]  # Lightning is not followed by mypy
    """Keep the random state in each checkpoint, and take it up at the first epoch that begins after one was loaded.

    Attributes
    ----------
    validated : bool
        Whether this training has validated, now or before the checkpoint.
    goes_on : bool
        Whether a random state was loaded.
    """

    def __init__(self) -> None:
        self.validated = False
        self.goes_on = False
        self._loaded: dict[str, Any] | None = None
        self._epoch_began: dict[str, Any] | None = None

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """Remember it: the workers of the validation, if it has some, are there from now on."""
        self.validated = True

    def on_save_checkpoint(
        self, trainer: Any, module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all ranks. Lightning asks every rank, and rank zero alone writes."""
        device = trainer.strategy.root_device
        checkpoint[KEY] = {
            "seed": os.environ.get(SEED),
            "ranks": _of_all_ranks(trainer, _get(device)),
            "epoch_began": _of_all_ranks(trainer, self._epoch_began),
            "validated": self.validated,
        }

    def on_load_checkpoint(
        self, trainer: Any, module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the state of this rank until an epoch begins."""
        if trainer.state.fn != "fit":
            return
        kept = checkpoint.get(KEY) or {"ranks": [], "validated": False}
        found = len(kept["ranks"])
        if kept.get("seed") not in {None, os.environ.get(SEED)}:
            if trainer.is_global_zero:
                print(
                    f"the seed was {kept['seed']}: from here on another one draws",
                    flush=True,
                )
            return
        if found != trainer.world_size:
            if trainer.is_global_zero:
                what = (
                    f"of {found} processes, and not of {trainer.world_size}"
                    if found
                    else "of none"
                )
                print(
                    f"note: the checkpoint holds the random state {what}: samples come in another order than if "
                    "the training had not been stopped",
                    flush=True,
                )
            return
        self.validated = kept["validated"]
        self.goes_on = True
        self._loaded = kept["ranks"][trainer.global_rank]
        began = kept.get("epoch_began") or [None] * found
        self._epoch_began = began[trainer.global_rank]

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Go on drawing where the checkpoint was saved."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            _set(loaded, trainer.strategy.root_device)

    def note_begin_of_samples(self, trainer: Any) -> None:
        """Remember the state from which an epoch's order of samples is drawn: just before its iterator is made."""
        self._epoch_began = _get(trainer.strategy.root_device)

    def go_on_within_epoch(self, trainer: Any, fetcher: Any, done: int) -> None:
        """Draw the order of an epoch's samples once more, pass over those that are done, and go on drawing from there.

        Parameters
        ----------
        fetcher
            Lightning's, of the epoch's batches.
        done : int
            Batches that were done when the checkpoint was saved.
        """
        loaded, self._loaded = self._loaded, None
        if loaded is None or self._epoch_began is None:
            return
        device = trainer.strategy.root_device
        _set(self._epoch_began, device)
        # Lightning (2.6) makes the first epoch's iterator before it begins.
        if trainer.current_epoch > 0:
            iter(fetcher)
        for _ in range(done):
            next(fetcher.iterator)
        _set(loaded, device)


def _of_all_ranks(trainer: Any, own: Any) -> list[Any]:
    import torch

    if trainer.world_size == 1:
        return [own]
    states: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(states, own)
    return states


def _get(device: Any) -> dict[str, Any]:
    """Return the random state of this process as plain data, which torch loads without running code."""
    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    found = {
        "torch": torch.get_rng_state(),
        "python": (version, torch.tensor(words), gauss),
        "numpy": (
            torch.from_numpy(state["state"]["key"].astype("int64")),
            state["state"]["pos"],
            state["has_gauss"],
            state["gauss"],
        ),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _set(state: dict[str, Any], device: Any) -> None:
    import numpy as np
    import torch

    torch.set_rng_state(state["torch"].cpu())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    key, *rest = state["numpy"]
    np.random.set_state(("MT19937", key.cpu().numpy().astype("uint32"), *rest))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
