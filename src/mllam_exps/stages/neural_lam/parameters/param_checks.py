"""Checks of the parameter files against the programs that will read them: every key, before anything starts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import (
    CONFIG,
    DATASTORE,
    EVALUATION,
    PARAMS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.parameters import (
    config_checks,
    keys,
    phases,
    split_checks,
)
from mllam_exps.stages.neural_lam.parameters.arguments import Argument, Arguments
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    inputs_of,
    state_features,
)
from mllam_exps.stages.neural_lam.parameters.keys import REQUIRED, VARIABLE_LEADS
from mllam_exps.stages.neural_lam.parameters.params import (
    CHECKPOINT,
    Parameters,
    given,
    leads,
    steps_needed,
    whole,
)

_GRAPH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check(root: Path, parameters: Parameters, arguments: Arguments) -> list[MllamError]:
    """Return every problem of the parameters, and of ``data/config.yaml``, without opening any data.

    `mllam_exps.stages.neural_lam.parameters.dataset_checks.check` is the same for
    ``data/datastore.yaml``.

    Parameters
    ----------
    root : Path
        The repository.
    parameters : Parameters
    arguments : Arguments
        What the installed neural-lam can be told, from
        `mllam_exps.stages.neural_lam.parameters.arguments.known`.
    """
    problems = list(phases.problems(parameters.files[TRAINING]))
    if not problems:
        several = phases.of(parameters.files[TRAINING])
        for index, one in enumerate(parameters.of_phases()):
            own = (index, frozenset(several[index])) if several else None
            checks = _Checks(one, arguments, own)
            checks.params()
            checks.training()
            checks.evaluation()
            checks.graph_fits_model()
            problems += checks.problems
        problems += _best_of_phases(parameters, arguments)
        told = {str(problem): problem for problem in problems}
        problems = list(told.values())
    datastore, config = parameters.files[DATASTORE], parameters.files[CONFIG]
    return [
        *problems,
        *config_checks.check_config(config, datastore, arguments.config),
        *split_checks.check_lengths(datastore, steps_needed(parameters, arguments)),
    ]


def _best_of_phases(parameters: Parameters, arguments: Arguments) -> list[MllamError]:
    """Refuse phases behind which there is no best checkpoint, where that is evaluated."""
    several = [one.training for one in parameters.of_phases()]
    defaults = [arguments.train[key].default for key in ("epochs", "val_interval")]
    numbers = [
        whole(one.get(key), 1) for one in several for key in ("epochs", "val_interval")
    ]
    if min(numbers) < 1 or parameters.checkpoint != "min_val_loss":
        return []
    if not phases.of(parameters.files[TRAINING]):
        return []
    if not phases.lacks_best(several, *defaults):
        return []
    what = "nothing is validated after the last change of loss or ar_steps_eval, or reset of the optimizer"
    why = f"there is no min_val_loss that {EVALUATION} asks for"
    way_out = f"lower val_interval there, or set checkpoint: last in {EVALUATION}"
    return [UsageError(what, f"{TRAINING}: {keys.PHASES}", why, way_out)]


class _Checks:
    """Collects problems; a key found wrong is left out of the checks of several keys together."""

    def __init__(
        self,
        parameters: Parameters,
        arguments: Arguments,
        phase: tuple[int, frozenset[str]] | None = None,
    ) -> None:
        self.parameters = parameters
        self.arguments = arguments
        self.phase = phase
        self.problems: list[MllamError] = []
        self.wrong: set[str] = set()
        devices = Argument(
            "devices", "", "int", default=1
        )  # ours, and not neural-lam's list of device numbers
        self.train_arguments = {**arguments.train, "devices": devices}
        for name in (keys.OPTIMIZER, *keys.OF_A_SCHEDULE):
            kind = "str" if name == keys.OPTIMIZER else "float"
            self.train_arguments[name] = Argument(name, "", kind)

    def refuse(self, file: str, key: str, what: str) -> None:
        where = key
        if self.phase and file == TRAINING and key in self.phase[1]:
            where = f"{keys.PHASES}.{self.phase[0]}.{key}"
        self.problems.append(UsageError(what, f"{file}: {where}"))
        self.wrong.add(key)

    def unknown(
        self, file: str, key: Any, right: Collection[str], prefix: str = ""
    ) -> None:
        self.refuse(file, f"{prefix}{key}", f"unknown key{did_you_mean(key, right)}")

    def value(self, file: str, key: str, argument: Argument, value: Any) -> None:
        """Check one value by its argument's type, choices and our limits."""
        problem = argument.problem(value)
        if not problem and value is not None:
            problem = keys.beyond_limits(argument.name, value)
        if problem:
            self.refuse(file, key, problem)

    def params(self) -> None:
        """Check ``params.yaml``."""
        given = self.parameters.files[PARAMS]
        for key in given:
            if key not in (*REQUIRED, *keys.OPTIONAL):
                self.unknown(PARAMS, key, (*REQUIRED, *keys.OPTIONAL))
        if given.get(keys.RESUME) not in {None, keys.AUTO}:
            what = f"must be {keys.AUTO} or null, not {given[keys.RESUME]!r}"
            self.refuse(PARAMS, keys.RESUME, what)
        if not isinstance(given.get(keys.COLD_START), bool | None):
            what = f"must be true or false, not {given[keys.COLD_START]!r}"
            self.refuse(PARAMS, keys.COLD_START, what)
        for key in REQUIRED:
            if given.get(key) in (None, ""):
                self.refuse(PARAMS, key, "is missing")
            elif key != "graph":
                self.value(PARAMS, key, self.arguments.train[key], given[key])
        if given.get("graph") is not None:
            self.graph(given["graph"])
        self.archives(given.get("archives") or {})

    def graph(self, graph: Any) -> None:
        """Check ``params.yaml``'s ``graph``."""
        right = dict(self.arguments.graph)
        right.pop("config_path", None)
        if not isinstance(graph, Mapping):
            self.refuse(PARAMS, "graph", f"must hold {', '.join(right)}")
            return
        for key, value in graph.items():
            if key in right:
                self.value(PARAMS, f"graph.{key}", right[key], value)
            else:
                self.unknown(PARAMS, key, right, "graph.")
        for key in ("name", "archetype"):
            if graph.get(key) is None:
                self.refuse(PARAMS, f"graph.{key}", "is missing")
        name = graph.get("name")
        if isinstance(name, str) and not _GRAPH_NAME.fullmatch(name):
            what = f"names a folder in data/graph: letters, digits, - _ and . only, not {name!r}"
            self.refuse(PARAMS, "graph.name", what)
        self.levels(graph)

    def levels(self, graph: Mapping[Any, Any]) -> None:
        """Check the levels of the graph against its archetype."""
        archetype = graph.get("archetype")
        factor = whole(graph.get("level_refinement_factor"), 3)
        if archetype == "graphcast" and factor % 2 == 0:
            what = f"must be odd for a graphcast graph, not {factor}"
            self.refuse(PARAMS, "graph.level_refinement_factor", what)
        if archetype == "hierarchical" and graph.get("max_num_levels") == 1:
            what = "a hierarchical graph has two levels or more"
            self.refuse(PARAMS, "graph.max_num_levels", what)

    def archives(self, archives: Any) -> None:
        """Check ``params.yaml``'s ``archives``: a version declared for an input of the dataset."""
        if not isinstance(archives, Mapping):
            what = "must hold lines of `input: version`"
            self.refuse(PARAMS, "archives", what)
            return
        datastore = self.parameters.files[DATASTORE]
        names = [name for name, _ in inputs_of(datastore)]
        for name, version in archives.items():
            if name not in names:
                near = did_you_mean(name, names)
                what = f"{DATASTORE} has no such input{near}"
                self.refuse(PARAMS, f"archives.{name}", what)
            if not isinstance(version, str) or not version:
                # 1.10 would be read as 1.1, and 2025-12-01 as a date.
                what = f'must be text: write it in quotes, "{version}"'
                self.refuse(PARAMS, f"archives.{name}", what)

    def training(self) -> None:
        """Check ``data/training_params.yaml``."""
        misplaced = keys.NOT_IN_TRAINING
        right = [key for key in self.train_arguments if key not in misplaced]
        if self.phase is None:
            right = [*(key for key in right if key != keys.OPTIMIZER), keys.PHASES]
        for key, value in self.parameters.files[TRAINING].items():
            if key in misplaced:
                self.refuse(TRAINING, key, f"does not belong here: {misplaced[key]}")
            elif key not in right:
                self.unknown(TRAINING, key, right)
            elif key not in {VARIABLE_LEADS, keys.PHASES}:
                self.value(TRAINING, key, self.train_arguments[key], value)
        training = self.parameters.training
        self.steps(TRAINING, training, "train_steps_to_log", "ar_steps_train")
        self.watched(TRAINING, training, {"val_rmse"})
        self.wandb(TRAINING)
        self.spread(training)
        self.validation(training)
        self.schedule(training)

    def spread(self, training: Mapping[str, Any]) -> None:
        """Refuse a forecast of the standard deviation that the loss does not see."""
        loss = training.get("loss", self.default("loss"))
        if training.get("output_std") is True and loss not in keys.LOSSES_OF_A_SPREAD:
            # neural-lam 0.7 trains it all the same: mse never sees the forecast
            # standard deviation, and wmse, which divides by it, makes it grow without
            # end.
            losses = " or ".join(keys.LOSSES_OF_A_SPREAD)
            self.refuse(TRAINING, "output_std", f"needs loss: {losses}, not {loss}")

    def validation(self, training: Mapping[str, Any]) -> None:
        """Refuse a first validation after the last epoch, if its checkpoint is the one to evaluate."""
        if self.phase or {"epochs", "val_interval"} & self.wrong:
            return
        epochs = whole(training.get("epochs"), self.default("epochs"))
        interval = whole(training.get("val_interval"), self.default("val_interval"))
        if interval > epochs and self.parameters.checkpoint == "min_val_loss":
            what = f"{interval} lies beyond epochs: {epochs}, so training never writes the checkpoint"
            way_out = f"min_val_loss that {EVALUATION} asks for: lower it, or set checkpoint: last there"
            self.refuse(TRAINING, "val_interval", f"{what} {way_out}")

    def schedule(self, training: Mapping[str, Any]) -> None:
        """Refuse a learning rate that never reaches ``lr``, or does not fall."""
        if {"lr", "epochs", *keys.OF_A_SCHEDULE} & self.wrong:
            return
        epochs = whole(training.get("epochs"), self.default("epochs"))
        if float(training.get(keys.LR_WARMUP) or 0) >= epochs:
            what = f"must be less than epochs: {epochs}"
            self.refuse(TRAINING, keys.LR_WARMUP, what)
        # A number may stand there as text, too.
        peak = float(training.get("lr") or self.default("lr"))
        if float(training.get(keys.LR_FINAL) or 0) > peak:
            self.refuse(TRAINING, keys.LR_FINAL, f"must not lie above lr: {peak}")

    def default(self, key: str) -> Any:
        """Return neural-lam's own value of an argument of training."""
        return self.arguments.train[key].default

    def evaluation(self) -> None:
        """Check ``data/evaluate_params.yaml``, by itself and on top of training's."""
        own = self.parameters.files[EVALUATION]
        right = {"checkpoint": CHECKPOINT}
        right[keys.KEEP_FORECASTS] = Argument(keys.KEEP_FORECASTS, "", "bool")
        for key, argument in self.train_arguments.items():
            if key in keys.EVALUATION_KEYS:
                right[key] = argument
        for key, value in own.items():
            if key not in right:
                self.no_key_of_evaluation(key, right)
            elif key != VARIABLE_LEADS:
                self.value(EVALUATION, key, right[key], value)
        if own.get("eval") is None:
            what = "is missing: say which split to evaluate, val or test"
            self.refuse(EVALUATION, "eval", what)
        merged = self.parameters.evaluation
        metrics = {"test_rmse", "test_mae"}
        if merged.get("output_std") is True:
            metrics.add("test_output_std")
        self.watched(EVALUATION, merged, metrics)
        self.wandb(EVALUATION)

    def no_key_of_evaluation(self, key: str, right: Collection[str]) -> None:
        """Refuse a key of ``data/evaluate_params.yaml``, and say where it belongs."""
        if key in keys.NOT_IN_EVALUATION:
            what = f"does not belong here: {keys.NOT_IN_EVALUATION[key]}"
        elif key in keys.TRAINING_ONLY:
            what = f"says nothing about an evaluation: it stands in {TRAINING}"
        elif key in self.arguments.train:
            what = f"describe the model once, in {TRAINING}"
        else:
            what = f"unknown key{did_you_mean(key, right)}"
        self.refuse(EVALUATION, key, what)

    def steps(self, file: str, values: Mapping[str, Any], key: str, limit: str) -> None:
        """Refuse steps to log that are never made, neural-lam's default ones as well."""
        if {key, limit} & self.wrong:
            return
        steps = values.get(key, self.default(key))
        last = whole(values.get(limit), self.default(limit))
        logged = steps if isinstance(steps, list) else [steps]
        beyond = [str(step) for step in logged if not 1 <= step <= last]
        if not beyond:
            return
        what = f"{', '.join(beyond)} must lie between 1 and {limit}: {last}"
        if self.parameters.files[file].get(key) is not None:
            self.refuse(file, key, what)
        elif key in values:
            self.refuse(file, key, f"{steps} as in {TRAINING}: {what}")
        else:
            self.refuse(file, key, f"not given, so neural-lam's {steps}: {what}")

    def watched(self, file: str, values: Mapping[str, Any], metrics: set[str]) -> None:
        """Check what is logged of validation or evaluation."""
        own = given(self.parameters.files[file])
        # What evaluation only inherits was checked with training's values, unless its
        # rollout is another.
        if file == TRAINING or own.keys() & {"ar_steps_eval", "val_steps_to_log"}:
            self.steps(file, values, "val_steps_to_log", "ar_steps_eval")
        watched = own.get("metrics_watch") or []
        for name in watched if isinstance(watched, list) else [watched]:
            if isinstance(name, str) and name not in metrics:
                known = ", ".join(sorted(metrics))
                what = f"neural-lam would ignore {name}: it knows {known} here"
                self.refuse(file, "metrics_watch", what)
        of_leads = own.keys() & {"ar_steps_eval", VARIABLE_LEADS}
        if of_leads and VARIABLE_LEADS in values:
            self.watched_leads(file, own, values, metrics)

    def watched_leads(
        self,
        file: str,
        own: Mapping[str, Any],
        values: Mapping[str, Any],
        metrics: set[str],
    ) -> None:
        """Check the lead times to log of single variables, of which nothing comes without a metric."""
        problem = self.variable_leads(leads(values[VARIABLE_LEADS]), values)
        unwatched = not own.get("metrics_watch")
        if not problem and unwatched and leads(own.get(VARIABLE_LEADS)):
            known = " or ".join(sorted(metrics))
            problem = f"nothing comes of it without metrics_watch, such as {known}"
        if problem:
            self.refuse(file, VARIABLE_LEADS, problem)

    def wandb(self, file: str) -> None:
        """Refuse a run of Weights & Biases where something else keeps the log."""
        run = self.parameters.files[file].get("wandb_id")
        logger = self.parameters.files[PARAMS].get("logger")
        if run is not None and logger != "wandb":
            what = f"means nothing to {PARAMS}'s logger: {logger}"
            self.refuse(file, "wandb_id", what)

    def variable_leads(
        self, leads: Mapping[Any, Any] | None, values: Mapping[str, Any]
    ) -> str:
        """Say what is wrong with the lead times to log of single variables."""
        example = "must be lines of `number of the state variable: [steps]`, such as 0: [1, 4]"
        if leads is None:
            return example
        last = whole(values.get("ar_steps_eval"), self.default("ar_steps_eval"))
        features = state_features(self.parameters.files[DATASTORE])
        for variable, steps in leads.items():
            if not str(variable).isdecimal() or not isinstance(steps, list):
                return example
            if features is not None and int(variable) >= len(features):
                many = f"{DATASTORE} makes {len(features)}, counted from 0"
                return f"there is no state variable {variable}: {many}"
            if any(not 1 <= whole(step, 0) <= last for step in steps):
                return (
                    f"{variable}: {steps} must lie between 1 and ar_steps_eval: {last}"
                )
        return ""

    def graph_fits_model(self) -> None:
        """Refuse a model that cannot use the graph."""
        graph = self.parameters.files[PARAMS].get("graph")
        archetype = graph.get("archetype") if isinstance(graph, Mapping) else None
        if archetype is None or {"model", "graph.archetype"} & self.wrong:
            return
        model = self.parameters.training.get("model", self.default("model"))
        needs_hierarchy = model in self.arguments.hierarchical
        if needs_hierarchy == (archetype == "hierarchical"):
            return
        kind = "a graph that is not hierarchical"
        if needs_hierarchy:
            kind = "a hierarchical graph"
        what = f"{model} needs {kind}, and {PARAMS} has graph.archetype: {archetype}"
        self.refuse(TRAINING, "model", what)
