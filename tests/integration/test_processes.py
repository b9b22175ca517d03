"""What only processes of their own can show: who comes first, what a start imports, what is left of an exit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

from mllam_exps.attempts.worker import Worker
from mllam_exps.base import records
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
        assert records.read(path) == {"winner": wins.get(timeout=5)}
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
