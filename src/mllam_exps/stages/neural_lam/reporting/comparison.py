"""Experiments on common cases: one ranking, and for each a scorecard against a reference.

Means over different cases say nothing about models: what one source lacks in a case,
at a lead time, counts for none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.neural_lam.reporting.evidence import Evidence
from mllam_exps.stages.neural_lam.scoring import conclusions
from mllam_exps.verification import differences
from mllam_exps.verification.differences import LEVEL
from mllam_exps.verification.table import CASE, REGION, SOURCE

BASELINES = ("persistence", "climatology")
SAME_TRUTH = 1e-5
"""By how much, relative, scores of persistence may differ that are of the same data (single precision)."""
LEAD = "lead_time"


@dataclass(frozen=True)
class Cell:
    """One variable at one lead time, against a reference.

    Parameters
    ----------
    lead : float
        Hours.
    percent : float
        The difference in RMSE in per cent of the reference's: below zero, the
        experiment is better; NaN where that is not known, or the reference's is zero.
    confidence : float
        The highest level at which that is more than chance; 0 where none is, NaN where
        there are too few cases to know.
    cases : int
        Of how many.
    difference : float
        The mean over these cases of what its RMSE is more than the reference's, in
        their units.
    intervals : mapping
        From each level of confidence to the ends between which that lies; NaN where
        there are too few cases to know.
    """

    lead: float
    percent: float
    confidence: float
    cases: int
    difference: float
    intervals: Mapping[float, tuple[float, float]]

    @property
    def is_sure(self) -> bool:
        """Whether it is more than chance."""
        return self.confidence >= conclusions.SURE

    @property
    def is_blind(self) -> bool:
        """Whether there are too few cases to know."""
        return math.isnan(self.confidence)


@dataclass(frozen=True)
class Card:
    """The scorecard of one experiment against a reference.

    Parameters
    ----------
    name, reference : str
        Who is compared with whom.
    verdict : str
        In a few words.
    rows : dict
        Cells by variable.
    """

    name: str
    reference: str
    verdict: str
    rows: dict[str, list[Cell]]


@dataclass(frozen=True)
class Place:
    """An experiment's place in the ranking.

    Parameters
    ----------
    evidence : Evidence
        Of the experiment.
    skill : float
        1 − RMSE / RMSE of persistence, averaged over variables and lead times.
    """

    evidence: Evidence
    skill: float


class Comparison:
    """Several experiments on the cases that all of them have.

    Parameters
    ----------
    experiments : sequence of Evidence
        Of one dataset.

    Raises
    ------
    UsageError
        If they have no case in common, or were scored on different data.
    """

    def __init__(self, experiments: Sequence[Evidence]) -> None:
        self.experiments = list(experiments)
        self.scores = _joined(self.experiments)
        there = self.scores[self._errors].notnull().all(SOURCE)
        self.scores = self.scores.where(there)
        self._known: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self._keep_what_all_have(there)

    def _keep_what_all_have(self, there: Any) -> None:
        """Leave out variables, lead times and starts that not all sources have, and remember which."""
        kept = [name for name in self._errors if bool(there[name].any())]
        self.left_out = [v for v in self._errors if v not in kept]
        by_variable = [there[name] for name in kept]
        leads = sum(one.any(CASE) for one in by_variable) > 0 if kept else None
        if leads is not None:
            self.left_out += [
                f"{hours:g} h" for hours in _hours(leads[LEAD].values[~leads.values])
            ]
            by_variable = [one.isel({LEAD: leads.values}) for one in by_variable]
            cases = sum(one.all(LEAD) for one in by_variable) > 0
            at = {LEAD: leads.values, CASE: cases.values}
            self.scores = self.scores[kept].isel(at)
        if leads is None or not self.scores.sizes[CASE]:
            names = ", ".join(one.name for one in self.experiments)
            raise UsageError(
                f"{names}: have no start in common, with a variable at the same lead times",
                why="a mean over other cases says nothing about a model",
                next="choose experiments of one test period",
            )
        self.left_out = [one.removeprefix("rmse.") for one in self.left_out]

    @property
    def _errors(self) -> list[str]:
        return [
            name for name in map(str, self.scores.data_vars) if name.startswith("rmse.")
        ]

    @property
    def variables(self) -> list[str]:
        """The variables that are scored."""
        return [name.removeprefix("rmse.") for name in self._errors]

    @property
    def cases(self) -> int:
        """How many starts all have."""
        return int(self.scores.sizes[CASE])

    @property
    def period(self) -> tuple[str, str]:
        """The first and the last start."""
        starts = self.scores[CASE].values
        first, last = (str(one.astype("M8[m]")) for one in (starts.min(), starts.max()))
        return first, last

    @property
    def leads(self) -> list[float]:
        """The lead times, in hours."""
        return _hours(self.scores[LEAD].values)

    @property
    def sources(self) -> list[str]:
        """The experiments, then the baselines."""
        return [str(one) for one in self.scores[SOURCE].values]

    def units(self, variable: str) -> str:
        """Return the units of a variable's error; nothing where it has none."""
        return str(self.scores[f"rmse.{variable}"].attrs.get("units", ""))

    def curve(self, variable: str, source: str) -> list[tuple[float, float]]:
        """Return the RMSE of all cases together by lead time, in hours."""
        overall = self._overall[variable][self.sources.index(source)]
        return [
            (lead, float(value))
            for lead, value in zip(self.leads, overall, strict=True)
        ]

    def spread(self, variable: str, source: str) -> list[tuple[float, float]]:
        """Return by lead time how far members lie apart in the same cases; nothing of a source that has no spread."""
        return self._beside(f"spread.{variable}", source)

    def crps(self, variable: str, source: str) -> list[tuple[float, float]]:
        """Return the CRPS by lead time in the same cases; nothing where no source has several members or a spread."""
        return self._beside(f"crps.{variable}", source)

    def _beside(self, name: str, source: str) -> list[tuple[float, float]]:
        """Return another score than the RMSE; several scorecards ask for the same."""
        if (name, source) not in self._known:
            self._known[name, source] = self._mean(name, source)
        return self._known[name, source]

    def _mean(self, name: str, source: str) -> list[tuple[float, float]]:
        own = [one for one in self.experiments if one.name == source]
        # A baseline has the same scores beside each that has them at all.
        for one in own or self.experiments:
            called = one.own if own else source
            if name not in one.scores or called not in one.scores[SOURCE].values:
                continue
            is_squared = name.startswith("spread.")
            score = _of_levels(one.scores[name], is_squared=is_squared)
            counted = self.scores[f"rmse.{name.partition('.')[2]}"].sel(
                {SOURCE: source}
            )
            score = score.sel({SOURCE: called}).reindex_like(counted)
            score = score.where(counted.notnull())
            if bool(score.notnull().any()):
                mean = score.mean(CASE)
                if is_squared:
                    mean = conclusions.root_mean_square(score)
                return list(zip(self.leads, map(float, mean.values), strict=True))
        return []

    @cached_property
    def _overall(self) -> dict[str, Any]:
        """The RMSE of all cases together by variable, as an array of source and lead time."""
        return {
            v: conclusions.root_mean_square(self.scores[f"rmse.{v}"])
            .transpose(SOURCE, LEAD)
            .values
            for v in self.variables
        }

    @property
    def ranking(self) -> list[Place]:
        """The experiments, the best first."""
        places = [Place(one, self._skill(one.name)) for one in self.experiments]
        return sorted(places, key=lambda p: (math.isnan(p.skill), -p.skill))

    def _skill(self, name: str) -> float:
        gains = []
        for variable in self.variables:
            against = self.curve(variable, BASELINES[0])
            own = self.curve(variable, name)
            for (_, error), (_, base) in zip(own, against, strict=True):
                gains.append(-_relative(error, base))
        known = [gain for gain in gains if math.isfinite(gain)]
        return sum(known) / len(known) if known else math.nan

    def card(self, name: str, reference: str) -> Card:
        """Return the scorecard of an experiment against another source.

        Raises
        ------
        UsageError
            If there is no such source.
        """
        if reference not in self.sources:
            known = ", ".join(self.sources)
            raise UsageError(
                f"no source is called {reference}", "--reference", f"there are {known}"
            )
        pair = self.scores[self._errors].sel({SOURCE: [name, reference]})
        said = differences.compare(pair, reference)
        rows = {v: self._cells(said, v, name, reference) for v in self.variables}
        words = conclusions.in_words(conclusions.counted(said, name))
        return Card(name, reference, words, rows)

    def _cells(self, said: Any, variable: str, name: str, reference: str) -> list[Cell]:
        base = dict(self.curve(variable, reference))
        own = dict(self.curve(variable, name))
        mean, confidence, cases, lower, upper = (
            said[f"{kind}.rmse.{variable}"]
            .sel({SOURCE: name})
            .transpose(..., LEAD)
            .values
            for kind in ("difference", "confidence", "cases", "lower", "upper")
        )
        levels = [float(level) for level in said[LEVEL].values]
        ends = [
            dict(
                zip(levels, zip(low.tolist(), high.tolist(), strict=True), strict=True)
            )
            for low, high in zip(lower.T, upper.T, strict=True)
        ]
        return [
            Cell(
                lead,
                100 * _relative(own[lead], base[lead]),
                float(confidence[at]),
                int(cases[at]),
                float(mean[at]),
                ends[at],
            )
            for at, lead in enumerate(self.leads)
        ]


