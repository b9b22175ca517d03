"""What a stage made for another experiment: found by the experiment's name, and fetched into DVC's cache."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import ask_git, git, run_git
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.lockfile import FILE
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.listings import is_digest

_EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/([^/]+)")


@dataclass(frozen=True)
class Commit:
    """One commit of the repository that DVC works in.

    Parameters
    ----------
    origin : Path
        The DVC repository.
    prefix : str
        Where that is in git's, ``sub/`` say.
    revision : str
        The commit's hash.
    """

    origin: Path
    prefix: str
    revision: str

    def text(self, path: str) -> str | None:
        """Return what a file of it holds, seen from the DVC repository; None where it has none."""
        done = run_git(self.origin, "show", f"{self.revision}:{self.prefix}{path}")
        return done.stdout if done.returncode == 0 else None

    def lay_out(self, paths: Iterable[str], folder: Path) -> None:
        """Write those of its files that it has below a folder."""
        for path in paths:
            text = self.text(path)
            if text is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")

    def made(self, stage: str) -> dict[str, str]:
        """Return the hashes of what a stage made, by path as ``dvc.yaml`` names it; empty where it made nothing."""
        entry = self._lock_entry(stage)
        outs = entry.get("outs")
        found: dict[str, str] = {}
        for out in outs if isinstance(outs, list) else ():
            if isinstance(out, Mapping) and is_digest(out.get("md5")):
                found[str(out.get("path"))] = str(out["md5"])
        return found

    def _lock_entry(self, stage: str) -> Mapping[str, Any]:
        try:
            lock = yaml.safe_load(self.text(FILE) or "")
        except yaml.YAMLError:
            return {}
        stages = lock.get("stages") if isinstance(lock, Mapping) else None
        entry = stages.get(stage) if isinstance(stages, Mapping) else None
        return entry if isinstance(entry, Mapping) else {}


def commit_of(origin: Path, name: str) -> Commit | None:
    """Return the commit that a name stands for: a DVC experiment's, else a revision of git's; None where it is none.

    Of several experiments of one name, that which starts from the commit that is
    checked out counts, as for `dvc exp apply`.

    Raises
    ------
    UsageError
        If several experiments have the name, and none of them starts from there.
    """
    prefix = ask_git(origin, "rev-parse", "--show-prefix")
    found = _experiments(origin, name)
    if len(found) > 1:
        head = ask_git(origin, "rev-parse", "HEAD")
        here = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
        if here not in found:
            known = ", ".join(commit[:10] for commit in found.values())
            raise UsageError(
                f"{len(found)} experiments are called so, and none of them starts from the commit that is checked out",
                name,
                next=f"name the commit: one of {known}",
            )
        found = {here: found[here]}
    for commit in found.values():
        return Commit(origin, prefix, commit)
    revision = ask_git(
        origin, "rev-parse", "--verify", "-q", "--end-of-options", f"{name}^{{commit}}"
    )
    return Commit(origin, prefix, revision) if revision else None


def _experiments(origin: Path, name: str) -> dict[str, str]:
    """Return the commits of the experiments of a name, by ref."""
    found: dict[str, str] = {}
    for ref, (commit, own) in _all_experiments(origin).items():
        if own == name:
            found[ref] = commit
    return found


def _all_experiments(origin: Path) -> dict[str, tuple[str, str]]:
    """Return the commit and the name of each experiment, by ref."""
    form = "--format=%(objectname) %(refname)"
    found: dict[str, tuple[str, str]] = {}
    for line in git(origin, "for-each-ref", form, "refs/exps/").splitlines():
        commit, _, ref = line.partition(" ")
        if match := _EXPERIMENT.fullmatch(ref):
            found[ref] = commit, match[1]
    return found


def names_with(origin: Path, digest: str) -> list[str]:
    """Return the experiments, by name, and ``HEAD``, in whose ``dvc.lock`` an output's hash stands."""
    named = {"HEAD": "HEAD"}
    for ref, (_, name) in _all_experiments(origin).items():
        named[ref] = name
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
    if not repo.cache.holds_all(digest):
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
        repo.opened.fetch(targets=[out], revs=[commit.revision], workspace=False)
        why = "no remote of DVC's has it either"
    except Exception as error:  # each of DVC's remotes has its own
        why = str(error) or type(error).__name__
    if not repo.cache.holds_all(digest):
        where = f"{out} of stage {stage} at {commit.revision[:10]}"
        way_out = f"dvc exp pull REMOTE EXP, or dvc fetch -A {out}, where it was made and pushed"
        raise UsageError("it is not in DVC's cache", where, why, way_out)


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
