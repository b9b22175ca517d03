"""Why a program ended. Each ending is the text that a real program left: `endings/`, made with the programs named."""

from __future__ import annotations

import errno
import os
import pwd
import signal
from pathlib import Path

import pytest

from mllam_exps import attempt
from mllam_exps.base import disks, records
from mllam_exps.base.endings import last_words, reasons, tracebacks
from mllam_exps.base.endings.causes import Cause

ENDINGS = Path(__file__).parent / "endings"

CONNECTION = "ConnectionResetError: [Errno 104] archive 1 hung up"
CODE = "compiled code"
TABLE = [
    # Exceptions, of whatever name; chained, grouped, in a bar, behind warnings, from
    # other processes.
    ("sel", 1, "exit code 1: KeyError: \"not all values found in index 'time'\""),
    ("shapes", 1, "exit code 1: RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x5 and 4x2)"),
    ("statedict", 1, "exit code 1: RuntimeError: Error(s) in loading state_dict for Linear: size mismatch…"),
    ("outofbounds", 1, "exit code 1: OutOfBoundsDatetime: Cannot cast 3500-01-01 00:00:00 to unit='ns' without…"),
    ("notfinite", 1, "exit code 1: epoch 2, batch 40: the loss is nan"),
    ("noname", 1, "exit code 1: _queue.Empty"),
    ("mlflowx", 1, "exit code 1: MlflowException: Run with id=nosuch not found"),
    ("timeout", 1, "exit code 1: TimeoutExpired: Command '['sleep', '5']' timed out after…"),
    ("fakebase", 1, "exit code 1: Stop"),
    ("multi", 1, "exit code 1: SettingsInvalid: 2 settings are wrong: lr: must be positive; epochs: is no number"),
    ("recursion", 1, "exit code 1: RecursionError: maximum recursion depth exceeded"),
    ("during", 1, "exit code 1: ValueError: invalid literal for int() with base 10: 'fast'"),
    ("cause", 1, "exit code 1: RuntimeError: cannot normalise the data (caused by FileNotFoundError: [Errno 2]…"),
    ("group", 1, f"exit code 1: ExceptionGroup: unhandled errors in a TaskGroup…(the first: {CONNECTION})"),
    ("syntax", 1, "exit code 1: SyntaxError: invalid syntax (/home/ada/weather/syntax.py, line 1)"),
    ("bar", 1, "exit code 1: FloatingPointError: underflow encountered in exp"),
    ("warned", 1, "exit code 1: ValueError: level 42 is not in the dataset"),
    ("leaked", 1, "exit code 1: ValueError: level 42 is not in the dataset"),
    ("thread", 1, "exit code 1: TypeError: unsupported operand type(s) for -: 'str' and 'float'"),
    ("handled", 1, "exit code 1: FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/map.png'"),
    ("loguru_", 1, "exit code 1: IndexError: list index out of range"),
    ("rich_", 1, "exit code 1: LookupError: no station 06180"),
    ("pool", 1, "exit code 1: ZeroDivisionError: division by zero"),
    ("loader", 1, "exit code 1: ValueError: sample 2 holds NaN"),
    ("called", 1, "exit code 1: NotImplementedError: GRIB edition 3"),
    ("interrupt", -2, "interrupted (KeyboardInterrupt)"),
    ("interrupt", 130, "interrupted (KeyboardInterrupt)"),
    ("pythonhome", 1, "exit code 1: Fatal Python error: init_fs_encoding: failed to get the Python codec…"),
    # Many processes: the first that failed by itself.
    ("rank0", 1, "exit code 1: RuntimeError: the graph has no edges"),
    ("ddp", 1, "exit code 1: rank 1: KeyError: 'forcing'"),
    ("ddpkill", 1, "rank 1 was killed by SIGKILL: out of memory, perhaps"),
    ("slurm_ddp", 143, "rank 1: KeyError: 'forcing'"),
    ("lightning", 1, "exit code 1: rank 1: ArithmeticError: no boundary for step 2"),
    ("lightning_killed", -9, "rank 1: ArithmeticError: no boundary for step 2"),
    ("spawn_raise", 1, "exit code 1: IndexError: node 7 has no neighbour"),
    ("spawn_segv", 1, "exit code 1: ProcessExitedException: process 1 terminated with signal SIGSEGV"),
    # Signals.
    ("segv", -11, "the program was killed by SIGSEGV: a segmentation fault,…(in read_chunk, segv.py line 4)"),
    ("segv_bash", 139, f"the program was killed by SIGSEGV: a segmentation fault, a mistake in {CODE}"),
    ("slurm_segv", 139, f"task 0 on n2 was killed by SIGSEGV: a segmentation fault, a mistake in {CODE}"),
    ("bus", -7, "the program was killed by SIGBUS: a bus error;…(in first, bus.py line 5)"),
    ("abort", -6, "the program was killed by SIGABRT: it gave itself up: terminate called…: eccodes: wrong edition"),
    ("silent", -9, "the program was killed by SIGKILL: out of memory, perhaps"),
    # Memory and disks.
    ("memory_plain", 1, "out of memory: MemoryError"),
    ("memory_numpy", 1, "out of memory: _ArrayMemoryError: Unable to allocate 29.1 TiB for an array with shape…"),
    ("memory_torch", 1, "out of memory: RuntimeError: [enforce fail at alloc_cpu.cpp:127]…"),
    ("cuda_oom", 1, "out of memory of the GPU: OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 GiB.…"),
    ("dask_memory", 1, "4 dask workers were killed at one task, work-a31608355fb8d3002a36302cb2c4b86f: out of memory"),
    ("dask_killed", 1, "4 dask workers were killed at one task, work-f2c…: out of memory, perhaps"),
    ("broken_pool", 1, "a process that the program started was killed: out of memory, perhaps (BrokenProcessPool:…"),
    ("loader_killed", 1, "a process that the program started was killed: out of memory, perhaps (RuntimeError: Data…"),
    ("slurm_oom", 1, "out of memory: it used more than the job asked for (memory in the machine file)"),
    ("slurm_oom_batch", 1, "out of memory: it used more than the job asked for (memory in the machine file)"),
    ("diskfull", 1, "the disk is full: OSError: [Errno 28] No space left on device"),
    ("diskfull_np", 1, "the disk is full: OSError: Not enough free space to write 80000000 bytes after offset 128"),
    ("diskfull_sqlite", 1, "the disk is full: sqlite3.OperationalError: database or disk is full"),
    ("diskfull_cp", 1, "the disk is full: cp: error writing '/scratch/ada/x': No space left on device"),
    ("quota", 1, "the quota of the disk is used up: OSError: [Errno 122] Disk quota exceeded:…"),
    # GPUs.
    ("cuda_assert", 1, "exit code 1: AcceleratorError: CUDA error: device-side assert triggered"),
    ("cuda_device", 1, "exit code 1: AcceleratorError: CUDA error: invalid device ordinal"),
    ("cuda_none", 1, "exit code 1: RuntimeError: No CUDA GPUs are available"),
    # Words of shells, loaders and Slurm, where no Python raised anything.
    ("library", 1, "the shared library libgrib.so.7 is missing (environment.modules in the machine file…"),
    ("loader_so", 127, "the shared library libgrib.so.7 is missing (environment.modules in the machine file…"),
    ("notfound", 127, "exit code 127: notfound.sh: line 2: ploot: command not found"),
    ("notfound_sh", 127, "exit code 127: notfound.sh: 2: ploot: not found"),
    ("denied", 126, "exit code 126: denied.sh: line 1: ./plot_all.sh: Permission denied"),
    ("unset", 1, "exit code 1: unset.sh: line 3: SCRATCH_DIR: unbound variable"),
    ("cp", 1, "exit code 1: cp: cannot stat '/nowhere/era5.zarr': No such file or directory"),
    ("argparse_", 2, "exit code 2: plot.py: error: unrecognized arguments: --outt x --nope"),
    ("nofile", 2, "exit code 2: python: can't open file '/home/ada/weather/nosuch.py': [Errno 2]…"),
    ("nomodule", 1, "exit code 1: /venv/bin/python: No module named nosuchmodule"),
    ("exit_text", 1, "the program ended with exit code 1; its last line was: config.yaml has no member datastore"),
    ("silent", 3, "the program ended with exit code 3, and said nothing"),
    ("silent_command", 1, "`false` ended with exit code 1, and said nothing"),
    ("slurm_silent", 7, "the program ended with exit code 7, and said nothing"),
    ("slurm_notfound", 2, "exit code 2: slurmstepd-n1: error: execve(): /home/ada/weather/./nosuch: No such…"),
    ("slurm_toomany", 1, "exit code 1: srun: error: Unable to create step for job 1: More processors requested than…"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "expected"), TABLE)
