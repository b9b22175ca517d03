"""Lays out an attempt's work directory as the repository: what the program reads, frozen where the run store keeps it.

The workspace that asked may be gone while the program runs (DVC removes its temporary
ones), or have other parameters by then; nothing in the work directory points into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mllam_exps.base import ownership, symlinks
from mllam_exps.base.errors import CheckFailed, MllamError
from mllam_exps.dvc import ignored, lockfile
from mllam_exps.dvc.counted import LIST, Counted
from mllam_exps.dvc.parameters import parameter_files
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.content import Described, describe, marked
from mllam_exps.identity.definition import RESUME_FROM, VERSIONS_FILE, Input
from mllam_exps.repository import clones
from mllam_exps.runs import outputs

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from mllam_exps.identity.definition import RunDefinition
    from mllam_exps.runs.attempts import Attempt
    from mllam_exps.runs.store import RunStore


def lay_out(  # noqa: PLR0917 - who, where, and what
    repo: Repository,
    root: Path,
    store: RunStore,
    attempt: Attempt,
    definition: RunDefinition,
    files: Iterable[str],
    *,
    to_come: Container[str] = (),
) -> dict[str, str]:
    """Give the attempt its inputs.

    Parameters
    ----------
    repo, root
        DVC's repository, for its cache, and the checkout that the files are taken from.
    to_come : container of str
        Keys of the runs that are still to make inputs of it: the attempt takes those
        itself (`take`).
    files : iterable of str
        The parameter files, which every program may read; absent ones are left out.
        Those that the stage tracks come along in any case.

    Returns
    -------
    dict
        The inputs that are yet to be made, by path: the keys of the runs that make
        them.

    Raises
    ------
    CheckFailed
        If an input is missing; it is named, with the command that makes it.
    """
    frozen: Mapping[str, str] = {}
    if definition.commands:
        frozen = _copy_repository(root, attempt, definition)
    _lay_out_parent(repo, attempt, definition)
    _copy_ignore_lists(root, attempt, definition)
    _copy_parameter_files(root, attempt, {*files, *definition.params})
    taken_later: dict[str, str] = {}
    laid: dict[str, Described] = {}
    links = repo.cache_types if definition.commands else None
    for source in sorted(definition.inputs, key=_outer_first):
        target = _place_of(attempt, source.path)
        is_there = target.exists()  # in a folder that is an input, too, or from git
        found = _from_store_or_cache(store, repo, source, target, links)
        if found is not None:
            laid[source.path] = found
        elif source.run and source.run in to_come and not is_there:
            taken_later[source.path] = source.run
        else:
            laid[source.path] = _from_workspace(store, root, attempt, source)
    attempt.note_inputs(_parameters_outside(attempt, definition, frozen) | laid)
    _hold_to_the_key(attempt, definition)
    # As DVC (3.67) a command finds no folder for what it makes.
    if not definition.commands:
        for output in definition.outputs:
            place = symlinks.in_folder(attempt.top, attempt.work / output.path)
            place.parent.mkdir(parents=True, exist_ok=True)
    return taken_later


def _lay_out_parent(
    repo: Repository, attempt: Attempt, definition: RunDefinition
) -> None:
    """Lay out what another experiment's training left, by its hashes, beside the work directory: it is no input.

    Raises
    ------
    CheckFailed
        If DVC's cache has lost it.
    """
    files = definition.parent.get("files") or {}
    if files:
        attempt.parent.mkdir(mode=ownership.OWN)
    for path, digest in files.items():
        if not repo.cache.check_out(digest, attempt.parent / path):
            what = f"{path} of what it goes on from is not in DVC's cache"
            way_out = "start it again: it is looked for anew"
            raise CheckFailed(
                what, where=f"{VERSIONS_FILE}: {RESUME_FROM}", next=way_out
            )


def _copy_parameter_files(root: Path, attempt: Attempt, files: Iterable[str]) -> None:
    for file in files:
        source, target = root / file, attempt.work / file
        # What git keeps a command has, with its mode; what a stage makes it lacks yet.
        if source.is_file() and not target.exists():
            _copy(attempt, source, target)
            # neural-lam warns of a dataset that is older than its configuration: by our
            # keys it never is.
            os.utime(target, (0, 0))


def take(
    store: RunStore,
    attempt: Attempt,
    definition: Mapping[str, Any],
    to_come: Mapping[str, str],
    links: Sequence[str],
) -> None:
    """Take the inputs that were yet to be made when the attempt was submitted.

    That its job has started proves nothing: Slurm (22.05) counts `afterok` on a job
    that it has forgotten as satisfied.

    Parameters
    ----------
    definition : mapping
        What defines the attempt's run.
    links : sequence of str
        DVC's ``cache.type``.

    Raises
    ------
    CheckFailed
        If one of them has not been made.
    """
    laid: dict[str, Described] = {}
    sources = [Input(path, key, None, tracked=True) for path, key in to_come.items()]
    spread = links if definition.get("commands") else None
    for source in sorted(sources, key=_outer_first):
        found = _from_store(store, source, _place_of(attempt, source.path), spread)
        if found is None:
            key = to_come[source.path]
            what = f"its input {source.path} was not made: run {key} of {store.run(key).stage} is not done"
            raise CheckFailed(what, next="mllam-exps status")
        laid[source.path] = found
    if laid:
        attempt.note_inputs(laid)


def _place_of(attempt: Attempt, path: str) -> Path:
    """Return where an input is, or goes to: not behind a link that leads away, unless it is there."""
    target = attempt.work / path
    return target if target.exists() else symlinks.in_folder(attempt.top, target)


def _outer_first(source: Input) -> tuple[str, ...]:
    """Order inputs so that a folder is laid out before a part of it that is an input, too."""
    return PurePosixPath(source.path).parts


def _hold_to_the_key(attempt: Attempt, definition: RunDefinition) -> None:
    """Refuse files that were edited between the moment when the key was made of them and this copy.

    Raises
    ------
    MllamError
        Naming the file.
    """
    what, way_out = "it was edited while the run was being started", "start it again"
    for file, values in definition.values.items():
        if file == VERSIONS_FILE:
            continue
        if not parameter_files.holds(attempt.work / file, values):
            raise MllamError(what, file, next=way_out)


def _copy_ignore_lists(root: Path, attempt: Attempt, definition: RunDefinition) -> None:
    """Bring what says which files do not count: the ``.dvcignore`` of the folders that inputs and outputs lie in."""
    paths = [source.path for source in definition.inputs]
    paths += [output.path for output in definition.outputs]
    folders: set[Path] = set()
    for path in paths:
        folders |= {*Path(path).parents}
    for folder in folders:
        source, target = root / folder / LIST, attempt.work / folder / LIST
        if source.is_file() and not target.exists():
            _copy(attempt, source, target)


def _from_store_or_cache(
    store: RunStore,
    repo: Repository,
    source: Input,
    target: Path,
    links: Sequence[str] | None,
) -> Described | None:
    """Lay out an input as the run store or DVC's cache has it, and describe it; None where neither has all of it."""
    found = _from_store(store, source, target, links)
    if found is not None or target.exists():
        return found
    return _from_cache(repo, source, target)


