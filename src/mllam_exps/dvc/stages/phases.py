"""A stage whose work has phases: each is a run of its own, and what the one before has made is an input of it.

DVC knows of the last alone, under the stage's name. Those before are called `train:1`,
`train:2`; in ``dvc.yaml`` itself DVC (3.67) takes no colon in the name of a stage.
"""

from __future__ import annotations

from dataclasses import replace

from mllam_exps import stages
from mllam_exps.identity.definition import (
    PHASE_BEFORE,
    Input,
    RunDefinition,
    plain,
    without_parent,
)


def stage_of(name: str) -> str:
    """Return the stage whose phase has that name; a stage's own name is that of its last phase."""
    stage, _, number = name.rpartition(":")
    # A stage of another file is called `sub/dvc.yaml:name`, one of a matrix may be
    # called `part@00:00` (DVC 3.67).
    return stage if number.isdigit() and stages.has_program(stage) else name


def is_before_the_last(name: str) -> bool:
    """Tell whether that is a phase of which DVC knows nothing: what it made, the next phase alone reads."""
    return stage_of(name) != name


def by_name(whole: RunDefinition) -> dict[str, RunDefinition]:
    """Return what defines each phase of a stage's work, by name, in order; of work without phases itself."""
    if whole.commands or not stages.has_program(whole.stage):
        return {whole.stage: whole}
    several = stages.get(whole.stage).phases(whole.params)
    if not several:
        return {whole.stage: whole}
    found: dict[str, RunDefinition] = {}
    before: RunDefinition | None = None
    for number, counting in enumerate(several, start=1):
        params, inputs = dict(counting), whole.inputs
        if before is not None:
            inputs += tuple(
                Input(f"{PHASE_BEFORE}/{one.path}", before.key, None, one.cached)
                for one in whole.outputs
            )
            params = without_parent(params)
        plainly = {
            file: {name: plain(value, f"{file}: {name}") for name, value in one.items()}
            for file, one in params.items()
        }
        before = replace(whole, params=plainly, inputs=inputs, phase=number)
        is_last = number == len(several)
        found[whole.stage if is_last else f"{whole.stage}:{number}"] = before
    return found
