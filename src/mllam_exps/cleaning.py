"""What may be deleted from a run store, and what each of it takes.

An experiment that failed or was cancelled may go, and so may one that was saved, if nothing in its repository has it
any more. Its runs go with it, unless another experiment, a living run or a waiting command needs them, or a
``dvc.lock`` of any commit names what they made. Runs that `dvc exp run` made stay, unless they have no result.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps import clones, experiments
from mllam_exps.assess import RunState, assess
from mllam_exps.checkouts import git
from mllam_exps.errors import MllamError
from mllam_exps.experiments import Experiment
from mllam_exps.processes import ProcessIdentity
from mllam_exps.store import Run, RunStore

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
        Bytes that become free: files with other names elsewhere (DVC's cache) do not count.
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
    mine = [
        e for e in everything if e.is_mine and e.origin == origin and (not names or {e.name, e.identity} & {*names})
    ]
    going: list[Experiment] = []
    for experiment in mine:
        why = _why(experiment, everything, failed=failed)
        if why and (age := _age(experiment.saving)) >= older_than:
            going.append(experiment)
            yield Candidate(
                experiment.directory, f"experiment {experiment.name}", why, _size(experiment.directory), age,
                experiment.saving,
            )  # fmt: skip
    needed = {step.key for e in everything if e not in going for step in e.steps} | _read_by_living(store)
    kept = _digests_in_git(Path(origin))
    concerned = {step.key for e in going for step in e.steps}
    for run in store.runs():
        if run.key in needed or (names and run.key not in concerned):
            continue
        now = assess(run)
        if now.state.living or run.other_waiters(ProcessIdentity.of()) or not _is_mine(run):
            continue
        if now.state is RunState.DONE and (failed or run.key not in concerned or _digests(run) & kept):
            continue
        if (age := _age(run)) >= older_than:
            why = "nothing needs it" if now.state is RunState.DONE else f"{now.state}, no result"
            yield Candidate(run.directory, f"run {run.key}", why, _size(run.directory), age, run)
    if not (names or failed):
        yield from _leftovers(store, max(older_than, LEFT_BEHIND))


def _read_by_living(store: RunStore) -> set[str]:
    """Return the runs whose outputs others read just now, or are about to."""
    me = ProcessIdentity.of()
    living = (run for run in store.runs() if run.result is None and (assess(run).state.living or run.other_waiters(me)))
    inputs = [i for run in living for i in ((run.definition or {}).get("inputs") or {}).values()]
    return {str(i["run"]) for i in inputs if i.get("run")}


def _leftovers(store: RunStore, older_than: float) -> Iterator[Candidate]:
    """Yield what killed commands left behind: experiments half built, and things half deleted."""
    places = [*experiments.folder(store).glob(".new-*"), *experiments.folder(store).glob(".gone-*")]
    places += (store.directory / "runs").glob(".gone-*")
    for path in places:
        run = Run(path)
        if _is_mine(run) and (age := time.time() - path.stat().st_mtime) > older_than:
            yield Candidate(path, path.name, "left behind by a command that was killed", _size(path), age, run)


def delete(candidate: Candidate) -> bool:
    """Delete it, unless it has come to life since it was looked at."""
    if assess(candidate.run).state.living or candidate.run.other_waiters(ProcessIdentity.of()):
        return False
    # Out of sight in one step: nobody finds half of it.
    gone = candidate.directory.with_name(f".gone-{candidate.directory.name}")
    for attempt in candidate.run.attempts():
        for folder in (attempt.work, attempt.tree, attempt.scratch):
            if folder.is_symlink():  # on another file system
                shutil.rmtree(folder.resolve(), ignore_errors=True)
    if candidate.run.stage == experiments.SAVE and (experiment := experiments.read(candidate.directory)):
        clones.release(Path(experiment.origin), experiment.identity)
    candidate.directory.rename(gone)
    shutil.rmtree(gone)
    return True


def _why(experiment: Experiment, everything: list[Experiment], *, failed: bool) -> str:
    """Return why an experiment may go; nothing where it may not."""
    state = assess(experiment.saving).state
    if any(assess(run).state.living for run in experiment.runs.values()) and state is not RunState.DONE:
        return ""
    if state.stopped:
        return str(state)
    if state is RunState.DONE and not failed and not is_in_git(experiment):
        newer = [e for e in everything if e.place == experiment.place and e.created > experiment.created]
        return f"replaced by a newer {experiment.name}" if newer else f"removed from {experiment.origin}"
    return ""


def is_in_git(experiment: Experiment) -> bool:
    """Tell whether its repository has a saved experiment still, under whatever name, or on a branch."""
    commit = str((experiment.saving.result or {}).get("commit"))
    try:
        return bool(git(Path(experiment.origin), "for-each-ref", "--contains", commit, "--count=1"))
    except MllamError:
        # The repository, or the commit, is not there to be asked.
        return Path(experiment.origin).exists() is False


def _digests_in_git(origin: Path) -> set[str]:
    """Return the hashes that any ``dvc.lock`` of the repository's commits, or its workspace, names."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in [origin / "dvc.lock"] if path.exists()]
    commits = git(origin, "log", "--all", "--full-history", "--format=%H", "--", "dvc.lock").split()
    if commits:
        names = "".join(f"{commit}:./dvc.lock\n" for commit in commits)
        texts.append(git(origin, "cat-file", "--batch", input=names))
    return {digest for text in texts for digest in re.findall(r"\b[0-9a-f]{32}(?:\.dir)?", text)}


def _digests(run: Run) -> set[str]:
    return {str(output["digest"]) for output in (run.result or {"outputs": {}})["outputs"].values()}


def _is_mine(run: Run) -> bool:
    return run.directory.stat().st_uid == os.getuid()


def _age(run: Run) -> float:
    times = [run.directory.stat().st_mtime]
    for attempt in run.attempts():
        times.append(attempt.claimed_at)
        times += [float(record["time"]) for record in (attempt.end, attempt.started) if record and record.get("time")]
    return time.time() - max(times)


def _size(directory: Path) -> int:
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            found = os.lstat(Path(folder, name))
            if found.st_nlink == 1:
                total += found.st_blocks * 512
    return total
