"""Checks of an archive's axes: its times, as neural-lam steps through them, and the x and y of its grid."""

from __future__ import annotations

from typing import Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import (
    SPLITTING,
    problem,
    time_of,
)

_SHOWN = 3
"""Times that a message names; a gap of a month has a thousand."""


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
        return [
            problem(where, f"{missing} of its {len(times)} times are missing (NaT)")
        ]
    if back := np.flatnonzero(np.diff(times) < np.timedelta64(0)).tolist():
        # pandas may select a range of them all the same, and leaves times out of it.
        what = (
            f"its times run backwards after {_listed([times[place] for place in back])}"
        )
        return [problem(where, f"{what}: sort the archive by time")]
    return []


def check_times(name: str, times: Any) -> list[MllamError]:
    """Refuse the times that the ranges leave if one stands twice, or they have a gap."""
    import numpy as np

    if twice := np.flatnonzero(np.diff(times) == np.timedelta64(0)).tolist():
        what = f"it has a time twice, {_listed([times[place] for place in twice])}"
        return [
            problem(
                f"inputs.{name}", f"{what}: leave one of the two out of the archive"
            )
        ]
    return _check_gaps(f"inputs.{name}", times)


def _check_gaps(where: str, times: Any) -> list[MllamError]:
    import numpy as np

    steps = np.diff(times)
    if not len(steps):
        return []
    lengths, counts = np.unique(steps, return_counts=True)
    usual = lengths[counts.argmax()]
    if len(lengths) == 1:
        return []
    # A forecast is made step by step, and neural-lam takes the first step as that of
    # all.
    places = np.flatnonzero(steps != usual).tolist()
    many = "other steps" if len(places) > 1 else "another step"
    between = _listed(
        [f"{_minute(times[place])} to {_minute(times[place + 1])}" for place in places]
    )
    what = f"its times are {_hours(usual)} apart, with {many} from {between}"
    return [
        problem(
            where,
            f"{what}: choose a range without it, in output.coord_ranges.time, or fill the archive",
        )
    ]


def check_reach(name: str, times: Any, config: Any) -> list[MllamError]:
    """Refuse splits that reach beyond an archive's times."""
    import numpy as np

    problems: list[MllamError] = []
    for split, span in config.output.splitting.splits.items():
        start, end = (
            np.datetime64(time_of(span.start)),
            np.datetime64(time_of(span.end)),
        )
        if not len(times) or start < times[0] or end > times[-1]:
            there = (
                f"{_minute(times[0])} to {_minute(times[-1])}"
                if len(times)
                else "of which none is left"
            )
            what = f"{span.start} to {span.end} reaches beyond the times of {name}, {there}"
            problems.append(problem(f"{SPLITTING}.{split}", what))
    return problems


def check_side(name: str, dim: str, archive: Any) -> list[MllamError]:
    """Refuse a side of the grid that does not order its points: neural-lam knows them by x and y, and sorts by them."""
    import numpy as np

    where = f"inputs.{name}"
    if (
        dim not in archive.coords
        or archive[dim].dims != (dim,)
        or archive[dim].dtype.kind not in "iuf"
    ):
        what = f"its dimension {dim} has no coordinates, or none that are numbers, and neural-lam measures by them"
        return [problem(where, what)]
    values = archive[dim].values.astype(float)
    if missing := int((~np.isfinite(values)).sum()):
        return [
            problem(
                where,
                f"{missing} of the {len(values)} values of its {dim} are missing or infinite",
            )
        ]
    steps = np.diff(values)
    if not len(steps) or (steps > 0).all() or (steps < 0).all():
        return []
    wrong = steps == 0 if (steps == 0).any() else np.sign(steps) != np.sign(steps[0])
    place = int(np.flatnonzero(wrong)[0])
    twice = steps[place] == 0
    what = (
        f"its {dim} has {values[place]:g} twice"
        if twice
        else f"its {dim} turns back after {values[place]:g}"
    )
    return [problem(where, f"{what}: it must rise, or fall, all along")]


def _listed(found: list[Any]) -> str:
    shown = ", ".join(
        each if isinstance(each, str) else _minute(each) for each in found[:_SHOWN]
    )
    return f"{shown} and {len(found) - _SHOWN} more" if len(found) > _SHOWN else shown


def _minute(time: Any) -> str:
    import numpy as np

    return str(np.datetime_as_string(time, unit="m"))


def _hours(step: Any) -> str:
    import numpy as np

    minutes = float(step / np.timedelta64(1, "m"))
    return f"{minutes / 60:g} h" if minutes >= 60 else f"{minutes:g} min"
