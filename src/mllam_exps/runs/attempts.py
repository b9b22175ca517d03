"""One attempt at a run, as the run store keeps it: a claim, and a directory in which nobody else writes (`store`)."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps import schedulers
from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.base.records import Trouble, of_shape, text
from mllam_exps.runs import shapes

if TYPE_CHECKING:
    from mllam_exps.runs.runs import Run


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
            aside = self.directory.with_name(
                f"{self.number}-before-{uuid.uuid4().hex[:8]}"
            )
            try:
                self.directory.rename(aside)
            except OSError as error:
                place, why = (
                    str(self.directory),
                    f"it belongs to {ownership.owner_of(self.directory)}",
                )
                raise MllamError(
                    "is in the way", place, why, "start it again: it takes another"
                ) from error
            self.directory.mkdir(ownership.OWN)

    def remove_elsewhere(self) -> None:
        """Remove what it has on another file system: a link there is followed only if nobody else can have made it."""
        if ownership.is_ours_alone(self.directory):
            for folder in (self.work, self.tree, self.scratch):
                if folder.is_symlink() and not folder.resolve().is_relative_to(
                    self.directory.resolve()
                ):
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
    def debug_log(self) -> Path:
        """What the attempt's own process decided, asked and waited for (`base.logs`)."""
        return self.directory / "debug.log"

    @property
    def heartbeat(self) -> Path:
        """Touched by the attempt every few seconds, for hosts that cannot see its process."""
        return self.directory / "heartbeat"

    @property
    def claim(self) -> dict[str, Any] | None:
        """Who claimed the attempt; None where that cannot be read any more."""
        return records.read(self._claim, shape=shapes.CLAIMED)

    @property
    def owner(self) -> str:
        """Whose claim it is: by its file's owner, whatever stands in it."""
        return ownership.owner_of(self._claim)

    def is_claimed_by_its_owner(self, pid: int) -> bool:
        """Tell whether a living process on this host is of the user whose file the claim is."""
        try:
            return os.lstat(self._claim).st_uid == os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - no place of ours
        except OSError:
            return (
                True  # no such file system, or it has ended just now: nothing is known
            )

    @property
    def _claim(self) -> Path:
        return self.run.directory / "attempts" / f"{self.number}.json"

    @property
    def hidden(self) -> Trouble | None:
        """Why nobody can tell from here how it is: its records are others' to read, or a newer version's."""
        for path, shape in (
            (self._claim, shapes.CLAIMED),
            (self.directory / "end.json", shapes.END),
        ):
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
        return records.changed_at(self._claim)

    @property
    def started_at(self) -> float:
        """When it started, by the same clock: those of hosts differ by minutes."""
        return records.changed_at(self.directory / "started.json")

    @property
    def ended_at(self) -> float:
        """When its end was written down, by the same clock."""
        return records.changed_at(self.directory / "end.json")

    @property
    def heard_of_at(self) -> float:
        """When it gave its last sign of life, by the same clock."""
        return records.changed_at(self.heartbeat)

    @property
    def uncertain(self) -> dict[str, Any] | None:
        """What was said when nobody knew whether the scheduler had accepted its job."""
        return records.read(self.directory / "uncertain.json", shape={"why": text})

    @property
    def job(self) -> dict[str, Any] | None:
        """What the scheduler answered, once it did."""
        scheduler = (self.claim or {}).get("scheduler")
        shape = schedulers.record_shape(str(scheduler))
        return records.read(self.directory / "job.json", shape=shape) or None

    @property
    def started(self) -> dict[str, Any] | None:
        """The attempt's own record of its start."""
        return records.read(self.directory / "started.json", shape=shapes.STARTED)

    @property
    def end(self) -> dict[str, Any] | None:
        """The attempt's own completion record."""
        return records.read(self.directory / "end.json", shape=shapes.END)

    @property
    def progress(self) -> dict[str, Any] | None:
        """How far the program says it is."""
        return records.read(self.scratch / "progress.json", shape=shapes.PROGRESS)

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of each file of its outputs, by output; empty where that cannot be read."""
        path = self.directory / "manifest.json"
        record = records.read(path) or {}
        if all(map(of_shape(shapes.DESCRIBED), record.values())):
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
            records.replace(
                self.directory / "cancel.json", by.to_record() | {"time": time.time()}
            )
        except PermissionError as error:
            owner = ownership.owner_of(self.directory)
            why = f"it is {owner}'s, and nobody else can stop it"
            raise MllamError(
                "cannot be stopped", str(self.directory), why, f"ask {owner}"
            ) from error
        except FileNotFoundError as error:
            raise MllamError(
                "cannot be asked to stop", str(self.directory), "its directory is gone"
            ) from error

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the attempt to stop."""
        return os.path.lexists(self.directory / "cancel.json")

    def check_ours(self) -> None:
        """Refuse to do what others may have written into its directory.

        Raises
        ------
        MllamError
            If the directory, or what is read there, is another user's, or others may
            write to it.
        """
        way_out = f"ask {ownership.owner_of(self.directory)} what that is; mllam-exps retry or submit starts another"
        for place in (
            self.directory,
            self.directory / "spec.json",
            self.directory / "job.sh",
        ):
            if place.name != "job.sh" or os.path.lexists(place):
                ownership.check(place, way_out)
