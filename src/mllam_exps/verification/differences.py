"""Paired differences between sources of forecasts, and whether they are more than chance.

Both sources forecast the same weather, so most of their error is common, and goes out
where the difference is taken case by case, before any mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.verification import bootstrap
from mllam_exps.verification.bootstrap import LEVELS, RESAMPLES, SEED
from mllam_exps.verification.table import CASE, SOURCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMON, PAIRWISE = "common", "pairwise"
LEVEL = "level_of_confidence"
COMPARED = ("rmse", "mae", "crps", "acc")
"""The scores of which a larger or smaller one is better; the others have no better side."""
HIGHER_IS_BETTER = ("acc",)
LONG_NAMES = {
    "difference": "difference in {}: source less reference",
    "lower": "lower end of the interval of the difference in {}",
    "upper": "upper end of the interval of the difference in {}",
    "cases": "number of cases of the difference in {}",
    "confidence": "highest level at which the difference in {} is more than chance; "
    "0 at none, missing where it cannot be judged",
}


def compare(
    scores: Any,
    reference: str,
    *,
    cases: str = COMMON,
    levels: Sequence[float] = LEVELS,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Any:
    """Compare every source with one of them.

    Parameters
    ----------
    scores : xarray.Dataset
        As `scorecard.score` makes them.
    reference : str
        The source that the others are compared with.
    cases : {"common", "pairwise"}
        Which cases count: those that all sources have, which have this score at all;
        or those that a source shares with the reference, which are other ones for
        each.
    levels, resamples, seed
        Of the intervals (`bootstrap.means`).

    Returns
    -------
    xarray.Dataset
        For each ``{score}.{variable}`` the mean difference, source less reference, as
        ``difference.…``, with ``lower.…`` and ``upper.…`` by level of confidence;
        ``cases.…``, how many cases there are; and ``confidence.…``, the highest level
        whose interval leaves out zero: 0 where none does, missing (NaN) where there are
        too few cases to know.

    Raises
    ------
    CheckFailed
        If there is no such source, or no case in common.
    """
    import numpy as np
    import xarray as xr

    sources = [str(one) for one in scores[SOURCE].values]
    if reference not in sources:
        what = f"there is no source {reference}: there are {', '.join(sources)}"
        raise CheckFailed(what)
    others = [one for one in sources if one != reference]
    found: dict[str, Any] = {}
    some = False
    for name in map(str, scores.data_vars):
        if name.partition(".")[0] not in COMPARED or SOURCE not in scores[name].dims:
            continue
        whole = scores[name].transpose(SOURCE, CASE, ...)
        difference = whole.sel({SOURCE: others}) - whole.sel({SOURCE: reference})
        difference.attrs = dict(whole.attrs)
        if cases == COMMON:
            difference = difference.where(_in_all(whole))
        some = some or bool(difference.notnull().any())
        told = {"levels": levels, "resamples": resamples, "seed": seed}
        found |= _of_variable(name, difference, **told)
    if not some:
        what = f"{' and '.join(others)} have no case in common with {reference}"
        raise CheckFailed(what)
    coordinates = {LEVEL: np.asarray(levels, dtype="float64")}
    made = xr.Dataset(found).assign_coords(coordinates)
    return made.assign_attrs(
        reference=reference,
        comment=f"Each difference is that of a source less that of {reference}, averaged over the cases",
        cases=cases,
        resamples=resamples,
        seed=seed,
    )


def _in_all(whole: Any) -> Any:
    """Return which cases all sources have that have this score at all."""
    there = whole.notnull()
    never = ~there.any(CASE)
    return (there | never).all(SOURCE)


def _of_variable(name: str, difference: Any, **told: Any) -> dict[str, Any]:
    """Return what is known of the differences in one score."""
    import numpy as np
    import xarray as xr

    ordered = difference.transpose(..., CASE)
    shape = ordered.shape[:-1]
    series = ordered.values.reshape(-1, ordered.sizes[CASE])
    interval = bootstrap.means(series, ordered[CASE].values, **told)
    cell = ordered.isel({CASE: 0}, drop=True)
    levels = np.asarray(told["levels"])

    def by_cell(values: NDArray[Any]) -> Any:
        return cell.copy(data=values.reshape(shape))

    def by_level(values: NDArray[Any]) -> Any:
        dims = (LEVEL, *cell.dims)
        return xr.DataArray(values.reshape(-1, *shape), cell.coords, dims)

    mean, width = interval.mean, interval.half_width
    beyond = np.abs(mean) > width
    confidence = np.where(beyond, levels[:, None], 0.0).max(axis=0)
    confidence[np.isnan(width).all(axis=0)] = np.nan
    found = {
        "difference": by_cell(mean),
        "lower": by_level(mean - width),
        "upper": by_level(mean + width),
        "cases": by_cell(interval.cases),
        "confidence": by_cell(confidence),
    }
    for kind, one in found.items():
        one.attrs = _attributes(kind, difference.attrs)
    return {f"{kind}.{name}": one for kind, one in found.items()}


def _attributes(kind: str, said: Mapping[str, Any]) -> dict[str, str]:
    """Return what is written beside a difference, of what is said of its score."""
    of = said.get("long_name", "the score")
    units = "1" if kind in {"cases", "confidence"} else str(said.get("units", "1"))
    return {"long_name": LONG_NAMES[kind].format(of), "units": units}


def is_better(name: str, difference: Any) -> Any:
    """Return where a difference of a score says that the source is the better one."""
    if name.partition(".")[0] in HIGHER_IS_BETTER:
        return difference > 0
    return difference < 0
