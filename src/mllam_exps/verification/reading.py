"""Reads forecasts and truth as plain arrays of the points that count, a few at a time.

An *entry* is a variable, or one level of it. The arrays have the dimensions (…, entry,
point), and no more of a dataset is in memory than was asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import NotFinite
from mllam_exps.verification.layout import (
    LEAD,
    MEMBER,
    REFERENCE,
    TIME,
    grid_of,
    lead_times,
)
from mllam_exps.verification.measures import STANDARD_DEVIATION, TENTHS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Times = NDArray[np.datetime64]
    Steps = NDArray[np.timedelta64]

KEPT_BYTES = 2**28
"""How much of the truth is kept for the next forecasts, which begin a few hours later."""
PIECE_BYTES = 2**26


@dataclass(frozen=True)
class Variable:
    """A variable that is scored, with its dimensions beside time, members and grid."""

    name: str
    others: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def entries(self) -> int:
        """How many entries it has."""
        count = 1
        for length in self.shape:
            count *= length
        return count


def variable_of(dataset: Any, name: str, grid: Sequence[str]) -> Variable:
    """Return a variable with the dimensions that are neither its grid's nor those of time and members."""
    known = {REFERENCE, LEAD, MEMBER, TIME, *grid}
    others = tuple(str(one) for one in dataset[name].dims if one not in known)
    return Variable(name, others, tuple(dataset.sizes[one] for one in others))


