"""``mllam-exps why``: what makes a stage stale, in words."""

from __future__ import annotations

import json
from typing import Any

from mllam_exps import stages
from mllam_exps.dvc.pipeline import Pipeline
from mllam_exps.identity.definition import VERSIONS_FILE, RunDefinition
from mllam_exps.runs.judge import Assessment, RunState, judge
from mllam_exps.runs.observe import observe
from mllam_exps.views.context import Context

_GOES_ON = "goes on from its newest checkpoint, if it has one"
THEN = {
    RunState.NEW: "it has never run with these inputs: `dvc exp run` starts it",
    RunState.DONE: "its result is known: `dvc exp run` collects it, nothing is computed",
    RunState.FAILED: f"its last attempt failed: `dvc exp run` {_GOES_ON}",
    RunState.LOST: f"its last attempt was lost: `dvc exp run` {_GOES_ON}",
    RunState.CANCELLED: "its last attempt was cancelled: `dvc exp run` goes on from there",
    RunState.RUNNING: "it is running: `dvc exp run` attaches to it",
    RunState.PENDING: "it waits for the scheduler: `dvc exp run` attaches to it",
    RunState.STARTING: "it is being started: `dvc exp run` attaches to it",
    RunState.UNKNOWN: "its state is not known: `dvc exp run` waits until it is",
}
"""What happens next to a stage whose command is `mllam-exps run`."""
OWN_COMMAND = {
    RunState.NEW: "`dvc exp run` and `mllam-exps submit` run its command",
    RunState.DONE: "`mllam-exps submit` takes its result from the run store, `dvc exp run` runs its command",
}
"""The same for a stage with a command of its own: DVC runs that one by itself, and knows no run store."""


def show(stage: str, *, as_json: bool) -> None:
    """Print why DVC would run a stage, and what our run store knows of that run."""
    here = Context.open()
    pipeline = here.pipeline
    found = _changes(pipeline, stage)
    changes = found.pop(stage)
    # A stage that runs every time makes nothing stale by that; a changed version is
    # told below.
    before = [
        name
        for name, told in found.items()
        if told and not pipeline.stage(name).always_runs
    ]
    definition = (
        None if pipeline.stage(stage).is_bookkeeping else pipeline.definition(stage)
    )
    # Of a stage that never ran DVC calls every input new and every output deleted.
    never = definition is not None and not any(
        out.digest for out in pipeline.stage(stage).outs
    )
    now = judge(observe(here.store.run(definition.key))) if definition else None
    if as_json:
        key = definition.key if definition else None
        state = now and str(now.state)
        print(
            json.dumps(
                {
                    "stage": stage,
                    "changes": changes,
                    "before": before,
                    "key": key,
                    "state": state,
                },
                indent=1,
            )
        )
        return
    if not changes and not before:
        frozen = ", as it is frozen in dvc.yaml" if pipeline.stage(stage).frozen else ""
        print(f"{stage} is up to date: `dvc exp run` leaves it as it is{frozen}")
        return
    for change in [] if never else changes:
        print(f"{stage}: {change}")
    if before:
        print(f"{stage}: {_before(before)}: mllam-exps why {before[0]}")
    if now is not None and definition is not None:
        print(f"{stage}: {_then(now, definition, only_before=not changes)}")


def _before(stages: list[str]) -> str:
    """Say which stages come first, as they are stale."""
    if len(stages) == 1:
        return f"stage {stages[0]} is stale, and runs before it"
    return (
        f"stages {', '.join(stages[:-1])} and {stages[-1]} are stale, and run before it"
    )


def _then(now: Assessment, definition: RunDefinition, *, only_before: bool) -> str:
    """Say what happens to a stale stage when it runs next.

    Parameters
    ----------
    only_before : bool
        Whether nothing but an earlier stage is stale.
    """
    key = definition.key
    if definition.commands:
        tried = f"a submitted experiment has tried it ({now.state}): mllam-exps status {definition.stage}"
        return f"{OWN_COMMAND.get(now.state, tried)} ({key})"
    if now.state is RunState.NEW and only_before:
        return f"`dvc exp run` then starts it, if what it reads has changed ({key})"
    told, way_out = now.reason, now.problem.next
    if now.state is RunState.FAILED and way_out:
        return f"its last attempt failed: {told} ({key})\n  → {way_out}"
    then = THEN[now.state]
    if not stages.of(definition).has_checkpoints:
        then = then.replace(_GOES_ON, "starts it again")
    return f"{then} ({key})"


def _changes(pipeline: Pipeline, stage: str) -> dict[str, list[str]]:
    """Return what DVC finds changed about a stage, and about every stage that has to come before it.

    Raises
    ------
    MllamError
        While another DVC command works on the stage.
    """
    told = pipeline.repository.status(pipeline.in_order([stage]))
    return {
        name: reasons_of(entries) + _changed_versions(pipeline, name)
        for name, entries in told.items()
    }


def _changed_versions(pipeline: Pipeline, stage: str) -> list[str]:
    """Say which programs have another version: DVC reads their file as it is; `dvc exp run` first writes it anew."""
    found: list[str] = []
    for file in pipeline.stage(stage).params:
        if pipeline.relative(file.path) != VERSIONS_FILE:
            continue
        for name, version in pipeline.definition(stage).versions.items():
            before = file.locked.get(name, "not asked for")
            if before != version:
                found.append(
                    f"the version of {name} was {before}, and is {version} now"
                )
    return found


def reasons_of(entries: list[Any]) -> list[str]:
    """Put DVC's status of a stage (3.67: a list of words and one-key mappings) into sentences; not that of versions."""
    found: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            found.append(
                {
                    "always changed": "it runs every time",
                    "changed command": "its command in dvc.yaml changed",
                }.get(entry, entry)
            )
            continue
        for kind, changed in entry.items():
            for path, state in changed.items():
                if path != VERSIONS_FILE:
                    found += _of_path(kind, path, state)
    return found


def _of_path(kind: str, path: str, state: Any) -> list[str]:
    if isinstance(state, dict):
        return [
            f"the parameter {name} in {path} is {how}" for name, how in state.items()
        ]
    role = "input" if kind == "changed deps" else "output"
    return [f"its {role} {path} is {state}"]
