"""What a stage reads, and by what each of its inputs is known: by the run that makes it, or by its content."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc import ignored
from mllam_exps.dvc.graph import Dep, Out, StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages import sources
from mllam_exps.dvc.stages.results import Known
from mllam_exps.identity.content import md5_of_file
from mllam_exps.identity.definition import Input
from mllam_exps.machines import workspace


@dataclass(frozen=True)
class Inputs:
    """The inputs of the stages of one workspace.

    Parameters
    ----------
    repository : Repository
        The opened repository.
    as_it_lies : bool
        Whether an input that a stage makes is what lies in the workspace; see
        `Pipeline`.
    content : callable
        Given the path of an input that no stage makes, the digest of what it holds.
    key_of : callable
        Given the name of a stage, its run key.
    known_result : callable
        Given a run key and a path, the digest that the run store knows, or None.
    known_to_dvc : callable
        Given the name of a stage, the outputs that DVC knows of it.
    in_order : callable
        Given names of stages, these and those that they need, each behind those whose
        outputs it reads.
    """

    repository: Repository
    as_it_lies: bool
    content: Callable[[str], str]
    key_of: Callable[[str], str]
    known_result: Callable[[str, str], str | None]
    known_to_dvc: Callable[[str], Known]
    in_order: Callable[[Iterable[str]], list[str]]

    def of(self, stage: StageEntry) -> tuple[Input, ...]:
        """Return what a stage reads.

        Raises
        ------
        MllamError
            With everything that is wrong with any of them.
        """
        found: list[Input] = []
        problems: list[MllamError] = []
        for dep in stage.deps:
            try:
                found += self._meant_by(dep, stage)
            except UsageError as problem:
                problems.append(_of_stage(problem, stage.name))
        if problems:
            raise problems[0] if len(problems) == 1 else Problems(problems=problems)
        return tuple(found)

    def _meant_by(self, dep: Dep, reader: StageEntry) -> Iterator[Input]:
        """Yield what a dependency means: itself; or, where it is a folder with outputs in it, each of these."""
        inside = self._inside(dep)
        for stage, out in inside:
            yield self.made(relative(self.repository, out.path), stage, out)
        if inside:
            yield from self._beside(dep, reader, [out for _, out in inside])
            return
        makers = self.repository.graph.makers(dep.path)
        path = relative(self.repository, dep.path)
        if makers:
            yield self.made(path, *makers[0])
        else:
            digest = self._digest_of_ignoring(dep, path) or self.content(path)
            yield Input(path, None, digest, tracked=False)

    def _inside(self, dep: Dep) -> list[tuple[StageEntry, Out]]:
        """Return the outputs that lie in a folder, each with its stage."""
        makers = self.repository.graph.makers(dep.path)
        folder = Path(dep.path)
        return [
            (stage, out) for stage, out in makers if folder in Path(out.path).parents
        ]

    def _beside(
        self, dep: Dep, reader: StageEntry, outs: Sequence[Out]
    ) -> Iterator[Input]:
        """Yield the files of a folder that no stage makes, beside the outputs in it."""
        made = {Path(out.path) for out in outs}
        become = self._ignoring(dep)
        files = {str(self.repository.root / path) for path in become}
        if os.path.lexists(dep.path):
            files |= {*sources.files_of(self.repository, Path(dep.path))}
        for file in sorted(files):
            path = Path(file)
            # Programs of ours read files that they know.
            if path.name == ignored.FILE and reader.is_ours:
                continue
            if made.isdisjoint({path, *path.parents}):
                name = relative(self.repository, file)
                digest = _md5(become[name]) if name in become else md5_of_file(path)
                yield Input(name, None, digest, tracked=False)

    def ignoring(self, stage: StageEntry) -> dict[str, bytes]:
        """Return what the ``.gitignore`` files that a stage's commands read will hold, where that is not there yet."""
        found: dict[str, bytes] = {}
        for dep in stage.deps:
            if not stage.is_ours or Path(dep.path).name == ignored.FILE:
                found |= self._ignoring(dep)
        return found

    def _digest_of_ignoring(self, dep: Dep, path: str) -> str | None:
        """Return the digest of a ``.gitignore`` file with outputs beside it, when these are made; None for others."""
        place = Path(dep.path)
        if place.name != ignored.FILE or not self._made_beside(dep):
            return None
        become = self._ignoring(dep)
        if path in become:
            return _md5(become[path])
        is_there = place.is_file() and not self._is_left_out(place)
        return md5_of_file(place) if is_there else None

    def _ignoring(self, dep: Dep) -> dict[str, bytes]:
        """Return what becomes of the ``.gitignore`` files in a folder when the outputs in it have been made.

        Or of a ``.gitignore`` file that is an input itself.
        """
        made = [(s, out) for s, out in self._inside(dep) if not s.is_added]
        if Path(dep.path).name == ignored.FILE:
            made = self._made_beside(dep)
        order = self.in_order(dict.fromkeys(stage.name for stage, _ in made))
        made.sort(key=lambda one: order.index(one[0].name))
        outs = [relative(self.repository, out.path) for _, out in made if out.cached]
        become = ignored.after(self.repository.root, outs)
        return {
            path: content
            for path, content in become.items()
            if not self._is_left_out(self.repository.root / path)
        }

    def _is_left_out(self, place: Path) -> bool:
        """Tell whether ``.dvcignore`` names a file."""
        repo = self.repository.opened
        return bool(repo.dvcignore.is_ignored(repo.fs, str(place)))

    def _made_beside(self, dep: Dep) -> list[tuple[StageEntry, Out]]:
        """Return the outputs beside a file, each with its stage: also those of stages behind the one that reads it.

        With DVC (3.67) that stage runs again until it has seen the lines of all.
        """
        found: list[tuple[StageEntry, Out]] = []
        for stage in self.repository.graph.stages.values():
            for out in stage.outs if not stage.is_elsewhere else ():
                if Path(out.path).parent == Path(dep.path).parent:
                    found.append((stage, out))
        return found

    def made(self, path: str, stage: StageEntry, out: Out) -> Input:
        """Describe an output, or a part of one, that is an input.

        Parameters
        ----------
        path : str
            The input, seen from the repository's root.
        stage, out
            Who makes it, or that it was added with `dvc add`.
        """
        place = self.repository.root / path
        if stage.is_bookkeeping and place.is_file():
            # No run makes it.
            return Input(path, None, md5_of_file(place), tracked=False)
        lies = None
        if self.as_it_lies and place.exists():
            lies = sources.content_of(self.repository, place).to_record()
        if stage.is_added:
            _refuse_of_dvc_2(path, stage, out)
            return self._added(path, lies)
        return self._of_run(path, stage, out, lies)

    def _added(self, path: str, lies: dict[str, Any] | None) -> Input:
        """Describe an input that was added with `dvc add`.

        The hash in the .dvc file is its content: hashing terabytes again would tell no
        more.
        """
        described = lies or self.described(path) or {"digest": self.content(path)}
        return _in_cache(path, None, described)

    def _of_run(
        self, path: str, stage: StageEntry, out: Out, lies: dict[str, Any] | None
    ) -> Input:
        """Describe an input that a run makes.

        Parameters
        ----------
        lies : dict or None
            What lies in the workspace, where that counts.
        """
        key = self.key_of(stage.name)
        known = self.known_result(key, path)
        if lies is None:
            # What the run store has is asked when it is laid out: a result may be about
            # to be made again.
            by_dvc = None if known else self._known_to_dvc(stage, path)
            return _in_cache(path, key, by_dvc or {}, tracked=out.cached)
        by_dvc = None if known else self._known_to_dvc(stage, path)
        if lies["digest"] == (known or (by_dvc or {}).get("digest")):
            return _in_cache(path, key, lies, tracked=out.cached)
        # The stage would make something else of the files as they are: it counts as
        # what it is.
        return _in_cache(path, None, lies)

    def _known_to_dvc(self, stage: StageEntry, path: str) -> dict[str, Any] | None:
        """Describe an output, or a part of one, where DVC knows the stage's result."""
        for whole, described in self.known_to_dvc(stage.name).items():
            if path == whole:
                return described
            if path.startswith(f"{whole}/"):
                inside = path.removeprefix(f"{whole}/")
                return self.repository.cache.part(described["digest"], inside)
        return None

    def described(self, path: str) -> dict[str, Any] | None:
        """Describe an input that was added with `dvc add`, or a part of one, by its ``.dvc`` file; else None."""
        place = self.repository.root / path
        for stage, out in self.repository.graph.makers(str(place)):
            if not stage.is_added or not out.digest:
                continue
            whole = Path(out.path)
            if whole == place:
                found = {"digest": out.digest, "size": out.size, "files": out.files}
                return found | ({"isexec": True} if out.isexec else {})
            if whole in place.parents:
                inside = place.relative_to(whole).as_posix()
                return self.repository.cache.part(out.digest, inside)
        return None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _in_cache(
    path: str, key: str | None, described: dict[str, Any], *, tracked: bool = True
) -> Input:
    return Input(
        path,
        key,
        described.get("digest"),
        tracked=tracked,
        isexec=bool(described.get("isexec")),
    )


