"""The layout of a store of forecasts: dimensions, coordinates, CF's attributes, chunks.

It is the one that ``mlwp-data-specs`` (0.1.0) validates as forecasts on a grid; if asked
for, the one that neural-lam's pull requests 104 and 289 and ``mllam-verification`` have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mllam_exps.stages.neural_lam.forecasts.grid import Grid
from mllam_exps.stages.neural_lam.forecasts.names import Variable
from mllam_exps.verification.layout import LEAD, MEMBER, OTHER_WORDS, REFERENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_BYTES = 4 * 2**20
"""Most bytes of a chunk, before compression: one forecast takes few of them, one series of a point reads few bytes."""
CONVENTIONS = "CF-1.11"
START = REFERENCE
VALID = "valid_time"
_ALONG = f"{VALID} latitude longitude interior"
LAYOUTS = (START, "start_time")
"""What a layout is called: by the dimension of the initial times."""


@dataclass(frozen=True)
class Layout:
    """What a store of forecasts holds, and how.

    Parameters
    ----------
    grid : Grid
    variables : sequence of Variable
        Those that are kept, with the standard deviations where the model has them.
    starts : array of datetime64
        The initial times, in order.
    step : timedelta64
        From one lead time to the next.
    steps : int
        How many lead times; the first is one step after the start.
    members : int
        How many members an ensemble has; 0 of a forecast that has none.
    attributes : mapping
        Of the whole store: what made it.
    kind : str
        One of `LAYOUTS`.
    """

    grid: Grid
    variables: Sequence[Variable]
    starts: NDArray[np.datetime64]
    step: np.timedelta64
    steps: int
    members: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    kind: str = START

    @property
    def sizes(self) -> dict[str, int]:
        """The dimensions of a variable, in order, with their sizes."""
        sizes = {START: len(self.starts)}
        if self.members:
            sizes[MEMBER] = self.members
        sizes[LEAD] = self.steps
        return sizes | dict(zip(self.grid.dims, self.grid.shape, strict=True))

    @property
    def chunks(self) -> tuple[int, ...]:
        """The size of a chunk along each dimension.

        All lead times of one forecast lie together: one process writes a forecast
        without meeting another one, and a series of a point is in one chunk. Large
        grids are cut into tiles.
        """
        alone = 2 if self.members else 1
        return (1,) * alone + (self.steps, *tiles(self.steps, self.grid.shape))

    def dataset(self) -> Any:
        """Return the forecasts as xarray sees them before any is made: coordinates, and no values yet."""
        import numpy as np
        import xarray as xr
        from dask import array

        shape = tuple(self.sizes.values())
        # One piece, which is never computed.
        made = array.full(shape, np.nan, dtype="float32", chunks=shape)  # type: ignore[no-untyped-call]
        fields = {}
        for variable in self.variables:
            attributes = {**variable.attributes, **self.grid.attributes}
            if variable.name + "_std" in self.names:
                attributes["ancillary_variables"] = variable.spread.name
            fields[variable.name] = (tuple(self.sizes), made, attributes)
        attributes = {"Conventions": CONVENTIONS, **self.attributes}
        dataset = xr.Dataset(fields, dict(self._coordinates()), attributes)
        for name, variable in dataset.variables.items():
            # No value of a coordinate is missing, and CF forbids to say how one would be.
            variable.encoding.setdefault("_FillValue", None)
            if name in self.names:
                found = {"_FillValue": np.float32("nan"), "coordinates": _ALONG}
                variable.encoding = found
        if self.kind != START:
            dataset = self._renamed(dataset)
        return dataset

    def encoding(self) -> dict[str, dict[str, Any]]:
        """Return how each variable is written."""
        import numcodecs

        how = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE)
        return {
            name: {"chunks": self.chunks, "compressors": (how,)} for name in self.names
        }

    @property
    def names(self) -> list[str]:
        """The names of the variables."""
        return [variable.name for variable in self.variables]

    def _coordinates(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        import numpy as np

        starts = np.asarray(self.starts, "datetime64[s]")
        leads = np.arange(1, self.steps + 1) * self.step.astype("timedelta64[s]")
        told = "time from which the forecast starts"
        yield START, ((START,), *_times(starts, "forecast_reference_time", told))
        yield LEAD, ((LEAD,), *_durations(leads))
        if self.members:
            number = {"standard_name": "realization", "long_name": "member"}
            yield MEMBER, ((MEMBER,), np.arange(self.members), {**number, "units": "1"})
        valid = starts[:, None] + leads[None, :]
        told = "time for which the forecast is made"
        yield VALID, ((START, LEAD), *_times(valid, "time", told))
        yield from self.grid.coordinates().items()

    def _renamed(self, dataset: Any) -> Any:
        """Return the dataset with neural-lam's names; its lead time is a duration, as ``mllam-verification`` reads."""
        import numpy as np

        leads = np.arange(1, self.steps + 1) * self.step.astype("timedelta64[ns]")
        attributes = {
            key: value
            for key, value in dataset[LEAD].attrs.items()
            if key != "units"  # xarray writes them
        }
        dataset = dataset.assign_coords({LEAD: (LEAD, leads, attributes)})
        names = {
            ours: theirs for theirs, ours in OTHER_WORDS.items() if ours in dataset.dims
        }
        return dataset.rename(names)


def tiles(steps: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the size of the tiles in which a field is kept, so that a chunk of all lead times is not too large."""
    sizes = list(shape)
    while 4 * steps * math.prod(sizes) > CHUNK_BYTES and max(sizes) > 1:
        longest = sizes.index(max(sizes))
        sizes[longest] = math.ceil(sizes[longest] / 2)
    return tuple(sizes)


def _times(
    values: Any, standard_name: str, long_name: str
) -> tuple[Any, dict[str, str], dict[str, str]]:
    """Return times as a coordinate's values, attributes and encoding."""
    attributes = {
        "standard_name": standard_name,
        "long_name": long_name,
        "units_metadata": "leap_seconds: none",
    }
    units = "seconds since 1970-01-01T00:00:00"
    return (
        values.astype("datetime64[ns]"),
        attributes,
        {
            "units": units,
            "calendar": "proleptic_gregorian",
            "dtype": "int64",
        },
    )


def _durations(values: Any) -> tuple[Any, dict[str, str]]:
    """Return lead times as numbers with their unit: CF knows no durations, and the validator wants a number."""
    import numpy as np

    seconds = values.astype("int64")
    is_whole = bool((seconds % 3600 == 0).all())
    numbers = seconds // 3600 if is_whole else seconds
    return numbers.astype(np.int64), {
        "standard_name": "forecast_period",
        "long_name": "time since the forecast started",
        "units": "hours" if is_whole else "seconds",
    }
