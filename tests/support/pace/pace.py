"""A training takes its time over each batch, as long as a file says: a test can slow it down and let it go.

It computes nothing, and draws nothing: the weights are those of a training without it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

PACE = "TEST_PACE"
"""The variable that names the file with the seconds for a batch."""


class Pace(Callback):
    """Wait before each batch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_start(self, *_: Any) -> None:
        """Wait, looking at the file meanwhile."""
        began = time.monotonic()
        while time.monotonic() - began < float(self.path.read_text()):
            time.sleep(0.1)


def factory() -> list[Callback]:
    """Return the callback; none where no file is named."""
    path = os.environ.get(PACE)
    return [Pace(Path(path))] if path else []
