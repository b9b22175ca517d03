"""The run store: one directory a run, named by its key, readable with ``cat``.

Layout of ``<store>/runs/<key>/``::

    run.json                what defines the run: stage, parameters, inputs, versions
    attempts/1.json         attempt 1 is claimed: by whom, on which scheduler, under which job name
    attempts/1/job.json     what the scheduler answered
    attempts/1/job.sh       the batch script, where the scheduler takes one
    attempts/1/uncertain.json what was said where nobody knew whether it had accepted the job
    attempts/1/verdict.json what it said when the job had ended
    attempts/1/started.json written by the attempt itself: host, process, job
    attempts/1/heartbeat    touched every few seconds
    attempts/1/end.json     the attempt's own completion record: outcome and reason
    attempts/1/alone        there where no job waits for its end
    attempts/1/log.txt      everything that it printed
    attempts/1/work/        the work directory, laid out as the repository
    attempts/1/tree/        the git repository that it is a folder of, for commands that are not ours
    attempts/1/scratch/     checkpoints, progress.json
    attempts/1/outputs/     what it made, frozen, if it succeeded
    result.json             which attempt's outputs are the run's result, with their hashes
    waiters/                drivers that wait for this run
    wanted/                 submitted experiments that need it

Claims (``attempts/<n>.json``) and results are created by one writer only (`records.create`). An attempt is *current*
while there is no claim with a higher number. That is the fencing token: who is not current any more stops, and nothing
that it writes counts, because every attempt writes to a directory of its own and only a current one may create
``result.json``.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from mllam_exps import records
from mllam_exps.processes import ProcessIdentity

KEY = re.compile(r"[A-Za-z0-9_.@%~-]+-[0-9a-f]{32}")


def key_of(stage: str, digest: str) -> str:
    """Return a run key: ``<stage>-<digest>``, a file's name whatever the stage is called (a matrix may hold paths)."""
    return f"{quote(stage, safe='@')}-{digest}"


