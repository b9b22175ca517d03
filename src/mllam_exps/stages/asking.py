"""Asks a program of another environment, which answers with JSON on its last line.

What makes an environment ready may print lines of its own before it, in any encoding; and some of them have no input.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 300.0
"""Seconds for an environment to answer: the first time a site may unpack the image of a container."""


@dataclass(frozen=True)
class Answer:
    """What a program said.

    Parameters
    ----------
    code : int
        Its exit code.
    out, err : str
        All that it printed.
    """

    code: int
    out: str
    err: str

    @property
    def found(self) -> Any:
        """What its last line holds.

        Raises
        ------
        ValueError
            If that is no JSON.
        """
        return json.loads(next(reversed(self.out.strip().splitlines()), ""))

    @property
    def complaint(self) -> str:
        """The last line of its complaint, or else its exit code."""
        said = self.err.strip().splitlines()
        return said[-1] if said else f"exit code {self.code}"


def ask(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    patience: float | None = PATIENCE,
) -> Answer:
    """Run a program, and return what it said.

    Raises
    ------
    OSError
        If it cannot be started.
    subprocess.TimeoutExpired
        If it takes longer than `patience`.
    """
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patience,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
