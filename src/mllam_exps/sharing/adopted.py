"""What somebody made by hand, and a repository took over for what a stage makes: checked, and written down for ever.

`FILE` lies in the repository, so that each commit says it, and who pulls one is told.
What it says counts for the hashes that it names, and for nothing that is made later.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, Problem, UsageError
from mllam_exps.base.git import ask_git
from mllam_exps.base.ownership import user_name
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.commits import Checkout, Locked
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import check_outputs, checks
from mllam_exps.preflight.opened import current_versions, open_pipeline
from mllam_exps.runs import outputs
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import putting

FILE = "adopted.yaml"
_HEADER = """\
# What was made by hand, and taken over with `mllam-exps adopt`. It counts where dvc.lock has these hashes.
"""


@dataclass(frozen=True)
class Adopted:
    """What was taken over.

    Parameters
    ----------
    stage : str
        The stage that would have made it.
    where : str
        Where it lay.
    by : str
        Who took it over.
    at : str
        When, in UTC.
    outs : mapping
        The hashes of what it is, by path.
    """

    stage: str
    where: str
    by: str
    at: str
    outs: Mapping[str, str]

    @property
    def line(self) -> str:
        """As people read it."""
        return f"{self.stage} was taken over from {self.where}, by {self.by} on {self.at[:10]}: no run made it"


def of(held: Locked) -> Iterator[Adopted]:
    """Yield what a commit, or a workspace, holds that was taken over."""
    for stage, told in held.mapping(FILE).items():
        outs = told.get("outs") if isinstance(told, Mapping) else None
        if not isinstance(outs, Mapping) or not outs:
            continue
        made = held.made(str(stage))
        # Of several one may be what a run makes, too. Others write this file: what is no
        # text says nothing.
        same = [path for path in outs if isinstance(path, str) and path in made]
        if same and all(outs[path] == made[path] for path in same):
            values = (told.get(name, "") for name in ("where", "by", "at"))
            where, by, at = (one if isinstance(one, str) else "" for one in values)
            outs = {path: made[path] for path in same}
            yield Adopted(str(stage), where, by, at, outs)


def adopt(
    workspace: Workspace, machine: Machine, stage: str, place: Path, *, force: bool
) -> Adopted:
    """Take what lies somewhere for what a stage makes, if its own check passes it.

    Parameters
    ----------
    place : Path
        The output itself; or a folder in which the stage's outputs lie as in a
        repository.
    force : bool
        Whether what the workspace has in its place is replaced.

    Raises
    ------
    UsageError
        If it is not there, or the check does not pass; nothing is changed then.
    """
    checks.check_environment(machine, workspace.origin)
    checks.check_parameters(workspace, machine)
    repo = Repository.open(workspace.root)
    entry = repo.graph.stage(stage)
    if not entry.is_ours or entry.is_bookkeeping:
        what = "has no check of its own: DVC takes what lies there with dvc commit"
        raise UsageError(what, stage, next=f"dvc commit {stage}")
    known = _known(workspace.root)
    parts = _parts(stage, [repo.relative(out.path) for out in entry.outs], place)
    if not force:
        _refuse_what_is_there(parts, workspace.root)
    looked = {path: putting.listing(source) for path, source in parts.items()}
    _refuse_without_inputs(entry, repo)
    store = _refuse_what_a_run_made(workspace, machine, stage)
    files = [repo.relative(one.path) for one in entry.params]
    _check(workspace, machine, stage, parts, files)
    # What it is held to from now on is as it is now.
    text, _ = current_versions(workspace, machine)
    with putting.put(parts, looked, workspace.root, repo.temporary_directory):
        made = _commit(workspace.root, repo, store, stage, text)
    who = [
        ask_git(workspace.root, "config", f"user.{one}") for one in ("name", "email")
    ]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    by = f"{who[0] or user_name(os.getuid())} <{who[1]}>"
    found = Adopted(stage, str(place.absolute()), by, at, made)
    _note(workspace.root, known, found)
    return found


def _commit(
    root: Path, repo: Repository, store: RunStore, stage: str, versions: str
) -> dict[str, str]:
    """Have DVC take what lies in the workspace, and return its hashes; if that fails, its files are as they were."""
    files = [root / VERSIONS_FILE, root / "dvc.lock"]
    before = {file: file.read_bytes() for file in files if file.is_file()}
    try:
        files[0].write_text(versions, encoding="utf-8")
        repo.commit(stage)
        made = Checkout(root).made(stage)
        # DVC (3.67) only prints that a disk is full, and names in dvc.lock what it lacks.
        _refuse_what_is_lost(repo, stage, made)
        _refuse_what_is_a_result(store, stage, made)
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
            if file in before:
                file.write_bytes(before[file])
        raise
    return made


def _refuse_what_is_lost(repo: Repository, stage: str, made: Mapping[str, str]) -> None:
    uncached = {out.name for out in repo.graph.stage(stage).outs if not out.cached}
    for path, digest in made.items():
        if path not in uncached and not repo.holds(digest):
            where = str(repo.cache_directory)
            raise MllamError("DVC's cache could not take it", path, where)


def _refuse_what_is_a_result(
    store: RunStore, stage: str, made: Mapping[str, str]
) -> None:
    """Refuse what a run made, with other parameters perhaps: that no run made it would be false."""
    for run in store.runs():
        if run.stage == stage and run.result is not None:
            own = {path: outputs.known_digest(run, path) for path in made}
            if own == made:
                what, why = "a run has made exactly that", run.key
                raise UsageError(what, stage, why, f"dvc commit {shlex.quote(stage)}")


def _parts(stage: str, paths: list[str], place: Path) -> dict[str, Path]:
    """Return where each output of a stage lies.

    Raises
    ------
    UsageError
        If one is not there.
    """
    if not place.exists():
        raise UsageError("is not there", str(place))
    there = [path for path in paths if (place / path).exists()]
    if len(there) == len(paths):
        return {path: place / path for path in paths}
    if len(paths) == 1 and not there:
        return {paths[0]: place}
    missing = ", ".join(path for path in paths if path not in there)
    way_out = "name a folder in which all of them lie as in a repository"
    if place.suffix == ".ckpt":
        way_out = f"a training goes on from a checkpoint alone: -S params.yaml:resume_from={place}"
    raise UsageError(
        f"does not hold all that {stage} makes",
        str(place),
        f"{missing} is not there",
        way_out,
    )


def _refuse_what_is_there(parts: Mapping[str, Path], root: Path) -> None:
    for path, source in parts.items():
        place = root / path
        if os.path.lexists(place) and not putting.lies_there(source, place):
            what, way_out = "lies in the workspace already", "--force replaces it there"
            raise UsageError(what, path, next=way_out)


def _refuse_without_inputs(entry: StageEntry, repo: Repository) -> None:
    """Refuse it where nobody could say what it belongs to: DVC writes down the hashes of what the stage reads."""
    missing = [dep.path for dep in entry.deps if not os.path.lexists(dep.path)]
    if missing:
        paths = ", ".join(map(repo.relative, missing))
        what = f"{paths}, which {entry.name} reads, is not there"
        raise UsageError(what, next="make it, pull it with dvc pull, or adopt it first")


def _refuse_what_a_run_made(
    workspace: Workspace, machine: Machine, stage: str
) -> RunStore:
    """Refuse it where the run store has a result of the same: that one is what experiments would get."""
    pipeline, store = open_pipeline(workspace, machine)
    run = store.run(pipeline.definition(stage).key)
    if run.result is not None:
        what, why = "a run has made that with these parameters", run.key
        raise UsageError(
            what, stage, why, f"dvc repro {shlex.quote(stage)} takes its result"
        )
    return store


def _check(
    workspace: Workspace,
    machine: Machine,
    stage: str,
    parts: Mapping[str, Path],
    files: Iterable[str],
) -> None:
    """Have the stage's own check look at it, laid out as the repository.

    Raises
    ------
    UsageError
        With what is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        for path, source in parts.items():
            place = Path(folder, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source.absolute())
        ask = checks.asking(workspace, machine)
        read = [file for file in files if file != VERSIONS_FILE]
        said = ask(check_outputs.__name__, stage, str(workspace.root), folder, *read)
    if not isinstance(said, dict):
        raise UsageError("could not be checked", stage, str(said))
    told = {name: str(text).replace(f"{folder}/", "") for name, text in said.items()}
    if problem := Problem(**told):
        raise UsageError(problem.what, problem.where, problem.why, problem.next)


def _known(root: Path) -> dict[str, Any]:
    """Return what was taken over before."""
    file = root / FILE
    return yaml_files.read(file, FILE) if file.is_file() else {}


def _note(root: Path, known: dict[str, Any], found: Adopted) -> None:
    """Write it down among what was taken over before."""
    told = asdict(found)
    known[told.pop("stage")] = told
    body = yaml.safe_dump(known, sort_keys=True, allow_unicode=True, width=1000)
    (root / FILE).write_text(_HEADER + body, encoding="utf-8")
