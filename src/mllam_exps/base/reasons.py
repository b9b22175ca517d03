"""Why a program ended: one line for people, from its exit status and the end of its log."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from mllam_exps.base import records, tracebacks
from mllam_exps.base.tracebacks import Uncaught

LOG_BYTES = 2**20
"""How much of a log's end is read: of many processes that fail, the first one's words stand far from the end."""

FULL_BYTES = 2**16
"""A disk with less room than this counts as full."""

STORE_IS_FULL, STORE_FAILS = 73, 74
"""Exit codes of an attempt that can write no record (EX_CANTCREAT, EX_IOERR): only the scheduler hears of it."""
_FULL = "the disk is full"
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
_LIBRARY = re.compile(r"(\S+): cannot open shared object file")
_FATAL = re.compile(r"^Fatal Python error: (.*)")
_FAULT_FRAME = re.compile(r'^\s+File "(.*)", line (\d+) in (\S+)$')
_FAULT_LINES = 100
_CPP_WHAT = "  what():  "
"""What stands before the message of a C++ exception."""
# Slurm 22.05, at the end of each task that failed: "srun: error: n2: task 1: Aborted"
_TASK_ENDED = re.compile(r"^srun: error: (\S+): tasks? (\S+): (.*)$")
# torchrun 2.13, behind "Root Cause (first observed failure):"
_ROOT_CAUSE = re.compile(r"Root Cause \(first observed failure\):")
_ROOT_RANK = re.compile(r"^\s+rank\s+: (\d+)")
_ROOT_CODE = re.compile(r"^\s+exitcode\s+: (-?\d+)")
_ROOT_CAUSE_LINES = 7
_SLURM = re.compile(r"^(srun|slurmstepd(-\S+)?): ")
_COMMAND = "> "
"""What `programs.shell` puts before each command of a stage when it starts it."""
# What follows the end of a program and is not its reason.
_NOISE = re.compile(
    r"^\s|^>|Warning: |^Exception ignored |^\^|^terminate called without an active exception"
)
# A shell's or a program's own complaint: "x.sh: line 2: ploot: command not found",
# "plot.py: error: …".
_COMPLAINT = re.compile(
    r"^\S+: (line \d+: |\d+: )?.*(not found|No such file or directory|ermission denied|unbound variable"
    r"|[Ss]yntax error|cannot )|^\S+: error: |^(fatal|error|ERROR): |^\S+: No module named "
)
_MEANING = {
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


def of_exit(code: int, log: str, oom_kills: int = 0) -> str:
    """Say why a program ended. Pure.

    Parameters
    ----------
    code : int
        Its exit code; negative if that signal killed it.
    log : str
        What it printed, or the end of that.
    oom_kills : int
        How often the kernel killed a process of this host for memory while the program
        ran.
    """
    lines = clean(log)
    text = "\n".join(lines)
    if full := _of_disk(lines):
        return full
    # Slurm 22.05 calls a job FAILED 1:0 when a step of it ran out of memory; only
    # srun's line says so.
    if _OOM_STEP.search(text):
        return "out of memory: it used more than the job asked for (memory in the machine file)"
    uncaught = tracebacks.reason(lines)
    number, where = _signal(code, lines)
    if number is not None and not _told_before(number, uncaught, lines):
        if number == signal.SIGKILL and oom_kills:
            return "killed by SIGKILL: out of memory (the kernel's out-of-memory killer was at work meanwhile)"
        return _of_signal(number, where, lines)
    if uncaught is not None and not _complained_since(uncaught, lines):
        return _of_exception(code, uncaught, lines)
    return _of_words(code, lines)


def way_out(log: str) -> str:
    """Return what an error of ours, that ended the program, says should be done; nothing if it says nothing."""
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
    """Return the end of a log; of one that cannot be read, nothing.

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
    """Return what the script said that could not make the machine's environment ready; nothing if it could."""
    return environment_failure(tail(log))


