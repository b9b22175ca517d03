"""``mllam-exps show EXP``: all that is known of one submitted experiment."""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mllam_exps import stages
from mllam_exps.attempts.progress_line import duration
from mllam_exps.base import terminal
from mllam_exps.base.errors import MllamError
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.machines import environment
from mllam_exps.runs.judge import RunState
from mllam_exps.runs.outputs import damage, result_attempt
from mllam_exps.runs.store import Run
from mllam_exps.stages import tracking
from mllam_exps.stages.contract import Stage
from mllam_exps.submission.experiments import Experiment
from mllam_exps.submission.opening import machine_of
from mllam_exps.views import saved
from mllam_exps.views.context import Context
from mllam_exps.views.gathering import of_experiment, of_run, with_what_dvc_has
from mllam_exps.views.rows import Row


def show(name: str, *, as_json: bool) -> None:
    """Print it; of one that `dvc exp run` ran, what its runs tell."""
    here = Context.open()
    commit = saved.commit_of(here.workspace.origin, name)
    if here.experiment(name) is None and ((runs := here.asked_for_by(name)) or commit):
        row = Row(
            name,
            {stage: of_run(run) for stage, run in runs.items()},
            commit=commit,
        )
        record = {
            "name": name,
            "state": str(row.state),
            "commit": commit or None,
        } | _of_runs(row)
        lines: Iterator[str] = itertools.chain(
            _of_dvc(name, commit), _results(row, record)
        )
    else:
        row = with_what_dvc_has(here, of_experiment(here.submitted(name)))
        record = to_record(row)
        lines = _lines(row, record)
    if as_json:
        print(json.dumps(record, indent=1))
        return

    console = terminal.console(highlight=False)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _of_dvc(name: str, commit: str) -> Iterator[str]:
    """Yield what git tells of an experiment that was not submitted."""
    yield f"experiment  {name}  ({'saved' if commit else 'run'} by dvc exp run)"
    if commit:
        yield f"saved as    {commit[:7]}: dvc exp apply {shlex.quote(name)}; its parameters: dvc exp show"


def _of_runs(row: Row) -> dict[str, Any]:
    """Return what is known of the runs of an experiment, JSON-able."""
    runs = {stage: cell.run for stage, cell in row.cells.items()}
    return {
        "stages": [cell.to_record() for cell in row.cells.values()],
        "metrics": _metrics(runs),
        "checkpoints": [
            str(path) for run in runs.values() for path in _checkpoints(run)
        ],
    }


def to_record(row: Row) -> dict[str, Any]:
    """Return what is known of a submitted experiment, JSON-able."""
    experiment, saving = row.experiment, row.saving
    assert experiment is not None
    assert saving is not None
    of_runs = _of_runs(row)
    return {
        "name": experiment.name,
        "state": str(row.state),
        "reason": str(saving.now.problem)
        or ("" if saving.now.state.settled else experiment.waits),
        "commit": experiment.commit or None,
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


def _metrics(runs: dict[str, Run]) -> dict[str, Any]:
    """Return what the metrics files of finished runs say: the outputs that git keeps and that are JSON."""
    found: dict[str, Any] = {}
    for run in runs.values():
        if run.result is None:
            continue
        if damaged := next(damage(run), None):
            print(
                f"note: {damaged.path} {damaged.what}: its scores are not shown; mllam-exps verify",
                file=sys.stderr,
            )
            continue
        made = result_attempt(run).outputs
        definition = run.definition
        for output in definition.outputs if definition else ():
            if output.path.endswith(".json") and not output.cached:
                text = _text_of(made / output.path)
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


def _is_tracked(run: Run) -> bool:
    """Tell whether a stage's program may log its numbers."""
    program = _program_of(run)
    return program is not None and program.is_tracked


def _tracking(experiment: Experiment) -> dict[str, Any]:
    """Return where its runs are tracked."""
    given = experiment.settings
    with contextlib.suppress(MllamError):  # its machine file may be gone
        given = given | environment.variables(machine_of(experiment))
    uri = tracking.environment(Path(experiment.origin), given)[tracking.URI]
    return {
        "uri": tracking.public(uri),
        "filter": [f"tags.run_key = '{step.key}'" for step in experiment.steps],
    }


def _lines(row: Row, record: dict[str, Any]) -> Iterator[str]:
    state, reason = str(row.state), record["reason"].partition("\n")[0]
    if row.state is RunState.NEW:
        state = "waits"
    told = (
        f"{state}: {reason}"
        if reason and not reason.startswith(state)
        else reason or state
    )
    yield f"experiment  {record['name']}  ({told})"
    if record["commit"]:
        yield f"saved as    {record['commit'][:7]}: dvc exp apply {record['name']}"
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
    experiment = row.experiment
    steps = experiment.steps if experiment else ()
    if experiment and any(_is_tracked(experiment.store.run(s.key)) for s in steps):
        uri, key = record["tracking"]["uri"], record["tracking"]["filter"][-1]
        yield f"mlflow      mlflow ui --backend-store-uri {shlex.quote(uri)}, search for {key}"
    if record["clone"]:
        yield f"clone       {record['clone']}"


def _results(row: Row, record: dict[str, Any]) -> Iterator[str]:
    for step in row.experiment.steps if row.experiment else ():
        if step.known:
            yield f"{step.stage:11} {row.word(step.stage)}: DVC had its result when it was submitted"
    for stage in record["stages"]:
        cell = row.cells.get(stage["stage"], row.saving)
        yield _stage_line(
            stage, cell.word(over=row.over) if cell else str(stage["state"])
        )
    for path, values in record["metrics"].items():
        for key, value in _flat(values):
            told = f"{value:.6g}" if isinstance(value, float) else value
            yield f"score       {path}: {key} = {told}"
    for path in record["checkpoints"]:
        yield f"checkpoint  {path}"


def _stage_line(stage: dict[str, Any], word: str) -> str:
    name = "saving" if stage["stage"] == SAVE else stage["stage"]
    parts = [word]
    if stage["attempts"]:
        parts.append(f"attempt {stage['attempts']}")
    parts += [str(stage[key]) for key in ("job", "node") if stage[key]]
    if stage["elapsed"] is not None:
        parts.append(duration(stage["elapsed"]))
    told = (
        f": {stage['reason']}"
        if stage["reason"] and stage["state"] != "running"
        else ""
    )
    log = f"\n            log {stage['log']}" if stage["log"] else ""
    return f"{name:11} {', '.join(parts)}{told}{log}"


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values
