"""What the scores of an experiment say: a few numbers for `dvc exp show`, and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mllam_exps.verification.differences import LEVEL, is_better
from mllam_exps.verification.scorecard import CLIMATOLOGY, PERSISTENCE
from mllam_exps.verification.table import CASE, SOURCE

SURE = 0.95
"""The level of confidence at which a difference counts as more than chance."""


def metrics(scores: Any, against: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``metrics/verify.json``.

    Parameters
    ----------
    scores : xarray.Dataset
        Of `mllam_exps.verification.scorecard`; the first source is the experiment.
    against : mapping
        From each reference to what `mllam_exps.verification.differences` says.
    """
    own = str(scores[SOURCE].values[0])
    rmse: dict[str, Any] = {}
    gains: dict[str, dict[str, float]] = {PERSISTENCE: {}, CLIMATOLOGY: {}}
    for name, errors in _errors(scores).items():
        overall = root_mean_square(errors)
        rmse[name] = {_longest(scores): _last(overall.sel({SOURCE: own}))}
        for reference, of_variable in gains.items():
            both = errors.where(errors.sel({SOURCE: reference}).notnull())
            told = root_mean_square(both)
            gain = 1 - told.sel({SOURCE: own}) / told.sel({SOURCE: reference})
            of_variable[name] = round(float(gain.mean()), 6)
    found: dict[str, Any] = {"cases": int(scores.sizes[CASE]), "rmse": rmse}
    for reference, of_variable in gains.items():
        mean = sum(of_variable.values()) / len(of_variable)
        found[f"gain_over_{reference}"] = {**of_variable, "mean": round(mean, 6)}
    found["surely_better"] = {
        reference: share(said, own) for reference, said in against.items()
    }
    return found


def share(said: Any, own: str) -> float:
    """Return in which part of all cells of the RMSE the experiment is better, and surely so."""
    count = _counted(said, own)
    return round(count["better"] / count["all"], 6) if count["all"] else 0.0


def sentences(against: Mapping[str, Any], own: str) -> list[str]:
    """Say plainly whether the experiment is better than each reference."""
    found = []
    for reference, said in against.items():
        count = _counted(said, own)
        told = f"{count['better']} surely better than {reference}, {count['worse']} surely worse"
        if count["unknown"]:
            told += f"; {count['unknown']} of too few independent cases to say"
        found.append(f"RMSE: of {count['all']} variables and lead times {told}")
    found.append(f"Surely: at {100 * SURE:g} % confidence.")
    return found


def root_mean_square(errors: Any) -> Any:
    """Return the RMSE of all cases together, as neural-lam has it: the root comes last."""
    return ((errors**2).mean(CASE)) ** 0.5


def _errors(scores: Any) -> dict[str, Any]:
    """Return the RMSE of each case by variable, in the interior, levels averaged as variances are."""
    found = {}
    for name in map(str, scores.data_vars):
        if not name.startswith("rmse."):
            continue
        one = scores[name]
        if "spatial_region" in one.dims:
            one = one.isel(spatial_region=0)
        levels = [dim for dim in one.dims if dim not in {SOURCE, CASE, "lead_time"}]
        found[name.removeprefix("rmse.")] = ((one**2).mean(levels)) ** 0.5
    return found


def _longest(scores: Any) -> str:
    return f"{scores['lead_time'].values.max().astype('m8[m]').astype(int) / 60:02g}h"


def _last(overall: Any) -> float:
    return float(overall.isel(lead_time=-1))


def _counted(said: Any, own: str) -> dict[str, int]:
    """Return how many cells of the RMSE there are, are surely better or worse, and are not known."""
    count = {"all": 0, "better": 0, "worse": 0, "unknown": 0}
    for name in map(str, said.data_vars):
        if not name.startswith("difference.rmse."):
            continue
        of = name.removeprefix("difference.")
        difference = said[name].sel({SOURCE: own})
        there = difference.notnull()
        sure = said[f"confidence.{of}"].sel({SOURCE: own}) >= SURE
        good = is_better(of, difference)
        blind = said[f"upper.{of}"].sel({SOURCE: own}).isnull().all(LEVEL)
        for key, cells in (
            ("all", there),
            ("better", sure & good),
            ("worse", sure & ~good),
            ("unknown", there & blind),
        ):
            count[key] += int(cells.sum())
    return count
