"""``mllam-exps retry``: submits again what failed, and what hung on it."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps import schedulers
from mllam_exps.attempts.job_quota import Quota, Room
from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.base.git import git
from mllam_exps.base.terminal import say, warn
from mllam_exps.dvc import lockfile
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.machines import values
from mllam_exps.preflight import checks, named_files
from mllam_exps.repository.checkouts import Elsewhere
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.outputs import Damaged
from mllam_exps.runs.state.assess import assess, ends_the_same_way
from mllam_exps.runs.state.judge import RunState
from mllam_exps.submission import backlog, opening
from mllam_exps.submission.applying import (
    BROUGHT_BACK,
    apply_command,
    bring_back,
    made_again,
)
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.job_chain import Chain
from mllam_exps.submission.saving import commit
from mllam_exps.submission.standing import Standing
from mllam_exps.views.context import Context
from mllam_exps.views.sentences import named

NAMED = 3
"""Changed files that a note names."""


@dataclass(frozen=True)
class Changes:
    """Files of the repository that git tracks, and that are not as they were frozen; as seen from the DVC repository.

    Parameters
    ----------
    modified, new : list of str
        Those that were changed or removed, and those that were not tracked then.
    """

    modified: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)

    @property
    def told(self) -> str:
        """Name some of them."""
        parts = []
        for word, files in (("changed", self.modified), ("new", self.new)):
            if files:
                more = ", …" if len(files) > NAMED else ""
                parts.append(f"{word} since: {', '.join(files[:NAMED])}{more}")
        return "; ".join(parts)


def retry(names: list[str], *, failed: bool) -> None:
    """Submit again, in the clones that were made when they were submitted; a training goes on from its checkpoint.

    Parameters
    ----------
    names : list of str
        Experiments, or patterns with ``*``.
    failed : bool
        Only those of them that failed, and not with NaN; without names, all of this
        repository that did.
    """
    here = Context.open()
    wanted = [e for e in _wanted(here, names, failed=failed) if not _is_back(e, here)]
    changes: dict[str, Changes] = {}
    for experiment in wanted:
        _refuse(experiment, here)
        changes[experiment.identity] = changed_since(experiment)
        _refuse_what_was_mended(experiment, changes[experiment.identity])
    for experiment in wanted:
        if told := changes[experiment.identity].told:
            warn(
                f"note: {experiment.name} goes on with the files as they were when it was submitted; {told}"
                " (machine files are read as they are now); mllam-exps submit takes them as they are now"
            )
    rooms: dict[tuple[str, str], Room] = {}
    with lock(here.store, SUBMISSIONS, wait=True), Quota() as quota:
        for experiment in wanted:
            say(f"{experiment.name}: {_retry(experiment, rooms, quota)}")
    backlog.go_on(here.store)


def _wanted(here: Context, names: list[str], *, failed: bool) -> list[Experiment]:
    """Return the experiments that are meant, each once.

    Raises
    ------
    MllamError
        If there is none.
    """
    if not (names or failed):
        raise UsageError(
            "no experiment is named", next="mllam-exps retry EXP, or --failed"
        )
    found = here.named(names) if names else here.mine()
    if not failed:
        return found
    wanted = [e for e in found if e.is_mine and _has_failed(e)]
    if same := [e for e in wanted if _ends_the_same_way(e)]:
        wanted = [e for e in wanted if e not in same]
        _tell_left(same)
    if same and not wanted:
        raise MllamError("nothing else has failed", exit=Exit.OK)
    if not wanted:
        what = "none of these has failed" if names else "no experiment has failed"
        raise MllamError(
            f"{what}: there is nothing to retry", " ".join(names), exit=Exit.OK
        )
    return wanted


def _has_failed(experiment: Experiment) -> bool:
    """Tell whether something of an experiment failed, whatever its saving waits for, or will never run."""
    saving = assess(experiment.saving)
    if saving.state in {RunState.DONE, RunState.CANCELLED}:
        return False
    for now in (saving, *map(assess, experiment.runs.values())):
        if now.hopeless or now.state in {RunState.FAILED, RunState.LOST}:
            return True
    return False


def _ends_the_same_way(experiment: Experiment) -> bool:
    return any(ends_the_same_way(assess(run)) for run in experiment.runs.values())


def _tell_left(left: list[Experiment]) -> None:
    """Say which experiments `--failed` leaves as they are, and how they are tried all the same."""
    names = list(dict.fromkeys(e.name for e in left))
    ended = "it ended" if len(names) == 1 else "they ended"
    what = f"{named(names)}: {ended} with NaN, and would end the same way again; --failed leaves that as it is"
    status, again = shlex.join(names[:1]), shlex.join(names)
    warn(
        f"note: {what}\n  → mllam-exps status {status} says what helps; mllam-exps retry {again} tries it as it was"
    )


def _refuse_what_was_mended(experiment: Experiment, changes: Changes) -> None:
    """Refuse to run a command again that failed by itself, where a file that it reads was changed since.

    Raises
    ------
    UsageError
        With the command that takes the file as it is now.
    """
    changed = [*changes.modified, *changes.new]
    if not changed:
        return
    for stage, run in experiment.runs.items():
        definition = run.definition
        if definition is None or not definition.commands:
            continue
        if not assess(run).is_its_program_s:
            continue
        reads = _read_by(definition, experiment.root)
        for file in changed:
            if reads.isdisjoint({file, *map(str, Path(file).parents)}):
                continue
            what = f"{stage} failed, and {file}, which it reads, was changed since"
            why = f"retry goes on with the files as they were when it was submitted; {changes.told}"
            raise UsageError(what, experiment.name, why, shlex.join(experiment.command))


def _read_by(definition: RunDefinition, root: Path) -> set[str]:
    """Return the files and folders of the repository that a stage's commands read, as far as they are named."""
    reads = {source.path for source in definition.inputs if source.run is None}
    folder = root / definition.folder
    for script in named_files.named(definition.commands, folder):
        if script.is_relative_to(root):
            reads.add(script.relative_to(root).as_posix())
    return reads


