"""Queries of the catalogue: what is typed, what it means, and what a shortened name means."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.catalogue import names
from mllam_exps.catalogue.query import Moment, parse

ONE: dict[str, Any] = {
    "hidden_dim": 128,
    "lr": 1e-3,
    "loss": "wmse",
    "cold_start": True,
    "torch": "2.13.0+cpu",
    "schedule": None,
    "rmse": float("nan"),
    "text": "128",
    "tag": ("best", "for-paper"),
    "parent": (),
    "date": Moment(datetime(2026, 11, 27, 12, 30).timestamp()),
}


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("hidden_dim=128", True),
        ("hidden_dim == 128.0", True),
        ("hidden_dim='128'", False),
        ("text=128 and text='128'", True),
        ("hidden_dim!=128", False),
        ("lr<=1e-3 and lr>0.0009", True),
        ("lr=null", False),
        ("schedule=null and nowhere=null", True),
        ("nowhere!=1 or nowhere<1", False),
        ("schedule!=null", False),
        ("not nowhere=1", True),
        ("loss=wmse AND (lr<1e-4 or hidden_dim>64)", True),
        ("loss~MS and loss~'w*' and loss!~mae", True),
        ("loss~wms*x", False),
        ("cold_start=true and cold_start!=false", True),
        ("cold_start=1", False),
        ("torch>=2.9 and torch<2.13.1", True),
        ("rmse<1 or rmse>=1 or rmse=1", False),
        ("tag=best and tag~paper and tag!=bad", True),
        ("tag!=best", False),
        ("parent=null and tag!=null", True),
        ("date=2026-11-27 and date>=2026-11 and date<2026-12", True),
        ("date>2026-11-27", False),
        ("date>2026-11-27T12:29 and date<=2026-11-27T12:30", True),
        ("date~2026-11-27", True),
        ("not not hidden_dim=128", True),
    ],
)
def test_a_query_means_what_it_says(query: str, holds: bool):
    assert parse(query).holds(ONE.get) is holds


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("hidden_dim 128", "a comparison would stand behind hidden_dim"),
        ("wide-1", "such as name~wide-1"),
        ("hidden_dim=", "a value would stand behind hidden_dim="),
        ("(a=1", "a bracket is not closed"),
        ("a=1)", "and, or, or the end"),
        ("a=1 b=2", "and, or, or the end would stand here (at: b=2)"),
        ("a='x", "a quote without its second"),
        ("and", "a comparison would stand"),
        ("date>soon", "a date is 2026-11-27"),
        ("(" * 3000 + "a=1", "too many brackets"),
        ("not " * 3000 + "a=1", "too many brackets"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_place(query: str, told: str):
    with pytest.raises(UsageError) as refused:
        parse(query)
    assert told in str(refused.value)


KNOWN = [
    "data/training_params.yaml:hidden_dim",
    "data/training_params.yaml:epochs",
    "data/training_params.yaml:phases.0.lr",
    "data/training_params.yaml:lr",
    "metrics/train.json:epochs",
    "metrics/evaluate.json:rmse.t2m.24h",
    "params.yaml:name",
]


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("hidden_dim", KNOWN[0]),
        ("training_params.yaml:hidden_dim", KNOWN[0]),
        ("lr", KNOWN[3]),
        ("train.json:epochs", KNOWN[4]),
        ("t2m.24h", KNOWN[5]),
        ("name", "name"),
        ("params.yaml:name", "params.yaml:name"),
    ],
)
def test_a_name_may_be_shortened(typed: str, whole: str):
    assert names.resolve(typed, KNOWN) == whole


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("epochs", ["'epochs' could be several", *KNOWN[1:5:3]]),
        ("hiden_dim", ["did you mean hidden_dim"]),
        ("dden_dim", ["did you mean hidden_dim"]),
        ("rmse", ["did you mean rmse.t2m.24h"]),
        ("xyz", ["name, person, state", "--names"]),
    ],
)
def test_a_name_that_means_several_or_nothing_is_refused(typed: str, told: list[str]):
    with pytest.raises(UsageError) as refused:
        names.resolve(typed, KNOWN)
    assert all(word in str(refused.value) for word in told)
