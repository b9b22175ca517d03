"""``mllam-exps resume``: what `dvc exp run`, or `submit`, is told so that a training goes on from another one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllam_exps import stages
from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, Problems, UsageError, nearest
from mllam_exps.base.terminal import warn
from mllam_exps.dvc import earlier
from mllam_exps.dvc.parameters import overrides
from mllam_exps.dvc.repository import Repository
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight.here import Here
from mllam_exps.preflight.parents import Parents, is_path
from mllam_exps.stages.going_on import Differs, GoingOn
from mllam_exps.submission import standing
from mllam_exps.views.context import Context


def settings(
    source: str, length: int | None, set_params: Sequence[str], *, weights_only: bool
) -> list[str]:
    """Return the values of ``-S`` by which the workspace's training goes on from another one.

    Parameters
    ----------
    source : str
        An experiment, a revision, or a checkpoint's path, as seen from the current
        directory.
    length : int, optional
        How long it becomes, counted from the first training's beginning on.
    set_params : sequence of str
        What else is set.

    Raises
    ------
    MllamError
        If there is no such source, no stage here goes on from anything, or it cannot go
        on from this; nothing was changed then.
    """
    workspace = Workspace.here()
    goes_on = _goes_on(workspace.root)
    named = _named(source, workspace)
    found = [
        _setting(workspace.root, goes_on.source_key, _quoted(named)),
        _setting(workspace.root, goes_on.weights_only_key, str(weights_only).lower()),
    ]
    if length is not None:
        found.append(_setting(workspace.root, goes_on.length_key, str(length)))
    found += set_params
    try:
        _hold(workspace, goes_on, found)
    except Problems as several:
        if way_out := _with_its_values(workspace.root, several.problems):
            told = several.problem.sentence
            raise UsageError(told, next=way_out) from several
        raise
    return found


def _hold(workspace: Workspace, goes_on: GoingOn, set_params: Sequence[str]) -> None:
    """Refuse what cannot be gone on from, before DVC writes any parameter: on copies of the files."""
    root, context = workspace.root, Context.open()
    repo = Repository.open(root, check=False)
    if repo.settings("hydra").get("enabled"):
        return  # it composes params.yaml of files of its own; the run looks at that
    here = Here.of(workspace, context.machine, repo)
    inside = Path.cwd().resolve().relative_to(root)
    for variant in overrides.variants(set_params, "", inside):
        with tempfile.TemporaryDirectory(prefix="mllam-exps-resume-") as folder:
            for file in {"dvc.yaml", *goes_on.reads, *variant.overrides}:
                if (root / file).is_file():
                    (folder / Path(file)).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / file, folder / Path(file))
            overrides.apply(Path(folder), variant.overrides, {}, inside)
            Parents(here, standing.not_saved).hold(Path(folder))


def _with_its_values(root: Path, problems: Sequence[MllamError]) -> str:
    """Return what was typed, with the other training's values; nothing where that does not help."""
    taken = []
    for one in problems:
        if not isinstance(one, Differs):
            return ""
        taken += ["-S", _setting(root, one.key, _for_hydra(one.there))]
    return shlex.join(["mllam-exps", *sys.argv[1:], *taken])


def _for_hydra(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    return value if re.fullmatch(r"[A-Za-z_]\w*", value) else _quoted(value)


def run_by_dvc(set_params: Sequence[str], words: Sequence[str]) -> None:
    """Become `dvc exp run`, having said how that is typed."""
    options = [word for setting in set_params for word in ("-S", setting)]
    command = ["dvc", "exp", "run", *options, *words]
    warn(f"$ {shlex.join(command)}")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 - no shell


def _goes_on(root: Path) -> GoingOn:
    for stage in stages.used(root).values():
        if stage.goes_on is not None:
            return stage.goes_on
    what = "no stage here goes on from another experiment's"
    way_out = "one whose command is `mllam-exps run train` does"
    raise UsageError(what, "dvc.yaml", next=way_out)


def _named(source: str, workspace: Workspace) -> str:
    """Return a source as the repository's root has it: paths are typed as seen from the current directory."""
    if not is_path(source):
        found = earlier.commit_of(workspace.origin, source)
        if found is not None:
            # A revision may stand for another commit tomorrow; an experiment keeps its name.
            is_symbolic = source.startswith(("HEAD", "@"))
            return found.revision if is_symbolic else source
    place = Path(source).expanduser()
    if not place.is_file():
        here = Context.open()
        if known := standing.not_saved(here.store, workspace.origin, source):
            raise known
        near = nearest(source, here.names())
        told = "dvc exp list -A tells the experiments; of one that was pushed: dvc exp pull REMOTE EXP"
        raise UsageError(
            "there is no experiment, no revision and no checkpoint of that name",
            source,
            next=f"did you mean {near}?" if near else told,
        )
    place = place.resolve()
    if place.is_relative_to(workspace.origin):
        return f"./{place.relative_to(workspace.origin).as_posix()}"
    return str(place)


def _setting(root: Path, key: str, value: str) -> str:
    """Return what ``-S`` is told; a plus says that the file lacks the key."""
    file, _, name = key.partition(":")
    plus = ""
    try:
        found = yaml_files.read(root / file, file)
        for part in name.split("."):
            plus = "" if part in found else "+"
            found = found.get(part) or {}
    except (MllamError, AttributeError):
        plus = ""
    # Paths in -S start where it is typed.
    return f"{os.path.relpath(root / file)}:{plus}{name}={value}"


def _quoted(text: str) -> str:
    """Quote text for Hydra's grammar: a hash of digits would be a number otherwise."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
