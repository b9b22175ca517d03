"""Checkpoints as Lightning writes them, and one that does harm when it is loaded."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def save(
    path: Path,
    *,
    epochs: int = 3,
    weight: float = 1.0,
    best: float | None = 0.5,
    **more: object,
) -> Path:
    import torch

    monitored = {
        "monitor": "val_mean_loss",
        "best_model_score": None if best is None else torch.tensor(best),
    }
    content = {
        "epoch": epochs - 1,
        "global_step": 10 * epochs,
        "state_dict": {
            "layer.weight": torch.tensor([weight, 1.0]),
            "steps": torch.tensor(3),
        },
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_mean_loss'}": monitored,
            "other": {"monitor": None},
        },
        "hyper_parameters": {"args": argparse.Namespace(model="graph_lam")},
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def lose_a_block(path: Path) -> None:
    """Put zeros in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)