def test_endings(name: str, code: int, expected: str) -> None:
    said, _ = reasons.of_exit(
        code, (ENDINGS / f"{name}.txt").read_text(encoding="utf-8")
    )
    begin, ellipsis, end = expected.partition("…")
    assert (
        said == expected
        if not ellipsis
        else (said.startswith(begin) and said.endswith(end))
    ), said


CAUSES = {
    ("notfinite", 1): Cause.NOT_FINITE,
    ("ddpkill", 1): Cause.KILLED,
    ("silent", -9): Cause.KILLED,
    ("cuda_oom", 1): Cause.GPU_MEMORY,
    ("memory_plain", 1): Cause.HOST_MEMORY,
    ("memory_numpy", 1): Cause.HOST_MEMORY,
    ("memory_torch", 1): Cause.HOST_MEMORY,
    ("dask_memory", 1): Cause.HOST_MEMORY,
    ("dask_killed", 1): Cause.HOST_MEMORY,
    ("broken_pool", 1): Cause.HOST_MEMORY,
    ("loader_killed", 1): Cause.HOST_MEMORY,
    ("slurm_oom", 1): Cause.HOST_MEMORY,
    ("slurm_oom_batch", 1): Cause.HOST_MEMORY,
    ("diskfull", 1): Cause.FULL_DISK,
    ("diskfull_np", 1): Cause.FULL_DISK,
    ("diskfull_sqlite", 1): Cause.FULL_DISK,
    ("diskfull_cp", 1): Cause.FULL_DISK,
    ("quota", 1): Cause.FULL_DISK,
}


