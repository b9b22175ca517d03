"""``mllam-exps export EXP``: one experiment for others, as an RO-Crate; or a folder from which a service forecasts."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mllam_exps import __version__
from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, UsageError, some_of
from mllam_exps.base.git import ask_git
from mllam_exps.base.terminal import amount, say, warn
from mllam_exps.dvc import earlier
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import experiment_refs, holdings
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.environments import finding, requirements, sources
from mllam_exps.environments.comparing import normal
from mllam_exps.exporting import contents, crate, forecast_folder, service_readme
from mllam_exps.exporting.contents import Part
from mllam_exps.exporting.crate import Described, Ran
from mllam_exps.exporting.forecast_folder import (
    ENVIRONMENT,
    OURS,
    README,
    REQUIREMENTS,
    Manifest,
)
from mllam_exps.identity.definition import VERSIONS_FILE, flat
from mllam_exps.machines.workspace import Workspace
from mllam_exps.sharing import adopted
from mllam_exps.stages import packages, versions
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.new_input import asked
from mllam_exps.stages.packages import Environment, Package
from mllam_exps.views.context import saved_here
from mllam_exps.views.costs import Cost
from mllam_exps.views.histories import Histories

GIGA = 1e9
LARGEST = 1.0
"""Gigabytes of the largest input or output that a crate holds, where nobody says another."""
_DEVELOPED = re.compile(r"[+.][gd][0-9a-f]{8,}")
"""What `versions` adds to the version of a development install."""


def export(name: str, *, out: Path | None, largest: float, licence: str) -> None:
    """Write the crate of a saved experiment.

    Parameters
    ----------
    out : Path or None
        The folder, or the file if it ends with ``.zip``; else a folder of the
        experiment's name.
    largest : float
        Gigabytes of the largest input or output that goes along.
    licence : str
        SPDX's identifier; else what the repository's ``CITATION.cff`` says.

    Raises
    ------
    UsageError
        If there is no such experiment, it holds results of other inputs, or the place
        is taken.
    """
    root = Workspace.here().root
    one = _saved(root, name)
    name = one.name
    place = out or Path(f"{name}.crate")
    _refuse_taken(place)
    commit = Commit(root, one.commit)
    _refuse_what_is_left(name, commit)
    repository = Repository.open(root, check=False)
    parent = place.resolve().parent
    with tempfile.TemporaryDirectory(prefix=".mllam-exps-export-", dir=parent) as site:
        folder = Path(site) / "crate"
        folder.mkdir()
        files, links = contents.lay_out_files(commit, folder)
        most = largest * GIGA
        parts = contents.lay_out_data(name, commit, repository, folder, most)
        said = _described(one, commit, files, parts, licence or _licence_of(commit))
        crate.write(folder, said)
        _put(folder, place)
    if links:
        warn(f"note: {some_of(links)}: links, which are left out")
    _tell(place, parts, said)


def for_inference(name: str, *, out: Path | None, licence: str) -> None:
    """Write a folder with all that `mllam-exps infer --from` needs of a saved experiment.

    Parameters
    ----------
    out : Path or None
        As `export` takes it; a folder that is such an export of the same experiment is
        replaced.

    Raises
    ------
    UsageError
        If there is no such experiment, it holds results of other inputs, it made no
        model, or the place is taken.
    """
    root = Workspace.here().root
    one = _saved(root, name)
    place = out or Path(f"{one.name}.inference")
    is_there = forecast_folder.is_export_of(place, one.name, one.commit)
    if not is_there:
        _refuse_taken(place)
    commit = Commit(root, one.commit)
    _refuse_what_is_left(one.name, commit)
    said = Manifest(
        one.name,
        one.commit,
        programs={**commit.programs, OURS: __version__},
        container=commit.programs.get(versions.CONTAINER, ""),
        licence=licence or _licence_of(commit),
        adopted=[each.line for each in adopted.of(commit)],
    )
    parent = place.resolve().parent
    with tempfile.TemporaryDirectory(prefix=".mllam-exps-export-", dir=parent) as site:
        folder = Path(site) / "forecasts"
        folder.mkdir()
        repository = Repository.open(root, check=False)
        needed = asked.READS, asked.outputs
        earlier.lay_out_needed(repository, commit, folder, *needed, copied=True)
        asked.refuse_password(yaml_files.read(folder / DATASTORE, DATASTORE))
        said, notes = _write_what_is_told(folder, said)
        forecast_folder.seal(folder, said)
        if is_there:
            place.rename(Path(site) / "replaced")
        _put(folder, place)
    for note in notes:
        warn(f"note: {note}")
    _tell_licence(said.licence)
    say(f"{place}: {one.name} as a folder to forecast from")
    say(f"its {README} has the command that forecasts: mllam-exps infer --from")


def _write_what_is_told(folder: Path, said: Manifest) -> tuple[Manifest, list[str]]:
    """Write what stands in the folder beside the model; return the manifest, and what people have to know of it."""
    recorded, notes = _environment_of(said.experiment), list[str]()
    if recorded is not None:
        record = json.dumps(recorded.to_record(), indent=1)
        (folder / ENVIRONMENT).write_text(f"{record}\n")
    else:
        what = "its environment is not recorded here: the folder names the programs"
        notes = [f"{what} in {VERSIONS_FILE} alone"]
    environment = recorded or _of_programs(said.programs)
    packed = {one.name: sources.pack(one, folder) for one in environment.packages}
    said = replace(said, sources={name: path for name, path in packed.items() if path})
    text, lacking = requirements.text(environment, said.sources)
    (folder / REQUIREMENTS).write_text(text)
    notes += [f"{REQUIREMENTS} lacks {lack}" for lack in lacking]
    text = service_readme.text(
        said,
        asked.options(folder),
        environment.python,
        notes,
        is_recorded=recorded is not None,
    )
    (folder / README).write_text(text)
    return said, notes


def _of_programs(programs: Mapping[str, str]) -> Environment:
    """Return what is known of an environment by the versions of its programs."""
    listed = [
        Package(name, version, lacks="it was no release" if is_developed else "")
        for name, version in programs.items()
        if name not in {"python", OURS, versions.CONTAINER}
        and version != versions.ABSENT
        for is_developed in [_DEVELOPED.search(version)]
    ]
    python = programs.get("python", "")
    return Environment(python, "", packages=(*listed, _ours()))


def _environment_of(name: str) -> Environment | None:
    """Return the environment of an experiment, with the mllam-exps that is at work here; None if it is not recorded."""
    try:
        found = finding.of_runs(name, Histories().runs_of(name))
    except MllamError:
        return None
    # The one that knows what it has exported; an earlier one may know no `infer --from`.
    others = [one for one in found.packages if normal(one.name) != OURS]
    both = sorted([*others, _ours()], key=lambda one: one.name.lower())
    return replace(found, packages=tuple(both))


def _ours() -> Package:
    """Return this program as it is installed here."""
    for one in packages.installed().packages:
        if normal(one.name) == OURS:
            return one
    return Package(OURS, __version__)


def _saved(root: Path, name: str) -> Saved:
    """Return the one saved experiment of a name.

    Raises
    ------
    UsageError
        If there is none, or there are several.
    """
    [one, *others] = saved_here(root, [name])
    if others:
        what, why = (
            f"{name} is no one experiment",
            "experiments of other baselines have it, too",
        )
        if experiment_refs.is_pattern(name):
            why = f"{1 + len(others)} experiments fit it"
            raise UsageError(what, why=why, next=f"mllam-exps export {one.name}")
        raise UsageError(what, why=why, next="rename one")
    return one


def _refuse_taken(place: Path) -> None:
    if place.exists() or place.is_symlink():
        raise UsageError("is there already", str(place), next="-o another place")
    if not place.resolve().parent.is_dir():
        where = str(place.resolve().parent)
        raise UsageError("there is no such folder", where, next="-o another place")


def _refuse_what_is_left(name: str, commit: Commit) -> None:
    """Refuse an experiment whose commit holds results of other inputs than its own."""
    for path, why in holdings.left_outputs(commit).items():
        way_out = f"dvc exp apply {shlex.quote(name)}, then dvc exp run"
        raise UsageError(f"{name} has a result that is not its own", path, why, way_out)


def _put(folder: Path, place: Path) -> None:
    if place.suffix == ".zip":
        made = shutil.make_archive(str(folder), "zip", folder)
        Path(made).rename(place)
    else:
        folder.rename(place)


def _described(
    one: Saved, commit: Commit, files: list[str], parts: list[Part], licence: str
) -> Described:
    form = "--format=%an%x00%B"
    author, _, message = ask_git(
        commit.origin, "show", "-s", form, one.commit
    ).partition("\0")
    # What was taken over, no stage has made: of that the crate must not say so.
    taken = {each.stage: each for each in adopted.of(commit)}
    return Described(
        name=one.name,
        description=message.strip() or f"the experiment {one.name}",
        commit=one.commit,
        author=author,
        at=one.at,
        licence=licence,
        programs=commit.programs,
        files=files,
        parts=parts,
        ran=[ran for ran in _ran(commit, _costs(one)) if ran.stage not in taken],
        dvc=version("dvc"),
        adopted={path: each.line for each in taken.values() for path in each.outs},
    )


def _costs(one: Saved) -> dict[str, Cost]:
    """Return what is recorded of its runs here; nothing where it was run elsewhere."""
    try:
        found = Histories().of_saved(one).costs
    except MllamError:
        return {}
    return {cost.stage: cost for cost in found}


def _ran(commit: Commit, costs: Mapping[str, Cost]) -> Iterator[Ran]:
    for stage in commit.stages:
        entry = commit.entry(stage) or {}
        cost = costs.get(stage)
        commands = entry.get("cmd", "")
        yield Ran(
            stage,
            commands if isinstance(commands, str) else " && ".join(commands),
            tuple(_paths(entry, "deps")),
            tuple(_paths(entry, "outs")),
            dict(_parameters(entry)),
            cost.begun if cost else None,
            cost.ended if cost else None,
        )


def _paths(entry: Mapping[str, Any], kind: str) -> Iterator[str]:
    for one in entry.get(kind) or ():
        yield str(one["path"])


def _parameters(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for file, values in (entry.get("params") or {}).items():
        if file != VERSIONS_FILE:
            for key, value in flat(values):
                yield f"{file}:{key}", str(value)


def _licence_of(commit: Commit) -> str:
    """Return the licence that a repository states in its ``CITATION.cff``."""
    found = commit.mapping("CITATION.cff").get("license", "")
    return found if isinstance(found, str) else ""


def _why(part: Part) -> str:
    """Say why the crate has a part not, for people who ask whether they have to do anything."""
    if not contents.lies_below(part.path):
        return "it lies outside of the repository"
    if part.size is not None:
        return f"it has {amount(part.size)}"
    if part.is_made_each_time:
        return "its stage makes it anew each time, so that nobody has to keep it"
    if part.is_output:
        return "cache: false in dvc.yaml, and git ignores it: nobody keeps it"
    return "neither git nor DVC's cache here has it"


def _tell_licence(licence: str) -> None:
    if not licence:
        warn("note: the repository states no licence: nobody may use what is in it")
        warn("  → `license: CC-BY-4.0` in CITATION.cff, say, or --license CC-BY-4.0")


def _tell(place: Path, parts: list[Part], said: Described) -> None:
    for part in parts:
        if not part.inside:
            warn(f"note: {part.path} is left out, and its hash named: {_why(part)}")
    if any(not part.inside and part.size for part in parts):
        warn("  → --largest GB takes larger ones")
    _tell_licence(said.licence)
    inside = sum(part.inside for part in parts)
    what = f"{len(said.files)} files, {inside} of {len(parts)} inputs and outputs"
    say(f"{place}: {said.name} as a Workflow Run RO-Crate, with {what}")
