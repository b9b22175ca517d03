"""Scores of a forecast beside those of persistence: the forecast that nothing changes.

neural-lam writes RMSE and MAE by lead time and variable; the same of persistence is
computed here from the dataset, over the same initial times, the same interior of the
grid, and averaged in the same order, so that the two can be compared.
"""

from __future__ import annotations

import csv
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.neural_lam.data.zarr_check import (
    interior,
    splits,
    time_dimension,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BLOCK = 16
"""Times read at once."""


@dataclass(frozen=True)
class Score:
    """One variable at one lead time, in the variable's units; a row of ``plots/scores.csv``."""

    variable: str
    units: str
    lead_hours: float
    rmse: float
    mae: float
    persistence_rmse: float
    persistence_mae: float

    @property
    def gain(self) -> float:
        """How much lower the RMSE is than that of persistence, 1 being a perfect forecast."""
        return (
            1 - self.rmse / self.persistence_rmse
            if self.persistence_rmse
            else float(not self.rmse)
        )


@dataclass(frozen=True)
class Sampling:
    """Which forecasts neural-lam makes of a split (``WeatherDataset`` of 0.7.0).

    Parameters
    ----------
    split : str
        ``val`` or ``test``.
    steps : int
        Steps of each forecast (``ar_steps_eval``).
    past, future : int
        Width of the forcing window (``num_past_forcing_steps``,
        ``num_future_forcing_steps``).
    limit : int, optional
        No more than the first so many forecasts.
    single_member : bool
        Only the first member of an ensemble.
    """

    split: str
    steps: int
    past: int = 1
    future: int = 1
    limit: int | None = None
    single_member: bool = False

    @property
    def first(self) -> int:
        """Index of the first initial time in the split: a forecast begins from two states at least."""
        return max(2, self.past) - 1

    def count(self, times: int) -> int:
        """Return how many forecasts a series of so many times gives."""
        count = max(0, times - (max(2, self.past) + self.steps + self.future) + 1)
        return count if self.limit is None else min(count, self.limit)


def persistence(dataset: Any, sampling: Sampling) -> tuple[Array, Array]:
    """Score the forecast that nothing changes.

    Parameters
    ----------
    dataset : xarray.Dataset
        The dataset that mllam-data-prep made.
    sampling : Sampling
        Which forecasts.

    Returns
    -------
    rmse, mae : ndarray
        By step and variable, in the variables' units. neural-lam takes the root of the
        mean over forecasts of the mean over grid points, of normalised values, and
        undoes the normalisation: the same number. On several devices Lightning hands
        out some forecasts twice, to give each as many; neural-lam counts both.

    Raises
    ------
    CheckFailed
        If the split is too short for a single forecast.
    """
    import numpy as np

    squared: Any = 0.0
    absolute: Any = 0.0
    count = 0
    for initial, later in forecasts(dataset, sampling):
        error = later - initial
        squared = squared + np.mean(error**2, axis=1)
        absolute = absolute + np.mean(np.abs(error), axis=1)
        count += 1
    if not count:
        raise CheckFailed(
            f"split {sampling.split!r} is too short for a forecast of {sampling.steps} steps"
        )
    return np.sqrt(squared / count), absolute / count


def forecasts(dataset: Any, sampling: Sampling) -> Iterator[tuple[Array, Array]]:
    """Yield an initial state ``(points, variables)`` and those to forecast ``(steps, points, variables)``."""
    dimension = time_dimension(dataset)
    start, end = splits(dataset)[sampling.split]
    state = dataset["state"].sel({dimension: slice(start, end)})
    inside = interior(dataset)
    members: Iterable[int | None] = [None]
    if "ensemble_member" in state.dims:
        members = range(1 if sampling.single_member else state.sizes["ensemble_member"])
    for member in members:
        one = state if member is None else state.isel(ensemble_member=member)
        if dimension == "time":
            yield from _of_series(
                states(one, "time", inside), one.sizes["time"], sampling
            )
            continue
        # A dataset of forecasts: each gives one sample, from its own beginning.
        for number in range(
            one.sizes["analysis_time"] if sampling.limit is None else sampling.limit
        ):
            run = states(
                one.isel(analysis_time=number), "elapsed_forecast_duration", inside
            )
            series = list(run)[sampling.first : sampling.first + sampling.steps + 1]
            yield series[0], _stack(series[1:])


def states(state: Any, dimension: str, inside: NDArray[np.bool_]) -> Iterator[Array]:
    """Yield the interior of each state in turn, reading a few at a time: a year does not fit into memory."""
    ordered = state.transpose(dimension, "grid_index", "state_feature")
    for begin in range(0, ordered.sizes[dimension], BLOCK):
        yield from (
            ordered.isel({dimension: slice(begin, begin + BLOCK)})
            .values[:, inside]
            .astype("float64")
        )


def _of_series(
    series: Iterator[Array], times: int, sampling: Sampling
) -> Iterator[tuple[Array, Array]]:
    window: deque[Array] = deque(maxlen=sampling.steps + 1)
    last = sampling.first + sampling.count(times)
    for index, state in enumerate(series):
        window.append(state)
        initial = index - sampling.steps
        if sampling.first <= initial < last:
            yield window[0], _stack(list(window)[1:])


def _stack(series: list[Array]) -> Array:
    import numpy as np

    return np.stack(series)


def step_hours(dataset: Any) -> float:
    """Return the length of a step in hours."""
    import numpy as np

    times = dataset[
        "time" if "time" in dataset["state"].dims else "elapsed_forecast_duration"
    ].values
    return float((times[1] - times[0]) / np.timedelta64(1, "h"))


def read_matrix(path: Path) -> Array:
    """Read a CSV of neural-lam's: a row for each step, a column for each variable.

    Raises
    ------
    CheckFailed
        If it is missing or not full of numbers.
    """
    import numpy as np

    try:
        return np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise CheckFailed(
            "neural-lam left no readable scores", where=str(path), why=str(error)
        ) from error


def combine(dataset: Any, sampling: Sampling, rmse: Array, mae: Array) -> list[Score]:
    """Put neural-lam's scores and those of persistence side by side.

    Raises
    ------
    CheckFailed
        If neural-lam scored other steps or variables than asked for.
    """
    names = [str(name) for name in dataset["state_feature"].values]
    units = [str(unit) for unit in dataset["state_feature_units"].values]
    expected = (sampling.steps, len(names))
    for found in (rmse.shape, mae.shape):
        if found != expected:
            what = f"scores of {found[0]} steps and {found[1]} variables, not of {expected[0]} and {expected[1]}"
            raise CheckFailed(what)
    still_rmse, still_mae = persistence(dataset, sampling)
    step = step_hours(dataset)
    return [
        Score(
            name,
            units[v],
            step * (s + 1),
            *(float(matrix[s, v]) for matrix in (rmse, mae, still_rmse, still_mae)),
        )
        for v, name in enumerate(names)
        for s in range(sampling.steps)
    ]


def write_csv(path: Path, scores: Iterable[Score]) -> None:
    """Write ``plots/scores.csv``; whole hours without a decimal point, as they are axis labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [field.name for field in fields(Score)], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(
            {**asdict(score), "lead_hours": f"{score.lead_hours:g}"} for score in scores
        )


def read_csv(path: Path) -> list[Score]:
    """Read ``plots/scores.csv``.

    Raises
    ------
    CheckFailed
        If it is missing, or not as `write_csv` wrote it.
    """
    numbers = [field.name for field in fields(Score)][2:]
    try:
        with path.open(newline="") as file:
            return [
                Score(
                    row["variable"],
                    row["units"],
                    *(float(row[name]) for name in numbers),
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckFailed(
            "there are no readable scores", where=str(path), why=str(error)
        ) from error


def check(
    scores: list[Score],
    variables: Iterable[str],
    leads: Iterable[float],
    where: str = "",
) -> None:
    """Refuse scores that are not complete or not finite.

    Raises
    ------
    CheckFailed
        Naming variable and lead time.
    """
    found = {(score.variable, score.lead_hours): score for score in scores}
    wanted = [(variable, lead) for variable in variables for lead in leads]
    for variable, lead in wanted:
        score = found.get((variable, lead))
        if score is None:
            raise CheckFailed(f"no score of {variable} at {lead:g} h", where=where)
        for name in ("rmse", "mae", "persistence_rmse", "persistence_mae"):
            if not math.isfinite(getattr(score, name)):
                raise CheckFailed(
                    f"{name} of {variable} at {lead:g} h is {getattr(score, name)}",
                    where=where,
                    next="look for missing values in data/datastore.zarr, or train again with a lower lr",
                )
    if len(scores) != len(wanted):
        raise CheckFailed(
            f"{len(scores)} scores, {len(wanted)} were expected", where=where
        )


def summary(scores: list[Score]) -> dict[str, Any]:
    """Return the few numbers by which experiments are compared: ``metrics/evaluate.json``.

    `dvc exp show` makes a column of each number, so there are three a variable: RMSE
    and MAE at the longest lead time, and the gain over persistence as the mean of all
    lead times; with the mean of all variables, a single number for sweeps. All lead
    times are in ``plots/scores.csv``.
    """
    by_variable: dict[str, list[Score]] = {}
    for score in scores:
        by_variable.setdefault(score.variable, []).append(score)
    lead = f"{max(score.lead_hours for score in scores):02g}h"
    rmse, mae, gain = {}, {}, {}
    for variable, its_scores in by_variable.items():
        last = max(its_scores, key=lambda score: score.lead_hours)
        rmse[variable] = {lead: last.rmse}
        mae[variable] = {lead: last.mae}
        gain[variable] = _mean([score.gain for score in its_scores])
    gain["mean"] = _mean(list(gain.values()))
    return {"rmse": rmse, "mae": mae, "gain_over_persistence": gain}


def _mean(gains: Sequence[float]) -> float:
    return round(sum(gains) / len(gains), 6)
