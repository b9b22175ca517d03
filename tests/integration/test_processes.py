"""What only processes of their own can show: who comes first, what a start imports, what is left of an exit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from mllam_exps.attempts.work.worker import Worker
from mllam_exps.base import records
from mllam_exps.base.endings.causes import Cause
from mllam_exps.runs.records import Outcome


def _race(path: str, number: int, barrier, wins) -> None:
    barrier.wait()
    if records.create(Path(path), {"winner": number}):
        wins.put(number)


def test_of_many_creators_one_wins(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    for trial in range(4):
        barrier, wins = context.Barrier(8), context.Queue()
        path = tmp_path / f"{trial}.json"
        racers = [
            context.Process(target=_race, args=(str(path), n, barrier, wins))
            for n in range(8)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert records.read(path) == {"winner": wins.get(timeout=60)}
        assert wins.empty()
    assert len(list(tmp_path.iterdir())) == 4, "nothing temporary is left"


def test_import_is_light():
    code = "import sys, mllam_exps.machines.machine_files as _; print({'rich', 'dvc', 'typer'} & set(sys.modules))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "set()"


def test_the_exit_code_is_ours_where_the_log_cannot_be_written() -> None:
    code = "from mllam_exps.attempt import _leave; print('not flushed'); _leave(73)"
    environ = {
        name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"
    }
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environ,
            stdout=full,
            stderr=full,
            check=False,
        )
    assert done.returncode == 73


def test_a_program_that_was_being_started_when_it_was_to_stop_is_stopped() -> None:
    """Seen once: cancelled 0.1 s after its job began, a program ran on to its end."""
    worker = object.__new__(Worker)
    worker.stopped = worker.program = None
    worker._stop(Outcome.CANCELLED, "cancelled")
    program = subprocess.Popen(["sleep", "60"], start_new_session=True)
    worker._has_started(program)
    assert program.wait(20) == -signal.SIGTERM


def test_a_program_whose_srun_waits_for_lost_tasks_is_stopped(tmp_path: Path) -> None:
    """Seen on two nodes: one came back without its task, and srun waited until the time limit."""
    log = tmp_path / "log.txt"
    log.write_text("srun: error: n1: task 0: Exited with exit code 9\n")
    worker = object.__new__(Worker)
    worker.stopped = worker._task_failed = None
    worker.attempt = SimpleNamespace(log=log)  # type: ignore[assignment]
    worker.log_begin = log.stat().st_size
    worker.program = subprocess.Popen(["sleep", "60"], start_new_session=True)
    worker._look_for_lost_tasks(0.0)
    worker._look_for_lost_tasks(1000.0)
    assert worker.stopped is None, "what was said before it began"
    with log.open("a") as file:
        file.write("0: Traceback\nsrun: error: n3: task 0: Exited with exit code 1\n")
    worker._look_for_lost_tasks(1000.0)
    worker._look_for_lost_tasks(1100.0)
    assert worker.stopped is None
    worker._look_for_lost_tasks(1130.0)
    assert worker.program.wait(20) == -signal.SIGTERM
    assert worker.stopped is not None
    assert worker.stopped.cause is Cause.NODE_FAILURE
    assert str(worker.stopped).startswith(
        "task 0 on n3: Exited with exit code 1, and srun still waits for the others 130 s later"
    )
