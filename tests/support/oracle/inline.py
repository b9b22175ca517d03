"""Everything in one process: stages that DVC runs, jobs, and the programs in them; some ten times as quick.

The scheduler runs its jobs one after the other, in random order, when the submitter has
let go. What is left out: processes, signals, the flushing of files to disk.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import pickle
import random
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mllam_exps import attempt, schedulers
from mllam_exps.attempts.work.supervisor import Supervisor
from mllam_exps.attempts.work.worker import Worker
from mllam_exps.base import logs
from mllam_exps.base.shapes import count
from mllam_exps.schedulers import Job, JobPhase, JobRequest, JobState, local
from mllam_exps.schedulers.local import LocalScheduler
from mllam_exps.stages import versions
from mllam_exps.submission import submit
from support.oracle import digest


class AtOnce(LocalScheduler):
    """Runs jobs in this process, behind those that they wait for."""

    chains = True
    waiting: list[tuple[int, JobRequest]]
    states: dict[int, JobPhase]

    def __init__(self) -> None:
        self.waiting, self.states = [], {}
        self.rng = random.Random(0)
        self.between: Callable[[], None] = lambda: None

    def submit(self, request: JobRequest) -> Job:
        """Take a job."""
        number = len(self.states) + 1
        self.states[number] = JobPhase.PENDING
        self.waiting.append((number, request))
        return self.job({"number": number})

    def job(self, record: dict[str, Any]) -> Job:
        """Return the job of a record."""
        return Job(record, f"job {record.get('number')}")

    def current(self) -> Job:
        """Return the job that is being run."""
        return self.job(
            {
                "number": next(
                    n for n, phase in self.states.items() if phase is JobPhase.RUNNING
                )
            }
        )

    def find(self, name: str, written: float) -> Job | None:
        """Find a job by its name."""
        return next(
            (
                self.job({"number": n})
                for n, request in self.waiting
                if request.name == name
            ),
            None,
        )

    def names(self) -> dict[str, str]:
        """Return the names of jobs that wait, each with its folder."""
        return {request.name: str(request.directory) for _, request in self.waiting}

    def state(self, job: Job) -> JobState:
        """Say where a job is."""
        phase = self.states.get(job.record["number"], JobPhase.FORGOTTEN)
        if phase is JobPhase.FAILED:
            # As Slurm says it: why, the attempt has written down.
            return JobState(phase, "exit code 1", "FAILED 1:0", plain=True)
        return JobState(phase)

    verdict = state

    def cancel(self, job: Job) -> None:
        """Take a job back."""
        self.states[job.record["number"]] = JobPhase.CANCELLED

    def run_all(self) -> None:
        """Run what waits, and what comes of it."""
        while self.waiting:
            ready = [one for one in self.waiting if self._is_ready(one[1])]
            self.waiting.remove(job := self.rng.choice(ready))
            number, request = job
            self.between()
            if self.states[number] is not JobPhase.PENDING:
                continue
            before = [self.states[job.record["number"]] for job in request.after]
            if request.after_success and any(
                phase is not JobPhase.SUCCEEDED for phase in before
            ):
                self.states[number] = JobPhase.CANCELLED
                continue
            self.states[number] = JobPhase.RUNNING
            with (
                request.log.open("a") as log,
                contextlib.redirect_stdout(log),
                contextlib.redirect_stderr(log),
                _log_of_its_own(),
            ):
                code = attempt.main(request.command[-2:])
            self.states[number] = JobPhase.FAILED if code else JobPhase.SUCCEEDED

    def _is_ready(self, request: JobRequest) -> bool:
        living = {JobPhase.PENDING, JobPhase.RUNNING}
        numbers = (job.record["number"] for job in request.after)
        return not any(self.states.get(number) in living for number in numbers)


@contextlib.contextmanager
def _log_of_its_own() -> Iterator[None]:
    """Take away what an attempt adds to the log: it has a process of its own elsewhere, and its log ends with it."""
    ours = logging.getLogger(logs.NAME)
    before = list(ours.handlers)
    yield
    for handler in ours.handlers[:]:
        if handler not in before:
            ours.removeHandler(handler)
            assert isinstance(handler, logging.StreamHandler)
            handler.stream.close()


_installed = functools.cache(versions.installed)


class _Serial:
    """A pool of no threads."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> _Serial:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Any, items: Any) -> Iterator[Any]:
        """Do it now."""
        return map(function, items)


_parse = YAML.load


@functools.lru_cache(maxsize=512)
def _parsed(text: str) -> bytes:
    return pickle.dumps(_parse(YAML(typ="safe"), text))


def _parse_once(parser: YAML, stream: Any) -> Any:
    """Read a text that was read before as quickly as pickle does: DVC parses its files ten times a command."""
    if isinstance(stream, str) and parser.typ == ["safe"]:
        return pickle.loads(_parsed(stream))
    return _parse(parser, stream)


def _run_commands(_self: Worker, argv: list[str], context: Any) -> None:
    folder, *commands = argv[4:]
    for command in commands:
        print(">", command)
        digest.main(shlex.split(command)[2:], context.work / folder)


def _run_for_dvc(_executable: str, cmd: str, **options: Any) -> None:
    digest.main(shlex.split(cmd)[2:], Path(options["cwd"]))


@contextlib.contextmanager
def in_one_process() -> Iterator[AtOnce]:
    """Have everything run in this process; the scheduler is returned."""
    handlers = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    umask = os.umask(0o022)
    scheduler = AtOnce()
    schedulers.get.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LocalScheduler", lambda: scheduler)
        patch.setattr(local, "RECORD", {"number": count})
        patch.setattr(Supervisor, "_watch", lambda _self: None)
        patch.setattr(Worker, "_run_program", _run_commands)
        patch.setattr("dvc.stage.run._run", _run_for_dvc)
        patch.setattr(submit, "ThreadPoolExecutor", _Serial)
        patch.setattr(YAML, "load", _parse_once)
        patch.setattr(versions, "of_environment", lambda *_: _installed())
        for name in ("sync", "fsync"):
            patch.setattr(os, name, lambda *_: None)
        try:
            yield scheduler
        finally:
            os.umask(umask)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            schedulers.get.cache_clear()


def said(function: Any, *arguments: Any) -> tuple[Any, str, str]:
    """Call a function; return what it returned, and what it printed, and what of that on standard error."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        result = function(*arguments)
    return result, out.getvalue(), error.getvalue()


__all__ = ["AtOnce", "in_one_process", "said"]
