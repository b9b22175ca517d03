"""``mllam-exps compare``: what differs between two experiments, on one page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mllam_exps.base import terminal
from mllam_exps.base.errors import UsageError, nearest
from mllam_exps.base.git import ask_git
from mllam_exps.dvc.lockfile import FILE as LOCK
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import differences, experiment_refs, holdings
from mllam_exps.dvc.saved.commits import Checkout, Commit, Locked
from mllam_exps.dvc.saved.differences import SHORT, WORKSPACE, Difference
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.views.context import Context

SECTIONS = (
    "parameters",
    "scores",
    "inputs",
    "versions",
    "commands",
    "files",
    "outputs",
    "runs",
)


def compare(first: str, second: str, *, as_json: bool) -> None:
    """Print what differs between two experiments, revisions, or the workspace."""
    here = Context.open()
    names = (first, second)
    revisions = _revision(here, first), _revision(here, second)
    found = dict(_sections(here, names, *revisions))
    if as_json:
        told = {title: [_record(one) for one in rows] for title, rows in found.items()}
        print(json.dumps(told, indent=1))
        return
    _print(found, names)


def _record(one: Difference) -> dict[str, Any]:
    return asdict(one) | {"change": one.change}


def _revision(here: Context, name: str) -> str:
    """Return the commit of an experiment or revision.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name == WORKSPACE:
        return name
    root = here.workspace.origin
    saved = experiment_refs.saved(root)
    for one in saved:
        if one.name == name:
            return one.commit
    commit = ask_git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if not commit:
        here.refuse_unsaved(name)
        near = nearest(name, [one.name for one in saved])
        hint = f"did you mean {near}?" if near else "dvc exp list -A"
        raise UsageError(
            f"no saved experiment, and no revision, is called {name}", next=hint
        )
    return commit


def _sections(
    here: Context, names: tuple[str, str], one: str, other: str
) -> Iterator[tuple[str, list[Difference]]]:
    root = here.workspace.origin
    repository = Repository.open(root, check=False)
    first, second = _locked(root, one), _locked(root, other)
    parameters = list(differences.of_parameters(repository, one, other))
    sides = {one: first, other: second}
    metrics = [] if one == other else list(_scores(repository, names, sides))
    yield "parameters", [each for each in parameters if each.where != VERSIONS_FILE]
    yield "scores", metrics
    yield "inputs", list(differences.of_inputs(first, second))
    yield "versions", [each for each in parameters if each.where == VERSIONS_FILE]
    yield "commands", list(differences.of_commands(repository, one, other))
    told = {each.where for each in (*parameters, *metrics)}
    made = {*first.outputs, *second.outputs, LOCK, VERSIONS_FILE, ".gitignore"}
    yield "files", list(differences.of_files(root, one, other, but=told | made))
    outputs = differences.of_outputs(first, second)
    yield "outputs", [each for each in outputs if each.where not in told]
    yield "runs", list(_of_runs(here, names))


def _scores(
    repository: Repository, names: tuple[str, str], sides: Mapping[str, Locked]
) -> Iterator[Difference]:
    """Yield the metrics that differ, each where it is an experiment's own: what it has of other inputs is told.

    Parameters
    ----------
    sides : mapping
        What ``dvc.lock`` says, by revision.
    """
    first, second = sides
    left = {one: holdings.left_outputs(locked) for one, locked in sides.items()}
    for each in differences.of_metrics(repository, sides):
        if each.where not in {*left[first], *left[second]}:
            yield each
    for name, one, other in zip(names, sides, (second, first), strict=True):
        if not left[one]:
            continue
        own = differences.metrics_of(repository, other)
        for file in left[one].keys() & differences.metrics_of(repository, one).keys():
            terminal.warn(f"note: {name}: {file} is left out: {left[one][file]}")
            for key, value in own.get(file, {}).items():
                if file not in left[other]:
                    both = (None, value) if one == first else (value, None)
                    yield Difference(file, key, *both)


def _locked(root: Path, revision: str) -> Locked:
    return Checkout(root) if revision == WORKSPACE else Commit(root, revision)


def _of_runs(here: Context, names: tuple[str, str]) -> Iterator[Difference]:
    """Yield where and by whom experiments were made, if both were submitted, and that differs."""
    first, second = (here.experiment(name) for name in names)
    if first is None or second is None:
        return
    if first.machine != second.machine:
        yield Difference("", "machine", first.machine, second.machine)
    if first.user != second.user:
        yield Difference("", "user", first.user, second.user)


def _print(found: Mapping[str, list[Difference]], names: tuple[str, ...]) -> None:
    from mllam_exps.views import tables

    console = terminal.console(highlight=False)
    for title in SECTIONS:
        if rows := found[title]:
            console.print(tables.table(_columns(rows, names), console.width, title))
    if same := [title for title in SECTIONS if not found[title]]:
        terminal.say(f"the same: {', '.join(same)}")


def _columns(rows: Iterable[Difference], names: tuple[str, ...]) -> list[Any]:
    from rich.text import Text

    from mllam_exps.views.tables import Column

    rows = list(rows)
    columns = [
        Column("", [Text(_name(one)) for one in rows], wraps=True),
        Column(names[0], [Text(_value(one.first)) for one in rows], wraps=True),
        Column(names[1], [Text(_value(one.second)) for one in rows], wraps=True),
    ]
    if any(one.change is not None for one in rows):
        told = ["" if one.change is None else f"{one.change:+.4g}" for one in rows]
        columns.append(Column("change", [Text(each) for each in told], right=True))
    if all(one.first is None and one.second is None for one in rows):
        del columns[1:]
    return columns


def _name(one: Difference) -> str:
    return ": ".join(filter(None, (one.where, one.what)))


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    is_hash = len(text) >= 32 and set(text.removesuffix(".dir")) <= set(
        "0123456789abcdef"
    )
    return text[:SHORT] if is_hash else text
