"""How far the mean of a series of cases may be off, where neighbouring cases share their weather.

The interval is that of a moving-block bootstrap, made honest for few and correlated
cases. Blocks alone are not enough: they are cut where the weather goes on, so the plain
percentile interval of a mean is too narrow, and under no difference it calls 6 to 27
of a hundred different at 95 %. Three things mend it, and each has its reason:

1. *Prewhitening* (Andrews and Monahan 1992; with the block bootstrap Romano and Wolf
   2006): the series is first freed of what each case has from the one before, by an
   autoregression of first order whose coefficient is corrected for its bias (Kendall
   1954). The bootstrap works on what is left, and the autoregression is put back.
2. *A symmetric interval*, of the absolute deviations of the resampled means, which
   covers better than one of two percentiles (Romano and Wolf 2006).
3. *Few blocks are a small sample*: the deviations are widened by the ratio of Student's
   t to the normal quantile, for the degrees of freedom that overlapping blocks have,
   1.5 (n/l - 1) (Meketon and Schmeiser 1984), or one less than there are independent
   cases, if that is fewer; and by what overlapping blocks lack of the variance,
   1 / (1 - l/n).

``docs/verification.md`` says what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEVELS = (0.68, 0.95, 0.997)
RESAMPLES = 2000
SEED = 20260101
SPAN_DAYS = 10
"""Weather is forgotten after that long: what a block spans, where there are cases enough."""
LEAST_BLOCKS = 6
LEAST_INDEPENDENT = 12
"""With fewer cases than that, counting those alike as one, no interval is known."""
_STEEPEST = 0.97
_BATCH = 64
"""Series that are resampled at once: 2000 means of each are in memory."""


@dataclass(frozen=True)
class Interval:
    """Means of some series, and how far each may be off.

    Parameters
    ----------
    mean : ndarray
        By series.
    half_width : ndarray
        By level and series: the truth lies within so much of the mean; missing where
        there are too few cases to know.
    cases, independent : ndarray
        By series: how many cases there are, and to how many independent ones they
        amount.
    """

    mean: Array
    half_width: Array
    cases: NDArray[np.int64]
    independent: Array


def block_length(times: NDArray[np.datetime64]) -> int:
    """Return how many cases a block has: as many as start in ten days, but a sixth of all at most.

    Parameters
    ----------
    times : ndarray of datetime64
        When the cases start; what counts is the usual time between two.
    """
    import numpy as np

    most = len(times) // LEAST_BLOCKS
    if most < 2:
        return 1
    cadence = np.median(np.diff(np.sort(times)) / np.timedelta64(1, "D"))
    return max(1, min(most, round(SPAN_DAYS / float(cadence))))


def means(
    series: Array,
    times: NDArray[np.datetime64],
    *,
    levels: Sequence[float] = LEVELS,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Return the mean of each series, and how far it may be off.

    Parameters
    ----------
    series : ndarray
        (series, case); a case that is missing (NaN) in a series is left out of it.
    times : ndarray of datetime64
        When the cases start, in order.
    levels : sequence of float
        How sure the intervals are.
    resamples : int
    seed : int
        The same for the same result. All series that have the same cases are resampled
        alike, so that what holds between two of them is kept.
    """
    import numpy as np

    there = np.isfinite(series)
    count = len(series)
    found = Interval(
        np.full(count, np.nan),
        np.full((len(levels), count), np.nan),
        there.sum(axis=1),
        np.full(count, np.nan),
    )
    patterns, of = np.unique(there, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = np.flatnonzero(of.ravel() == number)
        if pattern.sum() < 2:
            continue
        of_pattern = series[np.ix_(rows, pattern)]
        draw = _Resampling(times[pattern], levels, resamples, seed)
        for begin in range(0, len(rows), _BATCH):
            some = slice(begin, begin + _BATCH)
            mean, half_width, independent = draw.of(of_pattern[some])
            found.mean[rows[some]] = mean
            found.half_width[:, rows[some]] = half_width
            found.independent[rows[some]] = independent
    return found


class _Resampling:
    """Blocks drawn once, for all series that have the same cases."""

    def __init__(
        self,
        times: NDArray[np.datetime64],
        levels: Sequence[float],
        resamples: int,
        seed: int,
    ) -> None:
        import numpy as np

        # What is left of n cases without the part of the one before has n - 1.
        self.length, cases = block_length(times), len(times) - 1
        self.cases, self.levels = cases, np.asarray(levels)
        blocks = -(-cases // self.length)
        places = cases - self.length + 1
        starts = np.random.default_rng(seed).integers(0, places, (resamples, blocks))
        self.counts = np.zeros((places, resamples))
        columns = np.repeat(np.arange(resamples), blocks)
        np.add.at(self.counts, (starts.ravel(), columns), 1.0 / blocks)
        self.freedom = max(1.0, 1.5 * (cases / self.length - 1))
        # Whole blocks hold a few cases more than there are.
        self.factor = np.sqrt(blocks * self.length / cases)
        self.factor /= np.sqrt(max(1 - self.length / cases, 1 / cases))

    def of(self, series: Array) -> tuple[Array, Array, Array]:
        """Return mean, half widths by level, and the number of independent cases of some series."""
        import numpy as np

        mean = series.mean(axis=1)
        departures = series - mean[:, None]
        from_before = _from_one_before(departures)
        left = departures[:, 1:] - from_before[:, None] * departures[:, :-1]
        left -= left.mean(axis=1, keepdims=True)
        sums = np.cumsum(np.pad(left, ((0, 0), (1, 0))), axis=1)
        blocks = (sums[:, self.length :] - sums[:, : -self.length]) / self.length
        resampled = blocks @ self.counts
        off = np.abs(resampled - blocks.mean(axis=1, keepdims=True))
        half_width = np.quantile(off, self.levels, axis=1) / (1 - from_before)
        independent = series.shape[1] * (1 - from_before) / (1 + from_before)
        half_width *= self.factor * self._widened(independent)
        # A series that is zero everywhere is no difference, and known to be none.
        known = (independent >= LEAST_INDEPENDENT) | ~departures.any(axis=1)
        return mean, np.where(known, half_width, np.nan), independent

    def _widened(self, independent: Array) -> Array:
        """Return Student's t over the normal quantile, by level and series."""
        import numpy as np
        from scipy import stats

        upper = 0.5 + self.levels[:, None] / 2
        freedom = np.clip(independent - 1, 1.0, self.freedom)
        return np.asarray(stats.t.ppf(upper, freedom) / stats.norm.ppf(upper))


def _from_one_before(departures: Array) -> Array:
    """Return what each case has from the one before, on average: the first autocorrelation, less its bias.

    Negative correlation would make the interval narrower; that is not believed.
    """
    import numpy as np

    cases = departures.shape[1]
    square = (departures**2).sum(axis=1)
    together = (departures[:, 1:] * departures[:, :-1]).sum(axis=1)
    plain = np.divide(together, square, out=np.zeros_like(together), where=square > 0)
    return np.clip(plain + (1 + 3 * plain) / cases, 0.0, _STEEPEST)  # type: ignore[no-any-return]