def changed_since(experiment: Experiment) -> Changes:
    """Return the tracked files of the repository that differ from what was frozen.

    What the stages make is none of them, nor are machine files, which are read where
    the repository is.
    """
    experiment.check_ours()
    # The clone's index is what was frozen, without `-S`. It knows the repository's
    # files by times, sizes and inodes.
    repository = Path(experiment.repository)
    try:
        here = Elsewhere.of(repository, repository, experiment.clone / ".git" / "index")
        modified = _names(here.git("ls-files", "--modified", "-z"))
        frozen = _names(here.git("ls-files", "-z"))
        new = _names(git(repository, "ls-files", "-z")) - frozen
    except MllamError:
        return Changes()  # where the repository is gone, nobody has mended it
    left_out = {lockfile.FILE, values.FOLDER}
    with contextlib.suppress(MllamError):
        draft = lockfile.read(experiment.clone)
        left_out |= {*draft.made}
        for stage in draft.stages.values():
            left_out |= {*stage.made}
    found: list[list[str]] = []
    for paths in (modified, new):
        files = [os.path.relpath(one, experiment.prefix or ".") for one in paths]
        found.append([f for f in sorted(files) if not left_out & _and_above(f)])
    return Changes(*found)


def _names(listed: str) -> set[str]:
    return set(filter(None, listed.split("\0")))


def _and_above(file: str) -> set[str]:
    """Return a file, and the folders in which it lies."""
    return {file, *map(str, Path(file).parents)}


def _refuse(experiment: Experiment, here: Context) -> None:
    """Refuse what cannot be gone on with, before anything is submitted."""
    if not experiment.is_mine:
        way_out = f"submit the same yourself, what is done is shared: {shlex.join(experiment.command)}"
        raise UsageError(
            "is not yours", experiment.name, f"{experiment.user} submitted it", way_out
        )
    if assess(experiment.saving).state is RunState.DONE:
        raise _is_done(experiment, here)
    machine = opening.machine_of(experiment)
    checks.check_environment(machine, opening.workspace_of(experiment).origin)
    if not experiment.root.is_dir():
        raise UsageError(
            "its clone is gone", experiment.name, next=experiment.submit_again
        )
    if not opening.programs_are_the_same(experiment, machine):
        why = "it was submitted with other versions of the programs, and with these its results would be others"
        raise UsageError("cannot go on", experiment.name, why, experiment.submit_again)
    try:
        commit.refuse_what_dvc_made_from_another(experiment, experiment.holds)
    except MllamError as error:
        raise UsageError(
            "cannot go on", experiment.name, error.what, experiment.submit_again
        ) from error


