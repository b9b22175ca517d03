"""``mllam-exps show EXP``: all that is known of one submitted experiment."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mllam_exps import stages
from mllam_exps.attempts import tracked
from mllam_exps.attempts.progress_line import duration
from mllam_exps.base import ownership, terminal
from mllam_exps.base.errors import MllamError
from mllam_exps.catalogue import marks
from mllam_exps.catalogue.marks import Marked
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.machines import environment
from mllam_exps.runs.outputs import damage, result_attempt
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.judge import RunState, stated, with_evidence
from mllam_exps.runs.store import Run
from mllam_exps.sharing import adopted
from mllam_exps.sharing.adopted import Adopted
from mllam_exps.stages import tracking
from mllam_exps.stages.contract import Stage
from mllam_exps.submission.applying import apply_command
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.opening import machine_of
from mllam_exps.views import costs, energy, saved
from mllam_exps.views.context import Context
from mllam_exps.views.costs import Cost
from mllam_exps.views.energy import Energy
from mllam_exps.views.gathering import with_what_dvc_has
from mllam_exps.views.looking import as_it_stays, of_experiment, of_run
from mllam_exps.views.rows import Cell, Row, stages_in_order

SHOWN = 5
"""Earlier attempts that are told of; it counts the others."""


def show(name: str, *, as_json: bool, lineage: bool = False) -> None:
    """Print it; of one that `dvc exp run` ran, what its runs tell; or the trainings that it goes on from, and back."""
    here = Context.open()
    if lineage:
        _show_lineage(here, name, as_json=as_json)
        return
    record, lines = _look(here, name)
    record["tags"], record["notes"], words = _marks(here, record)
    taken = _adopted(here, record["commit"] or "")
    record["adopted"] = [asdict(one) for one in taken]
    lines = itertools.chain(lines, (f"adopted     {one.line}" for one in taken), words)
    if as_json:
        print(json.dumps(record, indent=1))
        return
    console = terminal.console(highlight=False)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _show_lineage(here: Context, name: str, *, as_json: bool) -> None:
    """Print the trees in which an experiment's trainings stand."""
    from rich.text import Text
    from rich.tree import Tree

    from mllam_exps.views import lineage

    experiment = here.experiment(name)
    runs = here.asked_for_by(name)
    if experiment is None and not runs:
        raise here.unknown(name)
    keys = {step.key for step in experiment.steps} if experiment else set()
    keys |= {run.key for run in runs.values()} if not keys else set()
    found = lineage.trees(here.store, keys)
    if as_json:
        print(json.dumps([one.to_record() for one in found], indent=1))
        return
    console = terminal.console(highlight=False)

    def add(tree: Tree, several: list[lineage.Training]) -> Tree:
        for one in several:
            style = "bold" if one.asked else ""
            add(tree.add(Text(terminal.plain(one.line), style)), one.then)
        return tree

    for one in found:
        root = Tree(Text(terminal.plain(one.line), "bold" if one.asked else ""))
        console.print(add(root, one.then))
    if not found:
        terminal.say(
            f"no training of {name} goes on from another one, or is gone on from"
        )


def _look(here: Context, name: str) -> tuple[dict[str, Any], Iterator[str]]:
    """Return what is known of an experiment, for programs and for people."""
    if here.experiment(name) is None:
        told, one = (
            here.not_submitted(name),
            saved.saved_as(here.workspace.origin, name),
        )
        if told.runs or one:
            cells = {stage: of_run(run) for stage, run in told.runs.items()}
            commit = one.commit if one else ""
            row = Row(name, cells, commit=commit, left=told.left)
            ordered = {stage: cells[stage] for stage in stages_in_order([row])}
            row = with_what_dvc_has(here, as_it_stays(replace(row, cells=ordered)))
            known = {"name": name, "state": row.state_word, "commit": commit or None}
            record = known | _of_runs(row)
            return record, itertools.chain(_of_dvc(name, commit), _results(row, record))
    experiment = here.submitted(name)
    row = with_what_dvc_has(here, of_experiment(experiment))
    apply = ""
    if experiment.commit:
        apply = apply_command(experiment, here.workspace.origin)
    record = to_record(row, apply)
    return record, _lines(row, record)


def _adopted(here: Context, commit: str) -> list[Adopted]:
    """Return what an experiment's commit holds that no run made."""
    return list(adopted.of(Commit(here.workspace.origin, commit))) if commit else []


