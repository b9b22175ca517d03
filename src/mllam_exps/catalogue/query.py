"""Queries as they are typed: ``hidden_dim=128 and (rmse.t2m.24h<1.5 or tag=best)``. Pure.

A parser of our own, of one screen: pyparsing (3.3), which DVC brings along, takes a
third of a second to import, and a nested bracket of its kind takes exponential time;
lark is not among what we depend on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Any

from mllam_exps.base.errors import UsageError

MOST_BRACKETS = 50
DATE = "date"
"""The name of what is compared as a time."""
HELP = "mllam-exps list --help has examples"

_TOKEN = re.compile(
    r"""\s*(?: (?P<bracket>[()])
             | (?P<sign><=|>=|!=|!~|==|=|<|>|~)
             | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
             | (?P<word>[^\s()=!<>~'"]+) )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_DATES = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y-%m")
_DIGITS = re.compile(r"(\d+)")

Get = Callable[[str], Any]
"""Gives what an experiment has under a name: a value, a list of several, or None."""


@dataclass(frozen=True)
class Condition:
    """What an experiment has to fulfil; `names` are those whose values are asked for."""

    def names(self) -> Iterator[str]:
        """Yield the names, as they were typed."""
        raise NotImplementedError

    def holds(self, get: Get) -> bool:
        """Tell whether it holds of an experiment."""
        raise NotImplementedError


@dataclass(frozen=True)
class Both(Condition):
    """Both of two hold; with `either`, one of them is enough."""

    first: Condition
    second: Condition
    either: bool = False

    def names(self) -> Iterator[str]:
        """Yield those of both."""
        yield from self.first.names()
        yield from self.second.names()

    def holds(self, get: Get) -> bool:
        """Tell whether they do."""
        if self.either:
            return self.first.holds(get) or self.second.holds(get)
        return self.first.holds(get) and self.second.holds(get)


@dataclass(frozen=True)
class Not(Condition):
    """Another one does not hold."""

    one: Condition

    def names(self) -> Iterator[str]:
        """Yield those of the other one."""
        return self.one.names()

    def holds(self, get: Get) -> bool:
        """Tell whether it does not."""
        return not self.one.holds(get)


@dataclass(frozen=True)
class Literal:
    """A value as it was typed.

    Parameters
    ----------
    text : str
        The text.
    quoted : bool
        Whether it stood in quotes: it is text then, whatever it looks like.
    """

    text: str
    quoted: bool = False
    number: float | None = field(init=False, default=None)
    span: tuple[float, float] | None = field(init=False, default=None)
    """Of a date: when it begins, and when it is over."""

    def __post_init__(self) -> None:
        """Read it once."""
        if not self.quoted and _NUMBER.fullmatch(self.text):
            object.__setattr__(self, "number", float(self.text))
        object.__setattr__(self, "span", _span(self.text))

    @property
    def is_null(self) -> bool:
        """Whether it says that there is no value."""
        return not self.quoted and _WORDS.get(self.text.lower(), 0) is None


@dataclass(frozen=True)
class Comparison(Condition):
    """A name's value is compared with one that was typed."""

    name: str
    sign: str
    literal: Literal

    def names(self) -> Iterator[str]:
        """Yield its one."""
        yield self.name

    def holds(self, get: Get) -> bool:
        """Tell whether it holds; of several values (tags) one is enough, and for ``!=`` and ``!~`` none may fit."""
        value = get(self.name)
        if self.sign.startswith("!"):
            if value is None:
                # What is not known differs from nothing; yet all that is known is no null.
                return False
            return not self._fits(value, {"!=": "=", "!~": "~"}[self.sign])
        return self._fits(value, self.sign)

    def _fits(self, value: Any, sign: str) -> bool:
        if isinstance(value, tuple):
            if self.literal.is_null and sign == "=":
                return not value
            return any(_compare(each, sign, self.literal) for each in value)
        return _compare(value, sign, self.literal)


@dataclass(frozen=True)
class Moment:
    """A time, which is compared with dates."""

    at: float


def _compare(value: Any, sign: str, literal: Literal) -> bool:
    if value is None or literal.is_null:
        return sign == "=" and value is None and literal.is_null
    if isinstance(value, Moment):
        return _compare_times(value.at, "=" if sign == "~" else sign, literal.span)
    if sign == "~":
        return _is_like(as_text(value), literal.text)
    if isinstance(value, bool):
        return sign == "=" and _WORDS.get(literal.text.lower()) is value
    if isinstance(value, int | float):
        return literal.number is not None and _ordered(value, sign, literal.number)
    if sign == "=":
        return as_text(value) == literal.text
    return _ordered(natural(as_text(value)), sign, natural(literal.text))


def _ordered(one: Any, sign: str, other: Any) -> bool:
    if sign == "=":
        return bool(one == other)
    if sign in {"<", "<="}:
        return bool(one < other or (sign == "<=" and one == other))
    return bool(one > other or (sign == ">=" and one == other))


def _compare_times(at: float, sign: str, span: tuple[float, float] | None) -> bool:
    if span is None:
        return False
    begins, over = span
    return {
        "=": begins <= at < over,
        "<": at < begins,
        "<=": at < over,
        ">": at >= over,
        ">=": at >= begins,
    }.get(sign, False)


def _is_like(text: str, pattern: str) -> bool:
    """Tell whether a text holds another, or, where that has ``*`` or ``?``, whether it is like it as a whole."""
    text, pattern = text.lower(), pattern.lower()
    if any(sign in pattern for sign in "*?"):
        return fnmatchcase(text, pattern.replace("[", "[[]"))
    return pattern in text


def as_text(value: Any) -> str:
    """Return a value as it is compared with text."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def typed(text: str) -> str | int | float | bool | None:
    """Return the value that a plain word stands for: a number, true, false, nothing, or itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if not _NUMBER.fullmatch(text):
        return text
    return (
        int(text) if text.lstrip("+-").isdecimal() and len(text) < 20 else float(text)
    )


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return what sorts a text by the numbers in it: 0.10 behind 0.9."""
    parts = _DIGITS.split(text)
    # `isdecimal` takes what `int` takes; a number of ten thousand digits is text.
    return [
        (0, int(part), "") if part.isdecimal() and len(part) < 100 else (1, 0, part)
        for part in parts
        if part
    ]


def _span(text: str) -> tuple[float, float] | None:
    """Return when a date begins, and when it is over, in the local time; None where it is no date."""
    days = {"today": 0, "yesterday": 1}
    if text.lower() in days:
        first = datetime.combine(date.today(), time()) - timedelta(days[text.lower()])
        return first.timestamp(), (first + timedelta(1)).timestamp()
    for form in _DATES:
        try:
            first = datetime.strptime(text, form)
            return first.timestamp(), _next(first, form).timestamp()
        except (ValueError, OverflowError, OSError):
            continue
    return None


def _next(first: datetime, form: str) -> datetime:
    if form == "%Y-%m":
        return (first + timedelta(32)).replace(day=1)
    step = {"%Y-%m-%d": timedelta(1), "%Y-%m-%dT%H:%M": timedelta(minutes=1)}
    return first + step.get(form, timedelta(seconds=1))


def parse(text: str) -> Condition:
    """Return the condition that a query says.

    Raises
    ------
    UsageError
        Where it cannot be read, with the place.
    """
    return _Reader(text, list(_tokens(text))).whole()


Token = tuple[str, str, int]
"""Its kind, its text, and where it begins."""


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _refusal(
                text,
                at,
                "a quote without its second, or a sign that does not belong here",
            )
        kind = str(found.lastgroup)
        yield kind, found[kind], found.start(kind)
        at = found.end()


def _refusal(text: str, at: int, why: str) -> UsageError:
    there = text[at : at + 20].strip() or "its end"
    return UsageError("this query cannot be read", text, f"{why} (at: {there})", HELP)


@dataclass
class _Reader:
    """Reads tokens, one after the other."""

    text: str
    tokens: list[Token]
    at: int = 0
    depth: int = 0

    def whole(self) -> Condition:
        found = self._any()
        if self.at < len(self.tokens):
            raise self._wrong("and, or, or the end would stand here")
        return found

    def _wrong(self, why: str) -> UsageError:
        at = self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.text)
        return _refusal(self.text, at, why)

    def _next(self) -> Token:
        """Return the next token, and leave it there."""
        if self.at < len(self.tokens):
            return self.tokens[self.at]
        return "end", "", len(self.text)

    def _take(self, *words: str) -> bool:
        """Go over the next token, if it is one of these words or brackets."""
        kind, found, _ = self._next()
        if kind in {"word", "bracket"} and found.lower() in words:
            self.at += 1
            return True
        return False

    def _any(self) -> Condition:
        found = self._all()
        while self._take("or"):
            found = Both(found, self._all(), either=True)
        return found

    def _all(self) -> Condition:
        found = self._one()
        while self._take("and"):
            found = Both(found, self._one())
        return found

    def _one(self) -> Condition:
        self.depth += 1
        if self.depth > MOST_BRACKETS:
            raise self._wrong("too many brackets in brackets")
        if self._take("not"):
            found: Condition = Not(self._one())
        elif self._take("("):
            found = self._any()
            if not self._take(")"):
                raise self._wrong("a bracket is not closed")
        else:
            found = self._comparison()
        self.depth -= 1
        return found

    def _comparison(self) -> Condition:
        kind, name, _ = self._next()
        if kind not in {"word", "single", "double"}:
            raise self._wrong("a name would stand here")
        self.at += 1
        kind, sign, _ = self._next()
        if kind != "sign":
            raise self._wrong(
                f"a comparison would stand behind {name}, such as name~{name}"
            )
        self.at += 1
        kind, value, _ = self._next()
        if kind not in {"word", "single", "double"}:
            raise self._wrong(f"a value would stand behind {name}{sign}")
        self.at += 1
        literal = Literal(value, quoted=kind != "word")
        if name == DATE and literal.span is None and not literal.is_null:
            raise _refusal(
                self.text,
                self.tokens[self.at - 1][2],
                "a date is 2026-11-27, 2026-11-27T18:00, 2026-11, today or yesterday",
            )
        return Comparison(name, "=" if sign == "==" else sign, literal)
