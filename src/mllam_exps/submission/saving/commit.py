"""Saves a submitted experiment as a DVC experiment: ``dvc.lock``, and one commit, where it came from.

`dvc exp save` cannot: in a clone DVC (3.67) leaves out metrics, plots and
``.gitignore`` files, and hashes every output again. Here nothing is hashed, copied or
linked but what git keeps: the run store knows the hashes, and its files are given their
names in DVC's cache. DVC itself is not started, in any job.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import symlinks, tidying
from mllam_exps.base.disks import full_disks
from mllam_exps.base.errors import MllamError
from mllam_exps.base.git import GitFailed, ask_git, git, run_git
from mllam_exps.dvc import ignored, lockfile
from mllam_exps.identity.content import describe, executable, make_executable
from mllam_exps.repository import clones
from mllam_exps.repository.checkouts import Elsewhere
from mllam_exps.runs import layout, outputs
from mllam_exps.runs.results import Read
from mllam_exps.submission.saving.lock_entries import Made

if TYPE_CHECKING:
    from mllam_exps.dvc.cache import Cache
    from mllam_exps.dvc.lockfile import Draft
    from mllam_exps.runs.store import Run
    from mllam_exps.submission.experiment import Experiment

TRIES = 4
"""Other saves hold locks in the origin, and in DVC's cache, for moments."""


def save(experiment: Experiment) -> str:
    """Save an experiment all of whose results are there.

    Returns
    -------
    str
        The commit that holds it, under its name in the repository that it came from.

    Raises
    ------
    MllamError
        If its name was taken by another one, say.
    """
    _refuse_without_baseline(experiment)
    draft = lockfile.read(experiment.clone)
    for changed in draft.changed(experiment.root):
        what, where = "the experiment's clone was changed", experiment.root / changed
        raise MllamError(what, str(where), next=experiment.submit_again)
    made = collect(experiment, draft)
    kept = _kept(experiment.root, draft)
    known = Made(experiment.root, draft.cache, experiment.sources | made)
    _hold_together(experiment, known.digest)
    entries = {}
    for name, stage in draft.stages.items():
        entries[name] = stage.complete(known.describe)
    lockfile.write(experiment.root, entries)
    commit = _commit(experiment, _write_tree(experiment, kept))
    return _name(experiment, commit)


def _commit(experiment: Experiment, tree: str) -> str:
    """Commit a tree on the experiment's baseline, as the user who submitted it; return the commit."""
    message = experiment.message
    if not message:
        message = f"dvc: commit experiment {experiment.identity.rsplit('-', 1)[1]}"
    who = {}
    for what in ("name", "email"):
        told = ask_git(experiment.clone, "config", f"user.{what}")
        for role in ("AUTHOR", "COMMITTER"):
            who[f"GIT_{role}_{what.upper()}"] = told
    words = ("commit-tree", tree, "-p", experiment.baseline, "-F", "-")
    return git(Path(experiment.origin), *words, input=message, environ=who)


def _refuse_without_baseline(experiment: Experiment) -> None:
    """Refuse an experiment whose baseline git has collected: its commit would have no parent.

    Raises
    ------
    MllamError
        Naming the commit.
    """
    origin, baseline = Path(experiment.origin), experiment.baseline
    if run_git(origin, "cat-file", "-e", f"{baseline}^{{commit}}").returncode == 0:
        return
    what = f"the commit that {experiment.name} starts from, {baseline[:8]}, is gone from its repository"
    why = f"{clones.KEPT}/{experiment.identity}, which kept it, was deleted, and `git gc` collected it"
    raise MllamError(
        what,
        experiment.origin,
        why,
        f"{experiment.submit_again}; what is done is known",
    )


