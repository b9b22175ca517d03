"""prepare_dataset: ``data/datastore.zarr`` by mllam-data-prep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import Stage, StageContext
from mllam_exps.stages.neural_lam.common import (
    NeuralLamParameters,
    WithoutCheckpoints,
    need,
)
from mllam_exps.stages.neural_lam.data import zarr_check
from mllam_exps.stages.neural_lam.data.named_paths import is_remote
from mllam_exps.stages.neural_lam.file_names import DATASTORE

DATASET = "data/datastore.zarr"


def sources(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the source data, as the configuration has them."""
    inputs = config.get("inputs") or {}
    for name in sorted(inputs):
        path = (inputs[name] or {}).get("path")
        if isinstance(path, str):
            yield path


class PrepareDataset(NeuralLamParameters, WithoutCheckpoints):
    """Select, derive, split and normalise the weather."""

    name = "prepare_dataset"
    recipe = 1

    def inputs(self, context: StageContext) -> None:
        """Refuse a missing source; those that are no local files are the program's to find."""
        need(context, DATASTORE)
        for path in sources(context.params[DATASTORE]):
            if not is_remote(path) and not (context.work / path).exists():
                raise CheckFailed(
                    "the source data are missing",
                    where=path,
                    why=f"{DATASTORE} names them",
                    next="dvc checkout",
                )

    def command(self, context: StageContext) -> list[str]:
        """Return mllam-data-prep, within the allocation."""
        track = (
            ["--track"]
            if context.params["params.yaml"].get("logger") == "mlflow"
            else []
        )
        program = "mllam_exps.stages.neural_lam.programs.mllam_data_prep"
        return ["python", "-m", program, DATASTORE, "-o", DATASET, *track]

    def check(self, context: StageContext) -> None:
        """Prove the dataset: no holes, all splits, all times, usable statistics."""
        zarr_check.check_dataset(context.work / DATASET, context.params[DATASTORE])


STAGE: Stage = PrepareDataset()
