"""``mllam-exps why``: what makes a stage stale, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mllam_exps import stages
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.identity.definition import VERSIONS_FILE, RunDefinition
from mllam_exps.runs.state.judge import Assessment, RunState, judge
from mllam_exps.runs.state.observe import observe
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
_OF_DVC = {
    "always changed": "it runs every time",
    "changed command": "its command in dvc.yaml changed",
}
"""What DVC says in words of its own."""


def show(stage: str, *, as_json: bool) -> None:
    """Print why DVC would run a stage, and what our run store knows of that run."""
    found = _look(Context.open(), stage)
    if as_json:
        print(json.dumps(found.to_record(), indent=1))
        return
    for line in found.lines():
        print(line)


@dataclass(frozen=True)
class Staleness:
    """Why DVC would run a stage.

    Parameters
    ----------
    entry : StageEntry
        The stage in ``dvc.yaml``.
    changes : list of str
        What changed about it.
    before : list of str
        The stale stages that come before it.
    definition : RunDefinition, optional
        What defines its run; None of a stage that only checks, and writes down
        versions.
    now : Assessment, optional
        How that run stands.
    """

    entry: StageEntry
    changes: list[str]
    before: list[str]
    definition: RunDefinition | None = None
    now: Assessment | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the JSON-able record for programs."""
        return {
            "stage": self.entry.name,
            "changes": self.changes,
            "before": self.before,
            "key": self.definition.key if self.definition else None,
            "state": str(self.now.state) if self.now else None,
        }

    def lines(self) -> Iterator[str]:
        """Yield what people read."""
        stage = self.entry.name
        if not self.changes and not self.before:
            frozen = ", as it is frozen in dvc.yaml" if self.entry.frozen else ""
            yield f"{stage} is up to date: `dvc exp run` leaves it as it is{frozen}"
            return
        if not self._never_ran:
            for change in self.changes:
                yield f"{stage}: {change}"
        if self.before:
            yield f"{stage}: {_before(self.before)}: mllam-exps why {self.before[0]}"
        if self.now is not None and self.definition is not None:
            then = _then(self.now, self.definition, only_before=not self.changes)
            yield f"{stage}: {then}"

    @property
    def _never_ran(self) -> bool:
        """Whether the stage never ran: DVC calls every input new then, and every output deleted."""
        has_outputs = any(out.digest for out in self.entry.outs)
        return self.definition is not None and not has_outputs


def _look(here: Context, stage: str) -> Staleness:
    """Look at a stage, as it is in the workspace."""
    pipeline = here.pipeline
    found = _changes(pipeline, stage)
    changes, entry = found.pop(stage), pipeline.stage(stage)
    # A stage that runs every time makes nothing stale by that; a changed version is
    # told below.
    before = []
    for name, told in found.items():
        if told and not pipeline.stage(name).always_runs:
            before.append(name)
    if entry.is_bookkeeping:
        return Staleness(entry, changes, before)
    definition = pipeline.definition(stage)
    now = judge(observe(here.store.run(definition.key)))
    return Staleness(entry, changes, before, definition, now)


def _before(stages: list[str]) -> str:
    """Say which stages come first, as they are stale."""
    if len(stages) == 1:
        return f"stage {stages[0]} is stale, and runs before it"
    *others, last = stages
    return f"stages {', '.join(others)} and {last} are stale, and run before it"


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
            found.append(_OF_DVC.get(entry, entry))
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
