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
from pathlib import Path

from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.git import git
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.repository import clones
from mllam_exps.runs import layout
from mllam_exps.runs.assess import assess
from mllam_exps.runs.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.experiments import Experiment

LEFT_BEHIND = 24 * 3600.0
"""Seconds after which nobody builds or deletes any more what was begun then."""


@dataclass(frozen=True)
class Candidate:
    """Something that may be deleted.

    Parameters
    ----------
    directory : Path
        All of it.
    what, why : str
        For people.
    size : int
        Bytes that become free: files with other names elsewhere (DVC's cache) do not
        count.
    age : float
        Seconds since something last happened to it.
    run : Run
        The run, or the saving of the experiment, that it is.
    """

    directory: Path
    what: str
    why: str
    size: int
    age: float
    run: Run


def candidates(
    store: RunStore, origin: str, names: list[str], *, failed: bool, older_than: float
) -> Iterator[Candidate]:
    """Yield what may go: experiments of one repository, and runs that nobody needs then.

    Parameters
    ----------
    names : list of str
        Only these experiments, by name or identity, and their runs.
    failed : bool
        Only what failed or was cancelled.
    older_than : float
        Seconds since something last happened.
    """
    everything = list(experiments.of_store(store))
    unreadable = experiments.unreadable(store)
    if not failed:
        yield from _damaged(unreadable, names, older_than)
    going: list[Experiment] = []
    for experiment in everything:
        if not _is_meant(experiment, origin, names):
            continue
        why = _why(experiment, everything, Path(origin), failed=failed)
        age = _age(experiment.saving)
        if why and age >= older_than:
            going.append(experiment)
            place, what = experiment.directory, f"experiment {experiment.name}"
            yield Candidate(place, what, why, _size(place), age, experiment.saving)
    needed = _read_by_living(store)
    for experiment in everything:
        if experiment not in going:
            needed |= {step.key for step in experiment.steps}
    concerned = {step.key for e in going for step in e.steps}
    kept = _digests_in_git(Path(origin))
    hidden = {path.name for path in unreadable}
    for run in store.runs():
        if run.key in needed or hidden & {*run.wanted}:
            continue
        if run.key in concerned:
            why = _why_run(run, kept, failed=failed)
        else:
            why = "" if names else _why_run(run, None, failed=failed)
        age = _age(run)
        if why and age >= older_than:
            place, what = run.directory, f"run {run.key}"
            yield Candidate(place, what, why, _size(place), age, run)
    if not (names or failed):
        yield from _leftovers(store, max(older_than, LEFT_BEHIND))


def _is_meant(experiment: Experiment, origin: str, names: list[str]) -> bool:
    """Tell whether an experiment is this user's, of this repository or of one that is gone, and named, if any is."""
    if not experiment.is_mine:
        return False
    if names and not {experiment.name, experiment.identity} & {*names}:
        return False
    return experiment.origin == origin or _is_gone(experiment.origin, named=bool(names))


def _why_run(run: Run, kept: set[str] | None, *, failed: bool) -> str:
    """Return why a run that no experiment needs may go; nothing where it may not.

    Parameters
    ----------
    kept : set of str, optional
        The hashes of results that git names. None keeps every result: `dvc exp run`
        made it.
    """
    state = assess(run).state
    if state.living or run.other_waiters(ProcessIdentity.of()):
        return ""
    if not ownership.is_mine(run.directory):
        return ""
    if state is not RunState.DONE:
        return f"{state}, no result"
    if failed or kept is None or _digests(run) & kept:
        return ""
    return "nothing needs it"


def _is_gone(origin: str, *, named: bool) -> bool:
    """Tell whether a repository was deleted; one whose file system is not mounted was not, as far as that can be told.

    Parameters
    ----------
    named : bool
        Whether the user named an experiment of it, and so knows.
    """
    place = Path(origin)
    return not os.path.lexists(place) and (named or place.parent.is_dir())


def _damaged(
    unreadable: list[Path], names: list[str], older_than: float
) -> Iterator[Candidate]:
    """Yield this user's experiments whose record is damaged, so that nobody can do anything with them."""
    for directory in unreadable:
        found = records.look(directory / layout.DEFINITION)
        if isinstance(found, records.Trouble) and found.hidden:
            continue
        run = Run(directory)
        if (
            ownership.is_mine(run.directory)
            and (not names or directory.name in names)
            and (age := _age(run)) >= older_than
        ):
            why = "its run.json is damaged" if found else "its run.json is gone"
            yield Candidate(
                directory,
                f"experiment {directory.name}",
                why,
                _size(directory),
                age,
                run,
            )


def _read_by_living(store: RunStore) -> set[str]:
    """Return the runs whose outputs others read just now, or are about to."""
    me = ProcessIdentity.of()
    living = (
        run
        for run in store.runs()
        if run.result is None and (assess(run).state.living or run.other_waiters(me))
    )
    definitions = (run.definition for run in living)
    inputs = [one for found in definitions if found for one in found.inputs]
    return {one.run for one in inputs if one.run}


