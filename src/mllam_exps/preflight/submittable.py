"""Which stages a job can run, and which files it would find: all that is wrong with any of them is told at once."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from mllam_exps import stages
from mllam_exps.base import git, symlinks
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.base.symlinks import Led
from mllam_exps.dvc import lockfile
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages import results
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.identity.run_keys import SAVE, key_of
from mllam_exps.machines import workspace
from mllam_exps.machines.way_in import way_in
from mllam_exps.preflight import lost_links, named_files
from mllam_exps.repository import checkouts, clones

LONGEST_KEY = 200
"""Letters of a run key: names of files begin with it, and have 255 bytes at most."""

_ELSEWHERE = "dvc cache dir FOLDER keeps what is large on another disk"


class StageChecks:
    """Looks at the stages of one submission.

    Parameters
    ----------
    root : Path
        The repository in which it is typed.
    note : callable
        Is told what a user should know, and what stops nothing.
    """

    def __init__(self, root: Path, note: Callable[[str], None]) -> None:
        self.root = root
        self.note = note
        self._untracked: list[str] | None = None
        self._tracked: dict[str, str] = {}

    def definitions(
        self, pipeline: Pipeline, asked: Iterable[str]
    ) -> dict[str, RunDefinition]:
        """Return what defines the runs of all stages asked for, but for those that make no result.

        Raises
        ------
        Problems
            With what is wrong with any of them: no job can run it, or its inputs are
            missing.
        """
        found: dict[str, RunDefinition] = {}
        problems: list[MllamError] = []
        for stage in asked:
            problems += _problems(lambda: self._check(pipeline, stage))  # noqa: B023 - called at once
            if not pipeline.stage(stage).is_bookkeeping:
                problems += _problems(
                    lambda: found.update(_of_all_phases(pipeline, stage))  # noqa: B023
                )
        told = {
            str(problem): problem for problem in problems
        }  # a stage behind another one needs its definition, too
        if told:
            raise Problems(problems=list(told.values()))
        return found

    def _check(self, pipeline: Pipeline, stage: str) -> None:
        """Refuse a stage that no job can run; note what a user should know of one that is not ours.

        Raises
        ------
        UsageError
            Naming it.
        """
        found = pipeline.stage(stage)
        _refuse_what_is_no_stage_of_ours(found)
        lost_links.refuse_folder(pipeline.repository, found, self.root)
        refuse_outputs_behind_links(pipeline.repository, found, self.root)
        self._refuse_outputs_of_git(pipeline, found)
        self._refuse_outputs_in_submodules(pipeline, found)
        for file in found.params:
            path, real = pipeline.relative(file.path), os.path.realpath(file.path)
            refuse_links_to_outputs(pipeline.repository, path, [real], self.root)
        if found.frozen and not pipeline.known_to_dvc(stage):
            why = "its result is not that of the files as they are, and DVC would take it all the same"
            raise UsageError(
                "is frozen",
                f"dvc.yaml: {stage}",
                why,
                f"dvc unfreeze {stage}, or dvc exp run",
            )
        if not found.is_ours:
            self._check_own_command(pipeline, found)
        elif not found.is_plain:
            why = "its job would run something else than DVC does"
            way_out = f"have its cmd be `mllam-exps run {stage}`, and put what else it does into a stage of its own"
            raise UsageError(
                "calls `mllam-exps run` beside other things",
                f"dvc.yaml: {stage}",
                why,
                way_out,
            )
        elif not found.is_bookkeeping:
            stages.get(stage)  # which refuses one without a program
        if results.may_be_known(found) and not found.is_bookkeeping:
            self._note_what_dvc_overlooks(pipeline, stage)

    def _note_what_dvc_overlooks(self, pipeline: Pipeline, stage: str) -> None:
        """Say of parameters that DVC's run cache leaves out that DVC may take a result of other values."""
        overlooked = results.overlooked_by_dvc(pipeline.parameters_of(stage))
        if overlooked:
            names = " or ".join(sorted(results.BLIND))
            self.note(
                f"DVC's run cache (3.67) overlooks what is called {names}: dvc repro and dvc exp run may take a result"
                f" of {stage} that was made with another {', '.join(overlooked)}; jobs do not. Another name helps"
            )

    def _refuse_outputs_of_git(self, pipeline: Pipeline, found: StageEntry) -> None:
        """Refuse a stage whose output DVC's cache is to hold while git tracks it, or a file in it, as DVC (3.67) does.

        Raises
        ------
        Problems
            Naming each output, and how git stops tracking it.
        """
        problems: list[MllamError] = []
        for out in () if found.is_added else found.outs:
            path = pipeline.repository.relative(out.path)
            if not out.cached or Path(path).is_absolute():
                continue
            if path not in self._tracked:
                words = ("ls-files", "-z", "--", f":(literal){path}")
                listed = git.run_git(self.root, *words).stdout
                self._tracked[path] = listed.partition("\0")[0]
            if tracked := self._tracked[path]:
                is_itself = tracked == path
                what = f"its output {path} is tracked by git"
                if not is_itself:
                    what = f"in its output {path} git tracks {git.shown(tracked)}"
                why = "an output belongs to git or to DVC's cache, not to both"
                typed = workspace.typed(self.root, path)
                way_out = f'git rm -r --cached {typed}; git commit -m "Leave {path} to DVC"; or cache: false in outs'
                where = f"dvc.yaml: {found.name}"
                problems.append(UsageError(what, where, why, way_out))
        if problems:
            raise Problems(problems=problems)

    def _refuse_outputs_in_submodules(
        self, pipeline: Pipeline, found: StageEntry
    ) -> None:
        """Refuse a stage whose output lies in a git repository inside: no commit of this one keeps a file there.

        Raises
        ------
        Problems
            Naming each output, and that repository.
        """
        problems: list[MllamError] = []
        for out in () if found.is_added else found.outs:
            path = pipeline.repository.relative(out.path)
            for folder in Path(path).parents[:-1]:  # the last is the repository
                if folder.as_posix() not in self._submodules:
                    continue
                what = (
                    f"its output {path} lies in {folder}, a git repository of its own"
                )
                why = "of that an experiment records which commit is checked out, and no other file"
                way_out = f"name a place outside of {folder} in outs"
                where = f"dvc.yaml: {found.name}"
                problems.append(UsageError(what, where, why, way_out))
        if problems:
            raise Problems(problems=problems)

    @cached_property
    def _submodules(self) -> frozenset[str]:
        return frozenset(checkouts.submodules(self.root))

    def _check_own_command(self, pipeline: Pipeline, found: StageEntry) -> None:
        """Refuse a command of one's own that no job can run; note what a user should know of it.

        Raises
        ------
        UsageError
            Naming the stage.
        """
        stage = found.name
        if kept := next((out for out in found.outs if out.persist), None):
            what = f"keeps what an earlier run left in {kept.name} (persist: true)"
            why = "its result is then not that of its inputs, and no run can be known by these"
            raise UsageError(
                what,
                f"dvc.yaml: {stage}",
                why,
                f"dvc exp run, or take persist away from {kept.name}",
            )
        self._refuse_whole_paths(pipeline, found)
        self._check_named(pipeline, stage)
        if self._untracked is None:
            made = [lockfile.FILE, *pipeline.made()]
            self._untracked = clones.untracked(self.root, made)
        if self._untracked and not _is_known(pipeline, stage):
            self.note(
                f"the job of {stage} does not have files that git does not track: {', '.join(self._untracked)}"
            )
        if asked := named_files.history_asked(found.commands):
            has = "its job has the commit that is checked out, no tags and none before"
            self.note(f"{stage} calls {asked}: {has}; with dvc repro git may say more")
        if found.always_runs:
            self.note(
                f"{stage} has no dependencies, or is always_changed: jobs run it once for the same inputs"
            )

    def _refuse_whole_paths(self, pipeline: Pipeline, found: StageEntry) -> None:
        """Refuse a command that names by a path from `/` what git tracks or a stage makes: a job would read it here.

        What git ignores is an environment, say, or data that lie here for all.

        Raises
        ------
        Problems
            Naming each, and how to write it.
        """
        problems: list[MllamError] = []
        for name, inside in named_files.by_whole_path(found.commands, self.root):
            place = pipeline.root / inside
            if not (
                os.path.lexists(place) or pipeline.repository.graph.makers(str(place))
            ):
                continue
            what = f"its command names {name}, which lies in this repository"
            why = "its job works in a copy of what git tracks, and would read the file here, which you may edit"
            written = os.path.relpath(inside, pipeline.repository.relative(found.wdir))
            problems.append(
                UsageError(
                    what, f"dvc.yaml: {found.name}", why, f"write {written} instead"
                )
            )
        if problems:
            raise Problems(problems=problems)

    def _check_named(self, pipeline: Pipeline, stage: str) -> None:
        """Refuse a command that names a file which its job would not find; note one whose content does not count.

        What the repository itself ignores is noted only: the command may write it.

        Raises
        ------
        UsageError
            Naming the file, and how git takes it in.
        """
        found = pipeline.stage(stage)
        folder = self.root / pipeline.relative(found.wdir)
        lost: list[MllamError] = []
        for file in named_files.named(found.commands, folder):
            if file.is_relative_to(self.root):
                path = file.relative_to(self.root).as_posix()
                lost += self._lost(pipeline, found, path)
        if lost:
            raise Problems(problems=lost)

    def _lost(
        self, pipeline: Pipeline, found: StageEntry, path: str
    ) -> list[MllamError]:
        """Return what is wrong with a file that a command names: its job would not find it."""
        stage, place = found.name, pipeline.root / path
        deps = {Path(read) for read in found.reads}
        is_dep = not deps.isdisjoint({place, *place.parents})
        if made := pipeline.repository.graph.makers(str(place)):
            maker = made[0][0]
            if not (maker.is_added or maker.name == stage or is_dep):
                what = f"{stage} calls {path}, which stage {maker.name} makes, and which is not among its deps"
                self.note(f"{what} in dvc.yaml: its job does not have it")
            return []
        if not os.path.lexists(place):
            # Of what is an input itself, or lies in one, that is told of the input.
            lost = (dep for dep in deps if not os.path.lexists(dep))
            if {place, *place.parents}.intersection(lost):
                return []
            return self._not_tracked(pipeline, stage, path)
        if not is_dep:
            what = f"{stage} calls {path}, which is not among its deps in dvc.yaml"
            self.note(f"{what}: editing it would not run the stage again")
        return []

    def _not_tracked(
        self, pipeline: Pipeline, stage: str, path: str
    ) -> list[MllamError]:
        """Say of a file that is here and not in the clone what becomes of it."""
        if _is_known(pipeline, stage):
            return []
        if git.is_ignored(self.root, path):
            self.note(
                f"{stage} names {path}, which git ignores: its job does not have it"
            )
            return []
        what, why = (
            f"its command names {path}, which git does not track",
            "its job would not have that file",
        )
        taken_in = way_in(self.root, path)
        way_out = f"{taken_in}, then the same command again; if the command makes it, name it in outs instead"
        return [UsageError(what, f"dvc.yaml: {stage}", why, way_out)]


