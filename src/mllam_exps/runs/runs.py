"""One run, as the run store keeps it: what defines it, its attempts, its result, and who waits for it (`store`)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import PROCESS, ProcessIdentity
from mllam_exps.base.records import Trouble
from mllam_exps.identity.run_keys import stage_of
from mllam_exps.runs import shapes
from mllam_exps.runs.attempts import Attempt

_CLAIM = re.compile(r"([1-9][0-9]*)\.json")


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
        return stage_of(self.key)

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
        from mllam_exps.identity.definition import KEY_FORMAT, RunDefinition

        path = self.directory / "run.json"
        record = records.read(path)
        if record is None or self.directory.parent.name != "runs":
            return record
        try:
            RunDefinition.from_record(record, self.key)
        except MllamError as error:
            # An earlier version made keys in another way: nobody can tell any more.
            if record.get("key_format") == KEY_FORMAT:
                records.tell(
                    Trouble(path, f"{error.what}, and is not believed: {error.why}")
                )
            return None
        return record

    @property
    def result(self) -> dict[str, Any] | None:
        """The proven result, or None; one without its files is none."""
        record = records.read(self.directory / "result.json", shape=shapes.RESULT)
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
            return (
                None
                if result.get("commit")
                else Trouble(self.directory / "result.json", "names no commit")
            )
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
        return Trouble(
            self.directory / "result.json", f"names attempt {attempt.number}, {what}"
        )

    @property
    def damage(self) -> Trouble | None:
        """What is wrong with a result that is written down, and is none; None where there is a good one, or none."""
        found = records.look(self.directory / "result.json", shape=shapes.RESULT)
        return self._lost(found) if isinstance(found, dict) else found

    def begin(self, definition: Mapping[str, Any]) -> None:
        """Make the run's directory and write down what defines it, unless that is done."""
        records.folder(self.directory / "attempts", ownership.STICKY)
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
        claims = filter(
            None, map(_CLAIM.fullmatch, records.entries(self.directory / "attempts"))
        )
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
        self,
        number: int,
        *,
        scheduler: str,
        experiment: str,
        workspace: Path,
        working_directory: Path | None,
    ) -> Attempt | None:
        """Claim attempt `number`; None if somebody else did.

        With a `working_directory` (a faster file system, say) the attempt works there,
        and its directory in the store points to it.

        The job name is written down before anything is submitted, so that a job whose
        submitter died, or whose submission "failed" although the job runs, is found by
        its name.
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
        records.folder(self.directory / "attempts", ownership.STICKY)
        if not records.create(attempt._claim, claim):
            return None
        self._set_damage_aside(number)
        attempt._make_directory()
        for folder, mode in (
            (attempt.work, ownership.PRIVATE),
            (attempt.scratch, ownership.OWN),
        ):
            if working_directory is None:
                folder.mkdir(mode)
            else:
                elsewhere = (
                    working_directory
                    / f"{self.key}-{number}-{uuid.uuid4().hex[:8]}-{folder.name}"
                )
                working_directory.mkdir(parents=True, exist_ok=True)
                elsewhere.mkdir(mode)
                folder.symlink_to(elsewhere)
        return attempt

    def _set_damage_aside(self, number: int) -> None:
        """Put a result aside that is none: attempt `number` makes it again, and is what counts from now on."""
        if self.damage is not None and self.result is None:
            with contextlib.suppress(OSError):
                self.put_aside(
                    f"result-damaged-before-{number}.json", lambda: self.result is None
                )

    def put_aside(self, name: str, is_meant: Callable[[], bool]) -> bool:
        """Rename what stands in ``result.json``, and return whether it was what is meant.

        Another may have put that aside since somebody looked, and the run was made
        again: that result comes back. A process that is killed here leaves the one file
        under the one name or the other, whole.

        Parameters
        ----------
        name : str
            Its new name.
        is_meant : callable
            Looks at ``result.json`` once more, and tells whether that is it.
        """
        result, aside = self.directory / "result.json", self.directory / name
        before = os.lstat(result) if os.path.lexists(result) else None
        if before is None or not is_meant():
            return False
        result.rename(aside)
        now = os.lstat(aside)
        if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino):
            return True
        with contextlib.suppress(FileExistsError):
            os.link(aside, result, follow_symlinks=False)
        aside.unlink()
        return False

    def set_aside(self) -> None:
        """Make a known result unknown. Its files stay where they are; the next attempt starts from nothing."""
        self.put_aside(
            f"result-until-attempt-{self.next_number - 1}.json", lambda: True
        )
        for attempt in self.attempts():
            # Through a directory that others write to, we could be led anywhere.
            if attempt.end is not None and ownership.is_ours_alone(attempt.directory):
                shutil.rmtree(attempt.scratch, ignore_errors=True)

    def wait_here(self, identity: ProcessIdentity) -> Waiter:
        """Register a driver that waits for this run."""
        return Waiter(
            self.directory / "waiters" / f"{identity.host}.{identity.pid}.json",
            identity,
        )

    def other_waiters(self, identity: ProcessIdentity) -> list[ProcessIdentity]:
        """Return the drivers, other than `identity`, that wait for this run.

        One on another host cannot be seen from here. It counts while its record is
        fresh: drivers rewrite theirs each minute, so an older one is left over.
        """
        waiters = []
        for name in records.entries(self.directory / "waiters"):
            path = self.directory / "waiters" / name
            record = (
                records.read(path, shape=PROCESS)
                if name.endswith(".json") and name[0] != "."
                else None
            )
            if record is None:
                continue
            other = ProcessIdentity.from_record(record)
            alive = other.alive()
            if alive is None:
                # By the file system's clock: those of hosts differ.
                alive = (
                    self.now() - records.changed_at(path) < 3 * Waiter.REFRESH_SECONDS
                )
            if alive and other != identity:
                waiters.append(other)
        return waiters


@dataclass
class Waiter:
    """The record of a driver that waits; a context manager."""

    REFRESH_SECONDS = 60.0

    path: Path
    identity: ProcessIdentity
    refreshed: float = 0.0

    def refresh(self) -> None:
        """Say that we still wait, for hosts that cannot see our process."""
        if (
            time.monotonic() - self.refreshed > self.REFRESH_SECONDS
            or not self.refreshed
        ):
            records.replace(
                self.path, self.identity.to_record() | {"seen": time.time()}
            )
            self.refreshed = time.monotonic()

    def __enter__(self) -> Waiter:
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
