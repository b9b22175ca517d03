"""train: ``saved_models/``, ``metrics/train.json`` and ``plots/loss.csv`` by neural-lam."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import Size, StageContext
from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.neural_lam.common import (
    ModelStage,
    label,
    need_dataset,
    need_graph,
    parameters,
    size_of,
)
from mllam_exps.stages.neural_lam.file_names import (
    LOSSES,
    MODELS,
    TRAIN_METRICS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.going_on import GOES_ON
from mllam_exps.stages.neural_lam.parameters.params import Parameters

METRICS = TRAIN_METRICS


def run_directory(context: StageContext) -> Path:
    """Return neural-lam's own folder of this training."""
    return context.scratch / f"train-{label(context)}"


def value_of(context: StageContext, key: str) -> int:
    """Return a number that training is told, or neural-lam's own where it is not."""
    from mllam_exps.stages.neural_lam.parameters import arguments

    given = parameters(context).training.get(key)
    return int(arguments.known().train[key].default if given is None else given)


def begun_with(context: StageContext) -> int:
    """Return how many epochs were trained before, by the training that this one goes on from."""
    if context.parent is None or context.weights_only:
        return 0
    return checkpoints.describe(context.parent / MODELS / checkpoints.LAST).epochs


def asked_epochs(context: StageContext) -> int:
    """Return how many epochs must have been trained in the end."""
    return begun_with(context) + 1 if context.smoke else value_of(context, "epochs")


def validates_every(context: StageContext) -> int:
    """Return how many epochs lie between validations."""
    return 1 if context.smoke else value_of(context, "val_interval")


def read_losses(path: Path) -> list[dict[str, float | None]]:
    """Read the losses by epoch that our callback writes; an empty field is an epoch without validation.

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
                for name in checkpoints.COLUMNS
            }
            for row in rows
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CheckFailed(
            "there are no readable losses by epoch", where=str(path), why=why
        ) from error


def check_losses(  # noqa: PLR0917 - which losses, and what must be there
    losses: list[dict[str, float | None]],
    epochs: int,
    every: int = 1,
    where: str = "",
    first: int = 1,
    begun_with: int = 0,
) -> None:
    """Refuse losses that lack an epoch or a validation, or are not finite.

    Parameters
    ----------
    losses : list of dict
        What `read_losses` returned.
    epochs : int
        The last one that there must be.
    every : int
        Epochs between validations.
    first : int
        The first one, counted from 1: the losses of a checkpoint from elsewhere are not
        known.
    begun_with : int
        Epochs that another training did, with validations of its own.

    Raises
    ------
    CheckFailed
        Naming the epoch.
    """
    check_epochs([row["epoch"] for row in losses], range(first, epochs + 1), where)
    for epoch, row in enumerate(losses, start=first):
        check_loss(row, "train", epoch, where)
        if epoch > begun_with and epoch % every == 0:
            check_loss(row, "validation", epoch, where)


def check_epochs(numbers: list[float | None], wanted: range, where: str) -> None:
    """Refuse losses that are not those of each epoch, once, in order.

    Raises
    ------
    CheckFailed
        Naming the first epoch that is missing.
    """
    if numbers == list(wanted):
        return
    missing = [number for number in wanted if number not in numbers]
    what = "the losses are not those of each epoch once"
    if missing:
        what = f"the loss of epoch {missing[0]} is missing"
    why = f"{wanted.stop - 1} epochs were asked for"
    raise CheckFailed(what, where=where, why=why)


def check_loss(
    row: Mapping[str, float | None], name: str, epoch: int, where: str
) -> None:
    """Refuse a loss that is missing, or not finite.

    Raises
    ------
    CheckFailed
        Naming the epoch.
    """
    value = row[name]
    if value is None:
        raise CheckFailed(f"the {name} loss of epoch {epoch} is missing", where=where)
    if not math.isfinite(value):
        what = f"the {name} loss of epoch {epoch} is {value}"
        raise CheckFailed(what, where=where, next=checkpoints.NOT_FINITE)


def metrics(
    losses: list[dict[str, float | None]], best: checkpoints.Checkpoint | None
) -> dict[str, Any]:
    """Return the training's metrics; what there is not is left out, as JSON has no NaN."""
    last = losses[-1] if losses else {}
    found: dict[str, Any] = {
        "epochs": int(last.get("epoch") or 0),
        "train_loss": last.get("train"),
        "val_loss": next(
            (
                row["validation"]
                for row in reversed(losses)
                if row["validation"] is not None
            ),
            None,
        ),
    }
    if best is not None:
        # From the checkpoint itself, as an attempt may have died between writing it and
        # the epoch's line of losses.
        found |= {"best_val_loss": best.best_loss, "best_epoch": best.epochs}
    return {name: value for name, value in found.items() if value is not None}


