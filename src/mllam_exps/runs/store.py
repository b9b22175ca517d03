"""The run store: one directory a run, named by its key, readable with ``cat`` (`layout`).

Claims and results are created by one writer only (`records.create`). An attempt is
*current* while there is no claim with a higher number. That is the fencing token: who
is not current any more stops, and nothing that it writes counts, because every attempt
writes to a directory of its own and only a current one settles the run.

The folders of a run are the team's; an attempt's own belongs to who claimed it, and
nobody else writes there. So what is executed comes from there (`spec`), and never from
``run.json``, which anybody may have written.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import ownership, records
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.base.records import Trouble
from mllam_exps.identity.run_keys import is_key
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.directory import RunDirectory
from mllam_exps.runs.records import Claim, Waiting

MOST_LOST = 1000
"""Of so many claims, one behind the other, the files may be gone; nobody has tried anything as often."""


@dataclass
class Waiter:
    """The record of a process that waits for a run: nobody stops what others wait for. A context manager."""

    REFRESH_SECONDS = 60.0

    path: Path
    identity: ProcessIdentity
    refreshed: float = 0.0

    @classmethod
    def at(cls, run: RunDirectory, identity: ProcessIdentity) -> Waiter:
        """Return the waiter that a process is at a run."""
        name = f"{identity.host}.{identity.pid}.json"
        return cls(run.directory / layout.WAITERS / name, identity)

    def refresh(self) -> None:
        """Say that we still wait, for hosts that cannot see our process."""
        passed = time.monotonic() - self.refreshed
        if passed > self.REFRESH_SECONDS or not self.refreshed:
            record = Waiting(self.identity, time.time()).to_record()
            records.replace(self.path, record)
            self.refreshed = time.monotonic()

    def __enter__(self) -> Waiter:
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def _other_waiters(
    run: RunDirectory, identity: ProcessIdentity
) -> list[ProcessIdentity]:
    """Return the processes, other than `identity`, that wait for a run.

    One on another host cannot be seen from here. It counts while its record is fresh:
    each rewrites its own every minute, so an older one is left over.
    """
    found = []
    for name in records.entries(run.directory / layout.WAITERS):
        path = run.directory / layout.WAITERS / name
        if not name.endswith(".json") or name.startswith("."):
            continue
        if (record := Waiting.read(path)) is None:
            continue
        alive = record.process.alive()
        if alive is None:
            # By the file system's clock: those of hosts differ.
            age = run.now() - records.changed_at(path)
            alive = age < 3 * Waiter.REFRESH_SECONDS
        if alive and record.process != identity:
            found.append(record.process)
    return found


@dataclass(frozen=True)
class Run(RunDirectory):
    """One stage's work for one set of inputs: its directory in the store, with its attempts."""

    def attempts(self) -> list[Attempt]:
        """Return the attempts, oldest first."""
        if led := self.led_away:
            records.tell(led)
            return []
        names = records.entries(self._attempts)
        numbers = [layout.claimed(name) for name in names]
        found: list[Attempt] = []
        for number in sorted(number for number in numbers if number is not None):
            # A colleague's file may have any name; behind the last number nobody could
            # claim another.
            if number > MOST_LOST + (found[-1].number if found else 0):
                break
            found.append(Attempt(self, number))
        return found

    def last_attempt(self) -> Attempt | None:
        """Return the newest attempt: the only one that may still write."""
        attempts = self.attempts()
        return attempts[-1] if attempts else None

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
        stage = self.key.rsplit("-", 1)[0]
        claim = Claim(
            claimed_by=ProcessIdentity.of(),
            experiment=experiment,
            job_name=f"{experiment}/{stage}-{uuid.uuid4().hex[:8]}",
            scheduler=scheduler,
            time=time.time(),
            number=number,
            uid=os.getuid(),
            workspace=str(workspace),
        )
        attempt = Attempt(self, number)
        self.make()
        if not records.create(attempt.claim_file, claim.to_record()):
            return None
        try:
            self._set_damage_aside(number)
            attempt.make_directories(working_directory)
        except BaseException:
            attempt.let_go()
            raise
        return attempt

    def _set_damage_aside(self, number: int) -> None:
        """Put a result aside that is none: attempt `number` makes it again, and is what counts from now on."""
        if self.damage is not None and self.result is None:
            with contextlib.suppress(OSError):
                name = layout.result_of_no_worth(number)
                self.put_aside(name, lambda: self.result is None)

    def set_aside(self) -> None:
        """Make a known result unknown. Its files stay where they are; the next attempt starts from nothing."""
        self.put_aside(layout.result_until(self.next_number - 1), lambda: True)
        for attempt in self.attempts():
            if attempt.ended is not None:
                attempt.forget_checkpoints()

    def wait_here(self, identity: ProcessIdentity) -> Waiter:
        """Register a process that waits for this run."""
        return Waiter.at(self, identity)

    def other_waiters(self, identity: ProcessIdentity) -> list[ProcessIdentity]:
        """Return the processes, other than `identity`, that wait for this run."""
        return _other_waiters(self, identity)


@dataclass(frozen=True)
class RunStore:
    """A folder on the shared file system, one directory a run."""

    directory: Path

    def folder(self, name: str) -> Path:
        """Make a folder of the team's in it: each removes and renames only what is theirs."""
        records.folder(self.directory, ownership.STICKY)
        return records.folder(self.directory / name, ownership.STICKY)

    def run(self, key: str) -> Run:
        """Return the run of that key, which need not exist yet.

        Raises
        ------
        ValueError
            If `key` is no run key: it becomes part of a path.
        """
        if not is_key(key):
            raise ValueError(f"not a run key: {key!r}")
        return Run(self.directory / layout.RUNS / key)

    def runs(self) -> Iterator[Run]:
        """Yield every run that has been begun."""
        for name in records.entries(self.directory / layout.RUNS):
            if is_key(name):
                run = Run(self.directory / layout.RUNS / name)
                if led := run.led_away:
                    records.tell(led)
                    continue
                try:
                    os.lstat(run.directory / layout.DEFINITION)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    records.tell(
                        Trouble(
                            run.directory,
                            f"cannot be looked into ({error.strerror})",
                            hidden=True,
                        )
                    )
                    continue
                yield run
