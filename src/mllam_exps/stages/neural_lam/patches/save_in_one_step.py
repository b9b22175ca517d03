"""Lightning replaces a checkpoint in one step: a killed save leaves the one before it, whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="save_in_one_step",
    purpose="a save that is killed leaves the checkpoint before it, whole",
    tried={"pytorch-lightning": ("2.6.6",), "torch": ("2.13.0",)},
    spots={
        "lightning_fabric.plugins.io:TorchCheckpointIO.save_checkpoint": "_atomic_save"
    },
    until="Lightning writes its temporary file beside the checkpoint",
    issue=Issue(
        repository="Lightning-AI/pytorch-lightning",
        title="`_atomic_save` is not atomic where the temporary folder is on another file system",
        body="""\
`lightning_fabric.utilities.cloud_io._atomic_save` saves within fsspec's transaction, to "avoid file
corruption if the save gets interrupted". For local files fsspec writes to `tempfile.mkstemp()` in the
temporary folder and moves the file. Where `/tmp` is another file system, as on the compute nodes of
most clusters, `shutil.move` copies onto the old checkpoint: a process that is killed meanwhile (time
limit, pre-emption, no memory left) leaves half a checkpoint, and the one before it is gone.

How to see it (2.6.6): save a large checkpoint twice, with `TMPDIR` on another file system, and SIGKILL
the process in the second save, while it is moved: the file does not load any more.

Proposal: for local paths, write to a temporary file in the checkpoint's own folder, flush and fsync it,
and `os.replace`.
""",
    ),
)


def apply() -> None:
    """Write each checkpoint beside its place, and rename it."""
    if not PATCH.fits():
        return
    import torch
    from lightning_fabric.plugins.io import TorchCheckpointIO

    def save_checkpoint(
        self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    TorchCheckpointIO.save_checkpoint = save_checkpoint
