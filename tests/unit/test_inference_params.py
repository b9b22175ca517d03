"""``data/inference_params.yaml``: what of it cannot be is said before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.parameter_files import GOOD as DATA

from mllam_exps.stages.neural_lam.file_names import DATASTORE, INFERENCE, TRAINING
from mllam_exps.stages.neural_lam.infer import STAGE
from mllam_exps.stages.neural_lam.parameters import inference
from mllam_exps.stages.neural_lam.parameters.arguments import Arguments
from mllam_exps.stages.neural_lam.parameters.params import Parameters

SOURCE = Path(inference.__file__).parent
ARGUMENTS = Arguments.from_json(
    (SOURCE / "known_arguments/neural-lam-0.7.0.json").read_text()
)
OTHERS = Parameters(
    {DATASTORE: DATA, TRAINING: {"model": "graph_lam", "num_past_forcing_steps": 1}}
)
GOOD = {"split": "test", "starts": None, "steps": 4, "variables": ["msl"]}


def told(**changed: Any) -> list[str]:
    return [str(one) for one in inference.check({**GOOD, **changed}, OTHERS, ARGUMENTS)]


def test_good_ones() -> None:
    assert told() == []
    assert told(split=None, starts=["2025-12-05T00:00"]) == []
    assert told(split=None, starts={"start": "2025-12-03", "end": "2025-12-04"}) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step": 4}, "step: unknown key; did you mean steps?"),
        ({"steps": None}, "steps: is missing"),
        ({"steps": 0}, "steps: must be 1 or more, not 0"),
        ({"split": "tests"}, "split: must be one of"),
        ({"split": None}, "say which forecasts are made: split, or starts"),
        ({"starts": ["2025-12-05"]}, "starts: split: test is given as well"),
        ({"split": None, "starts": "2025-12-05"}, "starts: must be a list of times"),
        ({"split": None, "starts": {"begin": 1}}, "starts.begin: unknown key"),
        ({"split": None, "starts": ["2025-12-02T00:00"]}, "has too few times before it"),
        ({"steps": 30}, "the split test gives no forecast of 30 steps"),
        ({"variables": ["mslp"]}, "no mslp; did you mean msl?"),
        ({"variables": []}, "variables: must be a list of state variables"),
        ({"layout": "verif"}, "layout: must be one of"),
        ({"precision": "8"}, "precision: must be one of"),
        ({"standard_names": {"msl": 3}}, "standard_names: must hold lines"),
        ({"devices": 1.5}, "devices: must be an integer"),
    ],
)  # fmt: skip
def test_bad_ones(changed: dict[str, Any], said: str) -> None:
    [problem] = told(**changed)
    assert problem.startswith(INFERENCE)
    assert said in problem


def test_how_fast_does_not_count() -> None:
    values = {**GOOD, "num_workers": 3}
    assert STAGE.counting(INFERENCE, values) == STAGE.counting(INFERENCE, GOOD)
    assert STAGE.counting(INFERENCE, {**GOOD, "steps": 5}) != STAGE.counting(
        INFERENCE, GOOD
    )


def test_size_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / INFERENCE).write_text(yaml.safe_dump({**GOOD, "devices": 3}))
    assert STAGE.size(tmp_path).devices == 3
    (tmp_path / INFERENCE).unlink()
    [problem] = STAGE.preflight.check_parameters(tmp_path, Path("python"))
    assert INFERENCE in str(problem)
    assert "init --with infer" in problem.next
