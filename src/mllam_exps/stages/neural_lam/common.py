"""What several stages do alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import StageContext

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.params import Parameters


SPEED = {"num_workers"}
"""Parameters that say how fast, not what."""


class NeuralLamParameters:
    """A stage that reads Neural-LAM's parameter files through `mllam_exps.stages.neural_lam.parameters.params`."""

    def counting(self, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave out what changes no number: null, which is as good as nothing there, and how many processes read.

        1.0 is 1: neural-lam's parser makes the number that it wants of either.
        """
        from mllam_exps.stages.neural_lam import file_names

        if file not in {file_names.PARAMS, file_names.TRAINING, file_names.EVALUATION}:
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


class WithoutCheckpoints:
    """A stage that makes its outputs where they belong, and starts from nothing each time."""

    starts_anew = True

    def finish(self, context: StageContext) -> None:
        """Do nothing: the program wrote its outputs itself."""

    def carry(self, earlier: Path, scratch: Path) -> Path | None:
        """Return None: there is nothing to go on from."""
        return None


def parameters(context: StageContext) -> Parameters:
    """Return the parameter files, with their meaning."""
    from mllam_exps.stages.neural_lam.parameters.params import Parameters

    return Parameters(context.params)


def label(context: StageContext) -> str:
    """Return the experiment's name as a part of file names."""
    return re.sub(r"[^\w.-]+", "-", context.experiment) or "workspace"


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
