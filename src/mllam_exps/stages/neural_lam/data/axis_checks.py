"""Checks of an archive's axes: its times, as neural-lam steps through them, and the x and y of its grid."""

from __future__ import annotations

from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, some_of
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    SPLITTING,
    problem,
    time_of,
)


def check_dates(name: str, dim: str, times: Any) -> list[MllamError]:
    """Refuse times that are none to neural-lam, numbers, texts, another calendar's dates, and unsorted ones.

    Parameters
    ----------
    name : str
        The input.
    dim : str
        What its archive calls its times.
    times : numpy.ndarray
    """
    import numpy as np

    where = f"inputs.{name}"
    if times.dtype.kind != "M":
        first = times.ravel()[0] if times.size else "nothing"
        what = f"its {dim} holds {type(first).__name__} such as {first}, and no dates of the standard calendar"
        way_out = "write the archive with times such as `hours since 2025-12-01`, calendar `standard`"
        return [UsageError(what, f"{DATASTORE}: {where}", next=way_out)]
    if missing := int(np.isnat(times).sum()):
        what = f"{missing} of its {len(times)} times are missing (NaT)"
        return [problem(where, what)]
    if back := np.flatnonzero(np.diff(times) < np.timedelta64(0)).tolist():
        # pandas may select a range of them all the same, and leaves times out of it.
        after = some_of([_minute(times[place]) for place in back])
        what = f"its times run backwards after {after}: sort the archive by time"
        return [problem(where, what)]
    return []


def check_times(name: str, times: Any) -> list[MllamError]:
    """Refuse the times that the ranges leave if one stands twice, or they have a gap."""
    import numpy as np

    where = f"inputs.{name}"
    if twice := np.flatnonzero(np.diff(times) == np.timedelta64(0)).tolist():
        doubles = some_of([_minute(times[place]) for place in twice])
        what = (
            f"it has a time twice, {doubles}: leave one of the two out of the archive"
        )
        return [problem(where, what)]
    return _check_gaps(where, times)


def _check_gaps(where: str, times: Any) -> list[MllamError]:
    import numpy as np

    steps = np.diff(times)
    lengths, counts = np.unique(steps, return_counts=True)
    if len(lengths) <= 1:
        return []
    # A forecast is made step by step, and neural-lam takes the first step as that of
    # all.
    usual = lengths[counts.argmax()]
    gaps = []
    for place in np.flatnonzero(steps != usual).tolist():
        gaps.append(f"{_minute(times[place])} to {_minute(times[place + 1])}")
    many = "other steps" if len(gaps) > 1 else "another step"
    what = f"its times are {_hours(usual)} apart, with {many} from {some_of(gaps)}"
    way_out = (
        "choose a range without it, in output.coord_ranges.time, or fill the archive"
    )
    return [problem(where, f"{what}: {way_out}")]


def check_reach(name: str, times: Any, config: Any) -> list[MllamError]:
    """Refuse splits that reach beyond an archive's times."""
    import numpy as np

    there = "of which none is left"
    if len(times):
        there = f"{_minute(times[0])} to {_minute(times[-1])}"
    problems: list[MllamError] = []
    for split, span in config.output.splitting.splits.items():
        start = np.datetime64(time_of(span.start))
        end = np.datetime64(time_of(span.end))
        if not len(times) or start < times[0] or end > times[-1]:
            what = f"{span.start} to {span.end} reaches beyond the times of {name}, {there}"
            problems.append(problem(f"{SPLITTING}.{split}", what))
    return problems


def check_side(name: str, dim: str, archive: Any) -> list[MllamError]:
    """Refuse a side of the grid that does not order its points: neural-lam knows them by x and y, and sorts by them."""
    import numpy as np

    where = f"inputs.{name}"
    if not _has_numbers(archive, dim):
        what = f"its dimension {dim} has no coordinates, or none that are numbers, and neural-lam measures by them"
        return [problem(where, what)]
    values = archive[dim].values.astype(float)
    if missing := int((~np.isfinite(values)).sum()):
        what = f"{missing} of the {len(values)} values of its {dim} are missing or infinite"
        return [problem(where, what)]
    steps = np.diff(values)
    if not len(steps) or (steps > 0).all() or (steps < 0).all():
        return []
    twice = np.flatnonzero(steps == 0)
    if len(twice):
        what = f"its {dim} has {values[twice[0]]:g} twice"
    else:
        turn = np.flatnonzero(np.sign(steps) != np.sign(steps[0]))[0]
        what = f"its {dim} turns back after {values[turn]:g}"
    return [problem(where, f"{what}: it must rise, or fall, all along")]


def _has_numbers(archive: Any, dim: str) -> bool:
    """Tell whether a dimension has a coordinate of its own that holds numbers."""
    if dim not in archive.coords:
        return False
    coord = archive[dim]
    return coord.dims == (dim,) and coord.dtype.kind in "iuf"


def _minute(time: Any) -> str:
    import numpy as np

    return str(np.datetime_as_string(time, unit="m"))


def _hours(step: Any) -> str:
    import numpy as np

    minutes = float(step / np.timedelta64(1, "m"))
    return f"{minutes / 60:g} h" if minutes >= 60 else f"{minutes:g} min"