def _marks(here: Context, record: dict[str, Any]) -> tuple[Any, Any, list[str]]:
    """Return everybody's tags and notes on an experiment, and as people read them."""
    one = Marked(record.get("identity") or "-", record["commit"] or "", record["name"])
    found = [mark for mark in marks.all_marks(here.store) if one.is_meant_by(mark)]
    told = [mark.told for mark in found]
    tags = [each for mark, each in zip(found, told, strict=True) if mark.tag]
    notes = [each for mark, each in zip(found, told, strict=True) if mark.note]
    return tags, notes, [mark.line for mark in found]


def _of_dvc(name: str, commit: str) -> Iterator[str]:
    """Yield what git tells of an experiment that was not submitted."""
    yield f"experiment  {name}  ({'saved' if commit else 'run'} by dvc exp run)"
    if commit:
        yield f"saved as    {commit[:7]}: dvc exp apply {shlex.quote(name)}; its parameters: dvc exp show"


def _of_runs(row: Row) -> dict[str, Any]:
    """Return what is known of the runs of an experiment, JSON-able."""
    metrics: dict[str, Any] = {}
    checkpoints: list[str] = []
    for cell in row.cells.values():
        metrics |= _metrics(cell.run)
        checkpoints += map(str, _checkpoints(cell.run))
    energies = energy.of_runs(cell.run for cell in row.cells.values())
    return {
        "stages": row.stage_records(),
        "left": {stage: one.why for stage, one in row.left.items()},
        "metrics": metrics,
        "checkpoints": checkpoints,
        "node_hours": {one.stage: round(one.node_hours, 4) for one in _costs(row)},
        "energy": {
            one.stage: asdict(energies[one.key])
            for one in _costs(row)
            if one.key in energies
        },
    }


def _costs(row: Row) -> list[Cost]:
    return costs.of_runs(cell.run for cell in row.cells.values())


def to_record(row: Row, apply: str) -> dict[str, Any]:
    """Return what is known of a submitted experiment, JSON-able, with the command that applies it."""
    experiment, saving = row.experiment, row.saving
    assert experiment is not None
    assert saving is not None
    of_runs = _of_runs(row)
    reason = str(saving.now.problem)
    if not reason and not saving.now.state.settled:
        reason = experiment.waits
    return {
        "name": experiment.name,
        "identity": experiment.identity,
        "state": row.state_word,
        "reason": reason,
        "commit": experiment.commit or None,
        "apply": apply or None,
        "baseline": experiment.baseline,
        "parameters": experiment.overrides,
        "edited": list(experiment.edited),
        "command": shlex.join(experiment.command),
        "message": experiment.message,
        "user": experiment.user,
        "machine": experiment.machine,
        "repository": experiment.origin,
        "created": experiment.created,
        "clone": str(experiment.clone) if experiment.clone.is_dir() else None,
        **of_runs,
        "stages": [*of_runs["stages"], saving.to_record()],
        "tracking": _tracking(experiment),
    }


def _metrics(run: Run) -> dict[str, Any]:
    """Return what the metrics files of a finished run say: the outputs that git keeps and that are JSON."""
    definition = run.definition
    if run.result is None:
        return {}
    if damaged := next(damage(run), None):
        print(
            f"note: {damaged.path} {damaged.what}: its scores are not shown; mllam-exps verify",
            file=sys.stderr,
        )
        return {}
    found: dict[str, Any] = {}
    for output in definition.outputs if definition else ():
        if output.path.endswith(".json") and not output.cached:
            text = _text_of(result_attempt(run).outputs / output.path)
            with contextlib.suppress(ValueError):
                found[output.path] = json.loads(text)
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _checkpoints(run: Run) -> list[Path]:
    """Return the checkpoints of a run: among its outputs, or those that its next attempt would go on from."""
    if run.result is not None:
        return sorted(result_attempt(run).outputs.rglob("*.ckpt"))
    program = _program_of(run)
    if program is None:
        return []
    for attempt in reversed(run.attempts()):
        if found := program.checkpoints(attempt.scratch):
            return found
    return []


def _program_of(run: Run) -> Stage | None:
    """Return what runs a stage; None where that is a command of its own."""
    definition = run.definition
    if definition is not None and definition.commands:
        return None
    return stages.get(run.stage) if stages.has_program(run.stage) else None


def _tracking(experiment: Experiment) -> dict[str, Any]:
    """Return where its runs are tracked, and how those are found there that MLflow has."""
    given = experiment.settings
    with contextlib.suppress(MllamError):  # its machine file may be gone
        given = given | environment.variables(machine_of(experiment))
    uri = tracking.environment(Path(experiment.origin), given)[tracking.URI]
    runs = experiment.runs.values()
    found = [f"tags.run_key = '{run.key}'" for run in runs if tracked.is_in_mlflow(run)]
    return {"uri": tracking.public(uri), "filter": found}


