"""One ``squeue`` for everybody who waits: its answer lies in a file that all drivers of a user share.

However many drivers wait, on however many hosts: a new question is asked when the last
one is `PERIOD` old, by whoever first claims it. Claims are files that only one can
create; ages are differences between times that the file system itself has given, so
that clocks of hosts do not matter.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.shapes import Shape, count, list_of, number, text
from mllam_exps.schedulers.slurm import batch_script, calls

PERIOD = 10.0
PATIENCE = 30.0
"""Seconds that squeue may take; and how old an answer may be before nothing follows from it any more."""
IMPATIENCE = 6.0
"""Seconds that squeue may take where the command itself waits for it."""
CLAIM_LIFE = PATIENCE + 15.0
POLITE = calls.PING + 0.5
"""Seconds that a driver itself waits for squeue; it looks after its run meanwhile."""
MARK = "mllam"
# %A: that of an array's or a heterogeneous job's part is a plain number, too. No column
# has a width, so none is cut.
FORMAT = f"{MARK}|%A|%T|%r|%M|%N|%j"
HEADER = f"{MARK}|JOBID|"
"""How squeue (22.05) begins the first line. Sites' own lines stand before it, or after; without it, squeue has not
answered, whatever its exit code: that there are no jobs is no small thing to say."""


_ANSWER: Shape = {
    "number": count,
    "asked": number,
    "jobs": list_of(lambda job: list_of(text)(job) and len(job) == 6),
}
_FAILURE: Shape = {
    "number": count,
    "why": text,
    "since": text,
}


@dataclass(frozen=True)
class Entry:
    """One job, as squeue tells it."""

    job_id: str
    state: str
    reason: str
    elapsed: str
    nodes: str
    name: str


@dataclass(frozen=True)
class Answer:
    """What squeue said last.

    Parameters
    ----------
    number : int
        Of the question that it answers; questions are counted.
    asked : float
        When the question was put, by the file system's clock.
    jobs : dict
        By id.
    """

    number: int
    asked: float
    jobs: dict[str, Entry]

    @classmethod
    def of(cls, number: int, asked: float, rows: list[list[str]]) -> Answer:
        """Return an answer of these lines of squeue."""
        jobs = {job_id: Entry(job_id, *rest) for job_id, *rest in rows}
        return cls(number, asked, jobs)


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")


@dataclass(frozen=True)
class Silence:
    """Why there is no answer to build on, and since when, as a time of day."""

    why: str
    since: str = field(default_factory=_time_of_day)


class NoList(Exception):
    """squeue gave no list of jobs; the message says why."""


def _number_of(record: dict[str, Any] | None) -> int:
    """Return the number of the question that a record answers; 0 where there is none."""
    return int(record["number"]) if record else 0


def _is_usable(folder: Path) -> bool:
    """Tell whether a folder is this user's alone, and can be written to; it is made where there is none."""
    try:
        records.folder(folder, ownership.OWN)
    except OSError:
        return False
    return ownership.is_ours_alone(folder) and os.access(folder, os.W_OK)