def _from_store(
    store: RunStore, source: Input, target: Path, links: Sequence[str] | None = None
) -> Described | None:
    """Lay out the outputs of the run that made the input, safe from ``dvc gc``, and describe them; None without.

    A folder is one link to all of it, for programs of ours, which only read; or it is
    spread, by DVC's `links`, for others.
    """
    if source.run is None:
        return None
    run, path = store.run(source.run), outputs.as_made(source.path)
    if run.result is None:
        return None
    known = outputs.known_digest(run, path)
    if None not in {source.digest, known} and source.digest != known:
        return None
    outputs.hold_to_what_was_made(run)
    found = outputs.description(run, path)
    if found is None:
        return None
    if target.exists():
        return found  # in a folder that is an input, too
    target.parent.mkdir(parents=True, exist_ok=True)
    if links is None and not outputs.holds_more(run, path):
        target.symlink_to(outputs.result_attempt(run).outputs / path)
        return found
    outputs.spread(run, path, target, links or ["symlink"])
    return marked(target, found)


def _from_cache(repo: Repository, source: Input, target: Path) -> Described | None:
    """Lay out what DVC's cache has of an input, and describe it; None where it lacks any of it."""
    # DVC's run cache keeps what stages make for git, too: metrics, say.
    is_kept = source.tracked or source.run
    if source.digest is None or not is_kept:
        return None
    if not repo.cache.check_out(source.digest, target, isexec=source.isexec):
        return None
    described = marked(target, repo.cache.describe(source.digest))
    isexec = {"isexec": True} if source.isexec else {}
    return described | isexec | {"cache": repo.cache.directory}


