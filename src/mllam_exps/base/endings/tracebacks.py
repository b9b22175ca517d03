"""Finds in a log which exception ended a program. Pure.

What marks an exception is its traceback: a class may have any name. Several processes
may write to one log, each line of theirs with a mark in front: ``3: `` from ``srun
--label``, ``[rank3]: `` from torch (2.13), or both. The first of them that fails is the
reason, and the others fail because of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

LONGEST = 240
"""Characters of a message that are told."""
MORE_LINES = 4
"""Lines of a message that are told where its first announces a list."""

_TASK = re.compile(r"^\s*(\d+): ")
_RANK = re.compile(r"^\[rank(\d+)\]: ?")
# A progress bar may stand in front of it; rich and typer draw a frame around it.
_HEADER = re.compile(r"Traceback \(most recent call last\)")
_EXCEPTION = re.compile(r"^([^\W\d][\w.<>]*)(?::(?:\s+(.*))?)?$")
# A compiler's complaint of the program's own file has no header.
_SYNTAX = re.compile(r"^(SyntaxError|IndentationError|TabError): ")
_WAY_OUT = "  → "
_FILE = re.compile(r'^\s+File "(.*)", line (\d+)')
_FRAME = " \t│╭╰>❱└"
_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL"}
# The margin of an exception group: "  | ", or "    +-+---------------- 1 ------".
_MARGIN = re.compile(r"^\s+[|+]")
_IN_MARGIN = re.compile(r"^\s+[|+] ?")
_SUB_EXCEPTIONS = re.compile(r"\(\d+ sub-exceptions?\)$")
_CAUSED = "The above exception was the direct cause of the following exception:"
# Python 3.11 prints these tracebacks, and goes on.
_GOES_ON = re.compile(
    r"^(Exception ignored |Exception in thread |Error in |--- Logging error|future: <|task: <)"
)
# What a process says that fails because another one did: torchrun, subprocess, gloo,
# NCCL, and our own NotFinite.
_FOLLOWS = re.compile(
    r"ChildFailedError|CalledProcessError|_?RemoteTraceback|ProcessExitedException|ProcessRaisedException"
    r"|Connection (closed|reset) by (remote )?peer|remote process exited|NCCL communicator was aborted"
    r"|another rank stopped"
)


@dataclass(frozen=True)
class Uncaught:
    """An exception that was not caught.

    Parameters
    ----------
    voice : str
        Which of several processes, such as ``1``; empty where a line has no mark.
    line : int
        Where in the log it is named, counted from 0.
    name, message : str
        Its class, with the module, and its text.
    cause : str
        The exception that it was raised from, or the first in a group.
    ends : bool
        Whether it ended the program: those of threads and destructors do not.
    way_out : str
        What one of our own errors says should be done.
    """

    voice: str
    line: int
    name: str
    message: str
    cause: str = ""
    ends: bool = True
    way_out: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is one of this package's errors, whose message is made for people."""
        return self.name.startswith("mllam_exps.")

    @property
    def said(self) -> str:
        """The exception in one line."""
        if not self.message:
            return self.name
        kind = "" if self.is_ours else f"{self.name.rpartition('.')[2]}: "
        cause = f" ({self.cause})" if self.cause else ""
        return f"{kind}{self.message}{cause}"

    @property
    def follows(self) -> bool:
        """Whether it happened because another process failed."""
        return bool(_FOLLOWS.search(f"{self.name}: {self.message}"))


def reason(lines: Sequence[str]) -> Uncaught | None:
    """Return the exception that ended the program; of several processes, the first that failed by itself."""
    exceptions = uncaught(lines)
    if any(exception.ends for exception in exceptions):
        exceptions = [exception for exception in exceptions if exception.ends]
    last = _last_of_each_voice(exceptions)
    if not last:
        return None
    first = min(last.values(), key=_order_of_guilt)
    # One process alone needs no number.
    alone = len(last) == 1 and first.voice == "0"
    return replace(first, voice="") if alone else first


def _last_of_each_voice(exceptions: Sequence[Uncaught]) -> dict[str, Uncaught]:
    last: dict[str, Uncaught] = {}
    for exception in exceptions:
        # A child's traceback stands before that of its parent, which tells only that
        # the child failed.
        if exception.voice not in last or not exception.follows:
            last[exception.voice] = exception
    return last


def _order_of_guilt(exception: Uncaught) -> tuple[bool, bool, int]:
    """Sort key: processes that failed by themselves stand before those that failed because of another, then by line."""
    return exception.follows, not exception.voice, exception.line


def uncaught(lines: Sequence[str]) -> list[Uncaught]:
    """Return the exceptions that have a traceback, in their order."""
    voices: dict[str, list[tuple[int, str]]] = {}
    for number, line in enumerate(lines):
        voice, text = unmarked(line)
        voices.setdefault(voice, []).append((number, text))
    exceptions: list[Uncaught] = []
    for voice, said in voices.items():
        exceptions += _of_voice(voice, said)
    return sorted(exceptions, key=lambda exception: exception.line)


