"""Which initial times forecasts are made from: those of a split, of a range, or of a list. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.neural_lam.file_names import INFERENCE
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    duration_of,
    last_of,
    time_of,
)

Time = datetime.datetime


@dataclass(frozen=True)
class Window:
    """What neural-lam reads of the times around an initial time (``WeatherDataset`` of 0.7.0).

    Parameters
    ----------
    steps : int
        Steps of a forecast.
    past, future : int
        Width of the forcing window (``num_past_forcing_steps``,
        ``num_future_forcing_steps``).
    """

    steps: int
    past: int = 1
    future: int = 1

    @property
    def before(self) -> int:
        """How many times there must be before the initial time: a forecast begins from two states at least."""
        return max(2, self.past) - 1

    @property
    def after(self) -> int:
        """How many there must be after it: the boundary and the forcing of each step are read."""
        return self.steps + self.future


@dataclass(frozen=True)
class Series:
    """The times that a dataset has, one step apart, and its splits.

    Parameters
    ----------
    times : sequence of datetime
    splits : mapping
        First and last time of each split.
    """

    times: Sequence[Time]
    splits: Mapping[str, tuple[Time, Time]]

    def of_split(self, name: str) -> list[Time]:
        """Return the times of a split."""
        first, last = self.splits[name]
        return [time for time in self.times if first <= time <= last]


def chosen(
    asked: Mapping[str, Any], series: Series, window: Window, where: str = INFERENCE
) -> list[Time]:
    """Return the initial times that a parameter file asks for, in order.

    Of a split they are those of its evaluation: each with all that it reads inside of the
    split. A list or a range may lie anywhere in the dataset.

    Parameters
    ----------
    asked : mapping
        ``split``, or ``starts``: a list of times, or ``start``, ``end`` and ``step``.
    series : Series
    window : Window
    where : str
        The file, for messages.

    Raises
    ------
    UsageError
        With the first time that no forecast can be made from.
    """
    if asked.get("starts") is None:
        return _of_split(str(asked.get("split")), series, window, where)
    given = asked["starts"]
    starts = (
        _of_range(given, series, where)
        if isinstance(given, Mapping)
        else [_time(one, f"{where}: starts") for one in given]
    )
    if not starts:
        raise UsageError("names no time of the dataset", f"{where}: starts")
    known = {time: place for place, time in enumerate(series.times)}
    for start in starts:
        _refuse_unreadable(start, known.get(start), series, window, f"{where}: starts")
    return sorted(set(starts))


def _of_split(name: str, series: Series, window: Window, where: str) -> list[Time]:
    times = series.of_split(name)
    found = times[window.before : max(0, len(times) - window.after)]
    if not found:
        needed = window.before + 1 + window.after
        raise UsageError(
            f"the split {name} gives no forecast of {window.steps} steps",
            f"{where}: split",
            f"it has {len(times)} times, and one forecast reads {needed}",
            "fewer steps, or a longer split in data/datastore.yaml",
        )
    return found


def _of_range(given: Mapping[str, Any], series: Series, where: str) -> list[Time]:
    first = _time(given.get("start"), f"{where}: starts.start")
    last = given.get("end")
    _time(last, f"{where}: starts.end")
    until = last_of(last)
    if first > until:
        what = f"{last} lies before starts.start: {given['start']}"
        raise UsageError(what, f"{where}: starts.end")
    if given.get("step") is None:
        inside = [time for time in series.times if first <= time <= until]
        outside = [
            limit
            for limit in (first, _time(last, where))
            if not series.times[0] <= limit <= series.times[-1]
        ]
        return [*outside, *inside]  # what is refused first
    step = duration_of(given["step"])
    if step is None:
        what = f"must be a duration such as PT12H, not {given['step']!r}"
        raise UsageError(what, f"{where}: starts.step")
    starts = []
    while first <= until:
        starts.append(first)
        first += step
    return starts


def _time(value: Any, where: str) -> Time:
    time = time_of(value)
    if time is None:
        what = f"must be a time such as 2025-12-01T00:00, not {value!r}"
        raise UsageError(what, where)
    return time


def _refuse_unreadable(
    start: Time, place: int | None, series: Series, window: Window, where: str
) -> None:
    """Refuse an initial time that the dataset lacks, or that has too little around it."""
    times = series.times
    span = f"{_shown(times[0])} to {_shown(times[-1])}"
    if place is None:
        inside = times[0] <= start <= times[-1]
        what = f"{_shown(start)} is no time of the dataset"
        why = f"it lies between two of its steps ({span})" if inside else span
        raise UsageError(what, where, f"the dataset has {span}" if not inside else why)
    if place < window.before:
        what = f"{_shown(start)} has too few times before it"
        why = f"a forecast reads {window.before} before its start, and the dataset begins at {_shown(times[0])}"
        next_ = f"the first that can be forecast from is {_shown(times[min(window.before, len(times) - 1)])}"
        raise UsageError(what, where, why, next_)
    if place + window.after >= len(times):
        what = f"{_shown(start)} has too few times after it"
        why = (
            f"a forecast of {window.steps} steps reads {window.after} after its start, for its boundary and forcing, "
            f"and the dataset ends at {_shown(times[-1])}"
        )
        last = len(times) - 1 - window.after
        next_ = "fewer steps"
        if last >= window.before:
            next_ = f"the last that can be forecast from is {_shown(times[last])}; or fewer steps"
        raise UsageError(what, where, why, next_)


def _shown(time: Time) -> str:
    return time.isoformat(timespec="minutes")
