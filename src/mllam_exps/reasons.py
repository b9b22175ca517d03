"""Why a program ended: one line for people, from its exit status and the end of its log."""

from __future__ import annotations

import errno
import re
import signal
from pathlib import Path

_ERROR_LINE = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Failed|Exit))\b(?::\s*(.*))?$")
_LABEL = re.compile(r"^\s*\d+: ")
"""srun -l puts the task's number in front of each line."""
_OURS = re.compile(r"\bmllam_exps(?:\.\w+)+: ")
"""How Python ends the traceback of an error of ours: with its full name."""
_WAY_OUT = re.compile(r"  → (.+)$")
"""Its second line; a label or `[rank0]: ` may stand in front of it."""
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SAID_BEFORE = 5
"""Lines of a script's own that are told: Lmod takes several for one error."""
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
_OOM_STEP = re.compile(r"^srun: error: .*: Out Of Memory$|oom-kill event\(s\) in StepId", re.MULTILINE)
_NO_MEMORY = ("out of memory", "Cannot allocate memory", "MemoryError", "DefaultCPUAllocator: can't allocate")


def tail(log: Path, lines: int = 20) -> list[str]:
    """Return the last lines of a log, without escape codes and empty lines."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return clean(text)[-lines:]


def clean(text: str) -> list[str]:
    """Return the lines of what was printed, without escape codes and empty lines."""
    # A carriage return is a progress bar redrawing its line: only its last state is worth reading.
    plain = (_ESCAPE.sub("", line.rsplit("\r", 1)[-1]).rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return [line for line in plain if line]


def error_line(lines: list[str]) -> str | None:
    """Return the last line that names an exception, most often the last of a traceback."""
    for line in reversed(lines):
        said = _LABEL.sub("", line).strip()
        if _ERROR_LINE.match(said):
            return said
    return None


def way_out(log: Path) -> str:
    """Return what an error of ours, that ended the program, says should be done; nothing if it says nothing."""
    lines = tail(log, 200)
    last = max((number for number, line in enumerate(lines) if _OURS.search(line)), default=None)
    said = [found[1] for line in lines[last:] if (found := _WAY_OUT.search(line))] if last is not None else []
    return said[0] if said else ""


def of_environment(log: Path) -> str:
    """Return what the script said that could not make the machine's environment ready; nothing if it could."""
    return environment_failure(tail(log))


def environment_failure(lines: list[str]) -> str:
    """Find in what was printed that the machine's environment could not be made ready; nothing if it could.

    What a module system or a sourced script said last is part of it: only they know what is wrong.
    """
    ours = [number for number, line in enumerate(lines) if line.startswith("mllam-exps: ")]
    if not ours:
        return ""
    said = " / ".join(line.strip() for line in lines[max(0, ours[-1] - _SAID_BEFORE) : ours[-1]])
    step = lines[ours[-1]].removeprefix("mllam-exps: ")
    return f"{step} (it said: {said})" if said else step


def of_exit(code: int, log: Path, oom_kills: int = 0) -> str:
    """Say why a program ended with `code` (negative: killed by that signal).

    Parameters
    ----------
    oom_kills : int
        How often the kernel killed a process of this host for memory while the program ran.
    """
    lines = tail(log, 200)
    text = "\n".join(lines)
    if any(sign in text for sign in _DISK_FULL):
        return "the disk is full or its quota used up (No space left on device)"
    if code == -signal.SIGKILL and oom_kills:
        return "killed by SIGKILL: out of memory (the kernel's out-of-memory killer was at work meanwhile)"
    # Slurm 22.05 calls a job FAILED 1:0 when a step of it ran out of memory; only srun's line says so.
    if _OOM_STEP.search(text):
        return "out of memory: it used more than the job asked for (memory in the machine file)"
    # A shell, and srun, tell a signal as 128 and its number.
    if code > 128 and code - 128 in set(signal.Signals):
        code = 128 - code
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ": out of memory, perhaps" if code == -signal.SIGKILL else ""
        return f"the program was killed by {name}{hint}"
    said = error_line(lines)
    if said and any(sign in text for sign in _NO_MEMORY):
        return f"out of memory: {said}"
    return f"exit code {code}: {said}" if said else f"the program ended with exit code {code}"


def of_os_error(error: OSError) -> str:
    """Say what an operating system's error means for a run."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full or its quota used up ({error.strerror}: {error.filename or 'unknown file'})"
    return str(error)


def oom_kills() -> int:
    """Return how often this host's kernel has killed for memory since it started."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
