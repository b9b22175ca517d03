"""Parts that other runs have made of the same: which runs count, and that nothing damaged or else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mllam_exps.attempts.work import other_parts
from mllam_exps.identity.definition import Input, Output, RunDefinition
from mllam_exps.runs import freezing, outputs
from mllam_exps.runs.results import Read, Result
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.stages.contract import Stage
from mllam_exps.stages.neural_lam.file_names import INFERENCE
from mllam_exps.stages.neural_lam.infer import STAGE

GIVEN = {"starts": ["a", "b"], "steps": 4}
INPUT = Input("data/graph", None, f"{1:032x}.dir", tracked=True)
ONE = RunDefinition(
    "infer",
    {INFERENCE: GIVEN, "version.mllam.txt": {"torch": "2"}},
    (INPUT,),
    (Output("forecasts", cached=True),),
)


def of(**given: object) -> RunDefinition:
    return replace(ONE, params={**ONE.params, INFERENCE: {**GIVEN, **given}})


def make(store: RunStore, definition: RunDefinition) -> Run:
    run = store.run(definition.key)
    run.begin(definition)
    attempt = run.claim(
        1, scheduler="local", experiment="e", workspace=Path(), working_directory=None
    )
    assert attempt is not None
    (attempt.work / "forecasts").mkdir(parents=True)
    (attempt.work / "forecasts/0").write_text("rain")
    made = freezing.freeze(attempt, ["forecasts"])
    run = Run(attempt.run.directory)
    assert run.settle(Result(1, made, {"data/graph": Read(f"{1:032x}.dir", None)}))
    return run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "store")


def test_runs_that_differ_in_their_parts_alone_are_found(store: RunStore):
    other, split = (
        make(store, of(starts=["a"])),
        make(store, of(starts=None, split="val")),
    )
    make(store, ONE)
    make(store, of(steps=5))
    make(
        store,
        replace(of(starts=["a"]), inputs=(replace(INPUT, digest=f"{2:032x}.dir"),)),
    )
    make(store, replace(of(starts=["a"]), smoke=True))
    versions = {**of(starts=["a"]).params, "version.mllam.txt": {"torch": "3"}}
    make(store, replace(ONE, params=versions))
    begun = store.run(of(starts=["c"]).key)
    begun.begin(of(starts=["c"]))
    found = other_parts.found(store.run(ONE.key), ONE, STAGE)
    assert found == {
        run.key: outputs.result_attempt(run).outputs for run in (other, split)
    }
    assert all((path / "forecasts/0").read_text() == "rain" for path in found.values())
    # A stage that makes no parts takes nothing of others.
    assert other_parts.found(store.run(ONE.key), ONE, Stage()) == {}


def test_what_is_damaged_is_left(store: RunStore):
    other = make(store, of(starts=["a"]))
    file = outputs.result_attempt(other).outputs / "forecasts/0"
    file.chmod(0o644)
    file.write_text("snow")
    assert other_parts.found(store.run(ONE.key), ONE, STAGE) == {}