def check_metrics(found: Mapping[str, Any], where: str = METRICS) -> None:
    """Refuse metrics with a number that is not finite.

    Raises
    ------
    CheckFailed
        Naming the metric.
    """
    for name, value in found.items():
        if not math.isfinite(value):
            raise CheckFailed(
                f"{name} is {value}", where=where, next=checkpoints.NOT_FINITE
            )


class Train(ModelStage):
    """Train Neural-LAM, going on from an earlier attempt where there was one."""

    name = "train"
    recipe = 1
    goes_on = GOES_ON

    def size(self, root: Path) -> Size:
        """Return the nodes and devices of training."""
        return size_of(Parameters(self.parameters(root)).training)

    def inputs(self, context: StageContext) -> None:
        """Refuse a missing dataset or graph, and an end that another training has reached."""
        need_dataset(context)
        need_graph(context)
        begun = begun_with(context)
        if begun and begun >= (asked := asked_epochs(context)):
            what = f"it goes on from {begun} epochs, and {asked} are asked for"
            raise CheckFailed(what, where=f"{TRAINING}: epochs")

    def command(self, context: StageContext) -> list[str]:
        """Return neural-lam's training, in a folder of this attempt's own."""
        from mllam_exps.stages.neural_lam.parameters import arguments, params

        given = params.training_argv(parameters(context), arguments.known())
        ours = [
            f"--tasks_per_node={context.devices}",
            "--config_path=data/config.yaml",
            f"--runs_root={context.scratch}",
            f"--logger_run_name={run_directory(context).name}",
        ]
        if context.resume_from is not None:
            # With --restore_opt the optimiser goes on as well; epochs are counted on in
            # any case.
            ours += [f"--load={context.resume_from}", "--restore_opt"]
        elif context.parent is not None and context.weights_only:
            weights = context.parent / MODELS / checkpoints.LAST
            ours.append(f"--weights={weights}")
        if context.smoke:
            epochs = f"--epochs={asked_epochs(context)}"
            ours += [epochs, "--val_interval=1", "--num_sanity_val_steps=0"]
        return [
            "python",
            "-m",
            "mllam_exps.stages.neural_lam.programs.neural_lam",
            "train",
            *given,
            *ours,
        ]

    def finish(self, context: StageContext) -> None:
        """Bring checkpoints, losses and metrics to their places."""
        models = context.work / MODELS
        models.mkdir(parents=True, exist_ok=True)
        for name in (checkpoints.LAST, checkpoints.BEST):
            made = run_directory(context) / "checkpoints" / name
            if made.is_file():
                shutil.copyfile(made, models / name)
        losses = context.scratch / checkpoints.LOSSES
        best = models / checkpoints.BEST
        found = metrics(
            read_losses(losses), checkpoints.describe(best) if best.is_file() else None
        )
        for path in (METRICS, LOSSES):
            (context.work / path).parent.mkdir(parents=True, exist_ok=True)
        (context.work / METRICS).write_text(json.dumps(found, indent=2) + "\n")
        shutil.copyfile(losses, context.work / LOSSES)

    def check(self, context: StageContext) -> None:
        """Prove the training: as many epochs as asked, finite losses, finite weights."""
        epochs, every, begun = (
            asked_epochs(context),
            validates_every(context),
            begun_with(context),
        )
        losses = read_losses(context.work / LOSSES)
        brings_losses = context.parent is None or (context.parent / LOSSES).is_file()
        first = 1 if brings_losses else begun + 1
        check_losses(losses, epochs, every, LOSSES, first, begun)
        checkpoints.check(context.work / MODELS / checkpoints.LAST, epochs=epochs)
        if epochs // every > begun // every:
            checkpoints.check(context.work / MODELS / checkpoints.BEST)
        check_metrics(json.loads((context.work / METRICS).read_text()))

    def carry(self, earlier: Path, scratch: Path) -> Path | None:
        """Copy the newest whole checkpoint, the best one and the losses so far."""
        return checkpoints.carry(earlier, scratch)

    def checkpoints(self, scratch: Path) -> list[Path]:
        """Return the whole checkpoints from which training could go on, newest first."""
        return checkpoints.find(scratch)


STAGE = Train()
