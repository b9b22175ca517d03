"""What Lightning runs in inference: neural-lam's network, whose forecasts are written, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from mllam_exps.stages.neural_lam.forecasts.captured import Captured
from mllam_exps.stages.neural_lam.forecasts.store import Store, Unit


class OneForecaster(pl.LightningModule):  # type: ignore[misc]  # Lightning is not followed by mypy
    """neural-lam's module, less its scores and pictures.

    Parameters
    ----------
    model : neural_lam.models.module.ForecasterModule
    store : Store
        Where its forecasts go.
    units : deque
        Which forecasts each batch holds, in the order of the batches.
    tell : callable
        Is called after each batch.
    """

    def __init__(
        self,
        model: Any,
        store: Store,
        units: deque[list[Unit]],
        tell: Callable[[], None],
    ) -> None:
        super().__init__()
        self.model = model
        self._captured = Captured(store, model)
        self._units = units
        self._tell = tell

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise, as neural-lam does it."""
        return self.model.on_after_batch_transfer(batch, dataloader_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Forecast, and write."""
        prediction, _, spread, _ = self.model.common_step(batch)
        self._captured.write(self._units.popleft(), prediction, spread)
        self._tell()