class Outcome(StrEnum):
    """How an attempt ended, in its own words."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    """The scheduler had no room for it: nothing was started, and nothing is wrong."""


@dataclass(frozen=True)
class Attempt:
    """One try at a run."""

    run: Run
    number: int

    @property
    def directory(self) -> Path:
        """The attempt's own directory; nobody else writes there."""
        return self.run.directory / "attempts" / str(self.number)

    @property
    def work(self) -> Path:
        """The program's working directory."""
        return self.directory / "work"

    @property
    def tree(self) -> Path:
        """The git repository that the working directory is a folder of, where it is one (`work_in`)."""
        return self.directory / "tree"

    def work_in(self, folder: Path) -> None:
        """Make the working directory a folder of a larger tree, which is still empty."""
        if self.work.is_symlink():  # on another file system
            self.tree.symlink_to(self.work.readlink())
            self.work.unlink()
        else:
            self.work.rename(self.tree)
        (self.tree / folder).mkdir(parents=True)
        self.work.symlink_to(self.tree / folder)

    @property
    def scratch(self) -> Path:
        """What the program writes that is no output."""
        return self.directory / "scratch"

    @property
    def outputs(self) -> Path:
        """What the attempt made, frozen."""
        return self.directory / "outputs"

    @property
    def log(self) -> Path:
        """Everything that the attempt printed."""
        return self.directory / "log.txt"

    @property
    def heartbeat(self) -> Path:
        """Touched by the attempt every few seconds, for hosts that cannot see its process."""
        return self.directory / "heartbeat"

    @property
    def claim(self) -> dict[str, Any] | None:
        """Who claimed the attempt; None where that cannot be read any more."""
        path = self.run.directory / "attempts" / f"{self.number}.json"
        return records.read(path, "claimed_by", "experiment", "job_name", "scheduler", "time")

    @property
    def claimed_at(self) -> float:
        """When it was claimed, by the file system's clock; 0 where that cannot be told."""
        return _mtime(self.run.directory / "attempts" / f"{self.number}.json")

    @property
    def started_at(self) -> float:
        """When it started, by the same clock: those of hosts differ by minutes."""
        return _mtime(self.directory / "started.json")

    @property
    def ended_at(self) -> float:
        """When its end was written down, by the same clock."""
        return _mtime(self.directory / "end.json")

    @property
    def heard_of_at(self) -> float:
        """When it gave its last sign of life, by the same clock."""
        return _mtime(self.heartbeat)

    @property
    def uncertain(self) -> dict[str, Any] | None:
        """What was said when nobody knew whether the scheduler had accepted its job."""
        return records.read(self.directory / "uncertain.json", "why")

    @property
    def job(self) -> dict[str, Any] | None:
        """What the scheduler answered, once it did."""
        return records.read(self.directory / "job.json") or None

    @property
    def started(self) -> dict[str, Any] | None:
        """The attempt's own record of its start."""
        return records.read(self.directory / "started.json")

    @property
    def end(self) -> dict[str, Any] | None:
        """The attempt's own completion record."""
        return records.read(self.directory / "end.json", "outcome", "reason")

    @property
    def progress(self) -> dict[str, Any] | None:
        """How far the program says it is."""
        return records.read(self.scratch / "progress.json")

    @property
    def is_current(self) -> bool:
        """Whether this attempt still owns the run."""
        return not (self.run.directory / "attempts" / f"{self.number + 1}.json").exists()

    @property
    def alone(self) -> Path:
        """Exists where no job waits for the attempt's end: the attempt itself then submits what waits in the store."""
        return self.directory / "alone"

    def request_cancel(self, by: ProcessIdentity) -> None:
        """Ask the attempt to stop; it looks for this every second."""
        records.replace(self.directory / "cancel.json", by.to_record() | {"time": time.time()})

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the attempt to stop."""
        return (self.directory / "cancel.json").exists()


@dataclass(frozen=True)
class Run:
    """One stage's work for one set of inputs."""

    directory: Path

    @property
    def key(self) -> str:
        """The run key."""
        return self.directory.name

    @property
    def stage(self) -> str:
        """The stage, as the key names it."""
        return unquote(self.key.rsplit("-", 1)[0])

    @property
    def store(self) -> Path:
        """The directory of the run store."""
        return self.directory.parents[1]

    def now(self) -> float:
        """Return the time by the file system's own clock: those of hosts differ by minutes.

        Raises
        ------
        OSError
            Where the store cannot be written.
        """
        # What we touch now gets its time from the same file server as everything else here.
        probe = self.directory / "waiters" / "clock"
        probe.touch()
        return probe.stat().st_mtime

    @property
    def definition(self) -> dict[str, Any] | None:
        """What defines the run, or None where nobody has begun it."""
        return records.read(self.directory / "run.json")

    @property
    def result(self) -> dict[str, Any] | None:
        """The proven result, or None."""
        return records.read(self.directory / "result.json", "attempt", "outputs")

    def begin(self, definition: Mapping[str, Any]) -> None:
        """Make the run's directory and write down what defines it, unless that is done."""
        (self.directory / "attempts").mkdir(parents=True, exist_ok=True)
        (self.directory / "waiters").mkdir(exist_ok=True)
        if self.definition is None:
            records.replace(self.directory / "run.json", dict(definition), flush=False)

    def want(self, identity: str) -> None:
        """Note that an experiment waits for the result."""
        # Without the note it is saved by a job of its own, later.
        with contextlib.suppress(PermissionError):
            (self.directory / "wanted").mkdir(parents=True, exist_ok=True)
            (self.directory / "wanted" / identity).touch()

    @property
    def wanted(self) -> list[str]:
        """The experiments that have waited for it, by identity; some may be gone."""
        return [path.name for path in (self.directory / "wanted").glob("*")]

    def attempts(self) -> list[Attempt]:
        """Return the attempts, oldest first."""
        claims = (self.directory / "attempts").glob("*.json")
        return [Attempt(self, n) for n in sorted(int(c.stem) for c in claims if c.stem.isdigit())]

    def last_attempt(self) -> Attempt | None:
        """Return the newest attempt: the only one that may still write."""
        return next(reversed(self.attempts()), None)

    @property
    def next_number(self) -> int:
        """The number of the attempt that would be claimed next."""
        last = self.last_attempt()
        return last.number + 1 if last else 1

    def claim(
        self, number: int, *, scheduler: str, experiment: str, workspace: Path, working_directory: Path | None
    ) -> Attempt | None:
        """Claim attempt `number`; None if somebody else did.

        With a `working_directory` (a faster file system, say) the attempt works there, and its directory in the store
        points to it.

        The job name is written down before anything is submitted, so that a job whose submitter died, or whose
        submission "failed" although the job runs, is found by its name.
        """
        claim = {
            "number": number,
            "claimed_by": ProcessIdentity.of().to_record(),
            "time": time.time(),
            "scheduler": scheduler,
            "job_name": f"{experiment}/{self.key.rsplit('-', 1)[0]}-{uuid.uuid4().hex[:8]}",
            "experiment": experiment,
            "workspace": str(workspace),
            "uid": os.getuid(),
        }
        attempt = Attempt(self, number)
        if not records.create(self.directory / "attempts" / f"{number}.json", claim):
            return None
        attempt.directory.mkdir(exist_ok=True)
        for folder in (attempt.work, attempt.scratch):
            if working_directory is None:
                folder.mkdir(exist_ok=True)
            else:
                elsewhere = working_directory / self.key / f"{number}-{folder.name}"
                elsewhere.mkdir(parents=True)
                folder.symlink_to(elsewhere)
        return attempt

    def wait_here(self, identity: ProcessIdentity) -> Waiter:
        """Register a driver that waits for this run."""
        return Waiter(self.directory / "waiters" / f"{identity.host}.{identity.pid}.json", identity)

    def other_waiters(self, identity: ProcessIdentity) -> list[ProcessIdentity]:
        """Return the drivers, other than `identity`, that wait for this run.

        One on another host cannot be seen from here. It counts while its record is fresh: drivers rewrite theirs each
        minute, so an older one is left over.
        """
        waiters = []
        for path in (self.directory / "waiters").glob("*.json"):
            record = records.read(path)
            if record is None:
                continue
            other = ProcessIdentity.from_record(record)
            alive = other.alive()
            if alive is None:
                # By the file system's clock: those of hosts differ.
                alive = self.now() - _mtime(path) < 3 * Waiter.REFRESH_SECONDS
            if alive and other != identity:
                waiters.append(other)
        return waiters


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@dataclass
class Waiter:
    """The record of a driver that waits; a context manager."""

    REFRESH_SECONDS = 60.0

    path: Path
    identity: ProcessIdentity
    refreshed: float = 0.0

    def refresh(self) -> None:
        """Say that we still wait, for hosts that cannot see our process."""
        if time.monotonic() - self.refreshed > self.REFRESH_SECONDS or not self.refreshed:
            records.replace(self.path, self.identity.to_record() | {"seen": time.time()})
            self.refreshed = time.monotonic()

    def __enter__(self) -> Waiter:
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunStore:
    """A folder on the shared file system, one directory a run."""

    directory: Path

    def run(self, key: str) -> Run:
        """Return the run of that key, which need not exist yet.

        Raises
        ------
        ValueError
            If `key` is no run key: it becomes part of a path.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"not a run key: {key!r}")
        return Run(self.directory / "runs" / key)

    def runs(self) -> Iterator[Run]:
        """Yield every run that has been begun."""
        for directory in sorted((self.directory / "runs").glob("*")):
            if KEY.fullmatch(directory.name) and (directory / "run.json").exists():
                yield Run(directory)