def _from_workspace(
    store: RunStore, root: Path, attempt: Attempt, source: Input
) -> Described:
    """Copy an input from the workspace, unless it is there already, and describe it.

    Raises
    ------
    CheckFailed
        If it is missing, or was edited between the moment when the key was made of it
        and this copy.
    """
    path, target = root / source.path, attempt.work / source.path
    if not target.exists():
        if not path.exists():
            if source.digest and (source.run or source.tracked):
                what = f"its input {source.path}, which DVC's cache had when it was submitted, is gone from there"
                raise CheckFailed(what, next=outputs.AGAIN)
            way_out = f"put it back, then {outputs.AGAIN}"
            if source.run:
                way_out = f"dvc repro {store.run(source.run).stage}, which makes it"
            raise CheckFailed(f"the input {source.path} is missing", next=way_out)
        _copy(attempt, path, target)
    found = describe(target, Counted(attempt.work).files)
    if source.digest not in {None, found["digest"]}:
        what = f"its input {source.path} changed since its run key was made"
        raise CheckFailed(what, next=outputs.AGAIN)
    return found


def _parameters_outside(
    attempt: Attempt, definition: RunDefinition, frozen: Mapping[str, str]
) -> dict[str, Described]:
    """Describe the parameter files behind links that lead out of the repository, which a command reads as a whole.

    Parameters
    ----------
    frozen : mapping
        What files held at submission: their hashes.

    Raises
    ------
    MllamError
        If one of them was changed since.
    """
    found: dict[str, Described] = {}
    for file in definition.params if definition.commands else ():
        led = symlinks.led(attempt.work, file)
        if led is None or not led.outside:
            continue
        described = describe(attempt.work / file)
        if described["digest"] != frozen.get(file, described["digest"]):
            what = "it was changed since the experiment was submitted"
            raise MllamError(what, file, led.sentence, outputs.AGAIN)
        found[file] = described | {"parameters": True}
    return found


def _copy_repository(
    root: Path, attempt: Attempt, definition: RunDefinition
) -> Mapping[str, str]:
    """Give a command that may read whatever git keeps a copy of it all, with git's and DVC's own folders.

    What stages make is not taken from git: it is what they made for another experiment.
    Who reads it names it in deps.

    Returns
    -------
    mapping
        The hashes of the files that define the results, where they were written down at
        submission.
    """
    top = next(folder for folder in (root, *root.parents) if (folder / ".git").exists())
    if top != root:
        attempt.work_in(root.relative_to(top))
    clones.copy(top, attempt.tree if top != root else attempt.work, linked=False)
    made = {output.path for output in definition.outputs}
    made |= {source.path for source in definition.inputs if source.run}
    draft = lockfile.read(top) if (top / lockfile.DRAFT).exists() else None
    made |= {*(draft.made if draft else ())}
    # Before the others: a folder is there as git has it, or not at all.
    for path in sorted(made, key=lambda one: PurePosixPath(one).name != ignored.FILE):
        place = attempt.work / path
        # What lies behind a link that leads away is no part of the copy.
        if not symlinks.leads_away(attempt.top, place):
            symlinks.clear(attempt.top, place)
            if place.name == ignored.FILE:
                _remove_empty(place.parent)
    for output in definition.outputs:
        _refuse_behind_a_link(attempt, output.path)
    return draft.frozen if draft else {}


def _refuse_behind_a_link(attempt: Attempt, path: str) -> None:
    """Refuse an output behind a link that leads away: `submit` does so by now; an older one may be tried again.

    Raises
    ------
    CheckFailed
        Naming it.
    """
    if symlinks.leads_away(attempt.top, attempt.work / path):
        led = symlinks.led(attempt.work, path)
        assert led is not None
        way_out = "have it written to a folder of the repository, and submit it again"
        raise CheckFailed(f"its output {path} {led.sentence}", next=way_out)


def _remove_empty(folder: Path) -> None:
    """Remove a folder, and those that it lies in, as far as they are empty."""
    with contextlib.suppress(OSError):
        for one in (folder, *folder.parents):
            one.rmdir()


def _copy(attempt: Attempt, path: Path, target: Path) -> None:
    symlinks.clear(attempt.top, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copyfile(path, target)
