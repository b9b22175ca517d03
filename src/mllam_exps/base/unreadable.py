"""Says where a parser failed: the file, the line, the column, and the line's text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from mllam_exps.base.errors import UsageError

LONGEST = 100


def refusal(name: str, text: str, error: BaseException) -> UsageError:
    """Return what is wrong with a file that cannot be parsed.

    Parameters
    ----------
    name : str
        What to call the file.
    text : str
        What it holds.
    error : BaseException
        What a parser of YAML, JSON, TOML or Python raised, or what DVC (3.67) made of
        that.
    """
    lines = text.splitlines()
    if conflict := _conflict(lines):
        way_out = f"keep one of the two versions, then git add {shlex.quote(name)}"
        why = "a merge of git left both versions in it"
        return UsageError(
            "holds git's conflict markers", f"{name}:{conflict}", why, way_out
        )
    for cause in _chain(error):
        line, column, what = _place(cause)
        if line:
            shown = lines[line - 1].strip()[:LONGEST] if line <= len(lines) else ""
            why = f"the line is `{shown}`" if shown else "the file ends there"
            return UsageError(what, f"{name}:{line}:{column}", why)
    said = str(error.__cause__ or error).splitlines() or [type(error).__name__]
    return UsageError("it cannot be read", name, said[0])


def _conflict(lines: list[str]) -> int:
    """Return the line, counted from 1, at which git (2.39) shows the first version of what it could not merge; or 0."""
    if any(line.startswith(">>>>>>> ") for line in lines):
        for number, line in enumerate(lines, 1):
            if line.startswith("<<<<<<< "):
                return number
    return 0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _place(error: Any) -> tuple[int, int, str]:
    """Return line and column, counted from 1, and what is wrong there; zeros if the error names no place."""
    mark = getattr(error, "problem_mark", None)  # PyYAML, ruamel.yaml
    if mark is not None:
        problem = str(error.problem or "is not YAML").split("with value")[0]
        return mark.line + 1, mark.column + 1, _twice(" ".join(problem.split()))
    if isinstance(error, SyntaxError):
        return error.lineno or 0, error.offset or 1, error.msg
    # json; and tomlkit, which counts columns from 0
    line = getattr(error, "line", getattr(error, "lineno", 0))
    column = getattr(error, "col", getattr(error, "colno", 1))
    if not isinstance(line, int) or not isinstance(column, int) or line <= 0:
        return 0, 0, ""
    what = str(getattr(error, "msg", error)).partition(" at line ")[0]
    return line, max(1, column), what


def _twice(what: str) -> str:
    """Shorten a parser's message that a key stands twice."""
    before, _, name = what.partition("found duplicate key ")
    return f"{name.strip(chr(34))} stands twice" if name and not before else what