def _of_all_phases(pipeline: Pipeline, stage: str) -> dict[str, RunDefinition]:
    return {part: pipeline.definition(part) for part in pipeline.parts(stage)}


def _refuse_what_is_no_stage_of_ours(found: StageEntry) -> None:
    """Refuse a stage of another file than the repository's own, and one that is called as the last job is.

    Raises
    ------
    UsageError
        Naming it.
    """
    if found.is_elsewhere:
        raise UsageError(
            "stages of other dvc.yaml files are not submitted",
            found.name,
            next="dvc exp run",
        )
    if len(key_of(found.name, "0" * 32)) > LONGEST_KEY:
        what = f"has too long a name, of {len(found.name)} letters"
        why = "a folder of the run store is called after it"
        way_out = "give the stage a shorter name"
        raise UsageError(what, f"dvc.yaml: {found.name[:60]}…", why, way_out)
    if found.name == SAVE:
        what = "is what the last job of every experiment is called"
        raise UsageError(
            what, f"dvc.yaml: {found.name}", next="give the stage another name"
        )


def _problems(look: Callable[[], None]) -> list[MllamError]:
    """Return what is refused, one by one."""
    try:
        look()
    except Problems as several:
        return several.problems
    except MllamError as one:
        return [one]
    return []


def _is_known(pipeline: Pipeline, stage: str) -> bool:
    """Tell whether DVC knows the result, so that no job runs the command; of missing inputs it knows none."""
    try:
        return bool(pipeline.known_to_dvc(stage))
    except MllamError:
        return False


