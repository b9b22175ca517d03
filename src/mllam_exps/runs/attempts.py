"""One attempt at a run, as the run store keeps it: a claim, and a directory in which nobody else writes (`store`)."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps import schedulers
from mllam_exps.base import ownership, records, tidying
from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import CheckFailed, MllamError, Problem
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.base.records import Trouble
from mllam_exps.identity.content import Described
from mllam_exps.runs import layout
from mllam_exps.runs.directory import RunDirectory
from mllam_exps.runs.records import (
    CancelRequest,
    Claim,
    Doubt,
    End,
    Outcome,
    Progress,
    Started,
)
from mllam_exps.runs.results import Contents, SetAside
from mllam_exps.schedulers import Job, Scheduler
from mllam_exps.stages.contract import SAVE_AND_END
from mllam_exps.stages.programs.telling import PROGRESS

_TEMPORARY = (layout.WORK, layout.TREE, layout.SCRATCH)

_LET_GO: set[Path] = set()
"""The claims of this process that it will submit nothing for."""


@dataclass(frozen=True)
class Attempt:
    """One try at a run."""

    run: RunDirectory
    number: int

    # Where things are.

    @property
    def directory(self) -> Path:
        """The attempt's own directory; nobody else writes there."""
        return self.run.directory / layout.ATTEMPTS / str(self.number)

    @property
    def claim_file(self) -> Path:
        """Where its claim is; it is created by one writer only."""
        return self.run.directory / layout.ATTEMPTS / layout.claim(self.number)

    @property
    def work(self) -> Path:
        """The program's working directory."""
        return self.directory / layout.WORK

    @property
    def tree(self) -> Path:
        """The git repository that the working directory is a folder of, where it is one (`work_in`)."""
        return self.directory / layout.TREE

    @property
    def top(self) -> Path:
        """The folder that the program works in as a whole: its tree, where it has one."""
        return self.tree if self.tree.exists() else self.work

    @property
    def scratch(self) -> Path:
        """What the program writes that is no output."""
        return self.directory / layout.SCRATCH

    @property
    def parent(self) -> Path:
        """What it goes on from that was made for another experiment; most often there is none."""
        return self.directory / layout.PARENT

    @property
    def outputs(self) -> Path:
        """What the attempt made, frozen."""
        return self.directory / layout.OUTPUTS

    @property
    def log(self) -> Path:
        """Everything that the attempt printed."""
        return self.directory / layout.LOG

    @property
    def debug_log(self) -> Path:
        """What the attempt's own process decided, asked and waited for (`base.logs`)."""
        return self.directory / layout.DEBUG_LOG

    @property
    def heartbeat(self) -> Path:
        """Touched by the attempt every few seconds, for hosts that cannot see its process."""
        return self.directory / layout.HEARTBEAT

    @property
    def reserve(self) -> Path:
        """Blocks of the disk that are kept for the record of its end."""
        return self.directory / layout.RESERVE

    @property
    def submits_what_waits(self) -> Path:
        """Exists where no job waits for the attempt's end: the attempt itself then submits what waits in the store."""
        return self.directory / layout.ALONE

    @property
    def ends_with(self) -> tuple[Path, Path]:
        """The files of which one is there once it is over: its own end, and the claim of the next attempt."""
        next_one = Attempt(self.run, self.number + 1)
        return self.directory / layout.END, next_one.claim_file

    # Its folders.

    def make_directories(self, working_directory: Path | None) -> None:
        """Make its directory, and in it, or in a `working_directory` elsewhere, the folders in which it works."""
        self._make_directory()
        modes = {self.work: ownership.PRIVATE, self.scratch: ownership.OWN}
        for folder, mode in modes.items():
            if working_directory is None:
                folder.mkdir(mode)
                continue
            name = f"{self.run.key}-{self.number}-{uuid.uuid4().hex[:8]}-{folder.name}"
            working_directory.mkdir(parents=True, exist_ok=True)
            (working_directory / name).mkdir(mode)
            folder.symlink_to(working_directory / name)

    def _make_directory(self) -> None:
        """Make the attempt's directory, which nobody else may write to; what lies in its place is put aside.

        Raises
        ------
        MllamError
            If it is a colleague's, and stays.
        """
        try:
            records.own_folder(self.directory)
        except FileExistsError:
            # Its claim was lost, to a purge of old files, say.
            name = f"{self.number}-before-{uuid.uuid4().hex[:8]}"
            try:
                self.directory.rename(self.directory.with_name(name))
            except OSError as error:
                raise MllamError(
                    "is in the way",
                    str(self.directory),
                    f"it belongs to {ownership.owner_of(self.directory)}",
                    "start it again: it takes another",
                ) from error
            records.own_folder(self.directory)

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

    def remove_elsewhere(self) -> None:
        """Remove what it has on another file system, where that is ours."""
        tidying.remove_elsewhere(self.directory, _TEMPORARY)

    def tidy(self) -> None:
        """Remove what a finished run needs no more, where that is ours; its outputs, logs and records stay."""
        self.remove_elsewhere()
        tidying.remove(self.directory, (*_TEMPORARY, layout.PARENT))

    def clear_what_was_laid_out(self) -> None:
        """Remove the folder in which its program was to work, where that is ours."""
        tidying.remove_elsewhere(self.directory, (layout.WORK,))
        tidying.remove(self.directory, (layout.WORK,))

    def forget_checkpoints(self) -> None:
        """Remove what its program left to go on from, where that is ours."""
        tidying.remove(self.directory, (layout.SCRATCH,))

    # Its claim.

    @property
    def claim(self) -> Claim | None:
        """Who claimed the attempt; None where that cannot be read any more."""
        return Claim.read(self.claim_file)

    @property
    def owner(self) -> str:
        """Whose claim it is: by its file's owner, whatever stands in it."""
        return ownership.owner_of(self.claim_file)

    @property
    def maker(self) -> str:
        """Whose work it is: by the owner of its directory, where that is there."""
        return self.owner if self.is_gone else ownership.owner_of(self.directory)

    def let_go(self) -> None:
        """Say that this process submits nothing more for its claim; where no end can be written, it alone knows."""
        _LET_GO.add(self.claim_file)

    @property
    def is_let_go(self) -> bool:
        """Whether this process has claimed it, and submits nothing for it any more."""
        return self.claim_file in _LET_GO

    def is_claimed_by_its_owner(self, pid: int) -> bool:
        """Tell whether a living process on this host is of the user whose file the claim is."""
        try:
            return os.lstat(self.claim_file).st_uid == os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - no place of ours
        except OSError:
            # No such file system, or it has ended just now: nothing is known.
            return True

    @property
    def scheduler(self) -> str:
        """The name of the scheduler that it was claimed for; where that cannot be read, of the one that asks nobody."""
        claim = self.claim
        return claim.scheduler if claim else "local"

    @property
    def is_current(self) -> bool:
        """Whether this attempt still owns the run."""
        return not os.path.lexists(self.ends_with[1])

    # What is written down of it.

    @property
    def hidden(self) -> Trouble | None:
        """Why nobody can tell from here how it is: its records are others' to read, or a newer version's."""
        for found in (
            Claim.look(self.claim_file),
            End.look(self.directory / layout.END),
        ):
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
        return records.changed_at(self.claim_file)

    @property
    def started_at(self) -> float:
        """When it started, by the same clock: those of hosts differ by minutes."""
        return records.changed_at(self.directory / layout.STARTED)

    @property
    def ended_at(self) -> float:
        """When its end was written down, by the same clock."""
        return records.changed_at(self.directory / layout.END)

    @property
    def heard_of_at(self) -> float:
        """When it gave its last sign of life, by the same clock."""
        return records.changed_at(self.heartbeat)

    @property
    def silent_seconds(self) -> float | None:
        """How long ago its heartbeat was, by the same clock; None without one."""
        try:
            return max(0.0, self.run.now() - self.heartbeat.stat().st_mtime)
        except OSError:
            return None

    @property
    def doubt(self) -> str:
        """What was said when nobody knew whether the scheduler had accepted its job."""
        doubt = Doubt.read(self.directory / layout.UNCERTAIN)
        return doubt.why if doubt else ""

    def job(self, scheduler: Scheduler) -> Job | None:
        """Return its job, as its submitter recorded it; None where that was not done."""
        record = self._job_record
        return scheduler.job(dict(record)) if record else None

    @property
    def has_job(self) -> bool:
        """Whether it is recorded what its scheduler answered."""
        return bool(self._job_record)

    @property
    def _job_record(self) -> Mapping[str, Any] | None:
        claim = self.claim
        shape = schedulers.record_shape(claim.scheduler) if claim else None
        return records.read(self.directory / layout.JOB, shape=shape)

    @property
    def started(self) -> Started | None:
        """The attempt's own record of its start."""
        return Started.read(self.directory / layout.STARTED)

    @property
    def ended(self) -> End | None:
        """The record of its end."""
        return End.read(self.directory / layout.END)

    @property
    def had_to_wait(self) -> bool:
        """Whether it ended since it was too early for it: nothing was done, and nothing is wrong."""
        return self.ended is not None and self.ended.outcome is Outcome.REFUSED

    @property
    def progress(self) -> Progress | None:
        """How far the program says it is."""
        return Progress.read(self.scratch / PROGRESS)

    @property
    def seconds_without_progress(self) -> float | None:
        """How long before its last heartbeat its program told how far it is; None where it has told nothing.

        Both times are those of the file system's clock.
        """
        progress = self.progress
        if progress is None or progress.total is None:
            return None  # what stands there is our own word
        written = records.changed_at(self.scratch / PROGRESS)
        return max(0.0, self.heard_of_at - written) if written else None

    @property
    def set_aside(self) -> SetAside | None:
        """Why its result was set aside, if it was."""
        name = layout.why_set_aside(self.number)
        return SetAside.read(self.run.directory / name)

    @property
    def manifest(self) -> Contents:
        """What is known of each file of its outputs; empty where that cannot be read."""
        return Contents.read(self.directory / layout.MANIFEST) or Contents()

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the attempt to stop."""
        return os.path.lexists(self.directory / layout.CANCEL)

    @property
    def others_link(self) -> Path | None:
        """A link of a colleague's where the next attempt would look for a checkpoint: it may lead to a file of ours."""
        if ownership.is_others_link(self.directory):
            return self.directory
        return ownership.others_link_in(self.scratch)

    # Writing it down.

    def check_mine(self) -> None:
        """Refuse to write or believe what stands in another's directory: a link may stand there, or any job's number.

        Raises
        ------
        PermissionError
            If it is there, and another's.
        """
        if not (self.is_gone or ownership.is_mine(self.directory)):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def have_it_submit_what_waits(self) -> None:
        """Tell it that no job waits for its end."""
        self.check_mine()
        records.touch(self.submits_what_waits)

    @property
    def inputs(self) -> Contents:
        """What was laid out for it to read.

        Raises
        ------
        CheckFailed
            If that is written down, and cannot be read: nobody could tell what it reads.
        """
        found = Contents.look(self.directory / layout.INPUTS)
        if isinstance(found, Trouble):
            what = "nobody can tell what its inputs are"
            way_out = "mllam-exps retry, submit or dvc exp run starts another attempt"
            raise CheckFailed(what, str(found.path), found.why, way_out)
        return found or Contents()

    def note_inputs(self, laid: Mapping[str, Described]) -> None:
        """Write down what was laid out, by path, beside what was before."""
        inputs = Contents({**self.inputs.by_path, **laid})
        place = self.directory / layout.INPUTS
        records.replace(place, inputs.to_record(), flush=False)

    def note_job(self, job: Job, *, flush: bool = True) -> None:
        """Write down what the scheduler answered."""
        records.replace(self.directory / layout.JOB, job.record, flush=flush)

    def note_doubt(self, why: str) -> None:
        """Write down that nobody knows whether the scheduler has accepted its job."""
        doubt = Doubt(why, time.time())
        records.replace(self.directory / layout.UNCERTAIN, doubt.to_record())

    @property
    def save_and_end(self) -> Path:
        """Is there once its program is to save what it has done, and end (`stages.contract`)."""
        return self.scratch / SAVE_AND_END

    def start(self, node: str | None) -> bool:
        """Write down that this process is the attempt; False if one was before."""
        started = Started(ProcessIdentity.of(), time.time(), node)
        path = self.directory / layout.STARTED
        return records.create(path, started.to_record())

    def note_progress(self, text: str) -> None:
        """Write down how far it is; how many epochs its program has done stays known (`continuation`)."""
        done = before.done if (before := self.progress) else None
        progress = Progress(text, done=done).to_record()
        records.replace(self.scratch / PROGRESS, progress)

    def end(
        self,
        outcome: Outcome,
        problem: Problem | None = None,
        by: str | None = None,
        cause: Cause | None = None,
    ) -> None:
        """Write down how it ended."""
        self.check_mine()
        end = End(outcome, problem or Problem(), time.time(), by, cause)
        records.replace(self.directory / layout.END, end.to_record())

    def request_cancel(self, by: ProcessIdentity) -> None:
        """Ask the attempt to stop; it looks for this every second. No other one follows it by itself.

        Raises
        ------
        MllamError
            If it is a colleague's.
        """
        request = CancelRequest(by, time.time()).to_record()
        try:
            self.check_mine()
            records.replace(self.directory / layout.CANCEL, request)
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

    def check_ours(self, held: Path | None = None) -> None:
        """Refuse to do what others may have written into its directory.

        Parameters
        ----------
        held : Path, optional
            The directory, held open (`beneath.held`).

        Raises
        ------
        MllamError
            If the directory, or what is read there, is another user's, or others may
            write to it.
        """
        way_out = f"ask {ownership.owner_of(self.directory)} what that is; mllam-exps retry or submit starts another"
        if held is None:
            ownership.check(self.directory, way_out)
        else:
            ownership.check_opened(held.stat(), self.directory, way_out)
        ownership.check((held or self.directory) / layout.SPEC, way_out)
        script = (held or self.directory) / layout.SCRIPT
        if os.path.lexists(script):
            ownership.check(script, way_out)
