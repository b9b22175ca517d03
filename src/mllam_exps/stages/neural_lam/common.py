"""What several stages do alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import (
    Preflight,
    Size,
    Stage,
    StageContext,
    Tracking,
)
from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.neural_lam.file_names import (
    CONFIG,
    DATASET,
    DATASTORE,
    EVALUATION,
    PARAMS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.preflight import PREFLIGHT

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.params import Parameters


SPEED = {"num_workers"}
"""Parameters that say how fast, not what."""


class NeuralLamStage(Stage):
    """A stage that reads Neural-LAM's parameter files through `mllam_exps.stages.neural_lam.parameters.params`."""

    preflight: Preflight = PREFLIGHT

    def counting(self, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave out what changes no number: null, which is as good as nothing there, and how many processes read.

        1.0 is 1: neural-lam's parser makes the number that it wants of either.
        """
        if file not in {PARAMS, TRAINING, EVALUATION}:
            return values
        counts = {
            name: value
            for name, value in values.items()
            if value is not None and name not in SPEED
        }
        return {
            name: int(value)
            if isinstance(value, float) and value.is_integer()
            else value
            for name, value in counts.items()
        }

    def parameters(self, root: Path) -> Mapping[str, Mapping[str, Any]]:
        """Return all five parameter files."""
        from mllam_exps.stages.neural_lam.parameters import params

        return params.load(root).files


class ModelStage(NeuralLamStage):
    """A stage in which neural-lam's own program works with the network: training, and evaluation."""

    shortened_by_smoke = True

    def tracking(self, root: Path) -> Tracking:
        """Return where ``params.yaml`` says that it logs."""
        return tracking_of(self.parameters(root))


def size_of(values: Mapping[str, Any]) -> Size:
    """Return the nodes and devices that training or evaluation is told."""
    return Size(int(values.get("num_nodes", 1)), int(values.get("devices", 1)))


def tracking_of(files: Mapping[str, Mapping[str, Any]]) -> Tracking:
    """Return where a program logs, as ``params.yaml`` says.

    Parameters
    ----------
    files : mapping
        From `NeuralLamStage.parameters`.
    """
    from mllam_exps.stages.tracking import PROJECT

    given = files[PARAMS]
    project = str(given.get("logger_project") or PROJECT)
    return Tracking(str(given.get("logger")), project, needed=False, kept=True)


def parameters(context: StageContext) -> Parameters:
    """Return the parameter files, with their meaning."""
    from mllam_exps.stages.neural_lam.parameters.params import Parameters

    return Parameters(context.params)


def label(context: StageContext) -> str:
    """Return the experiment's name as a part of file names."""
    return re.sub(r"[^\w.-]+", "-", context.experiment) or "workspace"


def need_dataset(context: StageContext) -> None:
    """Refuse a missing dataset, or what describes it.

    Raises
    ------
    CheckFailed
        With the command that makes it.
    """
    need(context, CONFIG)
    need(context, DATASTORE)
    need(context, DATASET, made_by="prepare_dataset")


def need_graph(context: StageContext) -> None:
    """Refuse a missing graph: the one that the parameters name.

    Raises
    ------
    CheckFailed
        With the command that makes it.
    """
    name = context.params[PARAMS]["graph"]["name"]
    need(context, f"data/graph/{name}", made_by="create_graph")


def need_checkpoint(context: StageContext, path: str) -> None:
    """Refuse a trained checkpoint that is missing, cut off or damaged.

    Raises
    ------
    CheckFailed
        With the command that makes it, or finds what is wrong with it.
    """
    place = need(context, path, made_by="train")
    if not checkpoints.whole(place):
        what = "the checkpoint is cut off or no checkpoint"
        raise CheckFailed(what, where=path, next="dvc checkout")
    if not checkpoints.intact(place):
        raise CheckFailed(checkpoints.DAMAGED, where=path, next="mllam-exps verify")


def need(context: StageContext, path: str, made_by: str = "") -> Path:
    """Return the place of an input, refusing a missing one.

    neural-lam 0.7.0 makes a missing dataset by itself, in every process at once: it
    must not come to that.

    Parameters
    ----------
    path : str
        As in ``dvc.yaml``.
    made_by : str
        The stage that makes it; none for a file of the experiment's own.

    Raises
    ------
    CheckFailed
        With the command that makes it.
    """
    place = context.work / path
    if not place.exists():
        makes = f"dvc repro {made_by}" if made_by else f"git checkout -- {path}"
        raise CheckFailed("the input is missing", where=path, next=makes)
    return place
