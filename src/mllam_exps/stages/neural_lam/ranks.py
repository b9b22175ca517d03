"""Which of the processes of one training this is."""

from __future__ import annotations


def is_first_process() -> bool:
    """Tell whether this is rank 0; Lightning knows it by Slurm's or its own variables, before any Trainer."""
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", None) or 0) == 0
