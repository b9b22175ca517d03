"""What runs took, over all their attempts: node hours, and energy where it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mllam_exps.base import records
from mllam_exps.base.shapes import count
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.store import Run
from mllam_exps.views.energy import Energy

HOUR = 3600.0
LEAST = 0.01
"""Hours that are told; less is told as less."""
KWH = 3.6e6
"""Joules."""


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Parameters
    ----------
    key : str
        The run key.
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

    key: str
    stage: str
    attempts: int
    nodes: int
    node_hours: float
    begun: float
    ended: float

    def told(self, energy: Energy | None = None) -> str:
        """Return it in a few words."""
        parts = [_energy([energy])] if energy else []
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
            found.append(
                Cost(run.key, run.stage, len(started), _nodes(last), hours_, *times)
            )
    return found


def in_words(
    costs: Iterable[Cost], energies: Mapping[str, Energy] = MappingProxyType({})
) -> str:
    """Return what several runs took, together and one by one.

    Parameters
    ----------
    energies : mapping
        By run key, as `views.energy` finds them.
    """
    costs = list(costs)
    total = f"{hours(sum(one.node_hours for one in costs))} node hours"
    if any(one.key in energies for one in costs):
        total += f", {_energy([energies.get(one.key) for one in costs])}"
    each = ", ".join(one.told(energies.get(one.key)) for one in costs)
    return f"{total}: {each}"


def _energy(known: Iterable[Energy | None]) -> str:
    """Return how much energy something took; where not all is known, how much at least."""
    known = list(known)
    joules = sum(one.joules for one in known if one)
    is_all = all(one and one.is_all for one in known)
    return f"{'' if is_all else 'at least '}{hours(joules / KWH)} kWh"


def hours(value: float) -> str:
    """Return a number of hours, or of kilowatt hours, in two digits, or without a fraction."""
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