def collect(experiment: Experiment, draft: Draft) -> dict[str, Any]:
    """Put the outputs into DVC's cache, and what git keeps into the clone.

    Returns
    -------
    dict
        What is known of each output, by path.
    """
    made: dict[str, Any] = {}
    known = {step.stage: step.known for step in experiment.steps if step.known}
    for name, stage in draft.stages.items():
        if run := experiment.runs.get(name):
            made |= _hand_over(experiment, draft.cache, run, stage.made)
        elif name in known:
            _from_cache(draft.cache, experiment.root, stage.made, known[name])
            made |= known[name]
        else:
            # Those that only check, and write down versions, were done when the
            # experiment was planned.
            made |= {path: describe(experiment.root / path) for path in stage.made}
    return made


def _hold_together(experiment: Experiment, has: Callable[[str], str | None]) -> None:
    """Refuse results that were not made from one another: not every program makes the same twice.

    A run is known by the keys of its inputs. One of these may have been made again
    since, or be known to DVC with another content than the run store had.

    Parameters
    ----------
    has : callable
        Returns the digest of what the experiment has at a path.

    Raises
    ------
    outputs.Damaged
        Naming the result, which is set aside.
    MllamError
        If it is one that DVC knows: submitted again, the experiment takes no such
        result.
    """
    for run in experiment.runs.values():
        if stale := outputs.made_from_another(run, has):
            raise outputs.set_aside(run, [stale], f"mllam-exps retry {experiment.name}")
    refuse_what_dvc_made_from_another(experiment, has)


def refuse_what_dvc_made_from_another(
    experiment: Experiment, has: Callable[[str], str | None]
) -> None:
    """Refuse a result that DVC knew at submission, if an input of it was made again since, and became another.

    Parameters
    ----------
    has : callable
        Returns the digest of what the experiment has now at a path, where that is
        known.

    Raises
    ------
    MllamError
        Naming both; submitted again, the experiment takes no such result.
    """
    for step in experiment.steps:
        if not step.known:
            continue
        read = {path: Read(digest) for path, digest in step.read.items()}
        if path := outputs.another(read, has):
            what = f"the result of {step.stage} that DVC knows was made from another {path} than there is now"
            raise MllamError(
                what,
                experiment.name,
                f"{path} was made again since",
                experiment.submit_again,
            )


def _hand_over(
    experiment: Experiment, cache: Cache, run: Run, outs: Mapping[str, bool]
) -> dict[str, Any]:
    for attempt in range(TRIES):
        try:
            return outputs.hand_over(cache, run, experiment.root, outs)
        except outputs.Damaged as damaged:
            damaged.next = f"mllam-exps retry {experiment.name}"
            raise
        except (FileExistsError, FileNotFoundError):
            # Another save of the same output, at the same moment.
            if attempt == TRIES - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError


def _from_cache(
    cache: Cache, root: Path, outs: Mapping[str, bool], known: Mapping[str, Any]
) -> None:
    """Take what git keeps of a result that DVC knows from its cache, unless it is here already."""
    top = symlinks.top_of(root)
    for path, cached in outs.items():
        target, digest = root / path, str(known[path]["digest"])
        isexec = bool(known[path].get("isexec"))
        if not cached and _is_here(symlinks.in_folder(top, target), digest):
            if isexec and not executable(target):
                content = target.read_bytes()
                target.unlink()  # another clone may have the same file
                target.write_bytes(content)
                make_executable(target)
            continue
        cache.hold_to_its_name(digest, path)
        if not cache.holds_all(digest):
            what = f"{path}, which DVC's cache had when it was submitted, is gone from there"
            way_out = "dvc pull, then mllam-exps retry, or submit the experiment again"
            raise MllamError(what, str(cache.path(digest)), next=way_out)
        if not cached:
            cache.copy(digest, symlinks.clear(top, target), isexec=isexec)


def _is_here(target: Path, digest: str) -> bool:
    """Tell whether a file or folder, and no link to one, holds what it should."""
    if target.is_symlink() or not target.exists():
        return False
    return bool(describe(target)["digest"] == digest)


