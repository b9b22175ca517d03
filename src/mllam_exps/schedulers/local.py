"""The local scheduler: a detached process on this host, which outlives the terminal it was started from."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil

from mllam_exps.base import records, user_state
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import PROCESS, ProcessIdentity
from mllam_exps.base.shapes import Shape
from mllam_exps.schedulers.base import Job, JobPhase, JobRequest, JobState

NAME_VARIABLE = "MLLAM_EXPS_JOB_NAME"
ATTEMPT_VARIABLE = "MLLAM_EXPS_ATTEMPT"
"""The attempt that a process works for: what is left with it is killed before the next try."""

RECORD: Shape = PROCESS
TRACES = (NAME_VARIABLE,)
SETTINGS: tuple[str, ...] = ()


def make(shared: Path) -> LocalScheduler:
    """Return the scheduler; see `schedulers.SchedulerModule`."""
    return LocalScheduler()


class LocalScheduler:
    """Jobs are processes in sessions of their own; nobody keeps their exit codes."""

    name = "local"
    limits = False
    chains = False
    inherits = True
    settles = 0.05

    def missing(self) -> str:
        """Return nothing: a process needs no program of a scheduler."""
        return ""

    def job_id(self) -> str:
        """Return nothing: a process has no number by which people would look for it tomorrow."""
        return ""

    def nodes(self) -> None:
        """Return nothing: the host's own name stands in every record."""

    def cores(self) -> None:
        """Return nothing: a process may use whatever the host lets it."""

    def launch(self, request: JobRequest) -> list[str]:
        """Return nothing: a job here is one process."""
        return []

    def inside(self) -> dict[str, str]:
        """Return nothing: there is one node."""
        return {}

    def script(self, request: JobRequest) -> str:
        """Return the lines that make the environment ready, and the command."""
        start = [
            f"cd {shlex.quote(str(request.directory))} || exit",
            f"exec {shlex.join(request.command)}",
        ]
        return "\n".join(
            [
                "#!/bin/bash",
                f"# {' '.join(request.comment.splitlines())}",
                *request.prologue,
                "",
                *start,
                "",
            ]
        )

    def objection(self, request: JobRequest) -> None:
        """Return nothing: a process asks nobody."""

    def submit(self, request: JobRequest) -> Job:
        """Start the job in a session of its own, its output in the log."""
        # A stage's command may submit another experiment, whose job is no part of its
        # attempt.
        environ = {**request.environment, NAME_VARIABLE: request.name}
        environ.pop(ATTEMPT_VARIABLE, None)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with os.fdopen(records.open_file(request.log, flags), "ab") as log:
                process = subprocess.Popen(
                    request.argv,
                    cwd=request.directory,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise MllamError(
                f"could not start {request.argv[0]}",
                where=str(request.log),
                why=str(error),
                next="mllam-exps machine show",
            ) from error
        return self.job(ProcessIdentity.of(process.pid).to_record())

    def find(self, name: str, written: float) -> Job | None:
        """Find the process by the name in its environment."""
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get(NAME_VARIABLE) == name
                    and os.getsid(process.pid) == process.pid
                ):
                    return self.job(ProcessIdentity.of(process.pid).to_record())
            except (psutil.Error, OSError):
                continue
        return None

    def answers(self, *, now: bool = False) -> bool:
        """Say yes: there is nobody to ask."""
        return True

    def outage(self) -> str:
        """Return nothing: there is nobody to be down."""
        return ""

    def names(self) -> dict[str, str]:
        """Return the names of this user's jobs on this host, each with its folder.

        Who has another folder of state, in another home say, counts jobs of their own.
        """
        found = {}
        mine = user_state.of(os.environ)
        for process in psutil.process_iter():
            try:
                environ = process.environ()
                if (
                    (name := environ.get(NAME_VARIABLE))
                    and process.uids().real == os.getuid()
                    and os.getsid(process.pid) == process.pid
                    and user_state.of(environ) == mine
                ):
                    found[name] = process.cwd()
            except (psutil.Error, OSError):
                continue
        return found

    def job(self, record: dict[str, Any]) -> Job:
        """Return the job of a process."""
        return Job(record, f"process {record['pid']} on {record['host']}")

    def current(self) -> Job:
        """Return this very process."""
        return self.job(ProcessIdentity.of().to_record())

    def state(self, job: Job) -> JobState:
        """Say whether the process lives. A process on another host cannot be seen from here."""
        alive = ProcessIdentity.from_record(job.record).alive()
        if alive is None:
            return JobState(
                JobPhase.UNKNOWN,
                f"it runs on {job.record['host']}, which cannot be asked from here",
            )
        return (
            JobState(JobPhase.RUNNING)
            if alive
            else JobState(JobPhase.GONE, f"{job.label} is gone")
        )

    def verdict(self, job: Job) -> JobState:
        """Say whether the process lives: nobody keeps its exit code. One on another host counts as gone."""
        state = self.state(job)
        return JobState(JobPhase.GONE) if state.phase is JobPhase.UNKNOWN else state

    def signal_steps(self, number: int) -> bool:
        """Do nothing: a program's processes are one group."""
        return False

    def put_behind(self, job: Job, after: tuple[Job, ...]) -> None:
        """Do nothing: no process waits for another."""

    def cancel(self, job: Job) -> None:
        """Ask the attempt's process to stop; it stops its program and writes its end down."""
        identity = ProcessIdentity.from_record(job.record)
        if identity.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGTERM)
