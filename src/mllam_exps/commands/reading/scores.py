"""``mllam-exps scores``: the scores of this workspace's experiment, beside persistence."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import terminal
from mllam_exps.base.errors import UsageError
from mllam_exps.base.terminal import warn
from mllam_exps.dvc.saved import holdings
from mllam_exps.dvc.saved.commits import Checkout
from mllam_exps.machines.workspace import Workspace
from mllam_exps.stages.neural_lam import scores, train
from mllam_exps.stages.neural_lam.evaluate import RESULTS, SCORES

if TYPE_CHECKING:
    from rich.table import Table


def show(*, as_json: bool) -> None:
    """Print the table of scores and the paths of the forecast pictures.

    Raises
    ------
    UsageError
        If there are no scores yet.
    """
    root = Workspace.here().root
    if not (root / SCORES).exists():
        raise UsageError(
            "there are no scores here yet",
            where=SCORES,
            next="dvc exp run, or dvc exp apply EXP",
        )
    if not (root / RESULTS).exists():
        print(
            f"note: these scores came with git; the {RESULTS}/ that they are of is not here (yet)",
            file=sys.stderr,
        )
    if other := _of_others(root):
        told = f"note: these scores are not of the files as they are: {other}"
        warn(f"{told}\n  → dvc exp run, or dvc exp apply EXP")
    pictures = [str(picture.relative_to(root)) for picture in _pictures(root)]
    if as_json:
        found = [
            asdict(score) | {"gain": score.gain}
            for score in scores.read_csv(root / SCORES)
        ]
        print(
            json.dumps(
                {"scores": found, "training": _training(root), "pictures": pictures},
                indent=1,
            )
        )
        return

    console = terminal.console()
    console.print(_table(root))
    if pictures:
        console.print("Forecast pictures:")
        for picture in pictures:
            console.print(f"  {picture}", highlight=False)


def _of_others(root: Path) -> str:
    """Say why the scores are not those of the files as they are; empty where they are."""
    return holdings.left_outputs(Checkout(root)).get(SCORES, "")


def _pictures(root: Path) -> list[Path]:
    """Return the pictures of example forecasts, in order of variable and lead time."""
    return sorted((root / "plots/forecasts").glob("*.png"))


def _training(root: Path) -> Mapping[str, Any]:
    """Return ``metrics/train.json``, empty where there is none."""
    try:
        found = json.loads((root / train.METRICS).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(root: Path) -> Table:
    """Return RMSE by variable and lead time beside persistence.

    Raises
    ------
    CheckFailed
        If there are no scores yet.
    """
    from rich.table import Table

    training = _training(root)
    caption = None
    if "best_epoch" in training and "best_val_loss" in training:
        best, epochs = training["best_epoch"], training.get("epochs")
        caption = f"best of {epochs} epochs: {best}, validation loss {training['best_val_loss']:.4g}"
    drawn = Table(title="RMSE beside persistence", caption=caption)
    for heading in ("variable", "lead", "RMSE", "persistence", "gain"):
        drawn.add_column(heading, justify="left" if heading == "variable" else "right")
    previous = ""
    for score in scores.read_csv(root / SCORES):
        if previous and score.variable != previous:
            drawn.add_section()
        name = f"{score.variable} ({score.units})" if score.variable != previous else ""
        previous = score.variable
        style = "green" if score.gain > 0 else "red"
        gain = f"[{style}]{100 * score.gain:+.1f} %[/{style}]"
        drawn.add_row(
            name,
            f"{score.lead_hours:g} h",
            f"{score.rmse:.4g}",
            f"{score.persistence_rmse:.4g}",
            gain,
        )
    return drawn
