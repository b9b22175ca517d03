"""Parts that other runs have made already: they differ from this run only in which parts were asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mllam_exps.identity.definition import RunDefinition
from mllam_exps.runs.outputs import (
    Damaged,
    damage,
    made_from_another,
    result_attempt,
)
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.stages.contract import Stage


def found(run: Run, definition: RunDefinition, stage: Stage) -> dict[str, Path]:
    """Return the outputs of finished runs that differ from a run in nothing but which parts they make, by their keys.

    They are whole and undamaged, and made from the same inputs: those that the run store
    has now, which the run takes, too.
    """
    kind = _but_for_parts(definition, stage)
    known: dict[str, Path] = {}
    if not kind:
        return known
    for other in _finished(RunStore(run.store), definition.stage):
        theirs = other.definition if other.key != run.key else None
        if theirs is None or _but_for_parts(theirs, stage) != kind:
            continue
        # One may be set aside, or cleaned, at any moment.
        with contextlib.suppress(Damaged, OSError):
            if made_from_another(other) is None and next(damage(other), None) is None:
                known[other.key] = result_attempt(other).outputs
    return known


def _finished(store: RunStore, stage: str) -> Iterator[Run]:
    for run in store.runs():
        if run.stage == stage and run.result is not None:
            yield run


def _but_for_parts(definition: RunDefinition, stage: Stage) -> str:
    """Return what tells runs apart but for their parts: the key that they would have; nothing where there are none."""
    params = stage.but_for_parts(definition.params)
    return "" if params is None else replace(definition, params=params).key
