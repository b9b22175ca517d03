"""What runs took: node hours, over all their attempts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mllam_exps.base import records
from mllam_exps.base.shapes import count
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.store import Run

HOUR = 3600.0
LEAST = 0.01
"""Hours that are told; less is told as less."""


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Parameters
    ----------
    stage : str
        With its phase, if it is one.
    attempts : int
        How many were started.
    nodes : int
        Of its last attempt.
    node_hours : float
        Of all attempts: from the start of each to its end, or its last sign of life.
    begun, ended : float
        When the first one started, and when the last one ended, by the file system's
        clock.
    """

    stage: str
    attempts: int
    nodes: int
    node_hours: float
    begun: float
    ended: float

    @property
    def told(self) -> str:
        """It in a few words."""
        parts = []
        if self.nodes > 1:
            parts.append(f"{self.nodes} nodes")
        if self.attempts > 1:
            parts.append(f"{self.attempts} attempts")
        more = f" ({', '.join(parts)})" if parts else ""
        return f"{self.stage} {hours(self.node_hours)}{more}"


def of_runs(runs: Iterable[Run]) -> list[Cost]:
    """Return what runs took; those of which no attempt was started are left out."""
    found = []
    for run in runs:
        started = [one for one in run.attempts() if one.started is not None]
        if started:
            spent = sum(_nodes(one) * _seconds(one) for one in started)
            first, last = started[0], started[-1]
            times = (first.started_at, _until(last))
            hours_ = spent / HOUR
            found.append(Cost(run.stage, len(started), _nodes(last), hours_, *times))
    return found


def in_words(costs: Iterable[Cost]) -> str:
    """Return what several runs took, together and one by one."""
    costs = list(costs)
    total = hours(sum(one.node_hours for one in costs))
    return f"{total} node hours: {', '.join(one.told for one in costs)}"


def hours(value: float) -> str:
    """Return a number of hours in two digits, or without a fraction."""
    if value < LEAST:
        return f"< {LEAST}"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _seconds(attempt: Attempt) -> float:
    # By the file system's clock: those of hosts differ by minutes.
    return max(0.0, _until(attempt) - attempt.started_at)


def _until(attempt: Attempt) -> float:
    return attempt.ended_at if attempt.ended is not None else attempt.heard_of_at


def _nodes(attempt: Attempt) -> int:
    """Return how many nodes an attempt had, as it was told by whoever submitted it; one where that cannot be read."""
    told = records.look(attempt.directory / layout.SPEC, shape={"nodes": count})
    return int(told["nodes"]) if isinstance(told, dict) else 1
