"""The climatology: what a place has at an hour of the day, and a day of the year, on average.

It is made of the training's times alone: a forecast that knew the test's would not be
fair. Where they span a year or more, the mean of each hour of the day changes over the
year as two harmonics do, fitted by least squares: fewer numbers than a mean for each
day, and a better estimate from few years (Narapusetty, DelSole and Tippett 2009).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

HARMONICS = 2
YEAR_DAYS = 365.2425
LONG_ENOUGH_DAYS = 365


class Climatology:
    """Means by hour of day and, of a year or more, by day of year.

    Parameters
    ----------
    times : ndarray of datetime64
        All times that it is made of.
    """

    def __init__(self, times: NDArray[np.datetime64]) -> None:
        import numpy as np

        if not len(times):
            raise CheckFailed(
                "the training split holds no time, so there is no climatology"
            )
        self._minutes = np.unique(_minute_of_day(times))
        span = (times.max() - times.min()) / np.timedelta64(1, "D")
        self.by_day_of_year = bool(span >= LONG_ENOUGH_DAYS)
        self._matrix = np.zeros((len(self._minutes), *(2 * [self._count])))
        self._right: Any = None
        self._fitted: Any = None

    @property
    def _count(self) -> int:
        return 1 + 2 * HARMONICS if self.by_day_of_year else 1

    @property
    def numbers(self) -> int:
        """How many numbers it keeps for each point and variable, while it is made."""
        return 2 * len(self._minutes) * self._count

    def add(self, times: NDArray[np.datetime64], values: Array) -> None:
        """Take in some of the times; the first dimension of `values` is theirs."""
        import numpy as np

        if self._right is None:
            shape = (len(self._minutes), self._count, *values.shape[1:])
            self._right = np.zeros(shape)
        waves = self._waves(times)
        for number, hour in enumerate(self._minutes):
            chosen = _minute_of_day(times) == hour
            if np.any(chosen):
                some = waves[chosen]
                self._matrix[number] += some.T @ some
                self._right[number] += np.tensordot(some, values[chosen], (0, 0))

    def finish(self) -> None:
        """Fit the means: `at` can be asked now."""
        import numpy as np

        # The smallest solution where some hour was seen on few days only.
        solve = np.linalg.pinv(self._matrix, rcond=1e-10, hermitian=True)
        self._fitted = np.empty_like(self._right)
        for number, one in enumerate(self._right):
            self._fitted[number] = np.tensordot(solve[number], one, (1, 0))
        self._right = None

    def at(self, times: NDArray[np.datetime64]) -> Array:
        """Return the means at some times; missing at an hour of the day that the training has not.

        Hours that are not there are missing, and so are the scores.
        """
        import numpy as np

        found = np.full((len(times), *self._fitted.shape[2:]), np.nan)
        waves = self._waves(times)
        place = np.searchsorted(self._minutes, _minute_of_day(times))
        place = np.minimum(place, len(self._minutes) - 1)
        known = self._minutes[place] == _minute_of_day(times)
        for number in np.flatnonzero(known):
            found[number] = np.tensordot(
                waves[number], self._fitted[place[number]], (0, 0)
            )
        return found

    def _waves(self, times: NDArray[np.datetime64]) -> Array:
        import numpy as np

        columns = [np.ones(len(times))]
        if self.by_day_of_year:
            days = (times - np.datetime64("2000-01-01", "ns")) / np.timedelta64(1, "D")
            for harmonic in range(1, HARMONICS + 1):
                angle = 2 * np.pi * harmonic * days / YEAR_DAYS
                columns += [np.cos(angle), np.sin(angle)]
        return np.stack(columns, axis=1)


def fit(
    times: NDArray[np.datetime64],
    pieces: Iterable[tuple[NDArray[np.datetime64], Array]],
) -> Climatology:
    """Make the climatology of values that come piece by piece: a year of them does not fit into memory."""
    made = Climatology(times)
    for some, values in pieces:
        made.add(some, values)
    made.finish()
    return made


def _minute_of_day(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    import numpy as np

    day = times.astype("datetime64[D]")
    return ((times - day) // np.timedelta64(1, "m")).astype(np.int64)  # type: ignore[no-any-return]
