"""Which known training another one could go on from: the longest that is the same, found by reading each run once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mllam_exps.identity.definition import RunDefinition
from mllam_exps.preflight.parents import Trainings, hint
from mllam_exps.stages.neural_lam.going_on import GOES_ON

TRAINING = "data/training_params.yaml"


def defined(epochs: int, parent: Any = None, **more: Any) -> RunDefinition:
    values = {"lr": 0.1, **more, "epochs": epochs}
    versions = {"resume_from.train": parent}
    return RunDefinition(
        "train", {TRAINING: values, "version.mllam.txt": versions}, (), ()
    )


class KnownRun:
    """A run of a store, which counts how often its definition is read."""

    stage = "train"

    def __init__(self, definition: RunDefinition, *, done: bool = True) -> None:
        self._definition = definition
        self.result = SimpleNamespace(outputs={}) if done else None
        self.read = 0

    @property
    def definition(self) -> RunDefinition:
        self.read += 1
        return self._definition


def trainings(*runs: KnownRun) -> Trainings:
    store: Any = SimpleNamespace(runs=lambda: iter(runs))
    return Trainings(store)


def test_the_longest_that_is_done_shorter_and_the_same_in_all_else():
    short, good = KnownRun(defined(2)), KnownRun(defined(4))
    others = [
        KnownRun(defined(5), done=False),
        KnownRun(defined(5, lr=0.2)),
        KnownRun(defined(8)),
    ]
    known = trainings(short, good, *others)
    assert known.longest(defined(8), GOES_ON) is good
    assert known.longest(defined(4), GOES_ON) is short
    assert known.longest(defined(2), GOES_ON) is None
    assert known.longest(defined(8, lr=0.3), GOES_ON) is None
    assert {run.read for run in (short, good, *others)} == {1}  # for all four


def test_one_that_went_on_from_a_stranger_is_not_the_same(monkeypatch):
    elsewhere = {"files": {"saved_models/last.ckpt": "0" * 32}, "weights_only": False}
    stranger, plain = KnownRun(defined(6, elsewhere)), KnownRun(defined(3))
    monkeypatch.setattr(
        "mllam_exps.preflight.parents.outputs.known_digest", lambda *_: "1" * 32
    )
    assert trainings(stranger, plain).longest(defined(8), GOES_ON) is plain
    # From one that is the same it is.
    monkeypatch.setattr(
        "mllam_exps.preflight.parents.outputs.known_digest",
        lambda run, _: "0" * 32 if run is plain else "1" * 32,
    )
    assert trainings(stranger, plain).longest(defined(8), GOES_ON) is stranger


def test_what_dvc_yaml_lacks_is_said_with_the_hint(tmp_path: Path):
    known = trainings(KnownRun(defined(2)))
    for own, way in (
        ("resume_from.train", "resume: auto in params.yaml goes on from it"),
        ("numpy", "with resume_from.train among its params of version.mllam.txt in"),
    ):
        stage = f"cmd: x\n    params:\n    - version.mllam.txt: [{own}]"
        (tmp_path / "dvc.yaml").write_text(f"stages:\n  train:\n    {stage}\n")
        [told] = hint(known, defined(4), GOES_ON, tmp_path, tmp_path)
        assert told.startswith(f"train: the same is known with epochs: 2; {way}")
