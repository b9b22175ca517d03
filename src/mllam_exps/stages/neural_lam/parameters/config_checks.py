"""Checks of ``data/config.yaml``, of which neural-lam silently ignores what it does not know."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import CONFIG, DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    is_number,
    section,
    state_features,
)


def check_config(
    config: Mapping[str, Any], datastore: Mapping[str, Any], classes: Mapping[str, Any]
) -> list[MllamError]:
    """Check ``data/config.yaml``, of which neural-lam silently ignores what it does not know.

    Parameters
    ----------
    config, datastore : Mapping
        What the two files say.
    classes : Mapping
        Keys of each class of neural-lam's configuration, from `arguments.Arguments`.
    """
    selected = section(config, "datastore")
    training = section(config, "training")
    clamping = section(training, "output_clamping")
    problems: list[MllamError] = []
    for values, name, prefix in (
        (config, "NeuralLAMConfig", ""),
        (selected, "DatastoreSelection", "datastore."),
        (training, "TrainingConfig", "training."),
        (clamping, "OutputClamping", "training.output_clamping."),
    ):
        problems += _unknown_keys(values, classes[name], prefix)
    problems += _check_datastore(selected)
    features = state_features(datastore)
    weighting = training.get("state_feature_weighting")
    if weighting is not None:
        problems += _check_weighting(weighting, features, classes)
    return problems + _check_clamping(clamping, features)


def _check_datastore(selected: Mapping[str, Any]) -> list[MllamError]:
    problems: list[MllamError] = []
    kind, path = selected.get("kind"), str(selected.get("config_path"))
    if kind != "mdp":
        problems.append(_config("datastore.kind", f"must be mdp, not {kind!r}"))
    if posixpath.normpath(posixpath.join("data", path)) != DATASTORE:
        what = f"must be datastore.yaml, beside this file, not {path!r}"
        problems.append(_config("datastore.config_path", what))
    return problems


def _check_clamping(
    clamping: Mapping[str, Any], features: list[frozenset[str]] | None
) -> list[MllamError]:
    problems: list[MllamError] = []
    for bound in ("lower", "upper"):
        where = f"training.output_clamping.{bound}"
        problems += _check_features(section(clamping, bound), features, where)
    lower, upper = section(clamping, "lower"), section(clamping, "upper")
    for name in lower.keys() & upper.keys():
        numbers = is_number(lower[name]) and is_number(upper[name])
        if numbers and lower[name] >= upper[name]:
            what = f"must be below upper: {upper[name]}, not {lower[name]}"
            problems.append(_config(f"training.output_clamping.lower.{name}", what))
    return problems


def _check_weighting(
    weighting: Any, features: list[frozenset[str]] | None, classes: Mapping[str, Any]
) -> list[MllamError]:
    where = "training.state_feature_weighting"
    right = [name for name in classes if name.endswith("Weighting")]
    chosen = None
    if isinstance(weighting, Mapping):
        chosen = weighting.get("__config_class__")
    if chosen not in right:
        near = did_you_mean(chosen, right) if chosen else ""
        what = f"must be one of {', '.join(right)}, not {chosen!r}{near}"
        return [_config(f"{where}.__config_class__", what)]
    keys = [*classes[chosen], "__config_class__"]
    problems = _unknown_keys(weighting, keys, f"{where}.")
    if "weights" in classes[chosen]:
        weights = section(weighting, "weights")
        problems += _check_weights(weights, features, f"{where}.weights")
    return problems


def _check_weights(
    weights: Mapping[str, Any], features: list[frozenset[str]] | None, where: str
) -> list[MllamError]:
    problems = _check_features(weights, features, where)
    for name, weight in weights.items():
        if is_number(weight) and weight < 0:
            what = f"must be 0 or more, not {weight}"
            problems.append(_config(f"{where}.{name}", what))
    missing = [min(names) for names in features or [] if not names & weights.keys()]
    if missing:
        what = f"must weigh every state variable, and lacks {', '.join(missing)}"
        problems.append(_config(where, what))
    return problems


def _check_features(
    values: Mapping[str, Any], features: list[frozenset[str]] | None, where: str
) -> list[MllamError]:
    problems: list[MllamError] = []
    known = set().union(*features) if features else set()
    for name, value in values.items():
        if features is not None and name not in known:
            near = did_you_mean(name, known)
            what = f"{DATASTORE} makes no such state variable{near}"
            problems.append(_config(f"{where}.{name}", what))
        elif not is_number(value):
            what = f"must be a number, not {value!r}"
            problems.append(_config(f"{where}.{name}", what))
    return problems


def _unknown_keys(
    values: Mapping[str, Any], right: Collection[str], prefix: str
) -> list[MllamError]:
    return [
        _config(f"{prefix}{key}", f"unknown key{did_you_mean(key, right)}")
        for key in values
        if key not in right
    ]


def _config(key: str, what: str) -> MllamError:
    return UsageError(what, f"{CONFIG}: {key}")
