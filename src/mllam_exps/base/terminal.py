"""Prints for people. Names and messages come from files that others may write, so control characters are shown."""

from __future__ import annotations

import codecs
import io
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from mllam_exps.base.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

# C0 and C1 control characters, and those that turn the direction of writing: a terminal
# obeys them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What programs print in earnest stays: colours, and a progress bar that begins its line
# again.
_HARMFUL = re.compile(
    "(?!\r)[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]|\x1b(?!\\[[0-9;]*[mK])"
)


# What our own words have beyond ASCII, in words of a terminal that knows no more.
_IN_ASCII = {"→": "->", "…": "...", "×": "x", "–": "-", "—": "-"}
_REPLACED = "mllam-exps.replaced"


def print_anything() -> None:
    """Let signs that a terminal or a file cannot take be replaced: a name with one of them would end a command.

    That is so with ``PYTHONIOENCODING=ascii``, with Latin-1, and of names that are not
    UTF-8.
    """
    codecs.register_error(_REPLACED, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_REPLACED)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(sign, "?") for sign in signs), error.end


def plain(text: str) -> str:
    """Return a text with its control characters made visible; line breaks and tabs stay."""
    return _CONTROL.sub(_visible, text)


def harmless(text: str) -> str:
    """Return a program's output; control characters that do more than colour a line are made visible."""
    return _HARMFUL.sub(_visible, text)


def _visible(control: re.Match[str]) -> str:
    return control[0].encode("unicode_escape").decode("ascii")


def say(text: object, file: TextIO | None = None) -> None:
    """Print a line that may hold names from a run store."""
    print(plain(str(text)), file=file or sys.stdout, flush=True)


def warn(text: object) -> None:
    """Print a line that may hold names from a run store on standard error."""
    say(text, sys.stderr)


def confirmed(question: str, unasked: str) -> bool:
    """Ask a person.

    Parameters
    ----------
    unasked : str
        What to type where nobody can be asked.

    Raises
    ------
    UsageError
        Where nobody can.
    """
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here", next=unasked)
    return input(f"{question}? [y/N] ").strip().lower() in {"y", "yes"}


def amount(size: float) -> str:
    """Return a number of bytes for people: ``12 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def console(**options: Any) -> Console:
    """Return a console of rich's that prints no control characters but its own."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Plain(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                if segment.control:
                    yield segment
                else:
                    yield Segment(plain(segment.text), segment.style)

    return Plain(**options)
