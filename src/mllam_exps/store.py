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

The folders of a run are the team's; an attempt's own belongs to who claimed it, and nobody else writes there. So what
is executed comes from there (`spec`), and never from ``run.json``, which anybody may have written.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from mllam_exps import ownership, records
from mllam_exps.errors import MllamError
from mllam_exps.processes import ProcessIdentity
from mllam_exps.records import Kind, Shape, Trouble, count, dict_of, flag, list_of, maybe, number, of_shape, text

KEY = re.compile(r"[A-Za-z0-9_.@%~-]+-[0-9a-f]{32}")
_CLAIM = re.compile(r"([1-9][0-9]*)\.json")


def is_key(value: object) -> bool:
    """Tell whether a value is a run key: it becomes part of a path."""
    return isinstance(value, str) and KEY.fullmatch(value) is not None


STICKY = 0o1777
"""Of a folder in which many write, and everybody removes or renames only what is theirs."""

_PROCESS: dict[str, Kind] = {"host": text, "boot": text, "pid": count, "started": number}
_STARTED = _PROCESS | {"time": maybe(number), "node": maybe(text)}
_CLAIMED: Shape = {
    "claimed_by": of_shape(_PROCESS),
    "experiment": text,
    "job_name": text,
    "scheduler": text,
    "time": number,
    "uid": maybe(count),
    "workspace": maybe(text),
}
_END: Shape = {"outcome": text, "reason": text, "time": maybe(number), "by": maybe(text)}
_OUTPUT: Shape = {"digest": text, "size": maybe(number), "files": maybe(count), "isexec": maybe(flag)}
_FILE: Shape = {"relpath": text, "md5": text, "size": maybe(number)}
_DESCRIBED: Shape = {"digest": text, "size": maybe(number), "files": maybe(list_of(of_shape(_FILE)))}
_READ: Shape = {"run": maybe(is_key), "md5": text}
_RESULT: Shape = {
    "inputs": maybe(dict_of(of_shape(_READ))),
    "attempt": count,
    "outputs": dict_of(of_shape(_OUTPUT)),
    "commit": maybe(text),
    "time": maybe(number),
}
_PROGRESS: Shape = {"text": maybe(text), "seconds_left": maybe(number)}
_JOBS: dict[str, Shape] = {
    "local": _PROCESS,
    "slurm": {
        "id": lambda value: text(value) or count(value),
        "name": text,
        "submitted": number,
        "script": maybe(text),
    },
}
"""What a scheduler's own record of a job holds."""


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
        (self.tree / folder).chmod(ownership.OWN)
        self.work.symlink_to(self.tree / folder)

    def _make_directory(self) -> None:
        """Make the attempt's directory, which nobody else may write to; what lies in its place is put aside.

        Raises
        ------
        MllamError
            If it is a colleague's, and stays.
        """
        try:
            self.directory.mkdir(ownership.OWN)
        except FileExistsError:
            # Its claim was lost, to a purge of old files, say.
            aside = self.directory.with_name(f"{self.number}-before-{uuid.uuid4().hex[:8]}")
            try:
                self.directory.rename(aside)
            except OSError as error:
                place, why = str(self.directory), f"it belongs to {ownership.owner_of(self.directory)}"
                raise MllamError("is in the way", place, why, "start it again: it takes another") from error
            self.directory.mkdir(ownership.OWN)

    def remove_elsewhere(self) -> None:
        """Remove what it has on another file system: a link there is followed only if nobody else can have made it."""
        if ownership.is_ours_alone(self.directory):
            for folder in (self.work, self.tree, self.scratch):
                if folder.is_symlink() and not folder.resolve().is_relative_to(self.directory.resolve()):
                    shutil.rmtree(folder.resolve(), ignore_errors=True)

    def tidy(self) -> None:
        """Remove what a finished run needs no more, where that is ours; its outputs, logs and records stay."""
        if not ownership.is_ours_alone(self.directory):
            return
        self.remove_elsewhere()
        for folder in (self.work, self.tree, self.scratch):
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder, ignore_errors=True)

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
        return records.read(self._claim, shape=_CLAIMED)

    @property
    def _claim(self) -> Path:
        return self.run.directory / "attempts" / f"{self.number}.json"

    @property
    def hidden(self) -> Trouble | None:
        """Why nobody can tell from here how it is: its records are others' to read, or a newer version's."""
        for path, shape in ((self._claim, _CLAIMED), (self.directory / "end.json", _END)):
            found = records.look(path, shape=shape)
            if isinstance(found, Trouble) and found.hidden:
                return found
        return None

    @property
    def is_gone(self) -> bool:
        """Whether its directory is not there, although it was claimed: a scratch file system was purged, say."""
        return not os.path.lexists(self.directory)

    @property
    def claimed_at(self) -> float:
        """When it was claimed, by the file system's clock; 0 where that cannot be told."""
        return _mtime(self._claim)

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
        return records.read(self.directory / "uncertain.json", shape={"why": text})

    @property
    def job(self) -> dict[str, Any] | None:
        """What the scheduler answered, once it did."""
        scheduler = (self.claim or {}).get("scheduler")
        return records.read(self.directory / "job.json", shape=_JOBS.get(str(scheduler))) or None

    @property
    def started(self) -> dict[str, Any] | None:
        """The attempt's own record of its start."""
        return records.read(self.directory / "started.json", shape=_STARTED)

    @property
    def end(self) -> dict[str, Any] | None:
        """The attempt's own completion record."""
        return records.read(self.directory / "end.json", shape=_END)

    @property
    def progress(self) -> dict[str, Any] | None:
        """How far the program says it is."""
        return records.read(self.scratch / "progress.json", shape=_PROGRESS)

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of each file of its outputs, by output; empty where that cannot be read."""
        path = self.directory / "manifest.json"
        record = records.read(path) or {}
        if all(map(of_shape(_DESCRIBED), record.values())):
            return record
        records.tell(Trouble(path, "is damaged: it does not describe outputs"))
        return {}

    @property
    def is_current(self) -> bool:
        """Whether this attempt still owns the run."""
        return not os.path.lexists(Attempt(self.run, self.number + 1)._claim)

    @property
    def alone(self) -> Path:
        """Exists where no job waits for the attempt's end: the attempt itself then submits what waits in the store."""
        return self.directory / "alone"

    def request_cancel(self, by: ProcessIdentity) -> None:
        """Ask the attempt to stop; it looks for this every second.

        Raises
        ------
        MllamError
            If it is a colleague's.
        """
        try:
            records.replace(self.directory / "cancel.json", by.to_record() | {"time": time.time()})
        except PermissionError as error:
            owner = ownership.owner_of(self.directory)
            why = f"it is {owner}'s, and nobody else can stop it"
            raise MllamError("cannot be stopped", str(self.directory), why, f"ask {owner}") from error
        except FileNotFoundError as error:
            raise MllamError("cannot be asked to stop", str(self.directory), "its directory is gone") from error

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the attempt to stop."""
        return os.path.lexists(self.directory / "cancel.json")

    def check_ours(self) -> None:
        """Refuse to do what others may have written into its directory.

        Raises
        ------
        MllamError
            If the directory, or what is read there, is another user's, or others may write to it.
        """
        way_out = f"ask {ownership.owner_of(self.directory)} what that is; mllam-exps retry or submit starts another"
        for place in (self.directory, self.directory / "spec.json", self.directory / "job.sh"):
            if place.name != "job.sh" or os.path.lexists(place):
                ownership.check(place, way_out)


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
        """Return the time by the file system's own clock: those of hosts differ by minutes."""
        return records.now(self.directory)

    @property
    def begun_at(self) -> float:
        """When it was defined, by the file system's clock."""
        try:
            return os.lstat(self.directory / "run.json").st_mtime
        except OSError:
            return 0.0

    @property
    def definition(self) -> dict[str, Any] | None:
        """What defines the run, or None where nobody has begun it; one that is another run's is told, and none.

        It is for readers, and not what is executed: anybody may have written it.
        """
        from mllam_exps.definition import KEY_FORMAT, RunDefinition

        path = self.directory / "run.json"
        record = records.read(path)
        if record is None or self.directory.parent.name != "runs":
            return record
        try:
            RunDefinition.from_record(record, self.key)
        except MllamError as error:
            # An earlier version made keys in another way: nobody can tell any more.
            if record.get("key_format") == KEY_FORMAT:
                records.tell(Trouble(path, f"{error.what}, and is not believed: {error.why}"))
            return None
        return record

    @property
    def result(self) -> dict[str, Any] | None:
        """The proven result, or None; one without its files is none."""
        record = records.read(self.directory / "result.json", shape=_RESULT)
        if record is None:
            return None
        if lost := self._lost(record):
            records.tell(lost)
            return None
        return record

    def _lost(self, result: dict[str, Any]) -> Trouble | None:
        """Say what is missing of a result that is written down."""
        if self.directory.parent.name != "runs":
            # The saving of an experiment: its result is a commit.
            return None if result.get("commit") else Trouble(self.directory / "result.json", "names no commit")
        attempt = Attempt(self, result["attempt"])
        if os.path.isfile(attempt.directory / "manifest.json"):  # noqa: PTH113 - Path raises where it may not look
            return None
        records.look_afresh(attempt.directory)
        found = records.look(attempt.directory / "manifest.json")
        if isinstance(found, dict):
            return None
        if isinstance(found, Trouble):
            return found
        what = "which is gone" if attempt.is_gone else "whose manifest.json is gone"
        return Trouble(self.directory / "result.json", f"names attempt {attempt.number}, {what}")

    @property
    def damage(self) -> Trouble | None:
        """What is wrong with a result that is written down, and is none; None where there is a good one, or none."""
        found = records.look(self.directory / "result.json", shape=_RESULT)
        return self._lost(found) if isinstance(found, dict) else found

    def begin(self, definition: Mapping[str, Any]) -> None:
        """Make the run's directory and write down what defines it, unless that is done."""
        records.folder(self.directory / "attempts", STICKY)
        records.folder(self.directory / "waiters")
        if self.definition is None:
            records.replace(self.directory / "run.json", dict(definition), flush=False)

    def want(self, identity: str) -> None:
        """Note that an experiment waits for the result."""
        # Without the note it is saved by a job of its own, later.
        with contextlib.suppress(OSError):
            records.touch(records.folder(self.directory / "wanted") / identity)

    @property
    def wanted(self) -> list[str]:
        """The experiments that have waited for it, by identity; some may be gone."""
        return list(records.entries(self.directory / "wanted"))

    def attempts(self) -> list[Attempt]:
        """Return the attempts, oldest first."""
        claims = filter(None, map(_CLAIM.fullmatch, records.entries(self.directory / "attempts")))
        return [Attempt(self, n) for n in sorted(int(claim[1]) for claim in claims)]

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
        records.folder(self.directory / "attempts", STICKY)
        if not records.create(attempt._claim, claim):
            return None
        self._set_damage_aside(number)
        attempt._make_directory()
        for folder, mode in ((attempt.work, ownership.PRIVATE), (attempt.scratch, ownership.OWN)):
            if working_directory is None:
                folder.mkdir(mode)
            else:
                elsewhere = working_directory / f"{self.key}-{number}-{uuid.uuid4().hex[:8]}-{folder.name}"
                working_directory.mkdir(parents=True, exist_ok=True)
                elsewhere.mkdir(mode)
                folder.symlink_to(elsewhere)
        return attempt

    def _set_damage_aside(self, number: int) -> None:
        """Put a result aside that is none: attempt `number` makes it again, and is what counts from now on."""
        if self.damage is not None and self.result is None:
            with contextlib.suppress(OSError):
                (self.directory / "result.json").rename(self.directory / f"result-damaged-before-{number}.json")

    def wait_here(self, identity: ProcessIdentity) -> Waiter:
        """Register a driver that waits for this run."""
        return Waiter(self.directory / "waiters" / f"{identity.host}.{identity.pid}.json", identity)

    def other_waiters(self, identity: ProcessIdentity) -> list[ProcessIdentity]:
        """Return the drivers, other than `identity`, that wait for this run.

        One on another host cannot be seen from here. It counts while its record is fresh: drivers rewrite theirs each
        minute, so an older one is left over.
        """
        waiters = []
        for name in records.entries(self.directory / "waiters"):
            path = self.directory / "waiters" / name
            record = records.read(path, shape=_PROCESS) if name.endswith(".json") and name[0] != "." else None
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
        return os.lstat(path).st_mtime
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
        if not is_key(key):
            raise ValueError(f"not a run key: {key!r}")
        return Run(self.directory / "runs" / key)

    def runs(self) -> Iterator[Run]:
        """Yield every run that has been begun."""
        for name in records.entries(self.directory / "runs"):
            if KEY.fullmatch(name):
                run = Run(self.directory / "runs" / name)
                try:
                    os.lstat(run.directory / "run.json")
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    records.tell(Trouble(run.directory, f"cannot be looked into ({error.strerror})", hidden=True))
                    continue
                yield run
