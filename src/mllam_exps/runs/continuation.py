"""Whether another attempt follows by itself when one ends without a result, by the `retry` rules of the machine file.

An attempt that came further than those before it is worth another, however many there
were: a training of a week outlives any number of time limits. Attempts in a row that
come no further are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.shapes import Shape, count, flag, list_of, maybe, text

RULES: Shape = {
    "again": maybe(list_of(text)),
    "max_attempts": maybe(count),
    "since": maybe(count),
    "resumes": maybe(flag),
    "memory": maybe(text),
}


@dataclass(frozen=True)
class Rules:
    """What an attempt was told of those that may follow it.

    Parameters
    ----------
    again : frozenset of Cause
        The causes after which another one follows by itself.
    max_attempts : int
        So many in a row that come no further are enough.
    since : int
        The number of the first attempt that counts: a person asked for it.
    resumes : bool
        Whether the next one goes on from where it came; else each begins at the
        beginning.
    memory : str, optional
        What its job asked for on each node.
    """

    again: frozenset[Cause] = frozenset()
    max_attempts: int = 1
    since: int = 1
    resumes: bool = False
    memory: str | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rules:
        """Return what a record says; a newer version may know more causes."""
        causes = map(Cause.of, record.get("again") or ())
        return cls(
            frozenset(cause for cause in causes if cause is not None),
            record.get("max_attempts") or 1,
            record.get("since") or 1,
            bool(record.get("resumes")),
            record.get("memory"),
        )

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return asdict(self) | {"again": sorted(self.again)}


NO_RULES = Rules()


@dataclass(frozen=True)
class Continuation:
    """After which causes another attempt follows by itself, and why not after the others.

    Parameters
    ----------
    causes : frozenset of Cause
        These.
    why_not : dict of str
        Why another one would be of no use, for causes whose rule says `again`.
    """

    causes: frozenset[Cause] = frozenset()
    why_not: dict[Cause, str] = field(default_factory=dict)


def decide(rules: Rules, reached: Sequence[float | None]) -> Continuation:
    """Say what follows the last of some attempts. Pure.

    Parameters
    ----------
    rules : Rules
        As the last one was told.
    reached : sequence of float or None
        How far each of them came, in epochs, oldest first.
    """
    vain = in_vain(reached)
    if vain >= rules.max_attempts:
        why = f"{vain} attempts in a row came no further (retry.max_attempts in the machine file)"
        if vain == 1:
            why = "retry.max_attempts in the machine file is 1"
        return Continuation(frozenset(), dict.fromkeys(rules.again, why))
    if vain and Cause.TIME_LIMIT in rules.again:
        why = "it came no further than before: raise resources.time in the machine file"
        causes = rules.again - {Cause.TIME_LIMIT}
        return Continuation(causes, {Cause.TIME_LIMIT: why})
    return Continuation(rules.again)


def in_vain(reached: Sequence[float | None]) -> int:
    """Return how many of the last attempts came no further than the best before them."""
    furthest, vain = 0.0, 0
    for one in reached:
        if one is not None and one > furthest:
            furthest, vain = one, 0
        else:
            vain += 1
    return vain
