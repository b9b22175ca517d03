"""What a stage made for another experiment: found by the experiment's name, and fetched into DVC's cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import ask_git
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.lockfile import FILE
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import experiment_refs
from mllam_exps.dvc.saved.commits import Commit


def commit_of(origin: Path, name: str) -> Commit | None:
    """Return the commit that a name stands for: a DVC experiment's, else a revision of git's; None where it is none.

    Of several experiments of one name, that which starts from the commit that is
    checked out counts, as for `dvc exp apply`.

    Raises
    ------
    UsageError
        If several experiments have the name, and none of them starts from there.
    """
    found = [one for one in experiment_refs.saved(origin) if one.name == name]
    if len(found) > 1:
        head = ask_git(origin, "rev-parse", "HEAD")
        here = [one for one in found if one.starts_from(head)]
        if not here:
            known = ", ".join(one.commit[:10] for one in found)
            raise UsageError(
                f"{len(found)} experiments are called so, and none of them starts from the commit that is checked out",
                name,
                next=f"name the commit: one of {known}",
            )
        found = here
    for one in found:
        return Commit(origin, one.commit)
    revision = ask_git(
        origin, "rev-parse", "--verify", "-q", "--end-of-options", f"{name}^{{commit}}"
    )
    return Commit(origin, revision) if revision else None


def names_with(origin: Path, digest: str) -> list[str]:
    """Return the experiments, by name, and ``HEAD``, in whose ``dvc.lock`` an output's hash stands."""
    named = {"HEAD": "HEAD"}
    for one in experiment_refs.saved(origin):
        named[one.ref] = one.name
    prefix = ask_git(origin, "rev-parse", "--show-prefix")
    where = f":(top,literal){prefix}{FILE}"
    told = ask_git(origin, "grep", "-lF", "-e", digest, *named, "--", where)
    return [
        named[ref]
        for line in told.splitlines()
        if (ref := line.partition(":")[0]) in named
    ]


def files_of(
    repo: Repository, commit: Commit, stage: str, paths: Iterable[str]
) -> dict[str, str]:
    """Return the hashes of files that a stage made for a commit, all of them in DVC's cache from now on.

    Parameters
    ----------
    repo : Repository
        Whose cache, and whose remotes.
    paths : iterable of str
        Outputs, or files in outputs that are folders; those that there are not are left
        out.

    Raises
    ------
    UsageError
        If one of them is neither in the cache nor in a remote.
    """
    made = commit.made(stage)
    found: dict[str, str] = {}
    for path in paths:
        out = next(
            (out for out in made if path == out or path.startswith(f"{out}/")), None
        )
        if out is None:
            continue
        digest = _file_in(repo, commit, stage, out, made[out], path)
        if digest is not None:
            found[path] = digest
    return found


def _file_in(  # noqa: PLR0917 - which file, of which output, of which commit
    repo: Repository, commit: Commit, stage: str, out: str, digest: str, path: str
) -> str | None:
    """Return the hash of a file that is an output or lies in one; None where there is none."""
    if not repo.cache.is_sound(digest):
        # What is damaged is in the way of what a remote has, and would be refused by
        # the job's own look only.
        repo.cache.drop_damaged({digest: None})
        repo.cache.drop_damaged(repo.cache.objects(digest))
        _bring(repo, commit, stage, out, digest)
    if path == out:
        return digest
    for file in repo.cache.folder(digest) or ():
        if f"{out}/{file['relpath']}" == path:
            return str(file["md5"])
    return None


def _bring(repo: Repository, commit: Commit, stage: str, out: str, digest: str) -> None:
    """Bring an output into the cache: git keeps it, or a remote does."""
    import hashlib

    kept = commit.text(out)
    if kept is not None:
        content = kept.encode(errors="surrogateescape")
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == digest:
            repo.cache.add_content(digest, content)
            return
    try:
        repo.refuse_unreadable_index()
        repo.opened.fetch(targets=[out], revs=[commit.revision], workspace=False)
        why = "no remote of DVC's has it either"
    except Exception as error:  # each of DVC's remotes has its own
        why = str(error) or type(error).__name__
    if not repo.cache.holds_all(digest):
        where = f"{out} of stage {stage} at {commit.revision[:10]}"
        raise UsageError("it is not in DVC's cache", where, why, _way_out(commit, out))


