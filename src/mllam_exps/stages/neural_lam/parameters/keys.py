"""Which argument of neural-lam may stand in which parameter file, and our limits of its value."""

from __future__ import annotations

from typing import Any

from mllam_exps.stages.neural_lam.file_names import CONFIG, EVALUATION, PARAMS

VARIABLE_LEADS = "var_leads_metrics_watch"
REQUIRED = ("logger", "logger_project", "seed", "graph")
"""The keys that ``params.yaml`` must have."""
RESUME_FROM = "resume_from"
"""The key in ``params.yaml`` that names what training goes on from."""
COLD_START = "cold_start"
"""Whether it takes nothing but the weights of that."""
RESUME = "resume"
"""Where it is `AUTO`, a training goes on from the longest known one that is the same but for its epochs."""
AUTO = "auto"
OPTIONAL = ("archives", RESUME_FROM, COLD_START, RESUME)
"""The keys that ``params.yaml`` may have."""

_IN_PARAMS = {
    "seed": f"stands in {PARAMS}",
    "logger": f"stands in {PARAMS}",
    "logger_project": f"stands in {PARAMS}",
    "graph": f"stands in {PARAMS}, as graph.name",
}
_OURS = {
    "config_path": f"mllam-exps always passes {CONFIG}",
    "load": f"mllam-exps finds the checkpoint: say which one in {EVALUATION}, as checkpoint; "
    f"{PARAMS}: {RESUME_FROM} names what training goes on from",
    "restore_opt": f"mllam-exps sets it when a training goes on; {PARAMS}: {COLD_START} takes the weights alone",
    "runs_root": "mllam-exps gives each attempt its own folder",
    "logger_run_name": "mllam-exps names the run after its experiment",
}
NOT_IN_EVALUATION = _IN_PARAMS | _OURS
"""Arguments that do not belong into the evaluation's file, and why."""

NOT_IN_TRAINING = NOT_IN_EVALUATION | {
    "eval": f"stands in {EVALUATION}: training never evaluates",
    "checkpoint": f"stands in {EVALUATION}",
}
"""Arguments that do not belong into the training's file, and why."""

EVALUATION_KEYS = frozenset(
    {
        "eval",
        "ar_steps_eval",
        "batch_size",
        "num_workers",
        "num_nodes",
        "devices",
        "precision",
        "load_single_member",
        "n_example_pred",
        "create_gif",
        "wandb_id",
        "val_steps_to_log",
        "metrics_watch",
        VARIABLE_LEADS,
    }
)
"""What may differ in evaluation. A key of a newer neural-lam counts as describing the model until it is here."""

TRAINING_ONLY = frozenset(
    {
        "epochs",
        "lr",
        "val_interval",
        "ar_steps_train",
        "train_steps_to_log",
        "num_sanity_val_steps",
    }
)
"""What says nothing about an evaluation."""

SAYS_NOTHING_OF_THE_NETWORK = (
    EVALUATION_KEYS | TRAINING_ONLY | NOT_IN_TRAINING.keys() | {"loss"}
)
"""What may differ in a training that goes on from another one; a newer neural-lam's keys must not until they are
here."""

PHASES = "phases"
"""The key in the training's file that lists what differs in each phase."""
OPTIMIZER = "optimizer"
OPTIMIZER_VALUES = ("keep", "reset")
"""In a phase: whether its optimizer goes on, or begins anew, with the epochs."""
LR_WARMUP = "lr_warmup"
"""Epochs in which the learning rate rises to ``lr``."""
LR_FINAL = "lr_final"
"""The learning rate at the end, to which it falls along a cosine."""
COMPARED = ("loss", "ar_steps_eval")
"""Where these differ, the validation losses of two trainings cannot be compared, nor their best checkpoints."""
OF_A_SCHEDULE = (LR_WARMUP, LR_FINAL)
ONLY_OURS = (PHASES, OPTIMIZER, *OF_A_SCHEDULE)
"""What neural-lam is not told."""
IN_PHASES = (EVALUATION_KEYS | TRAINING_ONLY | {"loss", OPTIMIZER, *OF_A_SCHEDULE}) - {
    "eval",
    "wandb_id",
    "load_single_member",
    "n_example_pred",
    "create_gif",
}
"""What may differ between the phases of a training."""

KEEP_FORECASTS = "keep_forecasts"
"""In the evaluation's file: whether it keeps the forecasts that it makes."""
LOSSES_OF_A_SPREAD = ("nll", "crps_gauss")
"""The losses that see the standard deviation which ``output_std`` makes the model forecast."""

_AT_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "val_interval": 1,
    "ar_steps_train": 1,
    "ar_steps_eval": 1,
    "hidden_dim": 1,
    "processor_layers": 1,
    "num_nodes": 1,
    "devices": 1,
    "max_num_levels": 1,
    LR_WARMUP: 0,
    "seed": 0,
    "hidden_layers": 0,
    "num_workers": 0,
    "n_example_pred": 0,
    "num_past_forcing_steps": 0,
    "num_future_forcing_steps": 0,
    "num_sanity_val_steps": -1,  # Lightning: all of them
    "level_refinement_factor": 2,
}
_ABOVE_ZERO = frozenset(
    {"lr", LR_FINAL, "mesh_node_distance", "mesh_grid_distance_ratio"}
)
_MAX_SEED = 2**32 - 1  # numpy's, which Lightning refuses to go beyond


def beyond_limits(name: str, value: Any) -> str:
    """Say which limit of ours a value of the right type breaks; nothing if it breaks none."""
    if name in _AT_LEAST and value < _AT_LEAST[name]:
        return f"must be {_AT_LEAST[name]} or more, not {value}"
    if name in _ABOVE_ZERO and float(value) <= 0:
        return f"must be greater than 0, not {value}"
    if name == "seed" and value > _MAX_SEED:
        return f"must be {_MAX_SEED} or less, not {value}"
    return ""
