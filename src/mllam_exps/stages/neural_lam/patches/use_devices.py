"""Lightning is given the number of devices on each node."""

from __future__ import annotations

import functools
from typing import Any

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="use_devices",
    purpose="a training runs on as many devices as its parameters say",
    tried={"neural-lam": ("0.7.0",), "pytorch-lightning": ("2.6.6",)},
    spots={"pytorch_lightning:Trainer.__init__": "devices"},
    until="`--devices` takes a number",
    issue=Issue(
        repository="mllam/neural-lam",
        title="Let `--devices` be a number of devices, as Lightning's is",
        body="""\
`--devices` takes `auto`, which is every GPU that the process can see, or a list of GPU numbers, which a
CPU does not have and which cannot be used under Slurm (0.7.0, as its help says). Lightning itself takes
a number, which is right for both, and which it compares with the tasks on a node under Slurm: a mistake
is refused at once.

Proposal: one integer means that many devices: `--devices 4`. For the GPU with the number 0 alone stays
`--devices 0 `, or, without ambiguity, a new option `--num_devices`.
""",
    ),
    needed=True,
)


def apply(count: int) -> None:
    """Give Lightning the number of devices on each node, whatever neural-lam passes."""
    PATCH.fits()
    import pytorch_lightning as pl

    initialise = pl.Trainer.__init__

    @functools.wraps(initialise)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        initialise(self, *args, **{**kwargs, "devices": count})

    pl.Trainer.__init__ = __init__
