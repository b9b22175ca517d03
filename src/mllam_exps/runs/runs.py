"""One run, as the run store keeps it, with its attempts: claiming one, and making a known result unknown."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import ownership, records
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.runs import layout, waiters
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.directory import RunDirectory
from mllam_exps.runs.records import Claim
from mllam_exps.runs.waiters import Waiter


@dataclass(frozen=True)
class Run(RunDirectory):
    """One stage's work for one set of inputs."""

    def attempts(self) -> list[Attempt]:
        """Return the attempts, oldest first."""
        names = records.entries(self.directory / layout.ATTEMPTS)
        numbers = [n for name in names if (n := layout.claimed(name)) is not None]
        return [Attempt(self, number) for number in sorted(numbers)]

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
        records.folder(self.directory / layout.ATTEMPTS, ownership.STICKY)
        if not records.create(attempt.claim_file, claim.to_record()):
            return None
        self._set_damage_aside(number)
        attempt.make_directories(working_directory)
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
            # Through a directory that others write to, we could be led anywhere.
            if attempt.ended is not None and ownership.is_ours_alone(attempt.directory):
                shutil.rmtree(attempt.scratch, ignore_errors=True)

    def wait_here(self, identity: ProcessIdentity) -> Waiter:
        """Register a process that waits for this run."""
        return Waiter.at(self, identity)

    def other_waiters(self, identity: ProcessIdentity) -> list[ProcessIdentity]:
        """Return the processes, other than `identity`, that wait for this run."""
        return waiters.others(self, identity)