def environment_failure(lines: list[str]) -> str:
    """Find in what was printed that the machine's environment could not be made ready; nothing if it could.

    What a module system or a sourced script said last is part of it: only they know
    what is wrong.
    """
    for number in reversed(range(len(lines))):
        if lines[number].startswith(_OUR_NAME):
            step = lines[number].removeprefix(_OUR_NAME)
            before = lines[max(0, number - _SAID_BEFORE) : number]
            said = " / ".join(line.strip() for line in before)
            return f"{step} (it said: {said})" if said else step
    return ""


def of_store(reason: str, place: Path) -> str:
    """Say what an attempt's exit code means that could write nothing down; nothing if it is none of those.

    Parameters
    ----------
    reason : str
        How the scheduler says that its job ended.
    place : Path
        The attempt's directory.
    """
    if reason == f"exit code {STORE_IS_FULL}":
        return (
            f"the disk of the run store was full when its job started: {_mount(place)}"
        )
    if reason == f"exit code {STORE_FAILS}":
        return f"its job could not write into the run store, on {_mount(place)}"
    return ""


def is_of_full_disk(reason: str) -> bool:
    """Tell whether a reason of `of_exit` is a full disk."""
    return reason.startswith((_FULL, _USED_UP))


def _of_disk(lines: Sequence[str]) -> str:
    for line in reversed(lines):
        _, said = tracebacks.unmarked(line)
        if _QUOTA.search(said):
            return f"{_USED_UP}: {said.strip()}"
        if _DISK_FULL.search(said):
            return f"{_FULL}: {said.strip()}"
    return ""


def _signal(code: int, lines: Sequence[str]) -> tuple[int | None, str]:
    """Return the signal that ended the program, and which of its tasks it was, where srun or torchrun tells."""
    number = _signal_of_code(code)
    for line in lines:
        if task := _TASK_ENDED.match(line):
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


def _told_before(number: int, uncaught: Uncaught | None, lines: Sequence[str]) -> bool:
    """Tell whether a process that a signal ended had told its reason: torch, say, aborts behind a traceback."""
    if uncaught is None or uncaught.follows:
        return False
    if number not in _BY_ITSELF:
        return any(_GAVE_UP.match(line) for line in lines)
    return bool(uncaught.voice) or len(lines) - uncaught.line <= FEW


def _of_signal(number: int, where: str, lines: Sequence[str]) -> str:
    known = number in set(signal.Signals)
    name = signal.Signals(number).name if known else f"signal {number}"
    said = f"{where or 'the program'} was killed by {name}"
    if known and (meaning := _MEANING.get(signal.Signals(number))):
        said += f": {meaning}"
    if frame := _fault(lines):
        return f"{said} (in {frame})"
    if number == signal.SIGABRT and (words := _last_words(lines)):
        return f"{said}: {words}"
    return said


def _fault(lines: Sequence[str]) -> str:
    """Return where Python's faulthandler saw the fault: its innermost frame outside of libraries."""
    unmarked = [tracebacks.unmarked(line)[1] for line in lines]
    for place, line in enumerate(unmarked):
        if _FATAL.match(line):
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


def _of_exception(code: int, uncaught: Uncaught, lines: Sequence[str]) -> str:
    if killed := _DASK_KILLED.search(uncaught.message):
        return _of_dask(killed, lines)
    if library := _LIBRARY.search(uncaught.message):
        return _missing(library[1])
    rank = f"rank {uncaught.voice}: " if uncaught.voice else ""
    said = f"{rank}{uncaught.said}"
    if _GPU_MEMORY.search(uncaught.said):
        return f"out of memory of the GPU: {said}"
    if _NO_MEMORY.search(uncaught.said):
        return f"out of memory: {said}"
    if _WORKER_KILLED.search(f"{uncaught.name}: {uncaught.message}"):
        return f"a process that the program started was killed: out of memory, perhaps ({said})"
    if uncaught.name == "KeyboardInterrupt":
        return f"interrupted ({rank}KeyboardInterrupt)"
    if 0 < code < 128:
        return f"exit code {code}: {said}"
    # A process that a signal ended has no exit code of its own.
    return said


def _of_dask(killed: re.Match[str], lines: Sequence[str]) -> str:
    why = "out of memory, perhaps"
    if any(_DASK_MEMORY.search(line) for line in lines):
        why = "out of memory"
    return f"{killed[2]} dask workers were killed at one task, {killed[1]}: {why}"