def _is_done(experiment: Experiment, here: Context) -> UsageError:
    """Say that an experiment is saved, and whether it was removed, or a result of it damaged, since.

    What DVC has of it counts: it needs the run store no more, and phases before the
    last neither.
    """
    name, command = experiment.name, apply_command(experiment, here.workspace.origin)
    if not command:
        what = "was saved, and its repository has it no more"
        return UsageError(what, name, next=experiment.submit_again)
    if stage := _damaged(experiment, here):
        what = f"is saved, and its result of {stage} was damaged since, and set aside"
        return UsageError(what, name, next=made_again(command))
    return UsageError("is done", name, next=command)


def _is_back(experiment: Experiment, here: Context) -> bool:
    """Give DVC's cache again what it has lost of a saved experiment, and say so; False where more has to be told."""
    if not experiment.is_mine or assess(experiment.saving).state is not RunState.DONE:
        return False
    command = apply_command(experiment, here.workspace.origin)
    if not command:
        return False  # its repository has it no more
    try:
        if not bring_back(here.cache, experiment):
            return False
    except Damaged:
        return False  # it is set aside by now
    told = f"{experiment.name}: {BROUGHT_BACK}"
    if _damaged(experiment, here):
        warn(f"note: {told}")
        return False
    say(f"{told}\n  → {command}")
    return True


def _damaged(experiment: Experiment, here: Context) -> str:
    """Return a stage of a saved experiment whose result was set aside and is not in DVC's cache; else an empty name."""
    commit = Commit(Path(experiment.origin), experiment.commit)
    for stage, run in experiment.runs.items():
        if run.result is None and not _has_all(here.cache, commit, stage):
            return stage
    return ""


def _has_all(cache: Cache, commit: Commit, stage: str) -> bool:
    """Tell whether DVC's cache, or git, has all that a stage made for a commit."""
    return all(
        cache.holds_all(digest) or commit.text(path) is not None
        for path, digest in commit.made(stage).items()
    )


def _retry(
    experiment: Experiment, rooms: dict[tuple[str, str], Room], quota: Quota
) -> str:
    machine = opening.machine_of(experiment)
    scheduler = schedulers.get(machine.scheduler, experiment.store.directory)
    # Each repository has machine files of its own: two of them may call different
    # machines by one name.
    place = experiment.origin, machine.name
    if place not in rooms:
        rooms[place] = quota.room(machine, scheduler, experiment.origin)
    mine = Chain(experiment, machine, rooms[place])
    try:
        standing = mine.advance(retry=True)
        for note in standing.notes:
            warn(f"note: {note}")
        mine.submit_last_job(standing)
    except MllamError as error:
        return str(error)
    return _told(experiment, standing)


def _told(experiment: Experiment, standing: Standing) -> str:
    """Say what became of an experiment that was submitted again."""
    for stage, now in standing.states.items():
        if now.hopeless:
            name = experiment.name
            way_out = f"mllam-exps cancel {name}, and once that is mended, mllam-exps retry {name}"
            return f"{stage} is {now.state}: {now.reason}\n  → {way_out}"
    waits = f"waits in the run store: {standing.waits}" if standing.waits else ""
    if standing.started:
        told = f"{', '.join(standing.started)} submitted"
        return f"{told}; the rest {waits}" if waits else told
    if waits:
        return waits
    if standing.done:
        return "its results are there, and are being saved"
    if not standing.living:
        return "it is gone on with as soon as it can be"
    return f"{_living(standing)}: there is nothing to retry"


def _living(standing: Standing) -> str:
    """Say which stages are at work."""
    told = []
    for stage, now in standing.states.items():
        if now.state.living:
            told.append(f"{stage} is {now.state}")
    return ", ".join(told)
