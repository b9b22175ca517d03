"""The scores of forecasts against the truth over the points of a region, by `scores` where it has them.

Every function takes arrays with the dimension ``point``, and what each point counts;
every other dimension stays. A point without truth does not count.
"""

from __future__ import annotations

from typing import Any

POINT, RANK = "point", "rank"

UNITS = {"acc": "1", "rank_histogram": "1"}
"""Of the scores that do not have their variable's units."""
SQUARED = ("spectrum", "truth_spectrum")
"""The scores that have the square of their variable's units."""
NO_SCORES = ("truth_activity", "spectrum", "truth_spectrum", "rank_histogram")
"""What is no score of a forecast, to be compared with that of another one."""
OF_SPREAD = ("crps", "spread")
"""The scores of ensembles, and of forecasts with a standard deviation."""
TENTHS = 10
"""Into how many equally likely parts a forecast normal distribution is divided, for the rank of the truth in it."""
STANDARD_DEVIATION = "_std"
"""Behind a variable's name: the standard deviation that is forecast with it."""
LONG_NAMES = {
    "rmse": "root mean square error",
    "mae": "mean absolute error",
    "bias": "mean error",
    "acc": "anomaly correlation coefficient",
    "activity": "standard deviation of the forecast anomaly",
    "truth_activity": "standard deviation of the anomaly of the truth",
    "crps": "fair continuous ranked probability score",
    "spread": "root mean square of the forecast's own standard deviation",
    "rank_histogram": "share of the points by the rank of the truth among the members",
    "spectrum": "variance by wavelength",
    "truth_spectrum": "variance of the truth by wavelength",
}


def deterministic(
    forecast: Any, truth: Any, normal: Any, weights: Any
) -> dict[str, Any]:
    """Return the scores of a single forecast, or of the mean of an ensemble.

    Parameters
    ----------
    forecast, truth, normal : xarray.DataArray
        ``normal`` is the climatology at the valid times, for the anomalies.
    weights : xarray.DataArray
        What each point counts.
    """
    import numpy as np
    from scores import continuous

    told = {"reduce_dims": [POINT], "weights": weights}
    error = continuous.mse(forecast, truth, **told)
    departure = _centred((forecast - normal).where(truth.notnull()), weights)
    true_departure = _centred(truth - normal, weights)
    variance, true_variance = (
        _mean(one**2, weights) for one in (departure, true_departure)
    )
    together = _mean(departure * true_departure, weights)
    # A forecast of the climatology itself has no anomaly, and so no correlation; with
    # single-precision data it has one of rounding.
    scale = np.sqrt(variance * true_variance)
    some = variance > 1e-12 * true_variance
    return {
        "rmse": np.sqrt(error),
        "mae": continuous.mae(forecast, truth, **told),
        "bias": continuous.additive_bias(forecast, truth, **told),
        "acc": (together / scale.where(scale > 0)).where(some),
        "activity": np.sqrt(variance),
    }


def truth_activity(truth: Any, normal: Any, weights: Any) -> Any:
    """Return how much the truth departs from the climatology: what a forecast's activity should be."""
    import numpy as np

    return np.sqrt(_mean(_centred(truth - normal, weights) ** 2, weights))


def of_members(forecast: Any, truth: Any, weights: Any, member: str) -> dict[str, Any]:
    """Return the scores of an ensemble, along its dimension `member`.

    The fair CRPS is what an ensemble of infinitely many such members would have; one
    member's is its mean absolute error.
    """
    import numpy as np
    from scores import continuous, probability

    if forecast.sizes[member] == 1:
        one = forecast.isel({member: 0})
        crps = continuous.mae(one, truth, reduce_dims=[POINT], weights=weights)
        return {"crps": crps, "spread": crps * np.nan}
    crps = probability.crps_for_ensemble(
        forecast, truth, member, method="fair", reduce_dims=[POINT], weights=weights
    )
    variance = forecast.var(member, ddof=1).where(truth.notnull())
    return {"crps": crps, "spread": np.sqrt(_mean(variance, weights))}


def of_normal(mean: Any, deviation: Any, truth: Any, weights: Any) -> dict[str, Any]:
    """Return the scores of forecasts of a normal distribution.

    Its CRPS has a closed form (Gneiting, Raftery, Westveld and Goldman 2005), which
    `scores` 2.7 has not.
    """
    import numpy as np
    from scipy.special import ndtr

    off = (truth - mean) / deviation
    density = np.exp(-(off**2) / 2) / np.sqrt(2 * np.pi)
    crps = off * (2 * ndtr(off) - 1) + 2 * density - 1 / np.sqrt(np.pi)
    variance = (deviation**2).where(truth.notnull())
    return {
        "crps": _mean(deviation * crps, weights),
        "spread": np.sqrt(_mean(variance, weights)),
    }


def ranks_of_members(forecast: Any, truth: Any, weights: Any, member: str) -> Any:
    """Return the share of the points at which 0, 1, … all members lie below the truth, with a last dimension ``rank``.

    Of a reliable ensemble all shares are the same (Hamill 2001). Where members equal the
    truth, the point counts in equal parts for each rank that the truth may have.
    """
    is_there = truth.notnull() & forecast.notnull().all(member)
    below = (forecast < truth).sum(member).where(is_there)
    equal = (forecast == truth).sum(member).where(is_there)
    return _shares(below, equal, forecast.sizes[member] + 1, weights)


def ranks_in_normal(mean: Any, deviation: Any, truth: Any, weights: Any) -> Any:
    """Return the share of the points whose truth lies in each tenth of a forecast normal distribution."""
    import numpy as np
    from scipy.special import ndtr

    tenth = np.floor(TENTHS * ndtr((truth - mean) / deviation))
    return _shares(tenth.clip(max=TENTHS - 1), tenth * 0, TENTHS, weights)


def _shares(lowest: Any, more: Any, ranks: int, weights: Any) -> Any:
    """Return what share of the points has each rank, where one has any from `lowest` to `more` above it."""
    import xarray as xr

    part = 1 / (more + 1)
    found = [
        _mean(part.where((lowest <= rank) & (rank <= lowest + more), part * 0), weights)
        for rank in range(ranks)
    ]
    return xr.concat(found, RANK)


def _mean(values: Any, weights: Any) -> Any:
    """Return the weighted mean over the points that have a value."""
    import numpy as np

    # One product of a matrix, where xarray reads the values four times; a point
    # without a value makes it missing.
    ordered = values.transpose(..., POINT)
    found = ordered.values @ weights.values / weights.values.sum()
    if np.isfinite(found).all():
        return ordered.isel({POINT: 0}, drop=True).copy(data=found)
    return values.weighted(weights).mean(POINT)


def _centred(values: Any, weights: Any) -> Any:
    return values - _mean(values, weights)
