"""Scores of every forecast, of persistence and of the climatology, in the form of the community's scorecards.

A variable ``{score}.{variable}`` has the dimensions ``forecast_source``,
``init_time``, ``lead_time``, ``spatial_region`` where regions are given, and the levels
that its variable has. A case that cannot be scored is missing (NaN). Nothing is averaged
over the cases: two sources have to be paired first (`differences`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.verification import climatology, layout, measures, spectra
from mllam_exps.verification.layout import LEAD
from mllam_exps.verification.measures import RANK
from mllam_exps.verification.reading import (
    KEPT_BYTES,
    Forecast,
    Truth,
    Variable,
    variable_of,
)
from mllam_exps.verification.table import BAND, CASE, REGION, SOURCE, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PERSISTENCE, CLIMATOLOGY = "persistence", "climatology"
BLOCK_BYTES = 2**25
"""Of the forecasts of one source that are scored at once; about fifteen arrays of this size are in memory."""
CLIMATOLOGY_BYTES = 2**28


@dataclass(frozen=True)
class Wanted:
    """What is scored.

    Parameters
    ----------
    training : tuple
        First and last time of the training split, of which the climatology is made.
    variables : sequence of str, optional
        All that forecast and truth share, if not given.
    regions : mapping
        From names to boxes of latitude and longitude, beside the interior.
    spectra_at : sequence of timedelta64
        The lead times whose spectra are wanted.
    """

    training: tuple[Any, Any]
    variables: Sequence[str] | None = None
    regions: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    spectra_at: Sequence[Any] = ()


def score(
    forecasts: Mapping[str, Any],
    truth: Any,
    wanted: Wanted,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Any:
    """Score forecasts, persistence and climatology, a few forecasts at a time.

    Parameters
    ----------
    forecasts : mapping
        Datasets of forecasts by their name; the first one says which cases, lead times
        and variables are scored. They may be lazy.
    truth : xarray.Dataset
        Likewise. Its coordinate ``interior`` says where points count.
    wanted : Wanted
    told : callable
        Called with how much is done, of how much.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    CheckFailed
        If one of them lies on another grid, has no start in common with the first, or
        holds a missing value; or where no forecast can be scored.
    """
    job = _Job(forecasts, truth, wanted)
    total = sum(len(list(job.blocks(group))) for group in job.groups)
    done = 0
    for group in job.groups:
        job.make_climatology(group)
        for cases, leads in job.blocks(group):
            job.score_block(group, cases, leads)
            done += 1
            told(done, total)
    return job.table.dataset(job.forecasts[0].dataset, job.truth.dataset)


def check(forecasts: Mapping[str, Any], truth: Any, wanted: Wanted) -> None:
    """Refuse what `score` would refuse, as far as metadata and coordinates say it.

    Raises
    ------
    CheckFailed
        As `score`.
    """
    _Job(forecasts, truth, wanted)


class _Job:
    """One scoring: what is scored, and the scores that are there so far."""

    def __init__(
        self, forecasts: Mapping[str, Any], truth: Any, wanted: Wanted
    ) -> None:
        import numpy as np

        self.wanted = wanted
        lying = {name: _lying(one, name) for name, one in forecasts.items()}
        first = next(iter(lying.values()))
        truth = layout.in_our_words(truth)
        # Points stay points where the forecasts' do.
        if layout.grid_of(first, next(iter(lying))) != (layout.POINTS,):
            truth = layout.on_rectangle(truth, "the truth")
        for name, one in lying.items():
            layout.check_same_grid(truth, one, name)
        self.grid = layout.grid_of(truth, "the truth")
        self.inside = _inside(truth, self.grid)
        self.truth = Truth(truth, self.inside)
        each = KEPT_BYTES // len(lying)
        self.forecasts = [
            Forecast(name, one, self.inside, each) for name, one in lying.items()
        ]
        self.cases, self.leads = (
            np.sort(self.forecasts[0].starts),
            self.forecasts[0].leads,
        )
        self._check_cases()
        self.is_spread = any(one.has_spread for one in self.forecasts)
        self._place_regions(truth, first)
        self.bands = self._bands(truth)
        self.spectral = np.isin(self.leads, np.array(wanted.spectra_at, "m8[ns]"))
        places = self.truth.times.slice_indexer(*wanted.training)
        self.training_times = self.truth.times[places].values
        self.groups = list(self._groups(self._variables(first, truth)))
        self.normal: Any = None
        self.table = self._table()

    def _check_cases(self) -> None:
        """Refuse a forecast that shares no start with the first one, and starts of which nothing can be scored."""
        import numpy as np

        first = self.forecasts[0]
        for other in self.forecasts[1:]:
            if not np.isin(other.starts, first.starts).any():
                what = f"none of its {len(other.starts)} starts is one of the {len(first.starts)} of {first.name}"
                way_out = f"give it starts that {first.name} has, or leave it out"
                raise CheckFailed(what, where=other.name, next=way_out)
        valid = self.cases[:, None] + self.leads[None, :]
        if not np.isin(valid, self.truth.times.values).any():
            what = "the truth has none of the times that it forecasts"
            raise CheckFailed(what, where=first.name)

    def _place_regions(self, truth: Any, forecast: Any) -> None:
        """Say what each point counts in each region."""
        import xarray as xr

        placed = truth if "latitude" in truth.coords else forecast
        areas = layout.area_weights(placed, self.grid)
        masks = layout.regions(placed, self.grid, self.inside, self.wanted.regions)
        self.regions = list(masks)
        self.weights = [
            xr.DataArray((mask * areas)[self.inside], dims=measures.POINT)
            for mask in masks.values()
        ]

    def _bands(self, truth: Any) -> spectra.Bands | None:
        """Return the bands of the rectangle in which the points that count lie; None where it is none."""
        import numpy as np

        if len(self.grid) != 2 or not len(self.wanted.spectra_at):
            return None
        rows, columns = _sides(self.inside)
        if rows * columns != self.inside.sum():
            return None
        spacing = 1.0
        if self.grid == ("yc", "xc") and "xc" in truth.coords:
            spacing = float(np.abs(np.diff(truth["xc"].values)).mean())
        return spectra.bands(rows, columns, spacing)

    def _table(self) -> Table:
        sources = [*(one.name for one in self.forecasts), PERSISTENCE, CLIMATOLOGY]
        coordinates: dict[str, Any] = {
            SOURCE: sources,
            CASE: self.cases,
            LEAD: self.leads,
        }
        if self.wanted.regions:
            coordinates[REGION] = self.regions
        if self.bands is not None:
            coordinates[BAND] = self.bands.wavelength
        if self.is_spread:
            coordinates[RANK] = list(range(max(one.ranks for one in self.forecasts)))
        return Table(coordinates)

    def _variables(self, forecast: Any, truth: Any) -> list[Variable]:
        """Return what is scored, refusing what forecast and truth do not share."""
        where = self.forecasts[0].name
        shared = [str(name) for name in forecast.data_vars if name in truth.data_vars]
        if not shared:
            what = "it has no variable that the truth has"
            raise CheckFailed(what, where=where)
        variables = []
        for name in self.wanted.variables or shared:
            if name not in shared:
                what = f"there is no {name} in both forecast and truth: they share {', '.join(shared)}"
                raise CheckFailed(what, where=where)
            one = variable_of(forecast, name, self.grid)
            if one != variable_of(truth, name, self.grid):
                what = f"{name} has other levels than the truth's"
                raise CheckFailed(what, where=where)
            variables.append(one)
        return variables

    def _groups(self, variables: Sequence[Variable]) -> Iterator[list[Variable]]:
        """Yield the variables in groups, of which the climatologies fit into memory together."""
        numbers = climatology.Climatology(self.training_times).numbers
        most = max(1, CLIMATOLOGY_BYTES // (8 * numbers * int(self.inside.sum())))
        group: list[Variable] = []
        for one in variables:
            if group and sum(each.entries for each in (*group, one)) > most:
                yield group
                group = []
            group.append(one)
        yield group

    def blocks(self, group: Sequence[Variable]) -> Iterator[tuple[range, range]]:
        """Yield which cases and leads are scored together."""
        members = max(one.members for one in self.forecasts)
        entries = sum(one.entries for one in group)
        each = 8 * entries * members * int(self.inside.sum())
        most = max(1, BLOCK_BYTES // each)
        leads, cases = range(len(self.leads)), range(len(self.cases))
        some_leads = min(most, len(leads))
        some_cases = max(1, most // len(leads))
        for case in range(0, len(cases), some_cases):
            for lead in range(0, len(leads), some_leads):
                yield cases[case : case + some_cases], leads[lead : lead + some_leads]

    def make_climatology(self, group: Sequence[Variable]) -> None:
        """Make the climatology of a group of variables."""
        self.truth.choose(group)
        pieces = self.truth.pieces(*self.wanted.training)
        self.normal = climatology.fit(self.training_times, pieces)

    def score_block(
        self, group: Sequence[Variable], cases: range, leads: range
    ) -> None:
        """Score all sources in some cases, at some leads."""
        import numpy as np

        starts, steps = self.cases[cases], self.leads[leads]
        valid = starts[:, None] + steps[None, :]
        truth = self.truth.at(valid)
        normal = self.normal.at(valid.ravel()).reshape(truth.shape)
        block = _Block(self, group, {CASE: cases, LEAD: leads}, truth, normal)
        block.score_truth()
        for number, forecast in enumerate(self.forecasts):
            values = forecast.read(starts, steps, group)
            if values is not None:
                deviation = forecast.read_deviation(starts, steps, group)
                block.score(number, values, deviation)
        at_start = self.truth.at(starts)[:, None, None]
        kept = np.broadcast_to(at_start, (len(starts), len(steps), *at_start.shape[2:]))
        block.score(len(self.forecasts), kept)
        block.score(len(self.forecasts) + 1, normal[:, :, None])


@dataclass(frozen=True)
class _Block:
    """Some cases and leads of a scoring, with the truth there and the climatology: (case, lead, entry, point)."""

    job: _Job
    group: Sequence[Variable]
    at: Mapping[str, range]
    truth: Array
    normal: Array

    def score_truth(self) -> None:
        """Keep what the truth's own activity and spectrum are."""
        told = self._array(self.truth), self._array(self.normal)
        for region, weights in enumerate(self.job.weights):
            found = measures.truth_activity(*told, weights)
            self._keep({"truth_activity": found}, {REGION: region})
        self._spectrum("truth_spectrum", self.truth, {})

    def score(self, source: int, values: Array, deviation: Array | None = None) -> None:
        """Score one source.

        Parameters
        ----------
        values : ndarray
            (case, lead, member, entry, point).
        deviation : ndarray, optional
            The standard deviation that is forecast, without members.
        """
        mean = self._array(values.mean(axis=2))
        truth, normal = self._array(self.truth), self._array(self.normal)
        for region, weights in enumerate(self.job.weights):
            ranks = None
            found = measures.deterministic(mean, truth, normal, weights)
            if deviation is not None:
                told = mean, self._array(deviation), truth, weights
                found |= measures.of_normal(*told)
                ranks = measures.ranks_in_normal(*told)
            elif self.job.is_spread:
                each = self._array(values, layout.MEMBER), truth, weights
                found |= measures.of_members(*each, layout.MEMBER)
                if values.shape[2] > 1:
                    ranks = measures.ranks_of_members(*each, layout.MEMBER)
            self._keep(found, {SOURCE: source, REGION: region})
            if ranks is not None:
                self._keep_ranks(ranks, {SOURCE: source, REGION: region})
        self._spectrum("spectrum", values, {SOURCE: source})

    def _array(self, values: Array, *third: str) -> Any:
        import xarray as xr

        return xr.DataArray(values, dims=[CASE, LEAD, *third, "entry", measures.POINT])

    def _keep(self, found: Mapping[str, Any], at: Mapping[str, int]) -> None:
        for name, one in found.items():
            values = one.transpose(CASE, LEAD, "entry").values
            self.job.table.keep(name, self.group, values, {**self.at, **at})

    def _keep_ranks(self, found: Any, at: Mapping[str, int]) -> None:
        ordered = found.transpose(CASE, LEAD, "entry", RANK).values
        name, where = "rank_histogram", {**self.at, **at}
        self.job.table.keep(name, self.group, ordered, where, RANK)

    def _spectrum(self, name: str, values: Array, at: Mapping[str, int]) -> None:
        """Keep spectra at the leads where they are wanted; of an ensemble the mean of its members' spectra."""
        import numpy as np

        bands = self.job.bands
        chosen = np.flatnonzero(self.job.spectral[self.at[LEAD]])
        if bands is None or not len(chosen):
            return
        some = values[:, chosen]
        fields = some.reshape(*some.shape[:-1], *_sides(self.job.inside))
        found = spectra.variance_by_band(fields, bands)
        if SOURCE in at:
            found = found.mean(axis=2)
        leads = [self.at[LEAD][place] for place in chosen]
        where = {**self.at, LEAD: leads, **at}
        self.job.table.keep(name, self.group, found, where, BAND)


def _lying(forecast: Any, name: str) -> Any:
    """Return forecasts as all are read, refusing what is none."""
    forecast = layout.in_our_words(forecast)
    layout.check_forecast(forecast, name)
    return layout.on_rectangle(forecast, name)


def _inside(truth: Any, grid: Sequence[str]) -> NDArray[np.bool_]:
    """Return which points count."""
    import numpy as np

    if layout.INTERIOR not in truth.coords:
        return np.ones([truth.sizes[dimension] for dimension in grid], dtype=bool)
    inside = truth[layout.INTERIOR].transpose(*grid).values.astype(bool)
    if not inside.any():
        raise CheckFailed("no point of the grid counts", where="the truth")
    return inside  # type: ignore[no-any-return]


def _sides(inside: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many rows and columns hold points that count."""
    return int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum())
