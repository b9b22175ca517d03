"""Shows people how far a run is, while a driver waits for it."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from mllam_exps.base.terminal import plain
from mllam_exps.runs.records import Progress
from mllam_exps.runs.state.judge import Assessment, RunState

REPEAT_SECONDS = 60.0


def duration(seconds: float) -> str:
    """Return a duration as people say it: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def describe(assessment: Assessment) -> str:
    """Return one line on a run's state: pending and why, or how far it is, and what is odd about that."""
    text = how_far(assessment)
    if assessment.state is not RunState.RUNNING or assessment.attempt is None:
        return text
    if assessment.attempt.cancel_requested or not assessment.reason:
        return text
    return f"{text} ({assessment.reason})"


def how_far(assessment: Assessment) -> str:
    """Return one line on a run's state: pending and why, or how far it is."""
    attempt = assessment.attempt
    if assessment.state is not RunState.RUNNING or attempt is None:
        reason = f": {assessment.reason}" if assessment.problem else ""
        return f"{assessment.state}{reason}"
    progress = attempt.progress or Progress()
    if attempt.cancel_requested:
        return "stopping"
    text = progress.text or "starting the program"
    if progress.seconds_left is not None and progress.seconds_left > 0:
        text = f"{text}, {duration(progress.seconds_left)} left"
    return text


class Display:
    """One line that changes on a terminal; elsewhere a line whenever there is something new to say.

    Parameters
    ----------
    prefix : str
        What stands before each line, most often the stage.
    """

    def __init__(self, prefix: str, stream: TextIO | None = None) -> None:
        self.prefix = prefix
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._shown = ""
        self._shown_at = 0.0
        self._begun = time.monotonic()

    def show(self, text: str) -> None:
        """Show `text` in place of what was shown before."""
        now = time.monotonic()
        if self.live:
            line = plain(
                f"{self.prefix}: {text} [{duration(now - self._begun)}]"
            ).replace("\n", " ")
            self.stream.write(f"\r\x1b[K{line[: _width() - 1]}")
            self.stream.flush()
            self._shown = text
        elif text != self._shown and (now - self._shown_at > 5.0 or not self._shown):
            self.line(text)
            self._shown, self._shown_at = text, now
        elif now - self._shown_at > REPEAT_SECONDS:
            self.line(f"{text} [{duration(now - self._begun)}]")
            self._shown_at = now

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        self.stream.write(plain(f"{self.prefix}: {text}\n"))
        self.stream.flush()

    def clear(self) -> None:
        """Take the changing line away."""
        if self.live and self._shown:
            self.stream.write("\r\x1b[K")
            self._shown = ""


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
