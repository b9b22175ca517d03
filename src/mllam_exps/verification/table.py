"""Scores as they come in, a few cases at a time, and the dataset that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mllam_exps.verification import measures
from mllam_exps.verification.layout import LEAD
from mllam_exps.verification.measures import RANK
from mllam_exps.verification.reading import Variable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SOURCE, CASE, REGION, BAND = (
    "forecast_source",
    "init_time",
    "spatial_region",
    "wavelength",
)


class Table:
    """The scores that are there so far; what is not there is missing (NaN).

    Parameters
    ----------
    coordinates : mapping
        Of `SOURCE`, `CASE` and `LEAD`, in this order; of `REGION` where there are
        regions, of `BAND` where there are spectra, of `RANK` where there is a spread.
    """

    def __init__(self, coordinates: Mapping[str, Any]) -> None:
        self._coordinates = dict(coordinates)
        self._found: dict[tuple[str, Variable], tuple[tuple[str, ...], Any]] = {}

    def keep(
        self,
        name: str,
        variables: Sequence[Variable],
        values: NDArray[np.float64],
        at: Mapping[str, Any],
        along: str = "",
    ) -> None:
        """Put one score of some cases and leads at its place.

        Parameters
        ----------
        values : ndarray
            (case, lead, entry), of a spectrum and of ranks with one dimension more.
        at : mapping
            Where: `CASE` and `LEAD` as arrays of positions, and the position of
            `SOURCE` and of `REGION`, where the score has them.
        along : str
            That dimension: `BAND` or `RANK`.
        """
        import numpy as np

        place = 0
        for one in variables:
            piece = values[:, :, place : place + one.entries]
            place += one.entries
            target = self._target(name, one, {*at, along}, along)
            if SOURCE in at:
                target = target[at[SOURCE]]
            if REGION in at and REGION in self._coordinates:
                target = target[:, :, at[REGION]]
            shaped = piece.reshape(*piece.shape[:2], *one.shape, *piece.shape[3:])
            if along:
                # A part without the last ranks: those of a smaller ensemble.
                target = target[..., : shaped.shape[-1]]
            target[np.ix_(at[CASE], at[LEAD])] = shaped

    def _target(self, name: str, one: Variable, wanted: set[str], along: str) -> Any:
        """Return the array that takes a score; all missing at first."""
        import numpy as np

        if (name, one) not in self._found:
            sizes = {
                dimension: len(values)
                for dimension, values in self._coordinates.items()
                if dimension in wanted
            }
            last = {along: sizes.pop(along)} if along else {}
            sizes |= dict(zip(one.others, one.shape, strict=True)) | last
            # Spectra and ranks are many numbers, of which three digits are read.
            kind = "float32" if along else "float64"
            self._found[name, one] = (
                tuple(sizes),
                np.full(tuple(sizes.values()), np.nan, kind),
            )
        return self._found[name, one][1]

    def dataset(self, forecast: Any, truth: Any) -> Any:
        """Return all scores as one dataset; units and names are those of truth and forecast."""
        import numpy as np
        import xarray as xr

        variables = {}
        for (name, of), (dimensions, values) in self._found.items():
            if np.isnan(values).all() and name in measures.OF_SPREAD:
                continue
            said = {**forecast[of.name].attrs, **truth[of.name].attrs}
            attributes = _attributes(name, of.name, said)
            variables[f"{name}.{of.name}"] = (dimensions, values, attributes)
        used = {dimension for one, _, _ in variables.values() for dimension in one}
        coordinates = {
            name: values for name, values in self._coordinates.items() if name in used
        }
        for dimension in used - coordinates.keys():
            if dimension in forecast.coords:
                coordinates[dimension] = forecast[dimension]
        return xr.Dataset(dict(sorted(variables.items())), coordinates)


def apart(found: Any) -> tuple[Any, Any]:
    """Return the scores alone, and beside them what has no better side: spectra, ranks, the truth's activity.

    The community's scorecard wants every variable of a file to be a score of a source,
    and every dimension to be one of rows, columns, sources, cases or lead times.
    """
    beside = [
        name
        for name in map(str, found.data_vars)
        if name.partition(".")[0] in measures.NO_SCORES
    ]
    scores = found.drop_vars(beside)
    return scores.drop_dims({BAND, RANK} & {*scores.dims}), found[beside]


def _attributes(score: str, variable: str, said: Mapping[str, Any]) -> dict[str, str]:
    """Return what is written beside a score, of what is said of its variable."""
    units = measures.UNITS.get(score, str(said.get("units", "1")))
    if score in measures.SQUARED:
        units = f"({units})2"
    long_name = f"{measures.LONG_NAMES[score]} of {said.get('long_name', variable)}"
    named = {"units": units, "long_name": long_name}
    if said.get("standard_name"):
        named["standard_name"] = str(said["standard_name"])
    return named
