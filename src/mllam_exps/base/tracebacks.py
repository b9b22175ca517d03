"""Which exception ended a program, as its log tells it. Pure.

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
# The margin of an exception group: "  | ", "    +-+---------------- 1
# ----------------".
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
    chained : bool
        Whether it was raised from another.
    way_out : str
        What one of our own errors says should be done.
    """

    voice: str
    line: int
    name: str
    message: str
    cause: str = ""
    ends: bool = True
    chained: bool = False
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
    found = uncaught(lines)
    last: dict[str, Uncaught] = {}
    for one in found:
        if not one.ends and any(other.ends for other in found):
            continue
        # A child's traceback stands before that of its parent, which tells only that
        # the child failed.
        if one.voice not in last or not one.follows:
            last[one.voice] = one
    first = sorted(
        last.values(), key=lambda one: (one.follows, not one.voice, one.line)
    )
    if not first:
        return None
    # One process alone needs no number.
    alone = len(last) == 1 and first[0].voice == "0"
    return replace(first[0], voice="") if alone else first[0]


def uncaught(lines: Sequence[str]) -> list[Uncaught]:
    """Return the exceptions that have a traceback, in their order."""
    voices: dict[str, list[tuple[int, str]]] = {}
    for number, line in enumerate(lines):
        voice, text = unmarked(line)
        voices.setdefault(voice, []).append((number, text))
    found = [one for voice, said in voices.items() for one in _of_voice(voice, said)]
    return sorted(found, key=lambda one: one.line)


def unmarked(line: str) -> tuple[str, str]:
    """Return which process says a line, and the line without its mark."""
    voice = ""
    for mark in (_TASK, _RANK):
        if found := mark.match(line):
            voice, line = found[1], line[found.end() :]
    return voice, line


def _of_voice(voice: str, said: list[tuple[int, str]]) -> list[Uncaught]:
    found: list[Uncaught] = []
    place = 0
    while place < len(said):
        number, text = said[place]
        if _SYNTAX.match(text):
            name, _, message = text.partition(": ")
            found.append(
                Uncaught(voice, number, name, message, cause=_file_before(said, place))
            )
        elif _HEADER.search(text):
            before = _line_before(said, place)
            place, one = _read(voice, said, place)
            if one is not None:
                chained = before == _CAUSED and bool(found)
                if chained and not one.cause and found[-1].said != one.said:
                    root = found[-1].cause or f"caused by {found[-1].said}"
                    one = replace(one, cause=root)
                found.append(
                    replace(one, ends=not _GOES_ON.match(before), chained=chained)
                )
            continue
        place += 1
    return found


def _file_before(said: list[tuple[int, str]], place: int) -> str:
    files = (
        _FILE.match(text)
        for _, text in reversed(said[max(0, place - MORE_LINES) : place])
    )
    return next((f"{file[1]}, line {file[2]}" for file in files if file), "")


def _line_before(said: list[tuple[int, str]], place: int) -> str:
    before = (_IN_MARGIN.sub("", text).strip() for _, text in reversed(said[:place]))
    return next((text for text in before if text), "")


def _read(
    voice: str, said: list[tuple[int, str]], place: int
) -> tuple[int, Uncaught | None]:
    """Read a traceback from its header on; return where what follows begins, and its exception."""
    grouped = (
        bool(_MARGIN.match(said[place][1]))
        or "Exception Group Traceback" in said[place][1]
    )
    place += 1
    while place < len(said):
        number, text = said[place]
        text = _IN_MARGIN.sub("", text) if grouped else text
        if _HEADER.search(text):
            return place, None  # the inner one of two
        place += 1
        if not text.strip() or text[0] in _FRAME:
            continue
        found = _EXCEPTION.match(text)
        # Other processes may write into the midst of it.
        if found is None or found[1] in _LEVELS:
            continue
        one = Uncaught(
            voice, number, found[1], _message(found[2] or "", said, place, grouped)
        )
        below = said[place][1] if place < len(said) else ""
        if one.is_ours and below.startswith(_WAY_OUT):
            one = replace(one, way_out=below.removeprefix(_WAY_OUT).strip())
        if grouped and _SUB_EXCEPTIONS.search(one.message):
            return _of_group(one, said, place)
        return place, one
    return place, None


def _message(first: str, said: list[tuple[int, str]], place: int, grouped: bool) -> str:
    """Return a message in one line: its first, with what is listed below it."""
    text, more = first.strip(), []
    if text.endswith(":"):
        for _, below in said[place : place + MORE_LINES]:
            line = _IN_MARGIN.sub("", below) if grouped else below
            if not line.startswith((" ", "\t")):
                break
            more.append(line.strip())
        text = f"{text} {'; '.join(more)}".strip()
    if len(text) > LONGEST:
        text = f"{text[:LONGEST].rsplit(' ', 1)[0]} …"
    return text


def _of_group(
    group: Uncaught, said: list[tuple[int, str]], place: int
) -> tuple[int, Uncaught]:
    """Name the first exception of a group that is no group itself; what follows begins behind the margin."""
    first = ""
    while place < len(said) and _MARGIN.match(said[place][1]):
        text = _IN_MARGIN.sub("", said[place][1])
        found = _EXCEPTION.match(text)
        if not first and found and found[2] and not _SUB_EXCEPTIONS.search(found[2]):
            first = f"the first: {found[1].rpartition('.')[2]}: {found[2]}"
        place += 1
    return place, replace(group, cause=first)