def refuse_outputs_behind_links(
    repo: Repository, stage: StageEntry, origin: Path
) -> None:
    """Refuse a stage whose output is, or lies behind, a link that git tracks.

    Behind one that leads out of the repository all experiments would write to one
    place, and what lies there is a user's own; DVC (3.67) refuses it, too, where its
    cache is to hold the output. Behind one that stays inside DVC does work, but git
    (2.39) adds no file there: "is beyond a symbolic link".

    Parameters
    ----------
    repo : Repository
        A clone: all that lies in it is tracked.
    origin : Path
        The user's repository.

    Raises
    ------
    Problems
        Naming each output, the link, and what to type.
    """
    problems: list[MllamError] = []
    for out in stage.outs:
        path = repo.relative(out.path)
        if not Path(path).is_absolute() and (led := symlinks.led(repo.root, path)):
            what = f"its output {path} {led.sentence}"
            why = "git keeps no file in the place of a link, or behind it"
            in_wdir = symlinks.led(repo.root, repo.relative(stage.wdir))
            way_out = f"name {_in_folder_of(repo, stage, led)} in outs instead"
            if in_wdir:
                way_out = f"wdir: {shlex.quote(in_wdir.end)} instead"
            if out_of_it := symlinks.led_out(repo.root, origin, path):
                what = f"its output {path} {out_of_it.sentence}"
                why = (
                    "all experiments would write to that one place, over what is there"
                )
                way_out = _out_of_the_link(path, led, origin)
                if in_wdir:
                    way_out = f"name a folder of the repository in wdir; {_ELSEWHERE}"
            where = f"dvc.yaml: {stage.name}"
            problems.append(UsageError(what, where, why, way_out))
    if problems:
        raise Problems(problems=problems)


