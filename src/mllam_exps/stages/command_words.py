"""What the words of a stage's command say, as ``dvc.yaml`` has it: whether a program of ours does the work."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from itertools import pairwise


def calls_us(commands: Iterable[str]) -> bool:
    """Tell whether a stage's commands call `mllam-exps run`, and so its work is a program's of ours."""
    return any(
        pair == ("mllam-exps", "run")
        for command in commands
        for pair in pairwise(words_of(command))
    )


def words_of(command: str) -> list[str]:
    """Return the words of a command as a shell splits them, or as they are where it is no whole line of shell."""
    try:
        return shlex.split(command)
    except ValueError:  # a quote that a later line ends, say
        return command.split()