def _leftovers(store: RunStore, older_than: float) -> Iterator[Candidate]:
    """Yield what killed commands left behind: experiments half built, and things half deleted."""
    for parent, begins in (
        (experiments.folder(store), (".new-", ".gone-")),
        (store.directory / layout.RUNS, (".gone-",)),
    ):
        for name in records.entries(parent):
            path = parent / name
            if not name.startswith(begins) or not _holds_mine(path):
                continue
            run, age = Run(path), time.time() - os.lstat(path).st_mtime
            if age <= older_than:
                continue
            yield Candidate(
                path,
                path.name,
                "left behind by a command that was killed",
                _size(path),
                age,
                run,
            )


def delete(candidate: Candidate) -> bool:
    """Delete it, unless it has come to life since it was looked at."""
    if assess(candidate.run).state.living or candidate.run.other_waiters(
        ProcessIdentity.of()
    ):
        return False
    for attempt in candidate.run.attempts():
        attempt.remove_elsewhere()
    # git holds what the clone borrows, where it can still be asked.
    if candidate.run.stage == SAVE and (
        experiment := experiments.read(candidate.directory)
    ):
        clones.release(Path(experiment.origin), experiment.identity)
    # Out of sight in one step: nobody finds half of it.
    gone = candidate.directory
    if not gone.name.startswith(".gone-"):
        gone = candidate.directory.with_name(
            f".gone-{candidate.directory.name}-{uuid.uuid4().hex[:6]}"
        )
        candidate.directory.rename(gone)
    # What colleagues' attempts left there is theirs to remove: their `clean` finds it.
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _why(
    experiment: Experiment, everything: list[Experiment], here: Path, *, failed: bool
) -> str:
    """Return why an experiment may go; nothing where it may not."""
    state = assess(experiment.saving).state
    at_work = [run for run in experiment.runs.values() if assess(run).state.living]
    if at_work and state is not RunState.DONE:
        return ""
    if state.stopped:
        return str(state)
    if failed:
        return ""
    is_gone = _is_gone(experiment.origin, named=True)
    if is_gone and not state.living and not _has(here, experiment):
        return f"its repository {experiment.origin} is gone"
    if state is not RunState.DONE or is_in_git(experiment):
        return ""
    for other in everything:
        if other.place == experiment.place and other.created > experiment.created:
            return f"replaced by a newer {experiment.name}"
    return f"removed from {experiment.origin}"


def is_in_git(experiment: Experiment) -> bool:
    """Tell whether its repository has a saved experiment still, under whatever name, or on a branch."""
    origin = Path(experiment.origin)
    return (
        _has(origin, experiment) or not origin.exists()
    )  # of one that is not there nobody can say


def _has(repository: Path, experiment: Experiment) -> bool:
    """Tell whether a repository has the commit of a saved experiment: its own may have been moved."""
    result = experiment.saving.result
    if result is None:
        return False
    words = ("for-each-ref", "--contains", result.commit, "--count=1")
    try:
        return bool(git(repository, *words))
    except MllamError:
        return False  # the repository, or the commit, is not there to be asked


def _digests_in_git(origin: Path) -> set[str]:
    """Return the hashes that any ``dvc.lock`` of the repository's commits, or its workspace, names."""
    texts = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in [origin / "dvc.lock"]
        if path.exists()
    ]
    commits = git(
        origin, "log", "--all", "--full-history", "--format=%H", "--", "dvc.lock"
    ).split()
    if commits:
        names = "".join(f"{commit}:./dvc.lock\n" for commit in commits)
        texts.append(git(origin, "cat-file", "--batch", input=names))
    return {
        digest
        for text in texts
        for digest in re.findall(r"\b[0-9a-f]{32}(?:\.dir)?", text)
    }


def _digests(run: Run) -> set[str]:
    result = run.result
    return {output.digest for output in result.outputs.values()} if result else set()


def _holds_mine(directory: Path) -> bool:
    """Tell whether a directory, or an attempt's in it, is this user's."""
    attempts = [
        directory / layout.ATTEMPTS / name
        for name in records.entries(directory / layout.ATTEMPTS)
    ]
    return any(ownership.is_mine(place) for place in (directory, *attempts))


def _age(run: Run) -> float:
    times = [os.lstat(run.directory).st_mtime]
    for attempt in run.attempts():
        times.append(attempt.claimed_at)
        records_with_times = (attempt.ended, attempt.started)
        times += [one.time for one in records_with_times if one and one.time]
    return time.time() - max(times)


def _size(directory: Path) -> int:
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            found = os.lstat(Path(folder, name))
            if found.st_nlink == 1:
                total += found.st_blocks * 512
    return total