def _hours(leads: Any) -> list[float]:
    return [float(one.astype("m8[s]").astype(int)) / 3600 for one in leads]


def _relative(error: float, base: float) -> float:
    """Return by which part an error is larger than another one; of what never changes persistence has none."""
    return error / base - 1 if base else math.nan


def _joined(experiments: Sequence[Evidence]) -> Any:
    """Return the scores of all experiments under their names, and of the baselines once."""
    import xarray as xr

    first = _flat(experiments[0].scores)
    parts = []
    for one in experiments:
        scores = _flat(one.scores)
        _refuse_another_truth(experiments[0].name, first, one.name, scores)
        own = scores.sel({SOURCE: [one.own]})
        parts.append(own.assign_coords({SOURCE: [one.name]}))
    baselines = [name for name in BASELINES if name in first[SOURCE].values]
    parts.append(first.sel({SOURCE: baselines}))
    return xr.concat(
        parts,
        SOURCE,
        join="outer",
        data_vars="minimal",
        coords="minimal",
        compat="override",
    )


def _flat(scores: Any) -> Any:
    """Return errors in the interior, by source, case and lead time: levels averaged as variances are."""
    found = {
        name: _of_levels(scores[name])
        for name in map(str, scores.data_vars)
        if name.startswith("rmse.")
    }
    return scores[[]].assign(found)