def _lines(row: Row, record: dict[str, Any]) -> Iterator[str]:
    yield f"experiment  {record['name']}  ({_stands(row, record)})"
    if record["commit"]:
        yield f"saved as    {record['commit'][:7]}: {_to_apply(row, record)}"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record["created"]))
    yield f"submitted   {when} by {record['user']}, on machine {record['machine']}, from {record['repository']}"
    yield f"command     {record['command']}"
    yield f"baseline    {record['baseline'][:7]}"
    for file, words in record["parameters"].items():
        for word in words:
            yield f"parameter   {file}: {word}"
    if record["edited"]:
        yield f"edited      {', '.join(record['edited'])} (not committed when it was submitted)"
    yield from _results(row, record)
    if record["tracking"]["filter"]:
        uri, key = record["tracking"]["uri"], record["tracking"]["filter"][-1]
        yield f"mlflow      mlflow ui --backend-store-uri {shlex.quote(uri)}, search for {key}"
    if record["clone"]:
        yield f"clone       {record['clone']}"


def _to_apply(row: Row, record: dict[str, Any]) -> str:
    """Return the command that applies what is saved, or what to do where git has it no more."""
    if record["apply"] or row.experiment is None:
        return str(record["apply"])
    return f"its repository has it no more; {row.experiment.submit_again}"


def _stands(row: Row, record: dict[str, Any]) -> str:
    """Say in which state an experiment is, and why."""
    state = "waits" if row.state is RunState.NEW else str(row.state)
    return stated(state, str(record["reason"]).partition("\n")[0])


def _results(row: Row, record: dict[str, Any]) -> Iterator[str]:
    for step in row.experiment.steps if row.experiment else ():
        if step.known:
            yield f"{step.stage:11} {row.word(step.stage)}: DVC had its result when it was submitted"
    for stage in record["stages"]:
        name = stage["stage"]
        cell = row.cells.get(name, row.saving)
        word = cell.word(over=row.over) if cell else str(stage["state"])
        word = row.word(name) or word
        yield _stage_line(stage, word, cell)
        if cell:
            yield from _earlier(cell.run)
    for name, left in row.left.items():
        yield f"{name:11} {left.word}: {left.why}"
    for path, values in record["metrics"].items():
        for key, value in _flat(values):
            told = f"{value:.6g}" if isinstance(value, float) else value
            yield f"score       {path}: {key} = {told}"
    for path in record["checkpoints"]:
        yield f"checkpoint  {path}"
    if found := _costs(row):
        known = record["energy"]
        told = {
            one.key: Energy(**known[one.stage]) for one in found if one.stage in known
        }
        yield f"took        {costs.in_words(found, told)}"


def _stage_line(stage: dict[str, Any], word: str, cell: Cell | None) -> str:
    name = "saving" if stage["stage"] == SAVE else stage["stage"]
    parts = [word]
    attempt = cell.now.attempt if cell else None
    # One that had to wait did nothing.
    is_tried = attempt is not None and not attempt.had_to_wait
    if is_tried:
        number, tries = stage["attempts"], stage["tries"]
        told = f" (try {tries})" if tries != number else ""
        of = _of_whom(stage["owner"])
        parts.append(f"attempt {number}{of}{'' if told in word else told}")
        parts += [str(stage[key]) for key in ("job", "node") if stage[key]]
        if stage["elapsed"] is not None:
            parts.append(duration(stage["elapsed"]))
    told = ""
    if stage["reason"] and stage["state"] != "running":
        told = f": {stage['reason']}"
    log = f"\n            log {stage['log']}" if stage["log"] and is_tried else ""
    return f"{name:11} {', '.join(parts)}{told}{log}"


def _of_whom(owner: str) -> str:
    """Say whose an attempt is, if it is not this user's."""
    is_mine = owner == ownership.user_name(os.getuid())
    return "" if is_mine else f" of {owner}'s"


def _earlier(run: Run) -> Iterator[str]:
    """Yield how the attempts before the newest ended: it went on from them."""
    before = [one for one in run.attempts()[:-1] if not one.had_to_wait]
    if len(before) > SHOWN:
        yield f"            {len(before) - SHOWN} attempts before these"
    for attempt in before[-SHOWN:]:
        end, word = attempt.ended, verdict.known(attempt)
        if word is not None and word.cause:
            why = with_evidence(word)
        elif end is not None:
            why = end.problem.sentence or str(end.outcome)
        else:
            why = "it ended without a word of its own"
        yield f"            attempt {attempt.number}{_of_whom(attempt.maker)}: {why}"


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values
