"""The records of a run, each with its type. `layout` says where they lie.

A team writes to one store, with different versions of this program, so nothing that is read
is believed: a record that lacks a field, or has another kind of value in it, counts as
none, and is told once (`base.records`). All of them are written with a format number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Self

from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import Problem
from mllam_exps.base.processes import PROCESS, ProcessIdentity
from mllam_exps.base.records import Record
from mllam_exps.base.shapes import Shape, count, flag, maybe, number, of_shape, text
from mllam_exps.schedulers.base import JobPhase, JobState


class Outcome(StrEnum):
    """How an attempt ended, in its own words."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    """The scheduler had no room for it: nothing was started, and nothing is wrong."""


@dataclass(frozen=True)
class Claim(Record):
    """Who claimed an attempt, and under which name its job is submitted.

    Parameters
    ----------
    claimed_by : ProcessIdentity
        The process that submits it.
    experiment : str
        For which it was claimed.
    job_name : str
        Unique. It is written down before anything is submitted, so that a job is found
        by it whose submitter died.
    scheduler : str
        Its name.
    time : float
        What the submitter's host thought, for people.
    number : int
        Of the attempt.
    uid : int, optional
        Whose it is; nothing is decided by it but what a scheduler may hide.
    workspace : str, optional
        Where it was asked for.
    """

    SHAPE: ClassVar[Shape] = {
        "claimed_by": of_shape(PROCESS),
        "experiment": text,
        "job_name": text,
        "scheduler": text,
        "time": number,
        "number": maybe(count),
        "uid": maybe(count),
        "workspace": maybe(text),
    }

    claimed_by: ProcessIdentity
    experiment: str
    job_name: str
    scheduler: str
    time: float
    number: int = 0
    uid: int | None = None
    workspace: str | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says."""
        process = ProcessIdentity.from_record(record["claimed_by"])
        return super().from_record({**record, "claimed_by": process})

    @property
    def is_mine(self) -> bool:
        """Whether this user claimed it, as far as the record says."""
        return self.uid in {None, os.getuid()}


@dataclass(frozen=True)
class Started(Record):
    """An attempt's own record of its start.

    Parameters
    ----------
    process : ProcessIdentity
        Its own process.
    time : float, optional
        What its host thought, for people.
    node : str, optional
        The nodes of its job, where a scheduler gave them.
    """

    SHAPE: ClassVar[Shape] = PROCESS | {"time": maybe(number), "node": maybe(text)}

    process: ProcessIdentity
    time: float | None = None
    node: str | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says."""
        process = ProcessIdentity.from_record(dict(record))
        return cls(process, record.get("time"), record.get("node"))

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return self.process.to_record() | {"time": self.time, "node": self.node}

    @property
    def place(self) -> str:
        """Where it runs, for people."""
        return self.node or self.process.host


@dataclass(frozen=True)
class Waiting(Record):
    """A process that waits for a run."""

    SHAPE: ClassVar[Shape] = PROCESS

    process: ProcessIdentity
    seen: float = 0.0

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says."""
        return cls(ProcessIdentity.from_record(dict(record)))

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return self.process.to_record() | {"seen": self.seen}


@dataclass(frozen=True)
class CancelRequest(Record):
    """Who asked an attempt to stop. That the record is there says it; nobody reads it but people."""

    process: ProcessIdentity
    time: float

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return self.process.to_record() | {"time": self.time}


@dataclass(frozen=True)
class Doubt(Record):
    """What was said where nobody knew whether the scheduler had accepted a job."""

    SHAPE: ClassVar[Shape] = {"why": text}

    why: str
    time: float | None = None


_PARTS: Shape = {
    "what": text,
    "where": maybe(text),
    "why": maybe(text),
    "next": maybe(text),
}


@dataclass(frozen=True)
class End(Record):
    """How an attempt ended; its own record, or of who gave it up.

    Parameters
    ----------
    outcome : Outcome
        In one word.
    problem : Problem
        What went wrong; empty where it succeeded.
    time : float, optional
        What the writer's host thought, for people.
    by : str, optional
        Who wrote it, where that is the attempt itself or another one's job.
    cause : Cause, optional
        What the rules for another attempt go by, if it failed.
    """

    SHAPE: ClassVar[Shape] = {
        "outcome": text,
        "reason": text,
        "problem": maybe(of_shape(_PARTS)),
        "time": maybe(number),
        "by": maybe(text),
        "cause": maybe(text),
    }

    outcome: Outcome
    problem: Problem = field(default_factory=Problem)
    time: float | None = None
    by: str | None = None
    cause: Cause | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says; that of an earlier version holds a sentence only."""
        word, parts = record["outcome"], record.get("problem")
        # A newer version may know outcomes that this one does not: none is a success.
        outcome = Outcome(word) if word in set(Outcome) else Outcome.FAILED
        if parts:
            told = {name: parts[name] for name in _PARTS if parts.get(name)}
            problem = Problem(**told)
        else:
            problem = _of_sentence(record["reason"])
        cause = Cause.of(record.get("cause"))
        return cls(outcome, problem, record.get("time"), record.get("by"), cause)

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record; `reason` is for people, and for earlier versions."""
        return {
            "outcome": str(self.outcome),
            "reason": str(self.problem),
            "problem": asdict(self.problem) if self.problem else None,
            "time": self.time,
            "by": self.by,
            "cause": self.cause,
        }


def _of_sentence(reason: str) -> Problem:
    """Return the problem that an earlier version wrote down as one sentence, the way out on a line of its own."""
    sentence, _, way_out = reason.partition("\n  → ")
    return Problem(sentence, next=way_out)


@dataclass(frozen=True)
class Verdict(Record):
    """The scheduler's last word on an attempt's job.

    Parameters
    ----------
    state : JobState
        What it said.
    time : float, optional
        When it was written down.
    """

    SHAPE: ClassVar[Shape] = {
        "phase": lambda value: isinstance(value, str) and value in JobPhase.__members__,
        "reason": text,
        "told": maybe(text),
        "plain": maybe(flag),
        "cause": maybe(text),
    }

    state: JobState
    time: float | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says."""
        told, plain = record.get("told") or "", bool(record.get("plain"))
        phase = JobPhase[record["phase"]]
        cause = Cause.of(record.get("cause"))
        return cls(JobState(phase, record["reason"], told, plain=plain, cause=cause))

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        state = self.state
        return {
            "phase": state.phase.name,
            "reason": state.reason,
            "told": state.told,
            "plain": state.plain,
            "cause": state.cause,
            "time": self.time,
        }


@dataclass(frozen=True)
class Progress(Record):
    """How far an attempt's program says it is.

    Parameters
    ----------
    text : str
        For people.
    seconds_left : float, optional
        None until it can be known.
    done, total : number, optional
        Finished epochs, or batches of an evaluation; and how many there are.
    batch, batches : number, optional
        The same in the epoch that is worked on.
    """

    SHAPE: ClassVar[Shape] = {
        "text": maybe(text),
        "seconds_left": maybe(number),
        "done": maybe(number),
        "total": maybe(number),
        "batch": maybe(number),
        "batches": maybe(number),
    }

    text: str = ""
    seconds_left: float | None = None
    done: float | None = None
    total: float | None = None
    batch: float | None = None
    batches: float | None = None


@dataclass(frozen=True)
class Asked(Record):
    """An experiment of `dvc exp run`, or a workspace, asked for a run."""

    SHAPE: ClassVar[Shape] = {"experiment": text, "origin": text}

    experiment: str
    origin: str
