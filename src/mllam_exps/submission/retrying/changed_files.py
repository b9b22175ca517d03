"""Files of the repository that were changed since an experiment was submitted, and which of its stages read them."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.git import git
from mllam_exps.dvc import lockfile
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.machines import values
from mllam_exps.preflight import named_files
from mllam_exps.repository.checkouts import Elsewhere
from mllam_exps.runs.state.assess import assess
from mllam_exps.submission.experiment import Experiment

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


def since(experiment: Experiment) -> Changes:
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


def refuse_what_was_mended(experiment: Experiment, changes: Changes) -> None:
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


def _names(listed: str) -> set[str]:
    return set(filter(None, listed.split("\0")))


def _and_above(file: str) -> set[str]:
    """Return a file, and the folders in which it lies."""
    return {file, *map(str, Path(file).parents)}
