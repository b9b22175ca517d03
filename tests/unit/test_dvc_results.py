"""What DVC knows of a result: an entry answers for a stage as it is now, or for none."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.stages import results
from mllam_exps.dvc.stages.results import Question
from mllam_exps.stages.neural_lam.common import NeuralLamStage

NOW = Question(
    cmd="python bench.py",
    deps={"a.txt": "1" * 32, "made": "2" * 32 + ".dir"},
    params={"bench.yaml": {"num_workers": 2}, "params.yaml": {"lr": 1.0}},
    outs=("m.json", "out"),
    counting=lambda _file, values: dict(values),
)
ENTRY: dict[str, Any] = {
    "cmd": "python bench.py",
    "deps": [
        {"path": "a.txt", "hash": "md5", "md5": "1" * 32, "size": 4},
        {
            "path": "made",
            "hash": "md5",
            "md5": "2" * 32 + ".dir",
            "size": 9,
            "nfiles": 3,
        },
    ],
    "params": {"bench.yaml": {"num_workers": 2}, "params.yaml": {"lr": 1.0}},
    "outs": [
        {"path": "out", "hash": "md5", "md5": "3" * 32},
        {"path": "m.json", "hash": "md5", "md5": "4" * 32},
    ],
}


def test_an_entry_of_the_same_is_an_answer():
    assert NOW.is_answered_by(ENTRY)
    assert not NOW.confuses_dvc


@pytest.mark.parametrize(
    "changed",
    [
        {"cmd": ["python bench.py"]},
        {"deps": {"a.txt": "5" * 32, "made": "2" * 32 + ".dir"}},
        {"deps": {"a.txt": "1" * 32}},
        {"deps": {"b.txt": "1" * 32, "made": "2" * 32 + ".dir"}},
        {"params": {"bench.yaml": {"num_workers": 8}, "params.yaml": {"lr": 1.0}}},
        {"params": {"bench.yaml": {"num_workers": 2}, "params.yaml": {"lr": 1}}},
        {"params": {"bench.yaml": {"num_workers": 2}, "params.yaml": {"lr": True}}},
        {"params": {"bench.yaml": {"num_workers": 2}}},
        {
            "params": {
                "bench.yaml": {"num_workers": 2, "more": 1},
                "params.yaml": {"lr": 1.0},
            }
        },
        {"outs": ("out",)},
    ],
)
def test_one_of_anything_else_is_none(changed: dict):
    assert not replace(NOW, **changed).is_answered_by(ENTRY)


def test_entries_of_dvc_2_are_not_believed():
    """Their hashes are those of files whose line ends were changed."""
    for kind in ("deps", "outs"):
        old = ENTRY | {
            kind: [
                {name: v for name, v in item.items() if name != "hash"}
                for item in ENTRY[kind]
            ]
        }
        assert not NOW.is_answered_by(old)
    assert not NOW.is_answered_by({})


def test_what_a_parameter_means_its_stage_says():
    stage = NeuralLamStage()
    ours = replace(
        NOW,
        params={"data/training_params.yaml": {"num_workers": 4, "lr": 1}},
        counting=stage.counting,
    )
    same = ENTRY | {
        "params": {
            "data/training_params.yaml": {"num_workers": 8, "lr": 1.0, "loss": None}
        }
    }
    assert ours.is_answered_by(same)
    assert not replace(ours, counting=NOW.counting).is_answered_by(same)
    elsewhere = replace(NOW, counting=stage.counting)
    assert not replace(
        elsewhere, params=NOW.params | {"bench.yaml": {"num_workers": 8}}
    ).is_answered_by(ENTRY)


@pytest.mark.parametrize(
    "values",
    [
        {"size": 1},
        {"deep": {"nfiles": 1}},
        {"a": [{1: 2}]},
        {"a": {"1": 2}},
        {"null": 1},
    ],
)
def test_where_dvc_may_have_taken_another_result_it_is_not_believed(values: dict):
    assert replace(NOW, params={"bench.yaml": values}).confuses_dvc


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"lr": 1, "m": {5: "five", "six": 6}}, r"params\.yaml: m: has names"),
        ({"m": [{"n": {None: 0, "six": 6}}]}, r"params\.yaml: m: has names"),
        ({"m": {(1, 2): 3}}, r"params\.yaml: m: has names"),
        ({5: "five", "six": 6}, r"params\.yaml: has names"),
        ({"m": {5: "five", 6: 6}, "lr": float("nan"), "day": date.min}, ""),
    ],
)
def test_names_that_dvc_cannot_sort_are_refused(values: dict[str, Any], where: str):
    if not where:
        results.refuse_what_dvc_cannot_hash("params.yaml", values)
        return
    with pytest.raises(UsageError, match=where):
        results.refuse_what_dvc_cannot_hash("params.yaml", values)


def test_what_dvc_s_run_cache_overlooks_is_named():
    tracked = {
        "p.yaml": {
            "size": 1,
            "model": {"size": 1, "width": {"nfiles": 2}},
            "model.width.nfiles": 2,
            "grid.size": 3,
            "sizes": [{"size": 4}, 5],
        }
    }
    overlooked = ["size", "model.size", "sizes.0.size"]
    assert results.overlooked_by_dvc(tracked) == [
        f"p.yaml: {one}" for one in overlooked
    ]
    # As DVC itself has it.
    question = replace(NOW, params=tracked)
    other = {"sizes": [{"size": 0}, 5], "size": 0, "model": {"width": {"nfiles": 0}}}
    same = replace(NOW, params={"p.yaml": tracked["p.yaml"] | other})
    assert same.run_cache_key() == question.run_cache_key()
    another = replace(NOW, params={"p.yaml": tracked["p.yaml"] | {"grid.size": 0}})
    assert another.run_cache_key() != question.run_cache_key()
