"""``mllam-exps why``: what makes a stage stale, in words."""

from __future__ import annotations

import json
from typing import Any

from mllam_exps.assess import RunState, assess
from mllam_exps.errors import Exit, MllamError
from mllam_exps.pipeline import VERSIONS_FILE, Pipeline
from mllam_exps.report.here import Here

THEN = {
    RunState.NEW: "it has never run with these inputs: `dvc exp run` starts it",
    RunState.DONE: "its result is known: `dvc exp run` collects it, nothing is computed",
    RunState.FAILED: "its last attempt failed: `dvc exp run` goes on from its newest checkpoint, if it has one",
    RunState.LOST: "its last attempt was lost: `dvc exp run` goes on from its newest checkpoint, if it has one",
    RunState.CANCELLED: "its last attempt was cancelled: `dvc exp run` goes on from there",
    RunState.RUNNING: "it is running: `dvc exp run` attaches to it",
    RunState.PENDING: "it waits for the scheduler: `dvc exp run` attaches to it",
    RunState.STARTING: "it is being started: `dvc exp run` attaches to it",
    RunState.UNKNOWN: "its state is not known: `dvc exp run` waits until it is",
}


def show(stage: str, *, as_json: bool) -> None:
    """Print why DVC would run a stage, and what our run store knows of that run."""
    here = Here.open()
    pipeline = here.pipeline
    dvc_stage = pipeline.dvc_stage(stage)
    changes = _changes(pipeline, dvc_stage)
    definition = pipeline.definition(stage) if stage not in {"check_for_venv_path", "mllam_version"} else None
    now = assess(here.store.run(definition.key)) if definition else None
    if as_json:
        key = definition.key if definition else None
        print(json.dumps({"stage": stage, "changes": changes, "key": key, "state": now and str(now.state)}, indent=1))
        return
    if not changes:
        print(f"{stage} is up to date")
    # Of a stage that never ran DVC calls every input new and every output deleted.
    never = definition is not None and not any(out.hash_info for out in dvc_stage.outs)
    for change in [] if never else changes:
        print(f"{stage}: {change}")
    if now is not None and definition is not None and (changes or now.state is not RunState.DONE):
        print(f"{stage}: {THEN[now.state]} ({definition.key})")


def _changes(pipeline: Pipeline, stage: Any) -> list[str]:
    """Return what DVC finds changed about a stage.

    Raises
    ------
    MllamError
        While another DVC command works on the stage.
    """
    from dvc.lock import LockError

    try:
        with pipeline.repo.lock:
            return reasons_of(stage.status(check_updates=True).get(stage.addressing, []))
    except LockError as error:
        what = "DVC is at work here: what is stale can be told when it has finished"
        raise MllamError(what, next="mllam-exps status", exit=Exit.UNKNOWN) from error


def reasons_of(entries: list[Any]) -> list[str]:
    """Put DVC's status of a stage (3.67: a list of words and one-key mappings) into sentences."""
    found: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            found.append(
                {"always changed": "it runs every time", "changed command": "its command in dvc.yaml changed"}.get(
                    entry, entry
                )
            )
            continue
        for kind, changed in entry.items():
            for path, state in changed.items():
                found += _of_path(kind, path, state)
    return found


def _of_path(kind: str, path: str, state: Any) -> list[str]:
    if isinstance(state, dict):
        what = "version" if path == VERSIONS_FILE else "parameter"
        return [f"the {what} {name} in {path} is {how}" for name, how in state.items()]
    role = "input" if kind == "changed deps" else "output"
    return [f"its {role} {path} is {state}"]