def _missing(library: str) -> str:
    return f"the shared library {Path(library).name} is missing (environment.modules in the machine file may bring it)"


def _complained_since(uncaught: Uncaught, lines: Sequence[str]) -> bool:
    """Tell whether a program went on behind a traceback that it had logged, and failed of something else."""
    return any(
        _COMPLAINT.match(line) and not _SLURM.match(line)
        for line in lines[uncaught.line + 1 :]
    )


def _of_words(code: int, lines: Sequence[str]) -> str:
    """Say why a program ended that left no traceback, and that no signal ended."""
    if fatal := _fatal_error(lines):
        return f"exit code {code}: {fatal}"
    if command := _silent_command(lines):
        return f"`{command}` ended with exit code {code}, and said nothing"
    words = _last_words(lines)
    if not words:
        return f"the program ended with exit code {code}, and said nothing"
    if library := _LIBRARY.search(words):
        return _missing(library[1])
    if _COMPLAINT.search(words):
        return f"exit code {code}: {words}"
    return f"the program ended with exit code {code}; its last line was: {words}"


def _fatal_error(lines: Sequence[str]) -> str:
    """Return the line in which Python says that it could not go on; nothing where there is none."""
    for line in lines:
        _, said = tracebacks.unmarked(line)
        if _FATAL.match(said):
            return said
    return ""


def _silent_command(lines: Sequence[str]) -> str:
    """Return the last of a stage's commands, if it said nothing: what stands before it is not its reason."""
    for number in reversed(range(len(lines))):
        if lines[number].startswith(_COMMAND):
            said_nothing = not _last_words(lines[number + 1 :])
            return lines[number].removeprefix(_COMMAND) if said_nothing else ""
    return ""


def _last_words(lines: Sequence[str]) -> str:
    """Return the last line that the program itself said; what Slurm said where that is all."""
    unmarked = [tracebacks.unmarked(line)[1] for line in lines]
    own = [
        line for line in unmarked if not _SLURM.match(line) and not _NOISE.search(line)
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
        is_error = _SLURM.match(line) and " error: " in line
        if is_error and not _TASK_ENDED.match(line):
            return line
    return ""


def of_os_error(error: OSError, place: Path | None = None) -> str:
    """Say what an operating system's error means for a run.

    Parameters
    ----------
    place : Path
        Where it happened, if the error itself names no file: that of a failed write
        does not.
    """
    if not is_full(error):
        return str(error)
    named = error.filename2 or error.filename or place
    what = _FULL if error.errno == errno.ENOSPC else _USED_UP
    if named is None:
        return f"{what} ({error.strerror})"
    return f"{what}: {disk(Path(os.fsdecode(named)))} ({error.strerror}: {named})"


def is_full(error: OSError) -> bool:
    """Tell whether a disk is full, or its quota used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def disk(path: Path) -> str:
    """Return where the disk that holds a path is mounted, and what is free on it."""
    mount = _mount(path)
    try:
        free = os.statvfs(mount)
    except OSError:
        return str(mount)
    megabytes_free = free.f_bavail * free.f_frsize / 1e6
    megabytes = free.f_blocks * free.f_frsize / 1e6
    # A file system may have room, and no number left for another file.
    files = ", and for no further file" if _no_file_left(free) else ""
    return f"{mount}, {megabytes_free:,.1f} of {megabytes:,.1f} MB free{files}"


def full_disks(places: Iterable[Path | str]) -> str:
    """Name those disks, of some places, that are full at this moment."""
    mounts = dict.fromkeys(_mount(Path(place)) for place in places)
    return "; ".join(disk(mount) for mount in mounts if _is_full(mount))


def _is_full(mount: Path) -> bool:
    try:
        free = os.statvfs(mount)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < FULL_BYTES or _no_file_left(free)


def _no_file_left(free: os.statvfs_result) -> bool:
    """Tell whether a file system has no number left for another file; some count none."""
    return bool(free.f_files) and not free.f_favail


def _mount(path: Path) -> Path:
    path = path.absolute()
    while not path.is_mount() and path != path.parent:
        path = path.parent
    return path


def oom_kills() -> int:
    """Return how often this host's kernel has killed for memory since it started."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
