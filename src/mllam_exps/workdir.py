"""Lays out an attempt's work directory as the repository: what the program reads, frozen where the run store keeps it.

The workspace that asked may be gone while the program runs (DVC removes its temporary ones), or have other parameters
by then; nothing in the work directory points into it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps import clones, outputs
from mllam_exps.definition import VERSIONS_FILE, Input, same
from mllam_exps.errors import CheckFailed, MllamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dvc.repo import Repo

    from mllam_exps.definition import RunDefinition
    from mllam_exps.store import Attempt, RunStore


def lay_out(  # noqa: PLR0917 - who, where, and what
    repo: Repo,
    root: Path,
    store: RunStore,
    attempt: Attempt,
    definition: RunDefinition,
    files: Iterable[str],
    *,
    ahead: bool = False,
) -> dict[str, str]:
    """Give the attempt its inputs.

    Parameters
    ----------
    repo, root
        DVC's repository, for its cache, and the checkout that the files are taken from.
    ahead : bool
        Whether runs that make its inputs may still be at work: the attempt then takes those itself (`take`).
    files : iterable of str
        The parameter files, which every program may read; absent ones are left out. Those that the stage tracks come
        along in any case.

    Returns
    -------
    dict
        The inputs that are yet to be made, by path: the keys of the runs that make them.

    Raises
    ------
    CheckFailed
        If an input is missing; it is named, with the command that makes it.
    """
    if definition.commands:
        _copy_repository(root, attempt, definition)
    for file in {*files, *definition.params}:
        if (root / file).is_file():
            _copy(root / file, attempt.work / file)
            # neural-lam warns of a dataset that is older than its configuration: by our keys it never is.
            os.utime(attempt.work / file, (0, 0))
    to_come: dict[str, str] = {}
    for source in definition.inputs:
        target = attempt.work / source.path
        if target.exists():
            continue
        if _from_store(store, source, target, spread=bool(definition.commands)) or _from_cache(repo, source, target):
            continue
        if ahead and source.run:
            to_come[source.path] = source.run
        else:
            _from_workspace(store, root, source, target)
    _hold_to_the_key(repo, attempt, definition)
    for output in definition.outputs:
        (attempt.work / output.path).parent.mkdir(parents=True, exist_ok=True)
    return to_come


def take(store: RunStore, attempt: Attempt, to_come: Mapping[str, str]) -> None:
    """Take the inputs that were yet to be made when the attempt was submitted.

    That its job has started proves nothing: Slurm (22.05) counts `afterok` on a job that it has forgotten as satisfied.

    Raises
    ------
    CheckFailed
        If one of them has not been made.
    """
    spread = bool((attempt.run.definition or {}).get("commands"))
    for path, key in to_come.items():
        if not _from_store(store, Input(path, key, None, tracked=True), attempt.work / path, spread=spread):
            makes = store.run(key).stage
            raise CheckFailed(
                f"its input {path} was not made: run {key} of {makes} is not done", next="mllam-exps status"
            )


def _hold_to_the_key(repo: Repo, attempt: Attempt, definition: RunDefinition) -> None:
    """Refuse files that were edited between the moment when the key was made of them and this copy.

    Raises
    ------
    MllamError
        Naming the file.
    """
    changed = [
        file
        for file, values in definition.values.items()
        if file != VERSIONS_FILE and not _holds(attempt.work / file, values)
    ]
    changed += [
        source.path
        for source in definition.inputs
        if not (source.tracked or source.run) and source.digest != _digest(repo, attempt.work, source.path)
    ]
    if changed:
        raise MllamError("it was edited while the run was being started", where=changed[0], next="start it again")


def _holds(file: Path, values: Mapping[str, Any]) -> bool:
    """Tell whether a parameter file says what DVC read from it: values by (dotted) name, or all that stands in it."""
    from dvc.dependency.param import read_param_file
    from dvc.exceptions import DvcException
    from dvc_objects.fs.local import localfs

    try:
        found = read_param_file(localfs, str(file), list(values), flatten=True)
        return same(found, values) or same(read_param_file(localfs, str(file)), values)
    except (DvcException, OSError, ValueError):
        return False


def ignored(root: Path) -> list[str]:
    """Return the patterns of the repository's ``.dvcignore``; those in folders below it are for DVC alone."""
    file = root / ".dvcignore"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _digest(repo: Repo, work: Path, path: str) -> str:
    """Return the digest of what DVC sees: what ``.dvcignore`` names does not count."""

    def counts(file: Path) -> bool:
        return not repo.dvcignore.is_ignored_file(str(Path(repo.root_dir, file.relative_to(work))))

    return str(outputs.describe(work / path, counts)["digest"])


def _from_store(store: RunStore, source: Input, target: Path, *, spread: bool = False) -> bool:
    """Link to the outputs of the run that made the input: no bytes, and safe from ``dvc gc``.

    A folder is one link to all of it, for programs of ours, which only read; or it is `spread`, for others.
    """
    if source.run is None:
        return False
    run = store.run(source.run)
    result = run.result
    known = outputs.known_digest(run, source.path)
    if result is None or (source.digest and known and source.digest != known):
        return False
    made = outputs.result_attempt(run).outputs / source.path
    if not made.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if spread:
        outputs.spread(run, source.path, target)
    else:
        target.symlink_to(made)
    return True


def _from_cache(repo: Repo, source: Input, target: Path) -> bool:
    if not source.tracked or source.digest is None:
        return False
    return outputs.check_out(repo, source.digest, target)


def _from_workspace(store: RunStore, root: Path, source: Input, target: Path) -> None:
    path = root / source.path
    if not path.exists():
        makes = f"dvc repro {store.run(source.run).stage}" if source.run else "dvc checkout"
        raise CheckFailed(f"the input {source.path} is missing", next=f"{makes} makes it")
    _copy(path, target)


def _copy_repository(root: Path, attempt: Attempt, definition: RunDefinition) -> None:
    """Give a command that may read whatever git keeps a copy of it all, with git's and DVC's own folders.

    What other stages make, and what this one did before, is not taken from git.
    """
    top = next(folder for folder in (root, *root.parents) if (folder / ".git").exists())
    if top != root:
        attempt.work_in(root.relative_to(top))
    clones.copy(top, attempt.tree if top != root else attempt.work, linked=False)
    for path in [*(i.path for i in definition.inputs if i.run), *(o.path for o in definition.outputs)]:
        made = attempt.work / path
        if made.is_dir() and not made.is_symlink():
            shutil.rmtree(made)
        else:
            made.unlink(missing_ok=True)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copyfile(path, target)