def _refuse_of_dvc_2(path: str, stage: StageEntry, out: Out) -> None:
    """Refuse data that DVC 2 added: two files that differ in their line ends have one hash there.

    Raises
    ------
    UsageError
        With the command of DVC's (3.67) that gives them hashes of their own.
    """
    if out.is_of_dvc_2:
        why = f"{stage.name} was written by DVC 2, whose hash leaves line ends out"
        way_out = "dvc cache migrate --dvc-files, and commit what it changes"
        raise UsageError("no run can be known by this input", path, why, way_out)


def relative(repository: Repository, path: str) -> str:
    """Return a path as seen from the repository's root.

    Raises
    ------
    UsageError
        If it lies elsewhere.
    """
    if Path(path).is_relative_to(repository.root):
        return repository.relative(path)
    if inside := _in_the_origin(repository, path):
        what = "dvc.yaml names it by a path from `/`"
        why = "a job works in a copy of what git tracks, and would take it from here, where you may edit it"
        way_out = f"name it as it is seen from the stage's folder; it is {inside} in the repository"
        raise UsageError(what, path, why, way_out)
    what = "lies outside of the repository, and no run can be known by it"
    shown = path
    if "://" not in path:
        # The root may be a clone's, of which nobody knows.
        shown = min(path, os.path.relpath(path, repository.root), key=len)
    # A dataset (`ds://…`, DVC 3.67) has a name alone.
    from_where = "URL" if path.startswith("ds://") else shlex.quote(shown)
    way_out = f"dvc import-url {from_where}, and name in dvc.yaml the copy that it makes in the repository"
    raise UsageError(what, shown, "dvc.yaml names it", way_out)


def _in_the_origin(repository: Repository, path: str) -> str:
    """Return where a path from `/` lies in the repository that this is a clone of; empty where it does not."""
    if "://" in path:
        return ""
    origin = workspace.origin_root(repository.root, os.environ)
    real = os.path.realpath(path)
    shared = Path(os.path.commonpath([real, os.path.realpath(repository.root)]))
    if shared != origin and shared.is_relative_to(origin):
        return ""  # `../x`, as seen from a clone that lies in the repository's cache
    inside = os.path.relpath(real, origin)
    return "" if inside.partition("/")[0] == ".." else inside


def _of_stage(problem: UsageError, stage: str) -> UsageError:
    """Return what is wrong with an input, with the stage that reads it."""
    where = f"dvc.yaml: {stage}" if problem.where == "dvc.yaml" else problem.where
    return UsageError(problem.what, where, problem.why, problem.next)
