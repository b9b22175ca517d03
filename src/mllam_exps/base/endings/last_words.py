"""What a program said last, as its log has it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mllam_exps.base.endings import tracebacks

FATAL = re.compile(r"^Fatal Python error: (.*)")
# Slurm 22.05, at the end of each task that failed: "srun: error: n2: task 1: Aborted"
TASK_ENDED = re.compile(r"^srun: error: (\S+): tasks? (\S+): (.*)$")
_CPP_WHAT = "  what():  "
"""What stands before the message of a C++ exception."""
SLURM = re.compile(r"^(srun|slurmstepd(-\S+)?): ")
_COMMAND = "> "
"""What `programs.shell` puts before each command of a stage when it starts it."""
# What follows the end of a program and is not its reason.
_NOISE = re.compile(
    r"^\s|^>|Warning: |^Exception ignored |^\^|^terminate called without an active exception"
)


def fatal_error(lines: Sequence[str]) -> str:
    """Return the line in which Python says that it could not go on; nothing where there is none."""
    for line in lines:
        _, said = tracebacks.unmarked(line)
        if FATAL.match(said):
            return said
    return ""


def failed_task(lines: Sequence[str]) -> str:
    """Return what srun says of the first task that failed; nothing where it says nothing."""
    for line in lines:
        if (found := TASK_ENDED.match(line)) is not None:
            node, task, how = found.groups()
            return f"task {task} on {node}: {how}"
    return ""


def silent_command(lines: Sequence[str]) -> str:
    """Return the last of a stage's commands, if it said nothing: what stands before it is not its reason."""
    for number in reversed(range(len(lines))):
        if lines[number].startswith(_COMMAND):
            said_nothing = not last_words(lines[number + 1 :])
            return lines[number].removeprefix(_COMMAND) if said_nothing else ""
    return ""


def last_words(lines: Sequence[str]) -> str:
    """Return the last line that the program itself said; what Slurm said where that is all."""
    unmarked = [tracebacks.unmarked(line)[1] for line in lines]
    own = [
        line for line in unmarked if not SLURM.match(line) and not _NOISE.search(line)
    ]
    if not own:
        return _first_error_of_slurm(unmarked)
    return f"{own[-1]}{_cpp_message(unmarked)}"[: tracebacks.LONGEST]


def _cpp_message(lines: Sequence[str]) -> str:
    """Return the message of the last C++ exception, behind a colon; nothing where there is none."""
    for line in reversed(lines):
        if line.startswith(_CPP_WHAT):
            return f": {line.removeprefix(_CPP_WHAT)}"
    return ""


def _first_error_of_slurm(lines: Sequence[str]) -> str:
    for line in lines:
        is_error = SLURM.match(line) and " error: " in line
        if is_error and not TASK_ENDED.match(line):
            return line
    return ""


def last_line(text: str) -> str:
    """Return the last line of a program's complaint; nothing where it is empty."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
