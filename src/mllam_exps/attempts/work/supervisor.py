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
from mllam_exps.base import disks, ownership, records
from mllam_exps.base.endings import last_words, reasons
from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import MllamError, NotFinite, Problem
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.spec import Spec

HEARTBEAT_SECONDS = 5.0
WATCH_SECONDS = 0.5
GRACE_SECONDS = 15.0
STACK_SECONDS = 20.0
"""How long a program has to print its stacks and end: a node may be slow."""
OTHERS_SECONDS = 120.0
"""How long srun has to end a program of which one task has failed: Slurm waits 60 s for processes that do not die."""
RESERVE_BYTES = 256 * 1024
OURSELVES = "the attempt"
"""Who wrote an end record: after its own, an attempt writes no more."""


class Stopped(Exception):
    """The attempt was told to stop, or has lost the run."""

    def __init__(
        self, outcome: Outcome, problem: Problem, cause: Cause | None = None
    ) -> None:
        super().__init__(str(problem))
        self.outcome = outcome
        self.problem = problem
        self.cause = cause


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
        self.cause: Cause | None = None
        """What the rules for another attempt go by, if it fails."""
        self.log_begin = 0
        """How long the log was when the program started."""
        self._task_failed: float | None = None
        """When it was first seen that a task of the program had failed."""
        self._deadline: float | None = None
        self.warned = False
        """Whether the program was told to save and end."""

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
        signal.signal(signal.SIGUSR1, self._on_warning)
        # The submitter holds signals back while it submits, and a child inherits that.
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        threading.Thread(target=self._watch, daemon=True).start()
        outcome, problem = self.outcome()
        # On a full disk these are the blocks that the record of the failure is written
        # to.
        self.attempt.reserve.unlink(missing_ok=True)
        log.info("%s%s", outcome, f": {problem}" if problem else "")
        # The log lies on the same disk, and matters less than the record.
        with contextlib.suppress(OSError):
            print(f"{outcome}: {problem}" if problem else str(outcome), flush=True)
        self.write_end(outcome, problem)
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

    def write_end(self, outcome: Outcome, problem: Problem) -> None:
        """Write down how the attempt ended; subclasses add what is to be done then."""
        if self.attempt.ended is not None:
            return  # it was given up, with a reason, while we had not noticed
        cause = self.cause if outcome is Outcome.FAILED else None
        try:
            self.attempt.end(outcome, problem, OURSELVES, cause)
        except OSError:
            # Somebody else took the freed blocks. A failure needs no scratch but its
            # checkpoints; logs stay.
            for temporary in self.attempt.work.rglob("*.tmp"):
                temporary.unlink(missing_ok=True)
            self.attempt.end(outcome, problem, OURSELVES, cause)

    def outcome(self) -> tuple[Outcome, Problem]:
        """Do the work; return how it ended, and why. Subclasses may see it otherwise."""
        try:
            self.attempt.reserve.write_bytes(b"\0" * RESERVE_BYTES)
            self._work()
        except Stopped as stop:
            self.cause = stop.cause
            return stop.outcome, stop.problem
        except MllamError as error:
            is_nan = isinstance(error, NotFinite)
            own = Cause.NOT_FINITE if is_nan else Cause.ERROR
            self.cause = self.cause or own
            if error.where.startswith(str(self.attempt.work)):
                error.where = ""  # it says nothing more, and tells equal failures apart
            return Outcome.FAILED, error.problem
        except OSError as error:
            traceback.print_exc()
            self.cause = Cause.FULL_DISK if disks.is_full(error) else Cause.ERROR
            why = reasons.of_os_error(error, self.attempt.directory)
            return Outcome.FAILED, Problem(why)
        except Exception as error:
            traceback.print_exc()
            log.exception("an error of our own")
            self.cause = Cause.ERROR
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

    def _on_warning(self, _number: int, _frame: object) -> None:
        self._warn()

    def _warn(self) -> None:
        """Tell the program that its time limit is near: it saves and ends, if it can."""
        if not self.warned:
            self.warned = True
            log.info("the time limit is near: telling the program to save and end")
            with contextlib.suppress(OSError):
                records.touch(self.attempt.save_and_end)

    def _stop(self, outcome: Outcome, reason: str, cause: Cause | None = None) -> None:
        if self.stopped is None:
            log.info("stopping the program: %s", reason)
            self.stopped = Stopped(outcome, Problem(reason), cause)
            self._begin_to_kill()

    def _has_started(self, program: subprocess.Popen[bytes]) -> None:
        """Take the program that is at work now; who asked for an end while it was being started found none to stop."""
        self.program = program
        if self.stopped is not None:
            self._begin_to_kill()

    def _begin_to_kill(self) -> None:
        # Not in a signal handler's own frame: it must not wait.
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
            _wait_for_end(program, seconds)

    def _watch(self) -> None:
        """Beat, and look whether there is a reason to stop."""
        beaten = 0.0
        while True:
            now = time.monotonic()
            if now - beaten > HEARTBEAT_SECONDS:
                beaten = now
                with contextlib.suppress(OSError):
                    records.touch(self.attempt.heartbeat)
                self._look_for_a_stall()
                self._look_for_lost_tasks(now)
            self._look_for_others()
            self._look_at_the_clock(now)
            time.sleep(WATCH_SECONDS)

    def _look_for_others(self) -> None:
        """Stop where the attempt was cancelled, or has lost its run."""
        if not self.attempt.is_current:
            self._stop(
                Outcome.SUPERSEDED,
                f"attempt {self.attempt.number + 1} has taken the run",
            )
        elif self.attempt.cancel_requested:
            self._stop(Outcome.CANCELLED, "cancelled")
        elif (end := self.attempt.ended) and end.by != OURSELVES:
            self._stop(Outcome.FAILED, "it was given up")

    def _look_at_the_clock(self, now: float) -> None:
        """Warn before the time limit, and stop at it, where the scheduler keeps none."""
        if self._deadline is None:
            return
        if now > self._deadline:
            what = f"time limit: it took longer than {self.spec.time_limit:.0f} s"
            self._stop(Outcome.FAILED, what, Cause.TIME_LIMIT)
        elif self.spec.warning and now > self._deadline - self.spec.warning:
            self._warn()

    def _look_for_a_stall(self) -> None:
        """Stop a program that told of its progress, and has told nothing more for long."""
        limit, program = self.spec.stall_timeout, self.program
        if not limit or program is None or program.returncode is not None:
            return
        silent = self.attempt.seconds_without_progress
        if self.stopped is None and silent is not None and silent > limit:
            what = f"it came no further for {silent:.0f} s (retry.stall_timeout in the machine file)"
            log.info("stopping the program: %s", what)
            # The program may end by the signal that asks for its stacks.
            self.stopped = Stopped(Outcome.FAILED, Problem(what), Cause.STALL)
            with contextlib.suppress(MllamError, OSError):
                self._ask_for_stacks(program)
            self._kill_program()

    def _look_for_lost_tasks(self, now: float) -> None:
        """Stop a program whose srun waits for tasks that nobody will tell it of.

        Where a node comes back without its tasks (its slurmstepd killed with them, its
        slurmd started again before Slurm missed it), srun (22.05 seen) ends the others
        at the first error, and then waits for ever.
        """
        program = self.program
        if program is None or program.returncode is not None or self.stopped:
            return
        lines = reasons.clean(reasons.read(self.attempt.log, self.log_begin))
        failed = last_words.failed_task(lines)
        if not failed:
            return
        if self._task_failed is None:
            self._task_failed = now
        seconds = now - self._task_failed
        if seconds > OTHERS_SECONDS:
            what = f"{failed}, and srun still waits for the others {seconds:.0f} s later: a node has lost them"
            self._stop(Outcome.FAILED, what, Cause.NODE_FAILURE)

    def _ask_for_stacks(self, program: subprocess.Popen[bytes]) -> None:
        """Have the program's processes print where they stand: Python does at SIGABRT, with its faulthandler on."""
        if not self.scheduler().signal_steps(signal.SIGABRT):
            os.killpg(program.pid, signal.SIGABRT)
        _wait_for_end(program, STACK_SECONDS)


def _wait_for_end(program: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait until somebody has seen the program end, but no longer than that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and program.returncode is None:
        time.sleep(0.1)
