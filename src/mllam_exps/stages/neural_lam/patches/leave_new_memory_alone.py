"""torch does not fill new memory when it is told to be deterministic: a seventh of the example's step."""

from __future__ import annotations

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="leave_new_memory_alone",
    purpose="no time is spent on filling memory that is written to at once",
    tried={"torch": ("2.13.0",)},
    spots={"torch.utils.deterministic": "fill_uninitialized_memory"},
    until="neural-lam sets it, or lets its users choose `deterministic`",
    issue=Issue(
        repository="mllam/neural-lam",
        title="`deterministic=True` fills all new memory with NaN: 15 % of a step on a CPU",
        body="""\
`train_model.py` passes `deterministic=True` to Lightning's Trainer. torch then also fills all memory
that it allocates with NaN (`torch.utils.deterministic.fill_uninitialized_memory`, true by default),
which is meant to show reads of memory before it is written to. On a grid of 100 x 88 points that is 15
% of a training step on a CPU (torch 2.13), and the results are the same to the bit without it.

Proposal: `torch.utils.deterministic.fill_uninitialized_memory = False` beside the Trainer.
""",
    ),
)


def apply() -> None:
    """Spare the filling of every new tensor. Results are the same to the bit."""
    if not PATCH.fits():
        return
    import torch

    torch.utils.deterministic.fill_uninitialized_memory = False
