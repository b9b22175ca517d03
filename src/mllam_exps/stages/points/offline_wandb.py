"""Weights & Biases: one run for all attempts, offline where its server cannot be reached, sent from there later."""

from __future__ import annotations

import contextlib
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mllam_exps.stages import tracking
from mllam_exps.stages.patch import Issue, Patch
from mllam_exps.stages.points import kept

LOGGER = "wandb"
MODE, SERVER, KEY = "WANDB_MODE", "WANDB_BASE_URL", "WANDB_API_KEY"
GROUP = "WANDB_RUN_GROUP"
_SERVER = "https://api.wandb.ai"

PATCH = Patch(
    name="offline_wandb",
    purpose="a training that goes on logs no step to wandb that was logged before it was stopped",
    tried={"pytorch-lightning": ("2.6.6",)},
    spots={"pytorch_lightning.loggers:WandbLogger.log_metrics": "trainer/global_step"},
    until="training goes on from the very step at which it stopped",
    issue=Issue(
        repository="Lightning-AI/pytorch-lightning",
        title="WandbLogger logs the steps again that a resumed training repeats",
        body="""\
A training that is stopped within an epoch, and goes on from the checkpoint at the end of the epoch before,
logs the steps between the two again. With `WandbLogger` and the same run id both values stay.

How it was seen (pytorch-lightning 2.6.6): a training that was killed within an epoch and restarted with
`ckpt_path`.

Proposal: let loggers be told the last step that was logged, and leave out what is not above it.
""",
    ),
)


def variables(
    name: str, environ: Mapping[str, str], group: str = ""
) -> tuple[dict[str, str], str]:
    """Return the variables that make a program go on with one wandb run, and why it is offline, if it has to be.

    Parameters
    ----------
    name : str
        The run's identity, wandb's too.
    environ : mapping
        The program's environment: where its user has set `WANDB_MODE`, or a group, that
        counts.
    group : str
        What the phases of one training have in common; empty of one without phases.
    """
    given = {"WANDB_RUN_ID": name, "WANDB_RESUME": "allow"}
    if group and not environ.get(GROUP):
        given[GROUP] = group
    if environ.get(MODE):
        return given, ""
    why = unreachable(environ) or _without_a_key(environ)
    return (given | {MODE: "offline"} if why else given), why


def unreachable(environ: Mapping[str, str]) -> str:
    """Return why wandb's server cannot be reached; wandb itself (0.31) tries for more than a minute."""
    address = environ.get(SERVER) or _SERVER
    return tracking.reachable(address, server="the wandb server")


def _without_a_key(environ: Mapping[str, str]) -> str:
    """Say that there is no key, where that is so: wandb (0.31) raises."""
    if environ.get(KEY) or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return ""
    host = urlsplit(environ.get(SERVER) or _SERVER).hostname or ""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        place = environ.get("NETRC") or str(Path("~/.netrc").expanduser())
        if netrc.netrc(place).authenticators(host):
            return ""
    return f"there is no key for {host}: wandb login"


def log_steps_once() -> None:
    """Have Lightning's logger leave out what an earlier attempt has logged, and note what it logs.

    Nothing is done where no attempt has named a file of points.
    """
    folder = os.environ.get(kept.VARIABLE)
    if not folder or not PATCH.fits():
        return
    from pytorch_lightning.loggers import WandbLogger

    points = kept.Points(Path(folder))
    log = WandbLogger.log_metrics

    def log_metrics(
        self: Any, metrics: Mapping[str, float], step: int | None = None
    ) -> None:
        after = points.head.after
        if step is not None:
            metrics = {
                k: v for k, v in metrics.items() if step > after.get(k, step - 1)
            }
            points.write([{"key": key, "step": step} for key in metrics])
        if metrics:
            log(self, metrics, step)

    WandbLogger.log_metrics = log_metrics


def folders(place: Path, name: str) -> list[Path]:
    """Return the offline folders of a run that `wandb sync` has not sent yet.

    wandb (0.31) puts ``run-<id>.wandb.synced`` beside what it has sent.
    """
    return sorted(
        folder
        for folder in (place / "wandb").glob(f"offline-run-*-{name}")
        if not (folder / f"run-{name}.wandb.synced").exists()
    )
