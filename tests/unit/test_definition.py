"""Definitions of runs: what makes two of them differ, and that a record proves itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.identity.definition import Input, Output, RunDefinition, plain, same

SOME = RunDefinition(
    stage="bench",
    params={"bench.yaml": {"num_workers": 2}},
    inputs=(
        Input("a.txt", None, "0" * 32, tracked=False),
        Input("b", f"make-{'1' * 32}", None, tracked=True),
    ),
    outputs=(Output("out.txt", True),),
    commands=("python bench.py",),
)
DIFFERENT = [
    0,
    0.0,
    -0.0,
    1,
    1.0,
    True,
    False,
    None,
    "",
    "1",
    "null",
    [],
    {},
    [1],
    ["1"],
    {"1": 1},
    {1: 1},
    {"": None},
]
DIFFERENT += [
    {"!": []},
    {"!": "nan"},
    float("nan"),
    {"!": [["1", 1]]},
    [[1, 1]],
    float("inf"),
    "Infinity",
]
DIFFERENT += [{True: 1}, {None: 1}, {"null": 1}]


def with_value(value: object) -> RunDefinition:
    return replace(SOME, params={"bench.yaml": {"value": plain(value)}})


def test_values_that_differ_in_anything_are_other_results():
    assert len({with_value(value).key for value in DIFFERENT}) == len(DIFFERENT)
    assert [
        other for one in DIFFERENT for other in DIFFERENT if same(one, other)
    ] == DIFFERENT


def test_what_is_the_same_has_the_same_key():
    assert (
        with_value({"a": 1, "b": (2, 3)}).key == with_value({"b": [2, 3], "a": 1}).key
    )
    assert same(float("nan"), float("nan"))
    elsewhere = replace(
        SOME,
        inputs=(
            *SOME.inputs[:1],
            replace(SOME.inputs[1], digest="2" * 32, tracked=False),
        ),
    )
    assert elsewhere.key == SOME.key, (
        "what a run makes is known by its key, whatever it is"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"stage": "other"},
        {"params": {"other.yaml": {"num_workers": 2}}},
        {"params": {}},
        {"inputs": SOME.inputs[:1]},
        {"inputs": (replace(SOME.inputs[0], digest="3" * 32), SOME.inputs[1])},
        {"outputs": (Output("other.txt", True),)},
        {"commands": ("python bench.py ",)},
        {"commands": ("python", "bench.py")},
        {"folder": "sub"},
        {"smoke": True},
    ],
)
def test_all_that_counts_is_in_the_key(other: dict):
    assert replace(SOME, **other).key != SOME.key


def test_a_record_is_believed_if_its_digest_is_the_key():
    record = json.loads(json.dumps(SOME.to_record()))
    assert RunDefinition.from_record(record, SOME.key) == SOME
    odd = with_value({1: [{"!x": float("nan")}]})
    assert (
        RunDefinition.from_record(
            json.loads(json.dumps(odd.to_record(), allow_nan=False)), odd.key
        ).key
        == odd.key
    )
    for planted in (
        record | {"commands": ["rm -rf ~"]},
        record | {"key_format": 1},
        {name: value for name, value in record.items() if name != "folder"},
        record | {"inputs": None},
        record | {"params": {"bench.yaml": {"num_workers": 3}}},
        [],
    ):
        with pytest.raises(MllamError, match="is not the definition of this run"):
            RunDefinition.from_record(planted, SOME.key)


@pytest.mark.parametrize(
    "value", [date(2020, 1, 1), b"x", {1}, [{"a": date(2020, 1, 1)}]]
)
def test_what_dvc_cannot_track_is_refused(value: object):
    match = r"bench.yaml: when.*which DVC cannot track"
    with pytest.raises(UsageError, match=match) as caught:
        plain(value, "bench.yaml: when")
    assert ("write it as a list" in str(caught.value)) is isinstance(value, set)
