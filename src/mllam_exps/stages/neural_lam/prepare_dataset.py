"""prepare_dataset: ``data/datastore.zarr`` by mllam-data-prep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, MllamError, Problems, UsageError
from mllam_exps.identity.definition import Input
from mllam_exps.stages.contract import StageContext, Tracking
from mllam_exps.stages.neural_lam.common import NeuralLamStage, need, tracking_of
from mllam_exps.stages.neural_lam.data import zarr_check
from mllam_exps.stages.neural_lam.data.named_paths import is_remote
from mllam_exps.stages.neural_lam.file_names import DATASET, DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import inputs_of
from mllam_exps.stages.preflight import Ask


class PrepareDataset(NeuralLamStage):
    """Select, derive, split and normalise the weather."""

    name = "prepare_dataset"
    recipe = 1

    def tracking(self, root: Path) -> Tracking:
        """Return where ``params.yaml`` says that it logs; a dataset is as good without."""
        return tracking_of(self.parameters(root))

    def check_sources(
        self, root: Path, origin: Path, inputs: Iterable[Input], ask: Ask
    ) -> list[str]:
        """Look into the source archives of the dataset.

        Raises
        ------
        Problems
            With one line for each thing that is wrong.
        """
        inputs = list(inputs)
        known: dict[str, Any] = {
            "origin": str(origin),
            "deps": [source.path for source in inputs],
            "made": [source.path for source in inputs if source.run],
            "added": [s.path for s in inputs if s.tracked and not s.run],
        }
        module = "mllam_exps.stages.neural_lam.data.source_checks"
        answer = ask(module, str(root), json.dumps(known))
        if isinstance(answer, str):
            what = "the source archives do not give what it asks for"
            raise UsageError(what, DATASTORE, answer)
        problems: list[MllamError] = [UsageError(**one) for one in answer["problems"]]
        if problems:
            raise Problems(problems=problems)
        notes: list[str] = answer["notes"]
        return notes

    def inputs(self, context: StageContext) -> None:
        """Refuse a missing source; those that are no local files are the program's to find."""
        need(context, DATASTORE)
        for _, source in inputs_of(context.params[DATASTORE]):
            path = source.get("path")
            if not isinstance(path, str) or is_remote(path):
                continue
            if not (context.work / path).exists():
                raise CheckFailed(
                    "the source data are missing",
                    where=path,
                    why=f"{DATASTORE} names them",
                    next="dvc checkout",
                )

    def command(self, context: StageContext) -> list[str]:
        """Return mllam-data-prep, within the allocation."""
        program = "mllam_exps.stages.neural_lam.programs.mllam_data_prep"
        command = ["python", "-m", program, DATASTORE, "-o", DATASET]
        if context.params["params.yaml"].get("logger") == "mlflow":
            command.append("--track")
        return command

    def check(self, context: StageContext) -> None:
        """Prove the dataset: no holes, all splits, all times, usable statistics."""
        zarr_check.check_dataset(context.work / DATASET, context.params[DATASTORE])


STAGE = PrepareDataset()