def _in_folder_of(repo: Repository, stage: StageEntry, led: Led) -> str:
    """Return where a path leads, as ``dvc.yaml`` names it: as seen from the stage's folder."""
    return os.path.relpath(repo.root / led.end, os.path.realpath(stage.wdir))


def _out_of_the_link(path: str, led: Led, origin: Path) -> str:
    if led.is_link:
        link = workspace.typed(origin, led.link)
        return f"git rm {link}, and the stage makes {path} itself; {_ELSEWHERE}"
    return f"write to a folder of the repository, and name that in outs; {_ELSEWHERE}"


def refuse_links_to_outputs(
    repo: Repository, path: str, files: Iterable[str], origin: Path
) -> None:
    """Refuse an input that leads, through a link, to what a stage makes: its content now is not what it will be.

    DVC (3.67) compares paths as they are written, and does not know either that the one
    stage needs the other.

    Parameters
    ----------
    repo : Repository
        A clone.
    files : iterable of str
        The real paths of the input's files.
    origin : Path
        The user's repository: where an absolute link into it leads.

    Raises
    ------
    UsageError
        Naming both.
    """
    roots = (os.path.realpath(repo.root), os.path.realpath(origin))
    for file in sorted(files):
        root = next((root for root in roots if file.startswith(f"{root}/")), None)
        if root is None:
            continue
        real = Path(file).relative_to(root).as_posix()
        if real == path or real.startswith(f"{path}/"):
            continue
        if made := repo.graph.makers(str(repo.root / real)):
            stage = made[0][0].name
            what = f"the input {path} leads through a link to {real}, which stage {stage} makes"
            way_out = f"name {real} in deps, instead of the link"
            raise UsageError(
                what,
                "dvc.yaml",
                "nobody could tell that the one needs the other",
                way_out,
            )
