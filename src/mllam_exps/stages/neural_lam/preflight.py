"""What is looked at before any of Neural-LAM's stages is run: their parameter files, all of them at once."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages.neural_lam.file_names import (
    DATASTORE,
    EVALUATION,
    FILES,
    KEPT_FORECASTS,
    PARAMS,
)
from mllam_exps.stages.neural_lam.parameters.datastore_file import section
from mllam_exps.stages.neural_lam.parameters.keys import KEEP_FORECASTS
from mllam_exps.stages.preflight import Ask, Preflight

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.arguments import Arguments


class NeuralLamPreflight(Preflight):
    """Looks at ``params.yaml`` and the files in ``data/``, each key of them, and at the archives that they name."""

    files = FILES
    programs = ("mllam-data-prep", "neural-lam", "torch", "weather-model-graphs")
    names_archives = (PARAMS, DATASTORE)

    def __init__(self) -> None:
        self._good_projections: set[str] = set()

    def check_parameters(self, root: Path, python: Path) -> Iterable[MllamError]:
        """Check every key of every parameter file against the programs that will read them."""
        from mllam_exps.stages.neural_lam.data import named_paths
        from mllam_exps.stages.neural_lam.parameters import (
            dataset_checks,
            param_checks,
            params,
        )

        parameters = params.load(root)
        return (
            *_undeclared(root, parameters.keeps_forecasts),
            *param_checks.check(root, parameters, _arguments(python)),
            *dataset_checks.check(parameters),
            *named_paths.check(parameters.files[DATASTORE]),
        )

    def check_in_environment(self, root: Path, ask: Ask) -> None:
        """Refuse a projection that cartopy does not make: neural-lam finds out after the training, in evaluation.

        Raises
        ------
        UsageError
            With the key, and cartopy's own words.
        """
        from mllam_exps.stages.neural_lam.parameters import params

        extra = params.load(root).files[DATASTORE].get("extra") or {}
        projection = json.dumps(extra.get("projection"), default=str)
        if projection in self._good_projections:
            return  # the experiments of a sweep share theirs
        answer = ask("mllam_exps.stages.neural_lam.data.projection_check", projection)
        if isinstance(answer, str):
            raise UsageError(answer, f"{DATASTORE}: extra.projection")
        if answer:
            raise UsageError(
                answer["what"], f"{DATASTORE}: extra.projection{answer['key']}"
            )
        self._good_projections.add(projection)

    def modules(self, root: Path) -> list[str]:
        """Return the modules whose functions derive variables, and which neither mllam-data-prep nor `root` has."""
        from mllam_exps.stages.neural_lam.data import archives
        from mllam_exps.stages.neural_lam.parameters import params

        return archives.modules(params.load(root).files[DATASTORE], root)

    def archives(
        self, root: Path, *, remembered: bool = False
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return the identity of the source archives that the dataset's configuration names."""
        from mllam_exps.stages.neural_lam.data import archives
        from mllam_exps.stages.neural_lam.parameters import params

        files = params.load(root).files
        return archives.identities(
            files[DATASTORE],
            files[PARAMS].get("archives") or {},
            archives.last_known(root) if remembered else None,
        )


def _undeclared(root: Path, keeps: bool) -> Iterator[MllamError]:
    """Refuse forecasts that evaluation keeps and ``dvc.yaml`` does not name, and the other way round."""
    try:
        pipeline = yaml_files.read(root / "dvc.yaml", by_pyyaml=True)
    except MllamError:
        return  # DVC tells of it better
    stage = section(section(pipeline, "stages"), "evaluate")
    entry = section(stage, "do") or stage
    if not entry:
        return
    outs = entry.get("outs") or []
    names = {next(iter(out)) if isinstance(out, dict) else out for out in outs}
    if keeps == (KEPT_FORECASTS in names):
        return
    where = f"{EVALUATION}: {KEEP_FORECASTS}"
    what = f"dvc.yaml does not name {KEPT_FORECASTS} among the outs of evaluate"
    next_ = f"write `- {KEPT_FORECASTS}` below its outs"
    if not keeps:
        what = (
            f"must be true: dvc.yaml names {KEPT_FORECASTS} among the outs of evaluate"
        )
        next_ = "set it, or take that line out of dvc.yaml"
    yield UsageError(what, where, next=next_)


PREFLIGHT = NeuralLamPreflight()


@functools.cache
def _arguments(python: Path) -> Arguments:
    """Return what the neural-lam of an environment can be told: a sweep asks for it a hundred times."""
    from mllam_exps.stages.neural_lam.parameters import arguments

    return arguments.known(python)
