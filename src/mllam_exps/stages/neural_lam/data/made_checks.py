"""Checks of the dataset that mllam-data-prep would make, before it is made: what neural-lam could not use of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    SPLITTING,
    problem,
)
from mllam_exps.stages.neural_lam.parameters.split_checks import too_short


def check(made: Any, config: Any, needed: Mapping[str, int]) -> list[MllamError]:
    """Return every problem of a dataset that was rehearsed.

    Parameters
    ----------
    made : xarray.Dataset
        From `mllam_exps.stages.neural_lam.data.rehearsal.rehearse`.
    config : mllam_data_prep.config.Config
    needed : Mapping
        The time steps that neural-lam must find in each split.
    """
    return [
        *_check_splits(made, config, needed),
        *_check_names(made, config.extra or {}),
    ]


def _check_splits(
    made: Any, config: Any, needed: Mapping[str, int]
) -> list[MllamError]:
    """Select each split as neural-lam does."""
    problems: list[MllamError] = []
    for split, span in config.output.splitting.splits.items():
        try:
            count = made["state"].sel(time=slice(span.start, span.end)).sizes["time"]
        except (KeyError, ValueError, TypeError) as error:
            what = f"{span.start} to {span.end} selects nothing: {error}"
            problems.append(problem(f"{SPLITTING}.{split}", what))
        else:
            problems += too_short(split, count, needed)
    return problems


def _check_names(made: Any, extra: Mapping[str, Any]) -> list[MllamError]:
    """Refuse two variables of one name: neural-lam and its configuration know them by their names."""
    problems: list[MllamError] = []
    every_name: set[str] = set()
    for category in ("state", "forcing", "static"):
        if category in made:
            names = [str(name) for name in made[f"{category}_feature"].values]
            every_name.update(names)
            for name in sorted({name for name in names if names.count(name) > 1}):
                problems.append(_twins(made, category, names, name))
    for name in set(extra.get("missing_values") or []) - every_name:
        what = f"the dataset has no variable {name}{did_you_mean(name, every_name)}"
        problems.append(problem("extra.missing_values", what))
    return problems


def _twins(made: Any, category: str, names: list[str], name: str) -> MllamError:
    """Return the refusal of several variables called `name`, which names their inputs."""
    inputs = made[f"{category}_feature_source_dataset"].values.tolist()
    own = [source for source, other in zip(inputs, names, strict=True) if other == name]
    what = f"{category} gets two variables called {name}, from {' and '.join(own)}"
    way_out = "give each input another name_format"
    return UsageError(what, f"{DATASTORE}: inputs", next=way_out)