def lay_out(
    repo: Repository,
    commit: Commit,
    out: str,
    target: Path,
    wanted: Callable[[str], bool] = lambda _file: True,
    *,
    copied: bool = False,
) -> None:
    """Lay out a folder that a stage made for a commit, or those of its files that are wanted.

    What the cache lacks of them is fetched, and nothing else.

    Parameters
    ----------
    wanted : callable
        Is asked for each file, by its path in the folder.
    copied : bool
        Whether files have to be copies, and no links into the cache.

    Raises
    ------
    UsageError
        If it is neither in the cache nor in a remote.
    """
    digest = commit.outputs.get(out)
    if digest is None:
        what = f"its dvc.lock does not say that {out} was made"
        way_out = "mllam-exps list: one of which all stages were run"
        raise UsageError(what, commit.revision[:10], next=way_out)
    listed = repo.cache.folder(digest)
    if listed is None:
        # The list of its files comes with any one of them.
        _fetch(repo, commit, [f"{out}/zarr.json", f"{out}/.zmetadata"])
        listed = repo.cache.folder(digest)
    if listed is None:
        _fetch(repo, commit, [out])
        listed = repo.cache.folder(digest)
    files = {
        str(file["relpath"]): str(file["md5"])
        for file in listed or ()
        if wanted(str(file["relpath"]))
    }
    if lacking := [file for file in files if not repo.cache.holds(files[file])]:
        _fetch(repo, commit, [f"{out}/{file}" for file in lacking])
    for file, md5 in files.items():
        if not _brought(repo.cache, md5, target / file, copied=copied):
            files = {}
            break
    if not files:
        where = f"{out} at {commit.revision[:10]}"
        raise UsageError("it is not in DVC's cache", where, next=_way_out(commit, out))


def _brought(cache: Cache, md5: str, place: Path, *, copied: bool) -> bool:
    if not copied:
        return cache.check_out(md5, place)
    cache.hold_to_its_name(md5, place.name)
    if found := cache.holds(md5):
        cache.copy(md5, place)
    return found


def lay_out_needed(
    repo: Repository,
    commit: Commit,
    folder: Path,
    files: Iterable[str],
    outputs: Callable[[Path], Iterable[tuple[str, str, Callable[[str], bool]]]],
    *,
    copied: bool = False,
) -> None:
    """Lay out what a program needs of an experiment.

    Parameters
    ----------
    files : iterable of str
        Those of the commit, which need not be there.
    outputs : callable
        Is called when they lie in the folder; tells the output, its place in the
        folder, and what is wanted of it.

    Raises
    ------
    UsageError
        If one is neither in the cache nor in a remote.
    """
    commit.lay_out(files, folder)
    for out, place, wanted in outputs(folder):
        lay_out(repo, commit, out, folder / place, wanted, copied=copied)


def _way_out(commit: Commit, out: str) -> str:
    """Return what helps where neither the cache nor a remote has an output.

    It may come out otherwise when it is made again, and the commit would not name that.
    """
    fetched = (
        f"dvc exp pull REMOTE EXP, or dvc fetch -A {out}, where it was made and pushed"
    )
    known = [one.commit for one in experiment_refs.saved(commit.origin)]
    is_applied = commit.revision in known
    brought = "dvc exp apply" if is_applied else "git switch --detach"
    anew = f"{brought} {commit.revision[:10]}; dvc exp run -n NEW"
    return f"{fetched}; or make it anew, as another experiment, and name that: {anew}"


def _fetch(repo: Repository, commit: Commit, targets: list[str]) -> None:
    # Each of DVC's remotes has its own exceptions; what has come is looked at.
    with contextlib.suppress(Exception):
        repo.refuse_unreadable_index()
        repo.opened.fetch(targets=targets, revs=[commit.revision], workspace=False)


def adopt(cache: Cache, checkpoint: Path) -> str:
    """Bring a file from anywhere into the cache, and return its hash.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    from mllam_exps.identity.content import md5_of_file

    try:
        digest = md5_of_file(checkpoint)
        if not cache.holds(digest):
            cache.copy_in(digest, checkpoint)
    except OSError as error:
        raise UsageError(
            "cannot be read", str(checkpoint), error.strerror or ""
        ) from error
    return digest
