"""Prints for people. Names and messages come from files that others may write, so control characters are shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

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
