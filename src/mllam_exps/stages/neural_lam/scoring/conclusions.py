"""What the scores of an experiment say: a few numbers for `dvc exp show`, and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mllam_exps.verification.differences import is_better
from mllam_exps.verification.table import CASE, REGION, SOURCE

NAME = "verify"
BETTER, WORSE, NEITHER, BLIND = "better", "worse", "neither", "not_judged"
LOWER = "lower"
"""At how many the RMSE is lower, by chance or not."""
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
    errors = _errors(scores)
    rmse = {
        name: {_longest(scores): _last(root_mean_square(one.sel({SOURCE: own})))}
        for name, one in errors.items()
    }
    found: dict[str, Any] = {"cases": int(scores.sizes[CASE]), "rmse": rmse}
    for reference, said in against.items():
        count = counted(said, own)
        found[f"against_{reference}"] = {
            "gain": _gain(errors, own, reference),
            **{key: count[key] for key in (BETTER, WORSE, BLIND)},
            "verdict": in_words(count),
        }
    # A name of their own, so that no column of `dvc exp show` is called otherwise when
    # another file has the same.
    return {NAME: found}


def _gain(errors: Mapping[str, Any], own: str, reference: str) -> float:
    """Return how much lower the RMSE is than a reference's, averaged over variables and lead times, where known."""
    gains = []
    for one in errors.values():
        pair = one.sel({SOURCE: [own, reference]})
        overall = root_mean_square(pair.where(pair.notnull().all(SOURCE)))
        base = overall.sel({SOURCE: reference})
        # Persistence has no error in what never changes.
        of_lead = 1 - overall.sel({SOURCE: own}) / base.where(base > 0)
        if bool(of_lead.notnull().any()):
            gains.append(float(of_lead.mean()))
    return round(sum(gains) / len(gains), 6) if gains else math.nan


def in_words(count: Mapping[str, int]) -> str:
    """Return the verdict of variables and lead times that are counted, in a few words."""
    total = _compared(count)
    if count[BLIND] == total:
        return f"lower RMSE in {count[LOWER]} of {total}; too few independent cases to say whether by chance"
    judged = total - count[BLIND]
    told = [f"{word} in {count[word]}" for word in (BETTER, WORSE) if count[word]]
    words = f"{', '.join(told) or 'no sure difference in any'} of {judged}"
    return f"{words}; {count[BLIND]} cannot be judged" if count[BLIND] else words


def sentences(against: Mapping[str, Any], own: str) -> list[str]:
    """Say plainly whether the experiment is better than each reference."""
    found = []
    for reference, said in against.items():
        count = counted(said, own)
        told = f"{count[BETTER]} surely better, {count[WORSE]} surely worse"
        if count[BLIND]:
            told += f"; {count[BLIND]} of too few independent cases to say"
        told = f"{count[LOWER]} lower than {reference}'s; {told}"
        found.append(f"RMSE: of {_compared(count)} variables and lead times {told}")
    found.append(f"Surely: at {100 * SURE:g} % confidence.")
    return found


def _compared(count: Mapping[str, int]) -> int:
    """Return of how many variables and lead times there is a difference."""
    return sum(count[kind] for kind in (BETTER, WORSE, NEITHER, BLIND))


def root_mean_square(errors: Any) -> Any:
    """Return the RMSE of all cases together, as neural-lam has it: the root comes last."""
    return ((errors**2).mean(CASE)) ** 0.5


def _errors(scores: Any) -> dict[str, Any]:
    """Return the RMSE of each case by variable, in the interior, levels averaged as variances are."""
    found = {}
    for name in map(str, scores.data_vars):
        if not name.startswith("rmse."):
            continue
        one = _in_interior(scores[name])
        levels = [dim for dim in one.dims if dim not in {SOURCE, CASE, "lead_time"}]
        found[name.removeprefix("rmse.")] = ((one**2).mean(levels)) ** 0.5
    return found


def _in_interior(one: Any) -> Any:
    """Return a score in the first region, which is all that counts."""
    return one.isel({REGION: 0}) if REGION in one.dims else one


def _longest(scores: Any) -> str:
    return f"{scores['lead_time'].values.max().astype('m8[m]').astype(int) / 60:02g}h"


def _last(overall: Any) -> float:
    return float(overall.isel(lead_time=-1))


def counted(said: Any, own: str) -> dict[str, int]:
    """Return of how many variables and lead times the RMSE is surely better or worse, neither, or cannot be judged.

    And, of all of them, at how many it is lower.
    """
    count = dict.fromkeys((BETTER, WORSE, NEITHER, BLIND, LOWER), 0)
    for name in map(str, said.data_vars):
        if not name.startswith("difference.rmse."):
            continue
        of = name.removeprefix("difference.")
        difference, confidence = (
            _in_interior(said[one].sel({SOURCE: own}))
            for one in (name, f"confidence.{of}")
        )
        there, sure = difference.notnull(), confidence >= SURE
        blind, good = there & confidence.isnull(), is_better(of, difference)
        for key, cells in (
            (BETTER, sure & good),
            (WORSE, sure & ~good),
            (NEITHER, there & ~sure & ~blind),
            (BLIND, blind),
            (LOWER, there & good),
        ):
            count[key] += int(cells.sum())
    return count
