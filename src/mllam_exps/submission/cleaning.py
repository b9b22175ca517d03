"""What may be deleted from a run store, and what each of it takes.

An experiment that failed or was cancelled may go, and so may one that was saved, if
nothing in its repository has it any more. Its runs go with it, unless another
experiment, a living run or a waiting command needs them, or a ``dvc.lock`` of any
commit names what they made. Runs that `dvc exp run` made stay, unless they have no
result.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mllam_exps.attempts import unsent
from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.git import git
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.repository import clones
from mllam_exps.runs import layout
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.applying import has_commit, is_in_git
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.staying import Staying

LEFT_BEHIND = 24 * 3600.0
"""Seconds after which nobody builds or deletes any more what was begun then."""
GONE = ".gone-"
"""How the name of what is being deleted begins."""


@dataclass(frozen=True)
class Selection:
    """What the user asks to be cleaned.

    Parameters
    ----------
    origin : str
        The DVC repository whose experiments are meant, beside those whose repository
        is gone.
    names : list of str
        Only these experiments, by name or identity, and their runs; all if none is
        named.
    failed : bool
        Only what failed or was cancelled.
    older_than : float
        Seconds since something last happened.
    asked : frozenset of str
        The runs that those of the named experiments asked for that were not submitted:
        `dvc exp run` ran them.
    """

    origin: str
    names: list[str]
    failed: bool = False
    older_than: float = 0.0
    asked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Candidate:
    """Something that may be deleted.

    Parameters
    ----------
    run : Run
        The run, or the saving of the experiment, that it is; all of its directory may
        go.
    what, why : str
        For people.
    age : float
        Seconds since something last happened to it.
    size : int
        Bytes that become free: files with other names elsewhere (DVC's cache) do not
        count.
    """

    run: Run
    what: str
    why: str
    age: float
    size: int

    @property
    def directory(self) -> Path:
        """All of it."""
        return self.run.directory

    def to_record(self) -> dict[str, str | int]:
        """Return the JSON-able record for programs."""
        path = str(self.directory)
        return {"what": self.what, "why": self.why, "bytes": self.size, "path": path}


def candidates(
    store: RunStore, selection: Selection, staying: Staying | None = None
) -> Iterator[Candidate]:
    """Yield what may go: experiments of one repository, and runs that nobody needs then.

    Parameters
    ----------
    staying : Staying, optional
        Is told of what does not go.
    """
    return _Look(store, selection, staying or Staying()).candidates()


class _Look:
    """One look at a run store for what may go."""

    def __init__(self, store: RunStore, selection: Selection, staying: Staying) -> None:
        self.store = store
        self.staying = staying
        self.selection = selection
        self.origin = Path(selection.origin)
        # What needs a run, where that cannot be told?
        found = records.listing(experiments.folder(store))
        if isinstance(found, records.Trouble):
            what = (
                "nobody can tell what is needed by experiments, and nothing is deleted"
            )
            way_out = f"have {ownership.owner_of(found.path)} put that right"
            raise MllamError(what, str(found.path), f"it {found.why}", way_out)
        self.experiments = list(experiments.of_store(store))
        self.unreadable = experiments.unreadable(store)

    def candidates(self) -> Iterator[Candidate]:
        names, failed = self.selection.names, self.selection.failed
        if not failed:
            yield from self._damaged()
        going: list[Experiment] = []
        for experiment in self.experiments:
            if not self._is_meant(experiment):
                self.staying.note_not_meant(experiment, self.selection.origin)
                continue
            why, what = self._why(experiment), f"experiment {experiment.name}"
            if candidate := self._candidate(experiment.saving, what, why):
                going.append(experiment)
                yield candidate
            else:
                self.staying.note(experiment, is_young=bool(why))
        yield from self._runs(going)
        if not (names or failed):
            yield from leftovers(
                self.store, max(self.selection.older_than, LEFT_BEHIND)
            )

    def _candidate(self, run: Run, what: str, why: str) -> Candidate | None:
        """Return something that may go; None without a reason why, or if it is younger than was asked for."""
        if not why:
            return None
        age = _age(run)
        if age < self.selection.older_than:
            return None
        if unsent.has(run):
            why += "; not all that it logged was sent: mllam-exps track sync"
        return Candidate(run, what, why, age, _size(run.directory))

    def _damaged(self) -> Iterator[Candidate]:
        """Yield this user's experiments whose record is damaged, so that nobody can do anything with them."""
        names = self.selection.names
        for directory in self.unreadable:
            if names and directory.name not in names:
                continue
            record = records.look(directory / layout.DEFINITION)
            hidden = isinstance(record, records.Trouble) and record.hidden
            if hidden or not ownership.is_mine(directory):
                continue
            why = "its run.json is damaged" if record else "its run.json is gone"
            what = f"experiment {directory.name}"
            if candidate := self._candidate(Run(directory), what, why):
                yield candidate

    def _is_meant(self, experiment: Experiment) -> bool:
        """Tell whether an experiment is this user's, of this repository or of one that is gone, and was named."""
        names = self.selection.names
        if not experiment.is_mine:
            return False
        if names and {*names}.isdisjoint({experiment.name, experiment.identity}):
            return False
        if experiment.origin == self.selection.origin:
            return True
        return _is_gone(experiment.origin, named=bool(names))

    def _why(self, experiment: Experiment) -> str:
        """Return why an experiment may go; nothing where it may not."""
        state = assess(experiment.saving).state
        if state is RunState.DONE:
            return "" if self.selection.failed else self._why_saved(experiment)
        if any(assess(run).state.living for run in experiment.runs.values()):
            return ""
        if state.stopped:
            return str(state)
        if self.selection.failed or state.living:
            return ""
        return self._why_gone(experiment)

    def _why_saved(self, experiment: Experiment) -> str:
        """Return why an experiment that was saved may go; nothing where it may not."""
        if why := self._why_gone(experiment):
            return why
        if is_in_git(experiment):
            return ""
        for other in self.experiments:
            if (
                other.unique_name == experiment.unique_name
                and other.created > experiment.created
            ):
                return f"replaced by a newer {experiment.name}"
        return f"removed from {experiment.origin}"

    def _why_gone(self, experiment: Experiment) -> str:
        """Return that the repository of an experiment is gone; nothing where it is there, or was moved to here."""
        if not _is_gone(experiment.origin, named=True):
            return ""
        if has_commit(self.origin, experiment):
            return ""
        return f"its repository {experiment.origin} is gone"

    def _runs(self, going: list[Experiment]) -> Iterator[Candidate]:
        """Yield the runs that nobody needs once some experiments are gone."""
        needed, concerned = _read_by_living(self.store), set[str]()
        for experiment in self.experiments:
            keys = {step.key for step in experiment.steps}
            if experiment in going:
                concerned |= keys
            else:
                needed |= keys
        unreadable = {directory.name for directory in self.unreadable}
        for run in self.store.runs():
            if run.key in needed or not unreadable.isdisjoint(run.wanted):
                self.staying.note_needed()
                continue
            submitted = run.key in concerned
            why = self._why_run(run, concerned=submitted)
            if candidate := self._candidate(run, f"run {run.key}", why):
                yield candidate
            else:
                self.staying.note_run(run, is_young=bool(why), submitted=submitted)

    def _why_run(self, run: Run, *, concerned: bool) -> str:
        """Return why a run that no experiment needs may go; nothing where it may not.

        Parameters
        ----------
        concerned : bool
            Whether it is of an experiment that goes; else `dvc exp run` made it.
        """
        is_named = concerned or run.key in self.selection.asked
        if self.selection.names and not is_named:
            return ""
        state = assess(run).state
        if state.living or run.other_waiters(ProcessIdentity.of()):
            return ""
        if not ownership.is_mine(run.directory):
            return ""
        if state is not RunState.DONE:
            return f"{state}, no result"
        if self.selection.failed or not concerned or _digests(run) & self._in_git:
            return ""
        return "nothing needs it"

    @cached_property
    def _in_git(self) -> set[str]:
        return _digests_in_git(self.origin)


def _is_gone(origin: str, *, named: bool) -> bool:
    """Tell whether a repository was deleted; one whose file system is not mounted was not, as far as that can be told.

    Parameters
    ----------
    named : bool
        Whether the user named an experiment of it, and so knows.
    """
    place = Path(origin)
    return not os.path.lexists(place) and (named or place.parent.is_dir())


def _is_alive(run: Run) -> bool:
    """Tell whether somebody works on a run, or waits for it."""
    return assess(run).state.living or bool(run.other_waiters(ProcessIdentity.of()))


def _read_by_living(store: RunStore) -> set[str]:
    """Return the runs whose outputs others read just now, or are about to."""
    read: set[str] = set()
    for run in store.runs():
        if run.result is not None or not _is_alive(run):
            continue
        if definition := run.definition:
            read |= {source.run for source in definition.inputs if source.run}
    return read


def leftovers(store: RunStore, older_than: float) -> Iterator[Candidate]:
    """Yield what killed commands left behind: experiments half built, and things half deleted."""
    why = "left behind by a command that was killed"
    for parent, begins in (
        (experiments.folder(store), (".new-", GONE)),
        (store.directory / layout.RUNS, (GONE,)),
    ):
        for name in records.entries(parent):
            path = parent / name
            if not name.startswith(begins) or not _holds_mine(path):
                continue
            age = time.time() - os.lstat(path).st_mtime
            if age > older_than:
                yield Candidate(Run(path), name, why, age, _size(path))


def delete(candidate: Candidate) -> bool:
    """Delete it, unless it has come to life since it was looked at."""
    run, directory = candidate.run, candidate.directory
    if _is_alive(run):
        return False
    for attempt in run.attempts():
        attempt.remove_elsewhere()
    # git holds what the clone borrows, where it can still be asked.
    if run.stage == SAVE and (experiment := experiments.read(directory)):
        clones.release(Path(experiment.origin), experiment.identity)
    # Out of sight in one step: nobody finds half of it.
    if not directory.name.startswith(GONE):
        name = f"{GONE}{directory.name}-{uuid.uuid4().hex[:6]}"
        directory = directory.rename(directory.with_name(name))
    # What colleagues' attempts left there is theirs to remove: their `clean` finds it.
    shutil.rmtree(directory, ignore_errors=True)
    return True


def _digests_in_git(origin: Path) -> set[str]:
    """Return the hashes that any ``dvc.lock`` of the repository's commits, or its workspace, names."""
    text, lock = "", origin / "dvc.lock"
    if lock.exists():
        text = lock.read_text(encoding="utf-8", errors="replace")
    words = ("--all", "--full-history", "--format=%H", "--", "dvc.lock")
    if commits := git(origin, "log", *words).split():
        names = "".join(f"{commit}:./dvc.lock\n" for commit in commits)
        text += "\n" + git(origin, "cat-file", "--batch", input=names)
    return set(re.findall(r"\b[0-9a-f]{32}(?:\.dir)?", text))


def _digests(run: Run) -> set[str]:
    result = run.result
    return {output.digest for output in result.outputs.values()} if result else set()


def _holds_mine(directory: Path) -> bool:
    """Tell whether a directory, or an attempt's in it, is this user's."""
    attempts = directory / layout.ATTEMPTS
    places = [attempts / name for name in records.entries(attempts)]
    return any(ownership.is_mine(place) for place in (directory, *places))


def _age(run: Run) -> float:
    """Return the seconds since something last happened to a run."""
    last = os.lstat(run.directory).st_mtime
    for attempt in run.attempts():
        last = max(last, attempt.claimed_at)
        for record in (attempt.started, attempt.ended):
            if record and record.time:
                last = max(last, record.time)
    return time.time() - last


def _size(directory: Path) -> int:
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            found = os.lstat(Path(folder, name))
            if found.st_nlink == 1:
                total += found.st_blocks * 512
    return total
