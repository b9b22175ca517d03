"""Which signal ended a program, and what that means."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from pathlib import Path

from mllam_exps.base.endings import tracebacks
from mllam_exps.base.endings.last_words import FATAL, TASK_ENDED, last_words
from mllam_exps.base.endings.tracebacks import Uncaught

_FAULT_FRAME = re.compile(r'^\s+File "(.*)", line (\d+) in (\S+)$')
_FAULT_LINES = 100
# torchrun 2.13, behind "Root Cause (first observed failure):"
_ROOT_CAUSE = re.compile(r"Root Cause \(first observed failure\):")
_ROOT_RANK = re.compile(r"^\s+rank\s+: (\d+)")
_ROOT_CODE = re.compile(r"^\s+exitcode\s+: (-?\d+)")
_ROOT_CAUSE_LINES = 7
_MEANING: dict[int, str] = {
    signal.SIGKILL: "out of memory, perhaps",
    signal.SIGSEGV: "a segmentation fault, a mistake in compiled code",
    signal.SIGBUS: "a bus error; a file in memory was cut short, or the disk that holds it (/dev/shm?) is full",
    signal.SIGILL: "an illegal instruction; it was compiled for another kind of processor",
    signal.SIGFPE: "an arithmetic error in compiled code",
    signal.SIGABRT: "it gave itself up",
    signal.SIGINT: "interrupted",
    signal.SIGXCPU: "it reached the limit of CPU time (ulimit -t)",
    signal.SIGXFSZ: "it reached the limit of a file's size (ulimit -f)",
}
# Lightning 2.6, where a process fails that it started: "[rank: 1] Child process with
# PID 7 terminated with code 1. Forcefully terminating all other processes to avoid
# zombies". It kills itself as well.
_GAVE_UP = re.compile(r"^\[rank: \d+\] Child process with PID \d+ terminated with code")
_BY_ITSELF = {signal.SIGABRT, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT}
"""Signals by which a process may end that has told its reason before."""
FEW = 12
"""Lines that may follow a program's last words while it ends."""


def that_ended(code: int, lines: Sequence[str]) -> tuple[int | None, str]:
    """Return the signal that ended the program; and the task that it ended, if srun or torchrun names one."""
    number = _signal_of_code(code)
    for line in lines:
        if task := TASK_ENDED.match(line):
            return _signal_of_task(task, number)
    for place, line in enumerate(lines):
        if _ROOT_CAUSE.search(line):
            return _signal_of_root_cause(lines[place : place + _ROOT_CAUSE_LINES])
    return number, ""


def _signal_of_code(code: int) -> int | None:
    if code < 0:
        return -code
    # A shell, and srun, tell a signal as 128 and its number.
    if code - 128 in set(signal.Signals):
        return code - 128
    return None


def _signal_of_task(task: re.Match[str], number: int | None) -> tuple[int | None, str]:
    """Return the signal that srun names for the first task that ended: that task is the reason.

    srun ends the other tasks, and may return their exit code: then `number` is the
    SIGTERM of srun's own.
    """
    description = task[3].removesuffix(" (core dumped)")
    for known in signal.Signals:
        if signal.strsignal(known) == description:
            return known, f"task {task[2]} on {task[1]}"
    if number == signal.SIGTERM:
        return None, ""
    return number, ""


def _signal_of_root_cause(lines: Sequence[str]) -> tuple[int | None, str]:
    """Return the signal, if any, of the process that torchrun names as the first that failed."""
    exit_code = int(_first_match(_ROOT_CODE, lines, "1"))
    if exit_code >= 0:
        return None, ""
    return -exit_code, f"rank {_first_match(_ROOT_RANK, lines, '?')}"


def _first_match(pattern: re.Pattern[str], lines: Sequence[str], default: str) -> str:
    for line in lines:
        if match := pattern.match(line):
            return match[1]
    return default


def told_before(number: int, uncaught: Uncaught | None, lines: Sequence[str]) -> bool:
    """Tell whether a process printed its reason before a signal ended it, as torch prints a traceback and aborts."""
    if uncaught is None or uncaught.follows:
        return False
    if number not in _BY_ITSELF:
        return any(_GAVE_UP.match(line) for line in lines)
    return bool(uncaught.voice) or len(lines) - uncaught.line <= FEW


def reason(number: int, where: str, lines: Sequence[str]) -> str:
    """Say that a signal ended the program, or the task `where`, and what the signal means."""
    known = number in set(signal.Signals)
    name = signal.Signals(number).name if known else f"signal {number}"
    said = f"{where or 'the program'} was killed by {name}"
    if number in _MEANING:
        said += f": {_MEANING[number]}"
    if frame := _fault(lines):
        return f"{said} (in {frame})"
    if number == signal.SIGABRT and (words := last_words(lines)):
        return f"{said}: {words}"
    return said


def _fault(lines: Sequence[str]) -> str:
    """Return the innermost frame outside of libraries that Python's faulthandler printed."""
    unmarked = [tracebacks.unmarked(line)[1] for line in lines]
    for place, line in enumerate(unmarked):
        if FATAL.match(line):
            return _innermost_frame(unmarked[place : place + _FAULT_LINES])
    return ""


def _innermost_frame(lines: Sequence[str]) -> str:
    frames = []
    for line in lines:
        if frame := _FAULT_FRAME.match(line):
            frames.append(frame)
    if not frames:
        return ""
    # The innermost frame stands first.
    own = [frame for frame in frames if "/lib/python" not in frame[1]]
    file, line_number, function = (own or frames)[0].groups()
    return f"{function}, {Path(file).name} line {line_number}"
