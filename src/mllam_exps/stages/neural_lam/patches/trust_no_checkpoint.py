"""A checkpoint never runs code, and neural-lam's own checkpoints load all the same."""

from __future__ import annotations

import os

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="trust_no_checkpoint",
    purpose="a checkpoint that comes from elsewhere runs no code, and neural-lam can load its own",
    tried={"neural-lam": ("0.7.0",), "torch": ("2.13.0",)},
    spots={
        "neural_lam.config": "dataclass",
        "torch.serialization:load": "TORCH_FORCE_WEIGHTS_ONLY_LOAD",
        "torch.serialization:add_safe_globals": "",
    },
    until="neural-lam names its classes to torch itself, and loads with weights_only=True",
    issue=Issue(
        repository="mllam/neural-lam",
        title="No checkpoint can be loaded with torch >= 2.6, and where it can, it may run code",
        body="""\
`--load`, also with `--eval` or `--restore_opt`, ends in `_pickle.UnpicklingError: Weights only load
failed … Unsupported global: neural_lam.config.NeuralLAMConfig` (neural-lam 0.7.0, torch 2.13): the
checkpoints contain the configuration as objects, and Lightning loads with `weights_only=True` as torch
>= 2.6 does by itself. Lightning's own continuation after a requeue by Slurm (`hpc_ckpt_1.ckpt`) ends in
the same way.

`load_forecaster_module_from_checkpoint`, on the other hand, passes `weights_only=False`: it runs
whatever a checkpoint contains, which matters for those that come from colleagues or from the internet.

Proposal: `torch.serialization.add_safe_globals([argparse.Namespace, *the dataclasses of
neural_lam.config])` when `neural_lam` is imported, and `weights_only=True` everywhere. All of these
classes only hold data.
""",
    ),
    needed=True,
)


def set_environment() -> None:
    """Forbid torch, before its import, to run what a checkpoint contains; workers and ranks inherit that."""
    # torch 2.13: overrides even an explicit weights_only=False, as in neural-lam's
    # load_forecaster_module_from_checkpoint.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)


def apply() -> None:
    """Name to torch the classes of plain data that neural-lam's checkpoints contain; it refuses all others."""
    PATCH.fits()
    import argparse

    import torch
    from neural_lam import config

    classes = [
        thing
        for thing in vars(config).values()
        if isinstance(thing, type) and thing.__module__ == config.__name__
    ]
    plain = [thing for thing in classes if hasattr(thing, "__dataclass_fields__")]
    torch.serialization.add_safe_globals([argparse.Namespace, *plain])
