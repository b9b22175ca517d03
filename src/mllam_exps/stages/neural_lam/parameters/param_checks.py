"""Checks of the parameter files against the programs that will read them: every key, before anything starts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.spelling import did_you_mean
from mllam_exps.stages.neural_lam.file_names import (
    CONFIG,
    DATASTORE,
    EVALUATION,
    PARAMS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.parameters import config_checks, split_checks
from mllam_exps.stages.neural_lam.parameters.arguments import Argument, Arguments
from mllam_exps.stages.neural_lam.parameters.datastore_file import state_features
from mllam_exps.stages.neural_lam.parameters.params import (
    CHECKPOINT,
    VARIABLE_LEADS,
    Parameters,
    leads,
    steps_needed,
    whole,
)

_REQUIRED = ("logger", "logger_project", "seed", "graph")

# Arguments of neural-lam that no parameter file gives in this place, and why.
_IN_PARAMS = {
    **dict.fromkeys(("seed", "logger", "logger_project"), f"stands in {PARAMS}"),
    "graph": f"stands in {PARAMS}, as graph.name",
}
_OURS = {
    "config_path": f"mllam-exps always passes {CONFIG}",
    "load": f"mllam-exps finds the checkpoint: say which one in {EVALUATION}, as checkpoint",
    "restore_opt": "mllam-exps sets it when a run goes on from its own checkpoint",
    "runs_root": "mllam-exps gives each attempt its own folder",
    "logger_run_name": "mllam-exps names the run after its experiment",
}
_NOT_IN_TRAINING = (
    _IN_PARAMS
    | _OURS
    | {
        "eval": f"stands in {EVALUATION}: training never evaluates",
        "checkpoint": f"stands in {EVALUATION}",
    }
)
# What may differ in evaluation. A key of a newer neural-lam counts as describing the
# model until it is here.
_EVALUATION_KEYS = frozenset(
    (
        *(
            "eval",
            "ar_steps_eval",
            "batch_size",
            "num_workers",
            "num_nodes",
            "devices",
            "precision",
        ),
        *("load_single_member", "n_example_pred", "create_gif", "wandb_id"),
        *("val_steps_to_log", "metrics_watch", VARIABLE_LEADS),
    )
)
_TRAINING_ONLY = frozenset(
    (
        "epochs",
        "lr",
        "val_interval",
        "ar_steps_train",
        "train_steps_to_log",
        "num_sanity_val_steps",
    )
)
_AT_LEAST = {
    **dict.fromkeys(
        ("epochs", "batch_size", "val_interval", "ar_steps_train", "ar_steps_eval"), 1
    ),
    **dict.fromkeys(
        ("hidden_dim", "processor_layers", "num_nodes", "devices", "max_num_levels"), 1
    ),
    **dict.fromkeys(("seed", "hidden_layers", "num_workers", "n_example_pred"), 0),
    **dict.fromkeys(("num_past_forcing_steps", "num_future_forcing_steps"), 0),
    "num_sanity_val_steps": -1,  # Lightning: all of them
    "level_refinement_factor": 2,
}
_ABOVE_ZERO = frozenset(("lr", "mesh_node_distance", "mesh_grid_distance_ratio"))
_LOSSES_OF_A_SPREAD = ("nll", "crps_gauss")
_MAX_SEED = 2**32 - 1  # numpy's, which Lightning refuses to go beyond
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
    checks = _Checks(parameters, arguments)
    checks.params()
    checks.training()
    checks.evaluation()
    checks.graph_fits_model()
    datastore, config = parameters.files[DATASTORE], parameters.files[CONFIG]
    return [
        *checks.problems,
        *config_checks.check_config(config, datastore, arguments.config),
        *split_checks.check_lengths(datastore, steps_needed(parameters, arguments)),
    ]


class _Checks:
    """Collects problems; a key found wrong is left out of the checks of several keys together."""

    def __init__(self, parameters: Parameters, arguments: Arguments) -> None:
        self.parameters = parameters
        self.arguments = arguments
        self.problems: list[MllamError] = []
        self.wrong: set[str] = set()
        devices = Argument(
            "devices", "", "int", default=1
        )  # ours, and not neural-lam's list of device numbers
        self.train_arguments = {**arguments.train, "devices": devices}

    def refuse(self, file: str, key: str, what: str) -> None:
        self.problems.append(UsageError(what, f"{file}: {key}"))
        self.wrong.add(key)

    def unknown(
        self, file: str, key: Any, right: Collection[str], prefix: str = ""
    ) -> None:
        self.refuse(file, f"{prefix}{key}", f"unknown key{did_you_mean(key, right)}")

    def value(self, file: str, key: str, argument: Argument, value: Any) -> None:
        """Check one value by its argument's type, choices and our limits."""
        problem = argument.problem(value)
        if not problem and value is not None:
            problem = _limits(argument.name, value)
        if problem:
            self.refuse(file, key, problem)

    def params(self) -> None:
        """Check ``params.yaml``."""
        given = self.parameters.files[PARAMS]
        for key in given:
            if key not in (*_REQUIRED, "archives"):
                self.unknown(PARAMS, key, (*_REQUIRED, "archives"))
        for key in _REQUIRED:
            if given.get(key) in (None, ""):
                self.refuse(PARAMS, key, "is missing")
            elif key != "graph":
                self.value(PARAMS, key, self.arguments.train[key], given[key])
        if given.get("graph") is not None:
            self.graph(given["graph"])
        self.archives(given.get("archives") or {})

    def graph(self, graph: Any) -> None:
        """Check ``params.yaml``'s ``graph``."""
        right = {
            key: argument
            for key, argument in self.arguments.graph.items()
            if key != "config_path"
        }
        if not isinstance(graph, Mapping):
            return self.refuse(PARAMS, "graph", f"must hold {', '.join(right)}")
        for key, value in graph.items():
            if key in right:
                self.value(PARAMS, f"graph.{key}", right[key], value)
            else:
                self.unknown(PARAMS, key, right, "graph.")
        for key in ("name", "archetype"):
            if graph.get(key) is None:
                self.refuse(PARAMS, f"graph.{key}", "is missing")
        name, archetype = graph.get("name"), graph.get("archetype")
        if isinstance(name, str) and not _GRAPH_NAME.fullmatch(name):
            self.refuse(
                PARAMS,
                "graph.name",
                f"names a folder in data/graph: letters, digits, - _ and . only, not {name!r}",
            )
        factor = whole(graph.get("level_refinement_factor"), 3)
        if archetype == "graphcast" and factor % 2 == 0:
            self.refuse(
                PARAMS,
                "graph.level_refinement_factor",
                f"must be odd for a graphcast graph, not {factor}",
            )
        if archetype == "hierarchical" and graph.get("max_num_levels") == 1:
            self.refuse(
                PARAMS,
                "graph.max_num_levels",
                "a hierarchical graph has two levels or more",
            )
        return None

    def archives(self, archives: Any) -> None:
        """Check ``params.yaml``'s ``archives``: a version declared for an input of the dataset."""
        if not isinstance(archives, Mapping):
            return self.refuse(
                PARAMS, "archives", "must hold lines of `input: version`"
            )
        inputs = self.parameters.files[DATASTORE].get("inputs")
        names = [str(name) for name in inputs] if isinstance(inputs, Mapping) else []
        for name, version in archives.items():
            if name not in names:
                why = f"{DATASTORE} has no such input{did_you_mean(name, names)}"
                self.refuse(PARAMS, f"archives.{name}", why)
            if not isinstance(version, str) or not version:
                # 1.10 would be read as 1.1, and 2025-12-01 as a date.
                self.refuse(
                    PARAMS,
                    f"archives.{name}",
                    f'must be text: write it in quotes, "{version}"',
                )
        return None

    def training(self) -> None:
        """Check ``data/training_params.yaml``."""
        right = [key for key in self.train_arguments if key not in _NOT_IN_TRAINING]
        for key, value in self.parameters.files[TRAINING].items():
            if key in _NOT_IN_TRAINING:
                self.refuse(
                    TRAINING, key, f"does not belong here: {_NOT_IN_TRAINING[key]}"
                )
            elif key not in right:
                self.unknown(TRAINING, key, right)
            elif key != VARIABLE_LEADS:
                self.value(TRAINING, key, self.train_arguments[key], value)
        training = self.parameters.training
        self.steps(TRAINING, training, "train_steps_to_log", "ar_steps_train")
        self.watched(TRAINING, training, {"val_rmse"})
        self.wandb(TRAINING)
        loss = training.get("loss", self.arguments.train["loss"].default)
        if training.get("output_std") is True and loss not in _LOSSES_OF_A_SPREAD:
            # neural-lam 0.7 trains it all the same: mse never sees the forecast
            # standard deviation, and wmse, which divides by it, makes it grow without
            # end.
            losses = " or ".join(_LOSSES_OF_A_SPREAD)
            self.refuse(TRAINING, "output_std", f"needs loss: {losses}, not {loss}")
        epochs, interval = (
            whole(training.get(key), self.arguments.train[key].default)
            for key in ("epochs", "val_interval")
        )
        wrong = {"epochs", "val_interval"} & self.wrong
        if (
            interval > epochs
            and not wrong
            and self.parameters.checkpoint == "min_val_loss"
        ):
            what = f"{interval} lies beyond epochs: {epochs}, so training never writes the checkpoint"
            way_out = f"min_val_loss that {EVALUATION} asks for: lower it, or set checkpoint: last there"
            self.refuse(TRAINING, "val_interval", f"{what} {way_out}")

    def evaluation(self) -> None:
        """Check ``data/evaluate_params.yaml``, by itself and on top of training's."""
        own = self.parameters.files[EVALUATION]
        right = {
            key: value
            for key, value in self.train_arguments.items()
            if key in _EVALUATION_KEYS
        }
        right["checkpoint"] = CHECKPOINT
        for key, value in own.items():
            if key in right:
                if key != VARIABLE_LEADS:
                    self.value(EVALUATION, key, right[key], value)
            elif key in _IN_PARAMS | _OURS:
                self.refuse(
                    EVALUATION,
                    key,
                    f"does not belong here: {(_IN_PARAMS | _OURS)[key]}",
                )
            elif key in _TRAINING_ONLY:
                self.refuse(
                    EVALUATION,
                    key,
                    f"says nothing about an evaluation: it stands in {TRAINING}",
                )
            elif key in self.arguments.train:
                self.refuse(EVALUATION, key, f"describe the model once, in {TRAINING}")
            else:
                self.unknown(EVALUATION, key, right)
        if own.get("eval") is None:
            self.refuse(
                EVALUATION,
                "eval",
                "is missing: say which split to evaluate, val or test",
            )
        merged = self.parameters.evaluation
        metrics = {"test_rmse", "test_mae"} | (
            {"test_output_std"} if merged.get("output_std") is True else set()
        )
        self.watched(EVALUATION, merged, metrics)
        self.wandb(EVALUATION)

    def steps(self, file: str, values: Mapping[str, Any], key: str, limit: str) -> None:
        """Refuse steps to log that are never made, neural-lam's default ones as well."""
        default = self.arguments.train[key].default
        steps = values.get(key, default)
        last = whole(values.get(limit), self.arguments.train[limit].default)
        if {key, limit} & self.wrong:
            return
        beyond = [
            step
            for step in (steps if isinstance(steps, list) else [steps])
            if not 1 <= step <= last
        ]
        if beyond:
            origin = (
                f"{steps} as in {TRAINING}"
                if key in values
                else f"not given, so neural-lam's {default}"
            )
            origin = (
                ""
                if self.parameters.files[file].get(key) is not None
                else f"{origin}: "
            )
            steps_beyond = ", ".join(map(str, beyond))
            self.refuse(
                file,
                key,
                f"{origin}{steps_beyond} must lie between 1 and {limit}: {last}",
            )

    def watched(self, file: str, values: Mapping[str, Any], metrics: set[str]) -> None:
        """Check what is logged of validation or evaluation."""
        own = {
            key: value
            for key, value in self.parameters.files[file].items()
            if value is not None
        }
        # What evaluation only inherits was checked with training's values, unless its
        # rollout is another.
        if file == TRAINING or own.keys() & {"ar_steps_eval", "val_steps_to_log"}:
            self.steps(file, values, "val_steps_to_log", "ar_steps_eval")
        names = own.get("metrics_watch") or []
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str) and name not in metrics:
                known = ", ".join(sorted(metrics))
                self.refuse(
                    file,
                    "metrics_watch",
                    f"neural-lam would ignore {name}: it knows {known} here",
                )
        if VARIABLE_LEADS not in values or not own.keys() & {
            "ar_steps_eval",
            VARIABLE_LEADS,
        }:
            return
        if problem := self.variable_leads(leads(values[VARIABLE_LEADS]), values):
            self.refuse(file, VARIABLE_LEADS, problem)
        elif leads(own.get(VARIABLE_LEADS)) and not names:
            known = " or ".join(sorted(metrics))
            self.refuse(
                file,
                VARIABLE_LEADS,
                f"nothing comes of it without metrics_watch, such as {known}",
            )

    def wandb(self, file: str) -> None:
        """Refuse a run of Weights & Biases where something else keeps the log."""
        logger = self.parameters.files[PARAMS].get("logger")
        if (
            self.parameters.files[file].get("wandb_id") is not None
            and logger != "wandb"
        ):
            self.refuse(
                file, "wandb_id", f"means nothing to {PARAMS}'s logger: {logger}"
            )

    def variable_leads(
        self, leads: Mapping[Any, Any] | None, values: Mapping[str, Any]
    ) -> str:
        """Say what is wrong with the lead times to log of single variables."""
        example = "must be lines of `number of the state variable: [steps]`, such as 0: [1, 4]"
        if leads is None:
            return example
        last = whole(
            values.get("ar_steps_eval"), self.arguments.train["ar_steps_eval"].default
        )
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
        model = self.parameters.training.get(
            "model", self.arguments.train["model"].default
        )
        if archetype is None or {"model", "graph.archetype"} & self.wrong:
            return
        if (needs := model in self.arguments.hierarchical) != (
            archetype == "hierarchical"
        ):
            kind = (
                "a hierarchical graph" if needs else "a graph that is not hierarchical"
            )
            self.refuse(
                TRAINING,
                "model",
                f"{model} needs {kind}, and {PARAMS} has graph.archetype: {archetype}",
            )


def _limits(name: str, value: Any) -> str:
    """Say which limit of ours a value of the right type breaks."""
    if name in _AT_LEAST and value < _AT_LEAST[name]:
        return f"must be {_AT_LEAST[name]} or more, not {value}"
    if name in _ABOVE_ZERO and float(value) <= 0:
        return f"must be greater than 0, not {value}"
    return (
        f"must be {_MAX_SEED} or less, not {value}"
        if name == "seed" and value > _MAX_SEED
        else ""
    )
