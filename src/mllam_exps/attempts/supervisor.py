"""The loop of an attempt: it starts, beats, is stopped or comes to its end, and writes that down.

It stops its program when it is told to, or when the run was taken from it, and writes
down how it ended, whatever happens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
import traceback
from abc import ABC, abstractmethod

from mllam_exps import schedulers
from mllam_exps.base import ownership, reasons, records
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.spec import Spec

HEARTBEAT_SECONDS = 5.0
WATCH_SECONDS = 0.5
GRACE_SECONDS = 15.0
RESERVE_BYTES = 256 * 1024
OURSELVES = "the attempt"
"""Who wrote an end record: after its own, an attempt writes no more."""


class Stopped(Exception):
    """The attempt was told to stop, or has lost the run."""

    def __init__(self, outcome: Outcome, problem: Problem) -> None:
        super().__init__(str(problem))
        self.outcome = outcome
        self.problem = problem


log = logging.getLogger(__name__)


class Supervisor(ABC):
    """Runs one attempt from its start to its end record.

    Parameters
    ----------
    attempt : Attempt
        Claimed, and told what to do by its submitter (`Spec`).
    """

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.spec = Spec.read(attempt)
        self._place = attempt.directory.stat()
        self.program: subprocess.Popen[bytes] | None = None
        self.stopped: Stopped | None = None
        self._deadline: float | None = None

    def run(self) -> int:
        """Run the attempt; returns the exit code of the process: 0 only with a result."""
        node = self.scheduler().nodes()
        if not self.attempt.start(node):
            log.info("this attempt was started before")
            print("this attempt was started before", flush=True)
            return 1
        log.info(
            "attempt %d at %s, for experiment %s, on %s",
            self.attempt.number,
            self.attempt.run.key,
            self.spec.experiment,
            node or socket.gethostname(),
        )
        self._name_the_job()
        # Slurm makes it with the submitter's umask; what it says of the end is
        # believed.
        with (
            contextlib.suppress(OSError),
            os.fdopen(records.open_file(self.attempt.log), "rb") as written,
        ):
            os.fchmod(written.fileno(), ownership.OWN & 0o666)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        # The submitter holds signals back while it submits, and a child inherits that.
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        threading.Thread(target=self._watch, daemon=True).start()
        outcome, problem = self._outcome()
        # On a full disk these are the blocks that the record of the failure is written
        # to.
        self.attempt.reserve.unlink(missing_ok=True)
        log.info("%s%s", outcome, f": {problem}" if problem else "")
        # The log lies on the same disk, and matters less than the record.
        with contextlib.suppress(OSError):
            print(f"{outcome}: {problem}" if problem else str(outcome), flush=True)
        self._end(outcome, problem)
        # Jobs wait for the result, whoever made it.
        is_there = outcome is Outcome.SUCCEEDED or self.attempt.run.result is not None
        return 0 if is_there else 1

    def scheduler(self) -> schedulers.Scheduler:
        """Return the scheduler that started this attempt."""
        return schedulers.get(self.attempt.scheduler, self.attempt.run.store)

    def _name_the_job(self) -> None:
        """Write down which job this is: its submitter may have died before, or somebody submitted the script again."""
        scheduler = self.scheduler()
        with contextlib.suppress(MllamError, OSError):
            ours, known = scheduler.current(), self.attempt.job(scheduler)
            if known is not None and known.label == ours.label:
                return
            self.attempt.note_job(ours)
            if known is not None:
                scheduler.cancel(known)

    def _end(self, outcome: Outcome, problem: Problem) -> None:
        if self.attempt.ended is not None:
            return  # it was given up, with a reason, while we had not noticed
        try:
            self.attempt.end(outcome, problem, OURSELVES)
        except OSError:
            # Somebody else took the freed blocks. A failure needs no scratch but its
            # checkpoints; logs stay.
            for temporary in self.attempt.work.rglob("*.tmp"):
                temporary.unlink(missing_ok=True)
            self.attempt.end(outcome, problem, OURSELVES)

    def _outcome(self) -> tuple[Outcome, Problem]:
        """Do the work; return how it ended, and why."""
        try:
            self.attempt.reserve.write_bytes(b"\0" * RESERVE_BYTES)
            self._work()
        except Stopped as stop:
            return stop.outcome, stop.problem
        except MllamError as error:
            if error.where.startswith(str(self.attempt.work)):
                error.where = ""  # it says nothing more, and tells equal failures apart
            return Outcome.FAILED, error.problem
        except OSError as error:
            traceback.print_exc()
            why = reasons.of_os_error(error, self.attempt.directory)
            return Outcome.FAILED, Problem(why)
        except Exception as error:
            traceback.print_exc()
            return Outcome.FAILED, Problem(f"{type(error).__name__}: {error}")
        return Outcome.SUCCEEDED, Problem()

    @abstractmethod
    def _work(self) -> None:
        """Do what the attempt is there for, and write down what came out."""

    def _raise_if_stopped(self) -> None:
        found = self.attempt.directory.stat()
        if (found.st_dev, found.st_ino) != (self._place.st_dev, self._place.st_ino):
            # Who owns the folder above can put another one in its place.
            raise MllamError(
                "the attempt's directory was replaced by another",
                str(self.attempt.directory),
            )
        if self.stopped:
            raise self.stopped

    def _progress(self, text: str) -> None:
        self.attempt.note_progress(text)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.attempt.cancel_requested:
            self._stop(Outcome.CANCELLED, "cancelled")
        else:
            self._stop(
                Outcome.FAILED,
                f"stopped by {signal.Signals(number).name}, which nobody asked us for",
            )

    def _stop(self, outcome: Outcome, reason: str) -> None:
        if self.stopped is None:
            log.info("stopping the program: %s", reason)
            self.stopped = Stopped(outcome, Problem(reason))
            # Not in the signal handler's own frame: it must not wait.
            threading.Thread(target=self._kill_program, daemon=True).start()

    def _kill_program(self) -> None:
        program = self.program
        if program is None:
            return
        for number, seconds in (
            (signal.SIGTERM, GRACE_SECONDS),
            (signal.SIGKILL, GRACE_SECONDS),
        ):
            try:
                os.killpg(program.pid, number)
            except (ProcessLookupError, PermissionError):
                return
            end = time.monotonic() + seconds
            while time.monotonic() < end and program.returncode is None:
                time.sleep(0.1)

    def _watch(self) -> None:
        """Beat, and look whether we were cancelled, superseded or out of time."""
        beaten = 0.0
        while True:
            now = time.monotonic()
            if now - beaten > HEARTBEAT_SECONDS:
                beaten = now
                with contextlib.suppress(OSError):
                    records.touch(self.attempt.heartbeat)
            if not self.attempt.is_current:
                self._stop(
                    Outcome.SUPERSEDED,
                    f"attempt {self.attempt.number + 1} has taken the run",
                )
            elif self.attempt.cancel_requested:
                self._stop(Outcome.CANCELLED, "cancelled")
            elif (end := self.attempt.ended) and end.by != OURSELVES:
                self._stop(Outcome.FAILED, "it was given up")
            elif self._deadline and now > self._deadline:
                self._stop(
                    Outcome.FAILED,
                    f"time limit: it took longer than {self.spec.time_limit:.0f} s",
                )
            time.sleep(WATCH_SECONDS)
