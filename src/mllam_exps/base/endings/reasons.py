"""Why a program ended: one line for people, from its exit status and the end of its log."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mllam_exps.base import disks, records
from mllam_exps.base.endings import signals, tracebacks
from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.endings.last_words import (
    SLURM,
    fatal_error,
    last_words,
    silent_command,
)
from mllam_exps.base.endings.tracebacks import Uncaught
from mllam_exps.base.ownership import owner_of

LOG_BYTES = 2**20
"""How much of a log's end is read: of many processes that fail, the first one's words stand far from the end."""

STORE_IS_FULL, STORE_FAILS = 73, 74
"""Exit codes of an attempt that can write no record (EX_CANTCREAT, EX_IOERR): only the scheduler hears of it."""
_FULL = "the disk is full"
_GIT = "git"
_USED_UP = "the quota of the disk is used up"

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_OUR_NAME = "mllam-exps: "
"""How the lines begin that the script prints which makes the environment ready."""
_SAID_BEFORE = 5
"""Lines of a script's own that are told: Lmod takes several for one error."""
# numpy 2 asks for the room before it writes, and then speaks with words of its own.
_DISK_FULL = re.compile(
    r"No space left on device|database or disk is full|Not enough free space to write \d+ bytes"
)
_QUOTA = re.compile(r"Disk quota exceeded")
_OOM_STEP = re.compile(
    r"^srun: error: .*: Out Of Memory$|oom-kill event\(s\) in StepId|Some .* OOM Killed",
    re.MULTILINE,
)
_GPU_MEMORY = re.compile(
    r"CUDA out of memory|HIP out of memory|CUDA error: out of memory"
)
_NO_MEMORY = re.compile(
    r"out of memory|Cannot allocate memory|MemoryError|DefaultCPUAllocator: can't allocate|bad_alloc"
)
# distributed 2026.8: a nanny ends a worker at 95% of its memory, and the scheduler
# gives a task up after 4 workers.
_DASK_MEMORY = re.compile(r"exceeded \d+% memory budget")
_DASK_KILLED = re.compile(
    r"Attempted to run task '?([^' ]*)'? on (\d+) different workers"
)
_WORKER_KILLED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) (is killed by signal: Killed|exited unexpectedly)|BrokenProcessPool"
)
_NOT_FINITE = re.compile(r"(^|\.)NotFinite$")
_LIBRARY = re.compile(r"(\S+): cannot open shared object file")
# A shell's or a program's own complaint: "x.sh: line 2: ploot: command not found",
# "plot.py: error: …".
_COMPLAINT = re.compile(
    r"^\S+: (line \d+: |\d+: )?.*(not found|No such file or directory|ermission denied|unbound variable"
    r"|[Ss]yntax error|cannot )|^\S+: error: |^(fatal|error|ERROR): |^\S+: No module named "
)


class Reason(NamedTuple):
    """Why a program ended: a line for people, and the word for the rules."""

    text: str
    cause: Cause = Cause.ERROR


def of_exit(code: int, log: str, oom_kills: int = 0) -> Reason:
    """Say why a program ended. Pure.

    Parameters
    ----------
    code : int
        Its exit code; negative if that signal killed it.
    log : str
        What it printed, or the end of that.
    oom_kills : int
        How often the kernel killed a process for memory while the program ran; see
        `oom_kills`.
    """
    lines = clean(log)
    text = "\n".join(lines)
    if full := _of_disk(lines):
        return Reason(full, Cause.FULL_DISK)
    # Slurm 22.05 calls a job FAILED 1:0 when a step of it ran out of memory; only
    # srun's line says so.
    if _OOM_STEP.search(text):
        said = "out of memory: it used more than the job asked for (memory in the machine file)"
        return Reason(said, Cause.HOST_MEMORY)
    uncaught = tracebacks.reason(lines)
    number, where = signals.that_ended(code, lines)
    if number is not None and not signals.told_before(number, uncaught, lines):
        if number == signal.SIGKILL and oom_kills:
            said = "killed by SIGKILL: out of memory (the kernel's out-of-memory killer was at work meanwhile)"
            return Reason(said, Cause.HOST_MEMORY)
        killed = number == signal.SIGKILL
        said = signals.reason(number, where, lines)
        return Reason(said, Cause.KILLED if killed else Cause.ERROR)
    if uncaught is not None and not _complained_since(uncaught, lines):
        return _of_exception(code, uncaught, lines)
    return Reason(_of_words(code, lines))