def unmarked(line: str) -> tuple[str, str]:
    """Return which process wrote a line, and the line without the mark in front."""
    voice = ""
    for pattern in (_TASK, _RANK):
        if mark := pattern.match(line):
            voice, line = mark[1], line[mark.end() :]
    return voice, line


def _of_voice(voice: str, said: list[tuple[int, str]]) -> list[Uncaught]:
    exceptions: list[Uncaught] = []
    place = 0
    while place < len(said):
        number, text = said[place]
        if _SYNTAX.match(text):
            name, _, message = text.partition(": ")
            file = _file_before(said, place)
            exceptions.append(Uncaught(voice, number, name, message, cause=file))
        elif _HEADER.search(text):
            before = _line_before(said, place)
            place, exception = _read(voice, said, place)
            if exception is not None:
                exceptions.append(_in_context(exception, before, exceptions))
            continue
        place += 1
    return exceptions


def _in_context(
    exception: Uncaught, before: str, earlier: Sequence[Uncaught]
) -> Uncaught:
    """Add what the line before a traceback tells: that the program goes on, or that an earlier exception caused it."""
    cause = exception.cause
    if before == _CAUSED and earlier and not cause:
        source = earlier[-1]
        if source.said != exception.said:
            cause = source.cause or f"caused by {source.said}"
    return replace(exception, cause=cause, ends=not _GOES_ON.match(before))


def _file_before(said: list[tuple[int, str]], place: int) -> str:
    for _, text in reversed(said[max(0, place - MORE_LINES) : place]):
        if file := _FILE.match(text):
            return f"{file[1]}, line {file[2]}"
    return ""


def _line_before(said: list[tuple[int, str]], place: int) -> str:
    for _, text in reversed(said[:place]):
        if line := _without_margin(text).strip():
            return line
    return ""


def _without_margin(text: str) -> str:
    return _IN_MARGIN.sub("", text)


def _read(
    voice: str, said: list[tuple[int, str]], place: int
) -> tuple[int, Uncaught | None]:
    """Read a traceback from its header on; return where what follows begins, and its exception."""
    header = said[place][1]
    grouped = bool(_MARGIN.match(header)) or "Exception Group Traceback" in header
    place += 1
    while place < len(said):
        text = said[place][1]
        text = _without_margin(text) if grouped else text
        if _HEADER.search(text):
            return place, None  # the inner one of two
        if named := _named_exception(text):
            return _exception(voice, said, place, named, grouped)
        place += 1
    return place, None


def _named_exception(text: str) -> re.Match[str] | None:
    """Return the class and the message of an exception, if a line in a traceback is the one that names it."""
    if not text.strip() or text[0] in _FRAME:
        return None
    named = _EXCEPTION.match(text)
    # Other processes may write into the midst of it.
    if named is None or named[1] in _LEVELS:
        return None
    return named


def _exception(
    voice: str,
    said: list[tuple[int, str]],
    place: int,
    named: re.Match[str],
    grouped: bool,
) -> tuple[int, Uncaught]:
    """Return where what follows an exception begins, and the exception that the line at `place` names."""
    number = said[place][0]
    place += 1
    message = _message(named[2] or "", said, place, grouped)
    exception = Uncaught(voice, number, named[1], message)
    below = said[place][1] if place < len(said) else ""
    if exception.is_ours and below.startswith(_WAY_OUT):
        way_out = below.removeprefix(_WAY_OUT).strip()
        exception = replace(exception, way_out=way_out)
    if grouped and _SUB_EXCEPTIONS.search(message):
        return _of_group(exception, said, place)
    return place, exception


def _message(first: str, said: list[tuple[int, str]], place: int, grouped: bool) -> str:
    """Return a message in one line: its first, with what is listed below it."""
    text = first.strip()
    if text.endswith(":"):
        text = f"{text} {'; '.join(_listed(said, place, grouped))}".strip()
    if len(text) > LONGEST:
        text = f"{text[:LONGEST].rsplit(' ', 1)[0]} …"
    return text


def _listed(said: list[tuple[int, str]], place: int, grouped: bool) -> list[str]:
    """Return the indented lines that stand from `place` on."""
    listed: list[str] = []
    for _, text in said[place : place + MORE_LINES]:
        line = _without_margin(text) if grouped else text
        if not line.startswith((" ", "\t")):
            break
        listed.append(line.strip())
    return listed


def _of_group(
    group: Uncaught, said: list[tuple[int, str]], place: int
) -> tuple[int, Uncaught]:
    """Add to a group its first exception that is no group itself; return where the group's margin ends."""
    first = ""
    while place < len(said) and _MARGIN.match(said[place][1]):
        first = first or _member(_without_margin(said[place][1]))
        place += 1
    return place, replace(group, cause=first)


def _member(text: str) -> str:
    """Name the exception in a line of a group; nothing where the line names none, or a group in the group."""
    named = _EXCEPTION.match(text)
    if not named or not named[2] or _SUB_EXCEPTIONS.search(named[2]):
        return ""
    return f"the first: {named[1].rpartition('.')[2]}: {named[2]}"
