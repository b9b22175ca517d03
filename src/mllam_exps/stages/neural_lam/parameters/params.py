"""Reads the parameter files, and turns them into arguments of the programs.

Each value that defines a result stands in one file only. Evaluation takes training's values and
overlays its own few; whatever describes the model is therefore refused in
``data/evaluate_params.yaml``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, Problems
from mllam_exps.stages.neural_lam.file_names import (
    EVALUATION,
    FILES,
    PARAMS,
    READ_BY_PROGRAMS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.parameters import phases
from mllam_exps.stages.neural_lam.parameters.arguments import Argument, Arguments
from mllam_exps.stages.neural_lam.parameters.keys import (
    KEEP_FORECASTS,
    ONLY_OURS,
    VARIABLE_LEADS,
)

CHECKPOINT = Argument(
    "checkpoint", "", "str", choices=("min_val_loss", "last"), default="min_val_loss"
)


@dataclass(frozen=True)
class Parameters:
    """The parameter files of one experiment.

    Parameters
    ----------
    files : Mapping
        What each file says, by its path in the repository.
    """

    files: Mapping[str, Mapping[str, Any]]

    @property
    def training(self) -> dict[str, Any]:
        """What training is told; of one in phases what the last one is, unless this is another one."""
        return given(phases.last(self.files[TRAINING]))

    def of_phases(self) -> list[Parameters]:
        """Return the parameters of each phase; of a training without phases these themselves."""
        count = len(phases.of(self.files[TRAINING]))
        return [self.in_phase(number) for number in range(1, count + 1)] or [self]

    def in_phase(self, number: int) -> Parameters:
        """Return the parameters of one phase, counted from 1."""
        training = phases.in_phase(self.files[TRAINING], number)
        return Parameters({**self.files, TRAINING: training})

    @property
    def evaluation(self) -> dict[str, Any]:
        """What evaluation is told: training's values, overlaid by its own."""
        inherited = self.training
        # Training watches val_…, evaluation test_…: no name is good for both. And each
        # logs a run of its own.
        for key in ("metrics_watch", "wandb_id", *ONLY_OURS):
            inherited.pop(key, None)
        return inherited | given(self.files[EVALUATION])

    @property
    def keeps_forecasts(self) -> bool:
        """Whether evaluation keeps the forecasts that it makes."""
        return self.evaluation.get(KEEP_FORECASTS) is True

    @property
    def checkpoint(self) -> str:
        """The checkpoint to evaluate, ``min_val_loss`` or ``last``."""
        return str(self.evaluation.get("checkpoint", CHECKPOINT.default))


def load(root: Path) -> Parameters:
    """Read the parameter files below ``root``.

    Raises
    ------
    Problems
        With each file that is missing or not YAML, and the line.
    """
    files: dict[str, Mapping[str, Any]] = {}
    problems: list[MllamError] = []
    for name in FILES:
        try:
            files[name] = yaml_files.read(
                root / name, name, by_pyyaml=name in READ_BY_PROGRAMS
            )
        except MllamError as problem:
            problems.append(problem)
    if problems:
        raise Problems(problems=problems)
    return Parameters(files)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file gives: a key that is null counts as not given."""
    return {key: value for key, value in values.items() if value is not None}


def training_argv(parameters: Parameters, arguments: Arguments) -> list[str]:
    """Return training's arguments of ``neural_lam.train_model``, less those that the stage sets itself."""
    return _argv(parameters, arguments, parameters.training)


def evaluation_argv(parameters: Parameters, arguments: Arguments) -> list[str]:
    """Return evaluation's arguments: the same model as in training, with ``--eval``."""
    return _argv(parameters, arguments, parameters.evaluation)


def graph_argv(parameters: Parameters, arguments: Arguments) -> list[str]:
    """Return the arguments of ``neural_lam.create_graph_with_wmg``, less ``--config_path``."""
    return _words(parameters.files[PARAMS]["graph"], arguments.graph)


def _argv(
    parameters: Parameters, arguments: Arguments, values: Mapping[str, Any]
) -> list[str]:
    params = parameters.files[PARAMS]
    told = {key: params[key] for key in ("seed", "logger", "logger_project")}
    told["graph"] = params["graph"]["name"]
    told |= values
    # Devices are the scheduler's business: the stage passes what its launcher gives
    # each process.
    for key in ("devices", "checkpoint", KEEP_FORECASTS, *ONLY_OURS):
        told.pop(key, None)
    if steps := leads(told.pop(VARIABLE_LEADS, None)):
        told[VARIABLE_LEADS] = json.dumps(steps)
    return _words(told, arguments.train)


def _words(values: Mapping[str, Any], arguments: Mapping[str, Argument]) -> list[str]:
    words: list[str] = []
    for key, value in values.items():
        words += arguments[key].argv(value)
    return words


def steps_needed(parameters: Parameters, arguments: Arguments) -> dict[str, int]:
    """Return the time steps without which neural-lam finds no sample in a split, by split."""
    evaluation = parameters.evaluation

    def window(values: Mapping[str, Any], key: str) -> int:
        past, future, ahead = (
            whole(values.get(name), arguments.train[name].default)
            for name in ("num_past_forcing_steps", "num_future_forcing_steps", key)
        )
        # As WeatherDataset.__len__ counts, with forcing or without.
        return max(2, past) + ahead + future

    trainings = [one.training for one in parameters.of_phases()]
    needed = {
        "train": max(window(one, "ar_steps_train") for one in trainings),
        "val": max(window(one, "ar_steps_eval") for one in trainings),
        "test": 1,
    }
    split = evaluation.get("eval")
    if split in needed:
        needed[split] = max(needed[split], window(evaluation, "ar_steps_eval"))
    return needed


def leads(value: Any) -> Mapping[Any, Any] | None:
    """Return the lead times to log of single variables, given as a mapping or, as to neural-lam, as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, Mapping) else None


def whole(value: Any, otherwise: int) -> int:
    """Return a whole number as it is, anything else as `otherwise`."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole else otherwise