def way_out(log: str) -> str:
    """Return the way out that one of our errors names, if that error ended the program; else nothing."""
    uncaught = tracebacks.reason(clean(log))
    return uncaught.way_out if uncaught is not None else ""


def clean(text: str) -> list[str]:
    """Return the lines of a text, without escape codes and empty lines."""
    # A carriage return is a progress bar redrawing its line: only its last state is
    # worth reading.
    lines = (
        _ESCAPE.sub("", line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip()
        for line in text.split("\n")
    )
    return [line for line in lines if line]


def read(log: Path, begin: int = 0) -> str:
    """Return the end of a log; empty if the log cannot be read.

    Parameters
    ----------
    begin : int
        How many bytes at its beginning are left out.
    """
    try:
        with os.fdopen(records.open_file(log), "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(begin, file.tell() - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def tail(log: Path, lines: int = 20) -> list[str]:
    """Return the last lines of a log, without escape codes and empty lines."""
    return clean(read(log))[-lines:]


def of_environment(log: Path) -> str:
    """Return why a script could not make the machine's environment ready; empty if it could."""
    return environment_failure(tail(log))


def environment_failure(lines: list[str]) -> str:
    """Find in a log's lines why the machine's environment could not be made ready; empty if it could.

    The reason includes the last lines of the module system, or of the sourced script:
    only they know what is wrong.
    """
    for number in reversed(range(len(lines))):
        if lines[number].startswith(_OUR_NAME):
            step = lines[number].removeprefix(_OUR_NAME)
            before = lines[max(0, number - _SAID_BEFORE) : number]
            said = " / ".join(line.strip() for line in before)
            return f"{step} (it said: {said})" if said else step
    return ""


def code_of_store(error: OSError) -> int:
    """Return the exit code of an attempt that can write no record; `of_store` reads it."""
    return STORE_IS_FULL if disks.is_full(error) else STORE_FAILS


def of_store(reason: str, place: Path) -> str:
    """Say why an attempt could write no record, if its exit code says so; else nothing.

    Parameters
    ----------
    reason : str
        How the scheduler says that its job ended.
    place : Path
        The attempt's directory.
    """
    if reason == f"exit code {STORE_IS_FULL}":
        return f"the disk of the run store was full when its job started: {disks.mount(place)}"
    if reason == f"exit code {STORE_FAILS}":
        return f"its job could not write into the run store, on {disks.mount(place)}"
    return ""


def _of_disk(lines: Sequence[str]) -> str:
    for line in reversed(lines):
        _, said = tracebacks.unmarked(line)
        if _QUOTA.search(said):
            return f"{_USED_UP}: {said.strip()}"
        if _DISK_FULL.search(said):
            return f"{_FULL}: {said.strip()}"
    return ""


def _of_exception(code: int, uncaught: Uncaught, lines: Sequence[str]) -> Reason:
    if killed := _DASK_KILLED.search(uncaught.message):
        return Reason(_of_dask(killed, lines), Cause.HOST_MEMORY)
    if library := _LIBRARY.search(uncaught.message):
        return Reason(_missing(library[1]))
    rank = f"rank {uncaught.voice}: " if uncaught.voice else ""
    said = f"{rank}{uncaught.said}"
    if _GPU_MEMORY.search(uncaught.said):
        return Reason(f"out of memory of the GPU: {said}", Cause.GPU_MEMORY)
    if _NO_MEMORY.search(uncaught.said):
        return Reason(f"out of memory: {said}", Cause.HOST_MEMORY)
    if _WORKER_KILLED.search(f"{uncaught.name}: {uncaught.message}"):
        what = "a process that the program started was killed: out of memory, perhaps"
        return Reason(f"{what} ({said})", Cause.HOST_MEMORY)
    if uncaught.name == "KeyboardInterrupt":
        return Reason(f"interrupted ({rank}KeyboardInterrupt)")
    cause = Cause.NOT_FINITE if _NOT_FINITE.search(uncaught.name) else Cause.ERROR
    if 0 < code < 128:
        return Reason(f"exit code {code}: {said}", cause)
    # A process that a signal ended has no exit code of its own.
    return Reason(said, cause)


def _of_dask(killed: re.Match[str], lines: Sequence[str]) -> str:
    why = "out of memory, perhaps"
    if any(_DASK_MEMORY.search(line) for line in lines):
        why = "out of memory"
    return f"{killed[2]} dask workers were killed at one task, {killed[1]}: {why}"


def _missing(library: str) -> str:
    return f"the shared library {Path(library).name} is missing (environment.modules in the machine file may bring it)"


def _complained_since(uncaught: Uncaught, lines: Sequence[str]) -> bool:
    """Tell whether the program went on after it had logged a traceback, and failed for another reason."""
    return any(
        _COMPLAINT.match(line) and not SLURM.match(line)
        for line in lines[uncaught.line + 1 :]
    )


def _of_words(code: int, lines: Sequence[str]) -> str:
    """Say why a program ended if it left no traceback, and no signal ended it."""
    if fatal := fatal_error(lines):
        return f"exit code {code}: {fatal}"
    if command := silent_command(lines):
        return f"`{command}` ended with exit code {code}, and said nothing"
    words = last_words(lines)
    if not words:
        return f"the program ended with exit code {code}, and said nothing"
    if library := _LIBRARY.search(words):
        return _missing(library[1])
    if _COMPLAINT.search(words):
        return f"exit code {code}: {words}"
    return f"the program ended with exit code {code}; its last line was: {words}"


def of_os_error(error: OSError, place: Path | None = None) -> str:
    """Say what an operating system's error means for a run.

    Parameters
    ----------
    place : Path
        Where it happened, if the error itself names no file: that of a failed write
        does not.
    """
    if isinstance(error, PermissionError) and error.filename is not None:
        # Where it cannot be made, the folder that it was to lie in says whose it is.
        path = Path(os.fsdecode(error.filename))
        return f"{path}: {error.strerror}; it is {owner_of(path)}'s, or in a folder of theirs"
    named = error.filename2 or error.filename or place
    if error.errno == errno.ENOENT and error.filename == _GIT:
        return "there is no command git on the path"
    if error.errno == errno.EMFILE:
        return "this process may not open as many files at once (ulimit -n)"
    if error.errno == errno.EROFS and named is not None:
        return f"{os.fsdecode(named)}: its file system is mounted read-only"
    if not disks.is_full(error):
        return str(error)
    what = _FULL if error.errno == errno.ENOSPC else _USED_UP
    if named is None:
        return f"{what} ({error.strerror})"
    return f"{what}: {disks.disk(Path(os.fsdecode(named)))} ({error.strerror}: {named})"


def way_out_of_os_error(error: OSError) -> str:
    """Say what to do about an operating system's error; empty where nobody knows."""
    if isinstance(error, PermissionError):
        return "have its owner let you in; in a team's share: mllam-exps share check"
    if error.errno == errno.ENOENT and error.filename == _GIT:
        return "install it, or load the module that has it"
    if error.errno == errno.EMFILE:
        return "ulimit -n 4096, and the same command again"
    return ""


def oom_kills(system: Path = Path("/")) -> int:
    """Return how many processes the kernel has killed for memory so far: of our own control group, if that is told.

    A node of a cluster is shared: the kernel kills others' processes, too, for their
    jobs' limits.

    Parameters
    ----------
    system : Path
        Where ``proc`` and ``sys`` are.
    """
    for counter in (*_counters_of_group(system), system / "proc/vmstat"):
        try:
            lines = counter.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _counters_of_group(system: Path) -> Iterator[Path]:
    """Yield where the kernel counts what it killed of the group of this process (cgroups(7), version 2 or 1)."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    groups = system / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield groups / path.lstrip("/") / "memory.events"
        elif controllers == "memory":
            yield groups / "memory" / path.lstrip("/") / "memory.oom_control"