def test_causes() -> None:
    """What the rules of a machine file go by; all others are errors of the program."""
    found = {
        (name, code): reasons.of_exit(
            code, (ENDINGS / f"{name}.txt").read_text("utf-8")
        ).cause
        for name, code, _ in TABLE
    }
    assert {
        ending: cause for ending, cause in found.items() if cause is not Cause.ERROR
    } == CAUSES


def test_every_ending_is_told() -> None:
    assert {path.stem for path in ENDINGS.iterdir()} == {name for name, _, _ in TABLE}


@pytest.mark.parametrize(("name", "code"), [("ddp", 1), ("slurm_ddp", 143)])
def test_the_first_failure_counts_whatever_the_order(name: str, code: int) -> None:
    """A later rank's words may be written first; they tell that another rank has failed."""
    lines = (ENDINGS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    first = [line for line in lines if "[rank1]: " in line]
    others = [line for line in lines if "[rank1]: " not in line]
    said, cause = reasons.of_exit(code, "\n".join([*others, *first]))
    assert said.endswith("rank 1: KeyError: 'forcing'")
    assert cause is Cause.ERROR


def test_a_traceback_that_is_cut_off_names_nothing() -> None:
    text = (ENDINGS / "shapes.txt").read_text(encoding="utf-8")
    assert tracebacks.uncaught(text.splitlines()[:-1]) == []
    beginning = text.index("Traceback")
    assert "RuntimeError: mat1" in reasons.of_exit(1, text[beginning + 40 :]).text


def test_a_line_in_the_midst_of_a_traceback() -> None:
    """Another process's line may stand between two lines of a traceback."""
    lines = (ENDINGS / "shapes.txt").read_text(encoding="utf-8").splitlines()
    for strange in ("WARNING: slow", "epoch 3 of 20", "[12:00:01] saved"):
        said, _ = reasons.of_exit(1, "\n".join([*lines[:3], strange, *lines[3:]]))
        assert said.startswith("exit code 1: RuntimeError: mat1"), strange


def test_the_way_out_of_an_error_of_ours() -> None:
    text = (ENDINGS / "notfinite.txt").read_text(encoding="utf-8")
    for mark in ("", "0: [rank0]: "):
        marked = "".join(f"{mark}{line}" for line in text.splitlines(keepends=True))
        assert reasons.way_out(marked).startswith(
            "lower lr in data/training_params.yaml, or look"
        )
    assert reasons.way_out((ENDINGS / "shapes.txt").read_text(encoding="utf-8")) == ""


def test_oom_kills() -> None:
    said, cause = reasons.of_exit(-signal.SIGKILL, "", oom_kills=1)
    assert "out-of-memory killer" in said
    assert cause is Cause.HOST_MEMORY
    said, cause = reasons.of_exit(-signal.SIGTERM, "", oom_kills=1)
    assert "out-of-memory killer" not in said
    assert cause is Cause.ERROR
    assert reasons.of_exit(-signal.SIGKILL, "").cause is Cause.KILLED


HOST = {"proc/vmstat": "nr_free 9\noom_kill 3\n"}
GROUP = {"proc/self/cgroup": "4:memory:/job_7\n0::/slurm/job_7\n"}
COUNTED = {
    "nothing": ({}, 0),
    "by the host, of older kernels": ({"proc/vmstat": "nr_free 9\n"}, 0),
    "by the host": (HOST, 3),
    "by the host, as the group is not seen": (HOST | GROUP, 3),
    "of the group": (
        HOST
        | GROUP
        | {"sys/fs/cgroup/slurm/job_7/memory.events": "oom 2\noom_kill 0\n"},
        0,
    ),
    "of the group, version 1": (
        HOST
        | GROUP
        | {"sys/fs/cgroup/memory/job_7/memory.oom_control": "oom_kill 1\n"},
        1,
    ),
}


@pytest.mark.parametrize("counted", COUNTED)
def test_the_kernel_counts_the_processes_that_it_kills(tmp_path: Path, counted: str):
    files, kills = COUNTED[counted]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert reasons.oom_kills(tmp_path) == kills


def test_read_from_where_the_program_began(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"before\n\xff\x1b[31mred\x1b[0m\n\n")
    assert reasons.clean(reasons.read(log, 7)) == ["\ufffdred"]
    assert reasons.read(tmp_path / "none") == ""


def test_the_step_that_failed_in_making_the_environment_ready_is_told(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.txt"
    assert reasons.of_environment(log) == ""
    log.write_text(
        "Lmod has detected:\n\n  no cuda\nmllam-exps: `module load cuda` failed\n"
    )
    said = "`module load cuda` failed (it said: Lmod has detected: / no cuda)"
    assert reasons.of_environment(log) == said
    log.write_text("mllam-exps: `source x` failed\nslurmstepd: over\n")
    assert reasons.of_environment(log) == "`source x` failed"


TORCHRUN = """Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Root Cause (first observed failure):
[0]:
  time      : 2025-12-01_00:00:00
  host      : n1
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 7)
"""
FAULT = """Fatal Python error: Segmentation fault

Current thread 0x1 (most recent call first):
  File "{place}", line 3 in read
"""


@pytest.mark.parametrize(
    ("code", "log", "expected"),
    [
        (
            1,
            TORCHRUN.format(code="-9"),
            "rank 1 was killed by SIGKILL: out of memory, perhaps",
        ),
        # srun ended the others after the first, which ended by itself.
        (
            143,
            "srun: error: n1: task 0: Exited with exit code 3",
            "the program ended with exit code 143, and said nothing",
        ),
        (-61, "", "the program was killed by signal 61"),
        (-signal.SIGTERM, "", "the program was killed by SIGTERM"),
        (
            -signal.SIGSEGV,
            "Fatal Python error: Segmentation fault",
            f"the program was killed by SIGSEGV: a segmentation fault, a mistake in {CODE}",
        ),
        (
            -signal.SIGSEGV,
            FAULT.format(place="/usr/lib/python3.11/x.py"),
            f"the program was killed by SIGSEGV: a segmentation fault, a mistake in {CODE} (in read, x.py line 3)",
        ),
    ],
)
def test_signals(code: int, log: str, expected: str) -> None:
    assert reasons.of_exit(code, log).text == expected


def test_a_disk_that_is_mounted_read_only_is_named(tmp_path: Path) -> None:
    place = tmp_path / "x"
    said = reasons.of_os_error(
        OSError(errno.EROFS, "Read-only file system", str(place))
    )
    assert said == f"{place}: its file system is mounted read-only"


@pytest.mark.parametrize(
    ("error", "told", "way_out"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "git"), "no command", "load"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n", "ulimit -n 4096"),
        (OSError(errno.EIO, "Input/output error"), "Input/output", ""),
    ],
)
def test_what_the_system_refuses_comes_with_a_way_out(
    error: OSError, told: str, way_out: str
):
    assert told in reasons.of_os_error(error)
    found = reasons.way_out_of_os_error(error)
    assert way_out in found and bool(way_out) == bool(found)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert reasons.of_os_error(full) == "the disk is full (No space left on device)"
    said = reasons.of_os_error(full, tmp_path)
    assert (
        said.startswith("the disk is full: /")
        and f"No space left on device: {tmp_path}" in said
    )
    assert " free" in said
    quota = OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path / "x"))
    assert reasons.of_os_error(quota).startswith("the quota of the disk is used up: /")
    assert (
        reasons.of_os_error(OSError(errno.EIO, "Input/output error"))
        == "[Errno 5] Input/output error"
    )

    assert disks.full_disks([tmp_path]) == ""
    there = os.statvfs(tmp_path)
    numbers = [*there[:4], 3, *there[5:]]
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(numbers))
    assert disks.full_disks([tmp_path, tmp_path / "not" / "there"]).count(" free") == 1


