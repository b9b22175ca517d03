"""Where Neural-LAM's stages have their files, seen from the root of the repository."""

from __future__ import annotations

PARAMS = "params.yaml"
TRAINING = "data/training_params.yaml"
EVALUATION = "data/evaluate_params.yaml"
CONFIG = "data/config.yaml"
DATASTORE = "data/datastore.yaml"
INFERENCE = "data/inference_params.yaml"
"""Read by the stage `infer` alone, which a repository may not have."""
VERIFICATION = "data/verification_params.yaml"
"""Read by the stage `verify` alone, which a repository may not have."""
FILES = (PARAMS, TRAINING, EVALUATION, CONFIG, DATASTORE)
READ_BY_PROGRAMS = (CONFIG, DATASTORE)
"""The files that neural-lam and mllam-data-prep read themselves."""

DATASET = "data/datastore.zarr"
"""What `prepare_dataset` makes."""
MODELS = "saved_models"
"""What `train` makes."""
FORECASTS = "forecasts/infer.zarr"
"""What `infer` makes."""
KEPT_FORECASTS = "forecasts/evaluate.zarr"
"""What `evaluate` makes beside its scores, where it is asked to."""
TRAIN_METRICS = "metrics/train.json"
LOSSES = "plots/loss.csv"
"""Beside the models."""