def _of_levels(one: Any, *, is_squared: bool = True) -> Any:
    """Return a score in the interior by source, case and lead time: levels averaged, as variances are if so asked."""
    one = one.isel({REGION: 0}, drop=True) if REGION in one.dims else one
    levels = [dim for dim in one.dims if dim not in {SOURCE, CASE, LEAD}]
    return ((one**2).mean(levels)) ** 0.5 if is_squared else one.mean(levels)


def _refuse_another_truth(first: str, one: Any, name: str, other: Any) -> None:
    """Refuse experiments whose persistence has other errors in the same cases: they have not forecast the same weather.

    Raises
    ------
    UsageError
        Naming both.
    """
    import numpy as np
    import xarray as xr

    base = BASELINES[0]
    for whose, scores in ((first, one), (name, other)):
        if base not in scores[SOURCE].values:
            why = "without it nothing says that two were scored on the same data"
            raise UsageError(f"{whose} was not scored beside {base}", why=why)
    a, b = xr.align(one.sel({SOURCE: base}), other.sel({SOURCE: base}), join="inner")
    for variable in set(a.data_vars) & set(b.data_vars):
        same = np.isclose(a[variable], b[variable], rtol=SAME_TRUTH, equal_nan=True)
        if not same.all():
            why = f"persistence has another {variable} in the same cases"
            raise UsageError(
                f"{first} and {name} were scored on different data", why=why
            )
