"""Errors as part of the interface: what happened, where, why, the nearest right word, and the next command to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

NAMED = 3
"""Names that a message has; it counts the others."""


class Exit(IntEnum):
    """Exit codes of ``mllam-exps``; they mean the same for every command."""

    OK = 0
    FAILED = 1
    """A run failed: the reason was printed."""
    USAGE = 2
    """The command line, a parameter file or a machine file is wrong; nothing was started."""
    UNKNOWN = 3
    """The state of a run could not be found out; nothing was decided."""
    DETACHED = 75
    """The command left, the run goes on (EX_TEMPFAIL: try again later)."""
    INTERRUPTED = 130
    """Ctrl-C."""


@dataclass(frozen=True)
class Problem:
    """What went wrong, in parts. It is kept so, and becomes a sentence where a person reads it.

    Parameters
    ----------
    what, where, why, next : str
        As in `MllamError`.
    """

    what: str = ""
    where: str = ""
    why: str = ""
    next: str = ""

    def __bool__(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.what)

    @property
    def sentence(self) -> str:
        """Where, what and why; most often one line."""
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        return f"{sentence}: {self.why}" if self.why else sentence

    @property
    def line(self) -> str:
        """The first line of the sentence, for tables and lists."""
        return self.sentence.partition("\n")[0]

    def __str__(self) -> str:
        """Return the sentence; the way out follows on a line of its own."""
        return f"{self.sentence}\n  → {self.next}" if self.next else self.sentence


@dataclass
class MllamError(Exception):
    """An error that a user can act on; printed without a traceback.

    Parameters
    ----------
    what : str
        What happened, one line.
    where : str, optional
        File, key, job or log that it concerns, e.g. ``data/training_params.yaml:
        hidden_dimm``.
    why : str, optional
        The cause, if known.
    next : str, optional
        What to do, best a command to type.
    exit : Exit
        The exit code of the command.
    """

    what: str
    where: str = ""
    why: str = ""
    next: str = ""
    exit: Exit = Exit.FAILED

    @property
    def problem(self) -> Problem:
        """What can be kept of it."""
        return Problem(self.what, self.where, self.why, self.next)

    def __str__(self) -> str:
        """One line: where, what and why; the way out follows on a second."""
        return str(self.problem)


class UsageError(MllamError):
    """Input that is refused before anything starts (exit code 2)."""

    def __init__(
        self, what: str, where: str = "", why: str = "", next: str = ""
    ) -> None:
        super().__init__(what, where, why, next, Exit.USAGE)


@dataclass
class Problems(MllamError):
    """Several problems of the user's files, told at once (exit code 2)."""

    what: str = ""
    exit: Exit = Exit.USAGE
    problems: list[MllamError] = field(default_factory=list)

    @property
    def problem(self) -> Problem:
        """What can be kept of them: all sentences, and the first way out."""
        ways_out = [one.next for one in self.problems if one.next]
        sentences = "\n".join(one.problem.sentence for one in self.problems)
        return Problem(sentences, next=ways_out[0] if ways_out else "")

    def __str__(self) -> str:
        """Every problem on lines of its own."""
        return "\n".join(str(problem) for problem in self.problems)


class CheckFailed(MllamError):
    """A stage's own check refused what its program made: a failed run, with this reason."""


class NotFinite(CheckFailed):
    """What a program made is NaN or infinite: the next attempt would end the same way."""


def first_line(error: Exception) -> str:
    """Return the first line of what somebody else's error says; its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def some_of(names: Iterable[str], most: int = NAMED) -> str:
    """Name the first few, and count the others."""
    found = list(names)
    told = ", ".join(found[:most])
    more = len(found) - most
    return f"{told} and {more} more" if more > 0 else told


def nearest(word: Any, right: Iterable[str]) -> str:
    """Return the nearest right word, or nothing where none is near."""
    return next(iter(difflib.get_close_matches(str(word), list(right), n=1)), "")


def did_you_mean(word: Any, right: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the nearest right word, or nothing where none is near."""
    near = nearest(word, right)
    return f"; did you mean {near}?" if near else ""