class Truth:
    """What was: a dataset with the dimension ``time``, read at the times that are asked for."""

    def __init__(self, dataset: Any, inside: NDArray[np.bool_]) -> None:
        self.dataset = dataset
        self.grid = grid_of(dataset, "the truth")
        self.times = dataset.indexes[TIME]
        self._inside = inside.ravel()
        self._kept: OrderedDict[int, Array] = OrderedDict()
        self._variables: tuple[Variable, ...] = ()

    def choose(self, variables: Sequence[Variable]) -> None:
        """Say which variables are read from now on."""
        self._variables = tuple(variables)
        self._kept.clear()

    def at(self, times: Times) -> Array:
        """Return the truth at some times: (time, entry, point); missing where there is none."""
        import numpy as np

        places = self.times.get_indexer(times.ravel())
        wanted = sorted({int(place) for place in places if place >= 0})
        new = [place for place in wanted if place not in self._kept]
        if new:
            self._kept.update(zip(new, self._read(new), strict=True))
        entries = sum(one.entries for one in self._variables)
        found = np.full((len(places), entries, int(self._inside.sum())), np.nan)
        for number, place in enumerate(places):
            if place >= 0:
                found[number] = self._kept[int(place)]
                self._kept.move_to_end(int(place))
        while len(self._kept) > 1 and self._kept_bytes > KEPT_BYTES:
            self._kept.popitem(last=False)
        return found.reshape(*times.shape, *found.shape[1:])

    def pieces(self, start: Any, end: Any) -> Iterator[tuple[Times, Array]]:
        """Yield all times of a span, and the truth there, a few at a time."""
        chosen = self.times.slice_indexer(start, end)
        places = list(range(len(self.times)))[chosen]
        each = sum(one.entries for one in self._variables) * len(self._inside) * 8
        step = max(1, PIECE_BYTES // each)
        for begin in range(0, len(places), step):
            some = places[begin : begin + step]
            yield self.times[some].values, self._read(some)

    @property
    def _kept_bytes(self) -> int:
        return len(self._kept) * next(iter(self._kept.values())).nbytes

    def _read(self, places: list[int]) -> Array:
        some = self.dataset[[one.name for one in self._variables]]
        loaded = some.isel({TIME: places}).load()
        return stacked(loaded, self._variables, (TIME,), self.grid, self._inside)


class Forecast:
    """One source of forecasts, in the community's layout.

    Parameters
    ----------
    name : str
        What it is called among the sources.
    dataset : xarray.Dataset
    inside : ndarray of bool
        The points that are read, in the grid's shape.
    kept_bytes : int
        How much it may keep: forecasts are stored with all their lead times together,
        and would be read again for each few of them.
    """

    def __init__(
        self,
        name: str,
        dataset: Any,
        inside: NDArray[np.bool_],
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.name = name
        self.dataset = dataset
        self._grid = grid_of(dataset, name)
        self._inside = inside.ravel()
        self._kept_bytes = kept_bytes
        self._kept: tuple[Any, Any] = (None, None)

    @property
    def starts(self) -> Times:
        """When its forecasts start."""
        return self.dataset.indexes[REFERENCE].values  # type: ignore[no-any-return]

    @property
    def leads(self) -> Steps:
        """How far its forecasts go."""
        return lead_times(self.dataset, self.name)

    @property
    def members(self) -> int:
        """How many members it has; 1 of a single forecast."""
        return int(self.dataset.sizes.get(MEMBER, 1))

    @property
    def has_spread(self) -> bool:
        """Whether it has several members, or a standard deviation."""
        names = map(str, self.dataset.data_vars)
        return self.members > 1 or any(
            one.endswith(STANDARD_DEVIATION) for one in names
        )

    @property
    def ranks(self) -> int:
        """How many ranks the truth may have among its members, or in its normal distribution; 0 without a spread."""
        if self.members > 1:
            return self.members + 1
        return TENTHS if self.has_spread else 0

    def read_deviation(
        self, starts: Times, leads: Steps, variables: Sequence[Variable]
    ) -> Array | None:
        """Return the forecast standard deviations as (start, lead, entry, point), None where there are none."""
        deviations = [
            replace(one, name=f"{one.name}{STANDARD_DEVIATION}") for one in variables
        ]
        if self.members > 1:
            return None
        found = self.read(starts, leads, deviations)
        return None if found is None else found[:, :, 0]

    def read(
        self, starts: Times, leads: Steps, variables: Sequence[Variable]
    ) -> Array | None:
        """Return forecasts as (start, lead, member, entry, point), missing where there are none.

        Returns
        -------
        ndarray or None
            None where there is none of these at all.

        Raises
        ------
        CheckFailed
            If a forecast that is there holds a value that is missing or infinite.
        """
        import numpy as np

        rows, columns = (
            np.array([places.get(one, -1) for one in wanted], dtype=int)
            for places, wanted in (
                (_places(self.starts), starts.tolist()),
                (_places(self.leads), leads.tolist()),
            )
        )
        have = [one for one in variables if one.name in self.dataset.data_vars]
        if not have or max(rows) < 0 or max(columns) < 0:
            return None
        loaded = self._loaded(
            tuple(one.name for one in have),
            tuple(rows[rows >= 0].tolist()),
            columns[columns >= 0],
        )
        if MEMBER not in loaded.dims:
            loaded = loaded.expand_dims(MEMBER)
        first = (REFERENCE, LEAD, MEMBER)
        values = stacked(loaded, have, first, self._grid, self._inside)
        self._check(values, loaded, have)
        entries = sum(one.entries for one in variables)
        shape = (len(starts), len(leads), self.members, entries, values.shape[-1])
        found = np.full(shape, np.nan)
        at: tuple[Any, ...] = np.ix_(
            np.flatnonzero(rows >= 0), np.flatnonzero(columns >= 0)
        )
        place = read = 0
        for one in variables:
            if one in have:
                piece = values[..., read : read + one.entries, :]
                found[(*at, slice(None), slice(place, place + one.entries))] = piece
                read += one.entries
            place += one.entries
        return found

    def _loaded(
        self, names: tuple[str, ...], starts: tuple[int, ...], leads: Any
    ) -> Any:
        """Return some forecasts in memory; with all their lead times, if these may be kept for the next call."""
        some = self.dataset[list(names)].isel({REFERENCE: list(starts)})
        if some.nbytes > self._kept_bytes:
            return some.isel({LEAD: leads}).load()
        if self._kept[0] != (names, starts):
            self._kept = (None, None)  # before the next is read, or both are in memory
            self._kept = ((names, starts), some.load())
        return self._kept[1].isel({LEAD: leads})

    def _check(self, values: Array, loaded: Any, have: Sequence[Variable]) -> None:
        """Refuse a value that is missing or infinite."""
        import numpy as np

        bad = ~np.isfinite(values)
        if not bad.any():
            return
        start, lead, _, entry, _ = (int(one[0]) for one in np.nonzero(bad))
        names = [one.name for one in have for _ in range(one.entries)]
        when = np.datetime_as_string(loaded[REFERENCE].values[start], unit="m")
        hours = lead_times(loaded, self.name)[lead] / np.timedelta64(1, "h")
        what = f"the forecast of {names[entry]} from {when} holds values that are missing or infinite at {hours:g} h"
        raise NotFinite(what, where=self.name)


def stacked(
    loaded: Any,
    variables: Sequence[Variable],
    first: Sequence[str],
    grid: Sequence[str],
    inside: NDArray[np.bool_],
) -> Array:
    """Return variables as one array (…, entry, point) of the points that count."""
    import numpy as np

    pieces = []
    for one in variables:
        values = loaded[one.name].transpose(*first, *one.others, *grid).values
        shape = values.shape[: len(first)]
        flat = values.reshape(*shape, one.entries, -1)
        pieces.append(flat[..., inside].astype("float64"))
    return np.concatenate(pieces, axis=-2)


def _places(values: Any) -> dict[Any, int]:
    return {one: number for number, one in enumerate(values.tolist())}