def _kept(root: Path, draft: Draft) -> list[str]:
    """Return the files that belong into the commit although git may ignore them; what the cache holds is ignored."""
    outs: dict[str, bool] = {}
    for stage in draft.stages.values():
        outs |= stage.made
    in_cache = [path for path, cached in outs.items() if cached]
    ignored.write(root, ignored.after(root, in_cache))
    kept = {lockfile.FILE, *(path for path in outs if not outs[path])}
    kept |= {Path(path).with_name(ignored.FILE).as_posix() for path in in_cache}
    return sorted(kept)


def _write_tree(experiment: Experiment, files: list[str]) -> str:
    """Return the git tree of what tracked files hold, and `files`, in the repository that the experiment came from.

    It is that repository's git which reads the clone's files: with its settings and
    filters, and so to what it would commit itself.
    """
    there = [file for file in files if (experiment.root / file).exists()]
    # In an index of our own: one who was killed at this leaves a lock that nobody takes
    # away.
    with tempfile.TemporaryDirectory(
        prefix="saving-", dir=experiment.clone / ".git"
    ) as folder:
        index = Path(folder) / "index"
        shutil.copy2(experiment.clone / ".git" / "index", index)
        clone = Elsewhere.of(Path(experiment.origin), experiment.clone, index)
        # Submodules stay as they are. git would ask that which lies in the clone, with
        # settings of its own.
        without = [f":(top,exclude,literal){path}" for path in clone.submodules()]
        clone.git("add", "--update", "--", ":/", *without)
        # What the user's own rules ignore stays out, as it does with `dvc exp run`.
        left_out = ignored.by_git(experiment.root, there)
        wanted = [file for file in there if file not in left_out]
        wanted += experiment.overrides
        literally = [f":(literal){file}" for file in wanted]
        try:
            clone.git("add", "--force", "--", *literally, below=experiment.prefix)
        except GitFailed as error:
            raise _not_taken(experiment, error) from error
        return clone.git("write-tree")


def _not_taken(experiment: Experiment, error: GitFailed) -> MllamError:
    """Say what helps where git takes no output: the same rule would refuse the same file again."""
    if full_disks([Path(experiment.origin), experiment.clone]):
        return error
    what = "git does not take what a stage made"
    way_out = f"correct what .gitattributes says of that file, or the filter, commit, and {experiment.submit_again}"
    return MllamError(what, str(error.where), error.why, way_out)


def _name(experiment: Experiment, commit: str) -> str:
    """Give an experiment its name in its repository.

    Raises
    ------
    MllamError
        If another experiment has the name by now.
    """
    ref, origin = experiment.git_ref, Path(experiment.origin)
    for attempt in range(TRIES):
        taken = ask_git(origin, "rev-parse", "--verify", "--quiet", ref)
        before = experiment.replaces if taken else ""
        try:
            # It is replaced at once, or not at all; without an old value it must not
            # exist.
            git(origin, "update-ref", ref, commit, before)
        except MllamError as error:
            taken = ask_git(origin, "rev-parse", "--verify", "--quiet", ref)
            if taken not in {"", experiment.replaces}:
                if _tree(origin, taken) == _tree(origin, commit):
                    return taken  # another job saved the same at the same moment
                raise _name_is_taken(experiment, taken) from error
            if attempt == TRIES - 1:
                raise
            time.sleep(0.5 * (attempt + 1))
        else:
            break
    return commit


def _name_is_taken(experiment: Experiment, commit: str) -> MllamError:
    name, ref = experiment.name, experiment.git_ref
    what = "another experiment has this name by now"
    why = f"{ref} is {commit[:8]} in {experiment.origin}"
    way_out = f"dvc exp rename {name} OTHER, then mllam-exps retry {name}"
    return MllamError(what, name, why, way_out)


def _tree(origin: Path, commit: str) -> str:
    return git(origin, "rev-parse", f"{commit}^{{tree}}")


def forget_clone(experiment: Experiment) -> None:
    """Remove the clone of a saved experiment, and what kept its baseline: its commit holds all of it."""
    clones.release(Path(experiment.origin), experiment.identity)
    tidying.remove(experiment.directory, (layout.CLONE,))
