"""train: ``saved_models/``, ``metrics/train.json`` and ``plots/loss.csv`` by neural-lam."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import Size, StageContext
from mllam_exps.stages.going_on import Taken
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
from mllam_exps.stages.neural_lam.parameters import keys, phases
from mllam_exps.stages.neural_lam.parameters.params import Parameters
from mllam_exps.stages.neural_lam.training import history

METRICS = TRAIN_METRICS


def run_directory(context: StageContext) -> Path:
    """Return neural-lam's own folder of this training."""
    phase = f"-phase-{context.phase}" if context.phase else ""
    return context.scratch / f"train-{label(context)}{phase}"


def value_of(context: StageContext, key: str) -> int:
    """Return a number that training is told, or neural-lam's own where it is not."""
    from mllam_exps.stages.neural_lam.parameters import arguments

    given = parameters(context).training.get(key)
    return int(arguments.known().train[key].default if given is None else given)


def begun_with(context: StageContext) -> int:
    """Return how many epochs were trained before, by the training that this one goes on from."""
    if context.parent is None or context.weights_only:
        return 0
    last = context.parent / MODELS / checkpoints.LAST
    try:
        found = last.stat()
    except OSError:
        return checkpoints.describe(last).epochs  # which says that it is missing
    return _epochs_of(last, (found.st_ino, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=8)
def _epochs_of(checkpoint: Path, _content: tuple[int, int, int]) -> int:
    """Return how many epochs a checkpoint counts: an attempt asks up to five times, and opens it once."""
    return checkpoints.describe(checkpoint).epochs


def asked_epochs(context: StageContext) -> int:
    """Return how many epochs the checkpoint must count in the end.

    Those of a phase are its own. Else they are counted from the first training's
    beginning on, also where an optimizer was reset in between, and its epochs with it.
    """
    begun = begun_with(context)
    if context.smoke:
        return begun + 1
    own = value_of(context, "epochs")
    if context.phase is not None:
        return begun + own
    return own - history.before(context, begun).shift


def validates_every(context: StageContext) -> int:
    """Return how many epochs lie between validations."""
    return 1 if context.smoke else value_of(context, "val_interval")


def check_losses(  # noqa: PLR0917 - which losses, and what must be there
    losses: list[dict[str, float | None]],
    epochs: int,
    every: int = 1,
    where: str = "",
    first: int = 1,
    shift: int = 0,
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
        The first one, counted from 1: those before are another training's.
    shift : int
        Epochs that are counted here and not by the training itself: before its
        optimizer was reset.

    Raises
    ------
    CheckFailed
        Naming the epoch.
    """
    check_epochs([row["epoch"] for row in losses], range(first, epochs + 1), where)
    for epoch, row in enumerate(losses, start=first):
        check_loss(row, "train", epoch, where)
        if (epoch - shift) % every == 0:
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


class Train(ModelStage):
    """Train Neural-LAM, going on from an earlier attempt where there was one."""

    name = "train"
    recipe = 1
    goes_on = GOES_ON

    def size(self, root: Path, phase: int | None = None) -> Size:
        """Return the nodes and devices of training, or of one phase."""
        given = Parameters(self.parameters(root))
        return size_of((given.in_phase(phase) if phase else given).training)

    def phases(
        self, params: Mapping[str, Mapping[str, Any]]
    ) -> Sequence[Mapping[str, Mapping[str, Any]]]:
        """Return the parameters of each phase that ``data/training_params.yaml`` lists."""
        training = params.get(TRAINING, {})
        found = []
        for number in range(1, len(phases.of(training)) + 1):
            own = phases.in_phase(training, number)
            found.append({**params, TRAINING: self.counting(TRAINING, own)})
        return found

    def in_phase(
        self, files: Mapping[str, Mapping[str, Any]], phase: int
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the files with the training's parameters as they are in a phase."""
        return Parameters(files).in_phase(phase).files

    def of_phase_before(
        self, files: Mapping[str, Mapping[str, Any]], phase: int
    ) -> Taken:
        """Return what ``optimizer`` says; the best checkpoint goes along where the validation losses compare."""
        before, own = (
            Parameters(files).in_phase(number).training for number in (phase - 1, phase)
        )
        is_reset = own.get(keys.OPTIMIZER) == "reset"
        return Taken(is_reset, best=phases.compare(before, own))

    def inputs(self, context: StageContext) -> None:
        """Refuse a missing dataset or graph, and an end that another training has reached."""
        need_dataset(context)
        need_graph(context)
        begun = begun_with(context)
        if begun and begun >= asked_epochs(context):
            reached = history.before(context, begun).epochs
            asked = value_of(context, "epochs")
            what = f"it goes on from {reached} epochs, and {asked} are asked for"
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
        if context.parent is not None:
            ours.append(f"--epochs={asked_epochs(context)}")
        if context.smoke:
            epochs = f"--epochs={asked_epochs(context)}"
            ours += [epochs, "--val_interval=1", "--num_sanity_val_steps=0"]
        training = parameters(context).training
        schedule = {name: training.get(name) for name in keys.OF_A_SCHEDULE}
        if any(schedule.values()):
            schedule["begun"] = begun_with(context)
            ours.append(f"--schedule={json.dumps(schedule)}")
        return [
            "python",
            "-m",
            "mllam_exps.stages.neural_lam.programs.neural_lam",
            "train",
            *given,
            *ours,
        ]

    def finish(self, context: StageContext) -> None:
        """Bring checkpoints, losses and metrics to their places; of phases those of all so far."""
        models = context.work / MODELS
        models.mkdir(parents=True, exist_ok=True)
        for name in (checkpoints.LAST, checkpoints.BEST):
            made = run_directory(context) / "checkpoints" / name
            if made.is_file():
                shutil.copyfile(made, models / name)
        best = models / checkpoints.BEST
        described = checkpoints.describe(best) if best.is_file() else None
        earlier = history.before(context, begun_with(context))
        own = history.read(context.scratch / checkpoints.LOSSES)
        losses = history.joined(earlier, own, context.phase)
        found = history.metrics(losses, described, earlier)
        if context.phase is not None:
            of_phase = history.metrics(losses[len(earlier.losses) :], None)
            of_phase["epochs"] = len(losses) - len(earlier.losses)
            found = history.with_phase(found, of_phase, earlier, context.phase)
        for path in (METRICS, LOSSES):
            (context.work / path).parent.mkdir(parents=True, exist_ok=True)
        (context.work / METRICS).write_text(json.dumps(found, indent=2) + "\n")
        history.write(context.work / LOSSES, losses)

    def check(self, context: StageContext) -> None:
        """Prove the training: as many epochs as asked, finite losses, finite weights."""
        asked, every = asked_epochs(context), validates_every(context)
        earlier = history.before(context, begun_with(context))
        losses = history.read(context.work / LOSSES)[len(earlier.losses) :]
        last, first = asked + earlier.shift, earlier.epochs + 1
        check_losses(losses, last, every, LOSSES, first, earlier.shift)
        checkpoints.check(context.work / MODELS / checkpoints.LAST, epochs=asked)
        if asked // every > earlier.begun // every:
            checkpoints.check(context.work / MODELS / checkpoints.BEST)
        history.check_metrics(json.loads((context.work / METRICS).read_text()))

    def carry(self, earlier: Path, scratch: Path) -> Path | None:
        """Copy the newest whole checkpoint, the best one and the losses so far."""
        return checkpoints.carry(earlier, scratch)

    def checkpoints(self, scratch: Path) -> list[Path]:
        """Return the whole checkpoints from which training could go on, newest first."""
        return checkpoints.find(scratch)


STAGE = Train()
