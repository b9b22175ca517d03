"""Checks that an attempt's inputs are what its run key says: before its program starts, and once after it ended.

Whoever lays them out (`workdir`) writes down what they are, in ``inputs.json``. Some of them are
not the attempt's own: links into the run store or DVC's cache, links that git tracks to
files outside of the repository, archives. What changes there between submission and end
would give a result that belongs to other inputs. A file that a command adds to a folder
that it reads would, with `dvc repro`, be there for the next command; here it is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mllam_exps.attempts.work.outside import Outside, States, is_of_python
from mllam_exps.base.errors import CheckFailed
from mllam_exps.dvc import lockfile
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.counted import Counted
from mllam_exps.identity.content import (
    Described,
    Difference,
    differences,
    files_of,
    mark,
    md5_of_file,
)
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.runs import outputs
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.results import Read
from mllam_exps.runs.store import Run, RunStore


class Inputs:
    """The inputs of an attempt, looked at before its program starts and after it has ended.

    Parameters
    ----------
    attempt : Attempt
        Whose inputs are laid out.
    definition : mapping
        What defines its run.
    make_again : str
        The command that makes a damaged result again, for the attempt's experiment.
    archives : callable
        Returns the identity of the archives outside of the repository as they are now,
        as `mllam_exps.stages.contract.Preflight.archives` does.
    """

    def __init__(
        self,
        attempt: Attempt,
        definition: Mapping[str, Any],
        make_again: str,
        archives: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
    ) -> None:
        self.attempt = attempt
        self._archives = archives
        self.definition = definition
        self.make_again = make_again
        self.laid = attempt.inputs
        self._sources: dict[str, Any] = definition.get("inputs") or {}
        self._store = RunStore(attempt.run.store)
        self._seen: dict[Path, dict[str, Any]] = {}
        self._outside = Outside(attempt, self._kept_by_nobody())
        self._states: States = {}
        self._listed: dict[str, set[Path]] = {}
        self._read_by_others: dict[Path, tuple[str, str]] = {}

    def check(self) -> None:
        """Refuse inputs that are not what the key says.

        Raises
        ------
        MllamError
            Naming the first of them.
        """
        self._refuse_what_was_left_out()
        self._refuse_another_result()
        # First, so that whatever is changed while this looks at it is found at the end.
        self._states = self._outside.states()
        self._refuse(differences(self._known()), "changed between submission and start")
        self._refuse_added("between submission and start")
        self._refuse_changed_archives("changed between submission and start")
        # From here on a file that was written to has another mark, whatever it had when
        # it was laid out.
        self._seen = {
            file: {**known, "mark": mark(file.stat())}
            for file, known in self._known().items()
        }
        self._listed = {
            folder: self._files_in(folder) for folder in self._folders_of_commands()
        }
        self._read_by_others = self._files_of_others()

    def check_again(self) -> None:
        """Refuse a result if an input was changed while it was made.

        Raises
        ------
        MllamError
            Naming the first of them.
        """
        self._refuse(differences(self._seen), "")
        self._refuse_added("while the program ran")
        self._refuse_touched()
        self._refuse_what_was_added()
        self._refuse_what_others_read()
        self._refuse_another_result()
        self._refuse_changed_archives("changed while the program ran")

    def as_read(self) -> dict[str, Read]:
        """Return what was read, by path, as the result remembers it: its digest, and which run of the store made it.

        What comes from DVC's cache none did: where the run store has another by now, it
        is no less what was asked for.
        """
        read = {}
        for path, described in self.laid.by_path.items():
            if described.get("parameters"):
                continue
            run = None if described.get("cache") else self._key_of(path)
            read[path] = Read(described["digest"], run)
        return read

    def _kept_by_nobody(self) -> dict[str, Described]:
        """Return the inputs that neither the run store nor DVC's cache keeps as they are."""
        found = {}
        for path, described in self.laid.by_path.items():
            if not (described.get("cache") or self._key_of(path)):
                found[path] = described
        return found

    def _known(self) -> dict[Path, Mapping[str, Any]]:
        return self.laid.files_in(self.attempt.work)

    def _run_of(self, path: str) -> Run | None:
        key = self._key_of(path)
        return self._store.run(key) if key else None

    def _key_of(self, path: str) -> str | None:
        key: str | None = self._sources.get(path, {}).get("run")
        return key

    @cached_property
    def _draft(self) -> lockfile.Draft | None:
        """The stages of the experiment; None where it was not submitted."""
        top = self.attempt.top
        return lockfile.read(top) if (top / lockfile.DRAFT).exists() else None

    def _folders_of_commands(self) -> set[str]:
        """Return the folders that commands read: inputs, and those of `deps` in which other stages make some."""
        if not self.definition.get("commands"):
            return set()
        folders = {*self.laid.by_path}
        if self._draft is not None:
            stage = self._draft.stages.get(self.definition["stage"])
            folders |= {stage.path(name) for name in stage.deps} if stage else set()
        return {path for path in folders if (self.attempt.work / path).is_dir()}

    def _files_of_others(self) -> dict[Path, tuple[str, str]]:
        """Return what other stages of the pipeline read and none makes: which stage does, and the content's MD5.

        With `dvc repro` they would read what a command writes there. Its own inputs are
        looked at anyway.
        """
        draft = self._draft
        if draft is None or not self.definition.get("commands"):
            return {}
        looked_at = {self.attempt.work / path for path in self.laid.by_path}
        looked_at |= {self.attempt.work / path for path in draft.made}
        found: dict[Path, tuple[str, str]] = {}
        for name, stage in draft.stages.items():
            if name == self.definition["stage"]:
                continue
            for path in {*map(stage.path, (*stage.deps, *stage.params))}:
                place = self.attempt.work / path
                if not looked_at.isdisjoint({place, *place.parents}):
                    continue
                for file in self._files_in(path) if place.is_dir() else {place}:
                    if looked_at.isdisjoint({file, *file.parents}):
                        content = md5_of_file(file) if file.is_file() else ""
                        found[file] = (name, content)
        return found

    def _refuse_what_others_read(self) -> None:
        """Refuse a result whose program wrote to what another stage reads: that one would not see it here."""
        before, now = self._read_by_others, self._files_of_others()
        for file, (stage, _content) in (before | now).items():
            if is_of_python(file) or before.get(file) == now.get(file):
                continue
            path = file.relative_to(self.attempt.work).as_posix()
            what = f"the program changed {path}, which is not among its outs, and which {stage} reads"
            why = f"with `dvc repro` {stage} would read that, and here it reads what git keeps"
            way_out = (
                f"have it write to a file that its outs name, and {stage} read that"
            )
            raise CheckFailed(what, "dvc.yaml", why, f"{way_out}; then {outputs.AGAIN}")

    def _files_in(self, folder: str) -> set[Path]:
        """Return the files of a folder that DVC counts."""
        return {*Counted(self.attempt.work).files(self.attempt.work / folder)}

    def _refuse_what_was_added(self) -> None:
        """Refuse files that are new in a folder that the commands read, but for outputs."""
        made = {
            self.attempt.work / path for path in self.definition.get("outputs") or ()
        }
        for folder, before in self._listed.items():
            if not (self.attempt.work / folder).is_dir():
                continue  # of an empty one nothing is lost
            for file in sorted(self._files_in(folder) - before):
                if is_of_python(file) or made & {file, *file.parents}:
                    continue
                raise self._told_of_new(folder, file)

    def _told_of_new(self, folder: str, file: Path) -> CheckFailed:
        path = file.relative_to(self.attempt.work).as_posix()
        what = f"the program put {path} into its own input {folder}"
        why = "with `dvc repro` the stages behind it would find it there, and here they do not"
        way_out = "have it write that elsewhere, named in outs, or remove it, or name it in .dvcignore; "
        return CheckFailed(what, "", why, f"{way_out}then {outputs.AGAIN}")

    def _refuse_what_was_left_out(self) -> None:
        """Refuse an input of which its stage left something there that DVC does not count.

        With `dvc repro` a command finds it in the workspace, and runs without it once
        the input comes from a cache; no hash says which it was. Programs of ours read
        files that they know.
        """
        for path, described in self.laid.by_path.items():
            left, run = described.get("left_out") or {}, self._run_of(path)
            if not (left and run and self.definition.get("commands")):
                continue
            name, why = next(iter(left.items()))
            more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            what = f"its input {path} lacks {name}{more}, which {run.stage} left there: DVC does not keep it"
            way_out = f"have {run.stage} remove it, or name in deps, one by one, what is read of {path}; "
            way_out += f"or let it count, and {outputs.to_make_again(run)}"
            raise CheckFailed(what, "dvc.yaml", why, way_out)

    def _refuse_another_result(self) -> None:
        """Refuse an input that its stage has made again since, if it became another."""
        path = outputs.another(
            self.as_read(), lambda _path: None, self._store.directory
        )
        if path is not None and (run := self._run_of(path)) is not None:
            what = f"its input {path} was made again by {run.stage} since, and is another now"
            came_from_dvc = self.laid.by_path.get(path, {}).get("cache")
            # As long as the experiment takes what DVC had, it fits with no result of
            # the run; submitted anew it takes that.
            again = "mllam-exps submit, as before: it takes what was made last"
            raise CheckFailed(what, next=again if came_from_dvc else self.make_again)

    def _refuse(self, found: Iterator[Difference], when: str) -> None:
        """Refuse the first file that differs; one that is shared is taken away from those who would read it next."""
        for difference in found:
            path = difference.path.relative_to(self.attempt.work).as_posix()
            source = self._source_of(path)
            run = self._run_of(source)
            damaged = list(outputs.damage(run)) if run else []
            if run and damaged:
                error = outputs.set_aside(run, damaged, self.make_again)
                what = f"its input {path} is damaged in the run store: it {difference.what}"
                who = "the program, or somebody else meanwhile, wrote to it"
                why = error.why or ("" if when else who)
                raise CheckFailed(what, error.where, why, error.next)
            described = self.laid.by_path[source]
            if folder := described.get("cache"):
                files = files_of(self.attempt.work / source, described)
                digest = str(files[difference.path]["md5"])
                Cache(folder).drop_damaged({digest: None})
            raise self._told(path, difference, when)

    def _refuse_added(self, when: str) -> None:
        """Refuse a folder outside of the repository to which a file was added."""
        for path, file in self._outside.added():
            name = file.relative_to(self.attempt.work).as_posix()
            what = f"{name} was added to its input {path} {when}"
            way_out = f"{outputs.AGAIN}; or name it in .dvcignore, if no stage reads it"
            raise CheckFailed(what, os.path.realpath(file), next=way_out)

    def _refuse_touched(self) -> None:
        """Refuse a file outside of the repository that was changed while the program ran, and changed back."""
        now = self._outside.states()
        for path, place in {**self._states, **now}:
            if self._states.get((path, place)) != now.get((path, place)):
                what = f"its input {path} was touched while the program ran"
                why = "it holds the same now, and nobody could tell what was read"
                raise CheckFailed(what, str(place), why, outputs.AGAIN)

    def _source_of(self, path: str) -> str:
        """Return the input that a file is, or lies in."""
        for source in self.laid.by_path:
            if path == source or path.startswith(f"{source}/"):
                return source
        return path

    def _told(self, path: str, difference: Difference, when: str) -> CheckFailed:
        """Say what became of an input that is not the run store's."""
        place = difference.path.resolve()
        folders = (self.attempt.work.resolve(), self.attempt.tree.resolve())
        own = any(place.is_relative_to(folder) for folder in folders)
        if own and not when:
            what = f"the program changed its own input {path}: it {difference.what}"
            why = "nobody could tell to which content the result belongs"
            return CheckFailed(
                what, "", why, f"have it write elsewhere, then {outputs.AGAIN}"
            )
        what = f"its input {path} {when or 'changed while the program ran'}"
        return CheckFailed(what, "" if own else str(place), next=outputs.AGAIN)

    def _refuse_changed_archives(self, when: str) -> None:
        """Refuse archives whose metadata are not those that the key counts; one that is not reached is not changed."""
        tracked = self.definition.get("params", {}).get(VERSIONS_FILE, {})
        expected = dict(tracked.get("archives") or {})
        for key, known in tracked.items():
            if "archives." in key:  # dvc.yaml may name all of them, or one
                expected[key.removeprefix("archives.")] = known
        if not expected:
            return
        found = self._archives()
        for name, archive in expected.items():
            known = dict(archive).get("metadata")
            now = found.get(name, {}).get("metadata")
            if None not in (known, now) and now != known:
                what = f"the archive {name} {when}"
                raise CheckFailed(what, str(archive["path"]), next=outputs.AGAIN)
