"""The losses and the metrics of a training, with those of what it goes on from: one story, its epochs counted on."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, NotFinite
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam.checkpoints import COLUMNS, NOT_FINITE, Checkpoint
from mllam_exps.stages.neural_lam.file_names import LOSSES, TRAIN_METRICS

Losses = list[dict[str, float | None]]
"""By epoch: its number, its training loss, its validation loss if it had one; ``phase`` where there are phases."""
PHASE = "phase"


@dataclass(frozen=True)
class Before:
    """What was trained before, as the files of that training say.

    Parameters
    ----------
    begun : int
        Epochs that the checkpoint counts which this training goes on from.
    losses : list of dict
        Of all epochs so far; those of a checkpoint from elsewhere are not known.
    metrics : mapping
    """

    begun: int
    losses: Losses
    metrics: Mapping[str, Any]

    @property
    def epochs(self) -> int:
        """All epochs so far: more than the checkpoint counts where an optimizer was reset in between."""
        return int(self.losses[-1]["epoch"] or 0) if self.losses else self.begun

    @property
    def shift(self) -> int:
        """What the checkpoint counts less."""
        return self.epochs - self.begun


NOTHING = Before(0, [], {})


def before(context: StageContext, begun: int) -> Before:
    """Return what was trained before; weights alone bring no history along, but to the next phase.

    Phases are counted as the training's own list has them: another training's epochs
    are in none.
    """
    is_phase = context.phase is not None and context.phase > 1
    if context.parent is None or (context.weights_only and not is_phase):
        return NOTHING
    losses, metrics = context.parent / LOSSES, context.parent / TRAIN_METRICS
    known = read(losses) if losses.is_file() else []
    if is_phase:
        told = json.loads(metrics.read_text()) if metrics.is_file() else {}
        return Before(begun, known, told)
    for row in known:
        row.pop(PHASE, None)
    return Before(begun, known, {})


def read(path: Path) -> Losses:
    """Read the losses by epoch; an empty field is an epoch without validation.

    Raises
    ------
    CheckFailed
        If there is no such file, or something else in it.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            {
                name: float(row[name]) if row[name] else None
                for name in (*COLUMNS, *([PHASE] if PHASE in row else []))
            }
            for row in rows
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CheckFailed(
            "there are no readable losses by epoch", where=str(path), why=why
        ) from error


def write(path: Path, losses: Losses) -> None:
    """Write losses by epoch, with a column for the phase where there are phases."""
    names = [*COLUMNS, *([PHASE] if any(PHASE in row for row in losses) else [])]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in losses:
            whole = {name: row.get(name) for name in names}
            for name in ("epoch", PHASE):
                if whole.get(name) is not None:
                    whole[name] = int(whole[name] or 0)
            writer.writerow(
                {n: "" if value is None else repr(value) for n, value in whole.items()}
            )


def joined(earlier: Before, own: Losses, phase: int | None) -> Losses:
    """Return the losses so far, and behind them a training's own, counted on.

    Parameters
    ----------
    own : list of dict
        As Lightning counts its epochs: those up to `Before.begun` were trained before.
    """
    found = [*earlier.losses]
    for row in own:
        number = int(row["epoch"] or 0)
        if number > earlier.begun:
            found.append({**row, "epoch": float(number + earlier.shift)})
            if phase is not None:
                found[-1][PHASE] = float(phase)
    return found


def metrics(
    losses: Losses, best: Checkpoint | None, earlier: Before = NOTHING
) -> dict[str, Any]:
    """Return the training's metrics; what there is not is left out, as JSON has no NaN."""
    last = losses[-1] if losses else {}
    validated = [row["validation"] for row in losses if row["validation"] is not None]
    found: dict[str, Any] = {
        "epochs": int(last.get("epoch") or 0),
        "train_loss": last.get("train"),
        "val_loss": validated[-1] if validated else None,
    }
    if best is not None:
        # From the checkpoint itself, as an attempt may have died between writing it and
        # the epoch's line of losses.
        shift = earlier.shift if best.epochs > earlier.begun else 0
        found |= {"best_val_loss": best.best_loss, "best_epoch": best.epochs + shift}
    return {name: value for name, value in found.items() if value is not None}


def with_phase(
    whole: Mapping[str, Any], own: Mapping[str, Any], earlier: Before, phase: int
) -> dict[str, Any]:
    """Return the metrics with those of each phase so far, by its number."""
    of_phases = {**earlier.metrics.get("phases", {}), str(phase): dict(own)}
    return {**whole, "phases": of_phases}


def check_metrics(found: Mapping[str, Any], where: str = TRAIN_METRICS) -> None:
    """Refuse metrics with a number that is not finite.

    Raises
    ------
    CheckFailed
        Naming the metric.
    """
    for name, value in found.items():
        if isinstance(value, Mapping):
            check_metrics(value, f"{where}: {name}")
        elif not math.isfinite(value):
            raise NotFinite(f"{name} is {value}", where=where, next=NOT_FINITE)
