"""How stages are known, and what one that says little says of itself."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mllam_exps import stages
from mllam_exps.base.errors import UsageError
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.stages.contract import NOTHING_TO_LOOK_AT, Size, Stage, StageContext
from mllam_exps.stages.neural_lam.preflight import PREFLIGHT

FOUR = ["prepare_dataset", "create_graph", "train", "evaluate"]


class Little(Stage):
    """A stage that says no more than it has to."""

    name = "little"

    def command(self, context: StageContext) -> list[str]:
        return ["python", "-c", ""]


def definition(stage: str, *commands: str) -> RunDefinition:
    return RunDefinition(stage, {}, (), (), commands=commands)


def test_neural_lams_stages_come_by_the_entry_point_of_all_others():
    assert stages.all_names() >= set(FOUR)
    assert [stages.get(name).name for name in FOUR] == FOUR
    assert all(stages.get(name).preflight is PREFLIGHT for name in FOUR)


def test_what_they_say_of_themselves():
    said = {
        name: (one.shortened_by_smoke, one.has_checkpoints)
        for name, one in ((name, stages.get(name)) for name in FOUR)
    }
    assert said == {
        "prepare_dataset": (False, False),
        "create_graph": (False, False),
        "train": (True, True),
        "evaluate": (True, False),
    }


def test_a_stage_that_says_little(tmp_path: Path):
    stage = Little()
    assert stage.size(tmp_path) == Size(nodes=1, devices=1)
    assert stage.parameters(tmp_path) == {}
    assert stage.counting("own.yaml", {"a": 1.0, "b": None}) == {"a": 1.0, "b": None}
    assert not (stage.shortened_by_smoke or stage.has_checkpoints)
    assert stage.preflight is NOTHING_TO_LOOK_AT


def test_a_command_of_its_own_is_a_shells_whatever_the_stage_is_called():
    shell = stages.of(definition("train", "python make.py"))
    assert shell.command(StageContext(Path(), Path(), {}))[-1] == "python make.py"
    assert not (shell.has_checkpoints or shell.shortened_by_smoke)
    assert stages.of(definition("train@a")) is stages.get("train")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("stages: {train: {cmd: mllam-exps run train}}", ["train"]),
        ("stages: {train: {cmd: python train.py}}", []),
        ("stages: {mine: {cmd: mllam-exps run mine}}", []),
        ("stages: {train: {cmd: [date, mllam-exps run train]}}", ["train"]),
        ('stages: {train: {cmd: "echo \'\\nmllam-exps run train"}}', ["train"]),
        (
            "stages: {train: {foreach: [a], do: {cmd: mllam-exps run train@a}}}",
            ["train"],
        ),
        (
            "stages: {evaluate: {cmd: mllam-exps run evaluate}, train: {cmd: mllam-exps run train}}",
            ["evaluate", "train"],
        ),
        ("stages: [train]", []),
        ("stages: {train: text}", []),
        ("stages: {train: {cmd: 3}}", []),
        ("stages: {train: {", []),
        ("", []),
    ],
)
def test_the_stages_that_a_repository_uses(tmp_path: Path, text: str, found: list[str]):
    (tmp_path / "dvc.yaml").write_text(text)
    assert list(stages.used(tmp_path)) == found
    looks = [PREFLIGHT] if found else []
    assert stages.preflights(tmp_path) == looks


def test_without_a_pipeline_nothing_is_used(tmp_path: Path):
    assert stages.used(tmp_path) == {}
    assert stages.preflights(tmp_path, Little()) == [NOTHING_TO_LOOK_AT]


def test_an_entry_point_that_is_no_stage_is_told(monkeypatch: pytest.MonkeyPatch):
    wrong = EntryPoint("wrong", "json:dumps", stages.GROUP)
    monkeypatch.setattr(stages, "_entries", lambda: {"wrong": wrong})
    with pytest.raises(UsageError, match=r"json:dumps .* is no stage"):
        stages.get("wrong")
    with pytest.raises(UsageError, match="there is no program for the stage 'train'"):
        stages.get("train@a")