def test_a_record_that_cannot_be_written_names_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=r"x\.json"):
        records.replace(tmp_path / "x.json", {})


def test_an_attempt_that_can_write_nothing_tells_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise OSError(numbers.pop(0), "it fails")

    monkeypatch.setattr(attempt, "_supervisor", fails)
    numbers = [errno.ENOSPC, errno.EROFS]
    for word in ("was full", "could not write"):
        code = attempt.main([str(tmp_path / "runs" / "make-1"), "1"])
        assert word in reasons.of_store(f"exit code {code}", tmp_path)
    assert reasons.of_store("exit code 1", tmp_path) == ""


def test_whose_it_is_where_one_may_not_write(tmp_path: Path):
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "new"))
    owner = pwd.getpwuid(tmp_path.stat().st_uid).pw_name
    said = reasons.of_os_error(denied)
    assert said.startswith(f"{tmp_path / 'new'}: Permission denied; it is {owner}'s")


def test_the_first_task_that_failed_is_told():
    said = [
        "epoch 3",
        "srun: error: n2: task 1: Killed",
        "srun: error: n3: tasks 2-3: Exited with exit code 1",
    ]
    assert last_words.failed_task(said) == "task 1 on n2: Killed"
    assert last_words.failed_task(said[:1]) == ""