@dataclass
class Queue:
    """The jobs of this user, asked for at most once each `PERIOD`.

    Parameters
    ----------
    folder : Path
        On a file system that all hosts of the drivers see; made when needed.
    command : tuple of str
        What is run; its user is added.
    outage : Callable
        Says why nobody would answer squeue; nothing where somebody would.
    """

    folder: Path
    command: tuple[str, ...] = ("squeue",)
    outage: Callable[[], str] = lambda: ""
    _look_again: float = field(default=0.0, init=False)
    _answer: Answer | Silence | None = field(default=None, init=False)
    _unshared: Answer | Silence | None = field(default=None, init=False)
    """What was said to a question of ours, where it could not be written down."""

    @classmethod
    def of_user(cls, shared: Path) -> Queue:
        """Return the queue of this user, beside a run store; elsewhere, where the store is for reading only.

        What colleagues may have written there is nobody's answer.
        """
        own = shared / "slurm" / str(os.getuid())
        with contextlib.suppress(OSError):
            records.folder(own.parent, ownership.STICKY)
        for folder in (own, Path(tempfile.gettempdir(), f"mllam-exps-{os.getuid()}")):
            if _is_usable(folder):
                return cls(folder, outage=calls.outage)
        with contextlib.suppress(OSError):
            own = Path(tempfile.mkdtemp(prefix="mllam-exps-"))
        # If that failed, nothing can be written at all.
        return cls(own, outage=calls.outage)

    def read(self) -> Answer | Silence:
        """Return the newest answer, asking where it is time to."""
        if self._answer is None or time.monotonic() >= self._look_again:
            self._answer = self._look()
        return self._answer

    def _look(self) -> Answer | Silence:
        """Look at the shared answer; where nothing can be written, ask for oneself."""
        try:
            self._unshared = None
            found = self._look_together()
        except OSError:
            # The disk is full, or for reading only: whoever looks can look all the
            # same.
            self._look_again = time.monotonic() + PERIOD
            return self._ask_alone()
        return self._unshared or found

    def ask_anew(self) -> Answer | Silence:
        """Ask, however lately somebody else got no answer; what is said holds for all."""
        try:
            number = max(self._claims(), default=0) + 1
            if self._claim(number):
                self._ask(number)
            self._answer = self._unshared or self._judge(self._stored(), self.clock())
        except OSError:
            self._answer = self._ask_alone()
        self._look_again = time.monotonic() + 2.0
        return self._answer

    def _ask_alone(self) -> Answer | Silence:
        asked = time.time()
        try:
            return Answer.of(0, asked, self._rows(IMPATIENCE))
        except NoList as silence:
            return Silence(str(silence))

    def _look_together(self) -> Answer | Silence:
        now = self.clock()
        record, asked = self._stored(), max(self._claims(), default=0)
        answered = max(_number_of(record), _number_of(self._failure()))
        age = now - self._time_of(asked)
        if asked > answered and age < CLAIM_LIFE:
            # Somebody asks at this moment; look again soon.
            self._look_again = time.monotonic() + 1.0
        elif asked and age < PERIOD:
            self._look_again = time.monotonic() + min(PERIOD - age, 2.0)
        elif self._claim(asked + 1):
            # Nobody's eyes leave his run because squeue hangs.
            asking = threading.Thread(target=self._ask, args=(asked + 1,), daemon=True)
            asking.start()
            asking.join(POLITE)
            self._look_again = time.monotonic() + 2.0
            now = self.clock()
            record = self._stored()
        return self._judge(record, now)

    def _claim(self, number: int) -> bool:
        """Take the question of that number; False where somebody else has taken it."""
        asker = {"host": socket.gethostname(), "pid": os.getpid()}
        return records.create(self.folder / f"{number}.question", asker)

    def _judge(self, record: dict[str, Any] | None, now: float) -> Answer | Silence:
        """Return what was answered, unless it is too old to build on."""
        if record and now - self._answer_file.stat().st_mtime <= PATIENCE:
            number, asked = int(record["number"]), float(record["asked"])
            return Answer.of(number, asked, record["jobs"])
        failure = self._failure()
        if failure and failure["number"] >= _number_of(record):
            return Silence(failure["why"], failure["since"])
        return Silence("squeue has not answered yet")

    def _ask(self, number: int) -> None:
        """Ask, and write down for all what was said; where that cannot be written, keep it for oneself."""
        asked = self._time_of(number)
        found: Answer | Silence
        try:
            rows = self._rows(PATIENCE)
            found = Answer.of(number, asked, rows)
            record = {"number": number, "asked": asked, "jobs": rows}
        except NoList as silence:
            found = Silence(str(silence))
            record = {"number": number, "why": found.why, "since": found.since}
        try:
            self._write_down(record, is_answer=isinstance(found, Answer))
            for old in self._claims():
                if old < number - 2:
                    (self.folder / f"{old}.question").unlink(missing_ok=True)
        except OSError:
            self._unshared = found

    def _write_down(self, record: dict[str, Any], *, is_answer: bool) -> None:
        if is_answer:
            records.replace(self._answer_file, record)
            self._failure_file.unlink(missing_ok=True)
            return
        # Of several failures one after the other, the first says since when.
        first = self._failure() or record
        records.replace(self._failure_file, record | {"since": first["since"]})

    def _rows(self, patience: float) -> list[list[str]]:
        """Return the fields of each job.

        Raises
        ------
        NoList
            If nobody answers.
        """
        try:
            why = self.outage()
            rows = [] if why else self._jobs(patience)
        except subprocess.TimeoutExpired:
            why = f"squeue gave no answer within {patience:.0f} s"
        except OSError as error:
            why = f"squeue cannot be started: {error.strerror}"
        except MllamError as error:
            why = str(error).partition("\n")[0]
        if why:
            raise NoList(why)
        return rows

    def _jobs(self, patience: float) -> list[list[str]]:
        """Run squeue, and return the fields of each job.

        Raises
        ------
        MllamError
            If it did not answer.
        """
        # --all: else squeue (22.05) hides one's own jobs in partitions that are hidden,
        # or closed by now.
        which = ("--all", f"--user={os.getuid()}", "--states=all")
        command = [*self.command, *which, f"--format={FORMAT}"]
        # Without the caller's SQUEUE_PARTITION and the like, which would hide jobs.
        environ = batch_script.environment(os.environ)
        done = subprocess.run(
            command, env=environ, capture_output=True, timeout=patience, check=False
        )
        lines = done.stdout.decode("utf-8", "replace").split("\n")
        if done.returncode != 0 or not any(line.startswith(HEADER) for line in lines):
            blamed = calls.blame(done.stderr.decode("utf-8", "replace"))
            code = done.returncode
            raise MllamError(
                blamed or f"squeue gave no list of jobs (exit code {code})"
            )
        rows = []
        for line in lines:
            # A line break in the name of any job of the user's makes a line of its own.
            row = line.split("|", 6)[1:] if line.startswith(f"{MARK}|") else []
            if len(row) == 6 and row[0].isdigit():
                rows.append(row)
        return rows

    @property
    def _answer_file(self) -> Path:
        return self.folder / "answer.json"

    @property
    def _failure_file(self) -> Path:
        return self.folder / "failure.json"

    def _stored(self) -> dict[str, Any] | None:
        return records.read(self._answer_file, shape=_ANSWER)

    def _failure(self) -> dict[str, Any] | None:
        return records.read(self._failure_file, shape=_FAILURE)

    def _claims(self) -> list[int]:
        stems = [path.stem for path in self.folder.glob("*.question")]
        return [int(stem) for stem in stems if stem.isdigit()]

    def _time_of(self, number: int) -> float:
        try:
            return (self.folder / f"{number}.question").stat().st_mtime
        except OSError:
            return 0.0

    def clock(self) -> float:
        """Return the time by the clock of the folder's file system."""
        return records.now(records.folder(self.folder, ownership.OWN))
