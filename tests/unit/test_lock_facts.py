"""What a commit's dvc.lock says that its results were made with, and which of them are not the commit's own."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mllam_exps.base.git import git, git_objects
from mllam_exps.catalogue import commits, in_git
from mllam_exps.catalogue.in_git import Kept
from mllam_exps.dvc.saved.lock_facts import Lock, read_values

A, B, C = (letter * 32 for letter in "abc")
DATA = {"path": "era5.zarr", "md5": f"{A}.dir"}
MODEL, SCORES = {"path": "model", "md5": B}, {"path": "scores.json", "md5": C}
LOCK: dict[str, Any] = {
    "schema": "2.0",
    "stages": {
        "train": {
            "cmd": "x",
            "deps": [DATA],
            "params": {"params.yaml": {"lr": 0.001, "grow.size": 3}},
            "outs": [MODEL],
        },
        "score": {
            "cmd": "y",
            "deps": [MODEL],
            "params": {"params.yaml": {"split": "test"}},
            "outs": [SCORES],
        },
    },
}
PARAMS = "lr: 1e-3\ngrow: {size: 3}\nsplit: test\nother: 5\n"


def facts(lock: dict[str, Any] = LOCK, params: str | None = PARAMS):
    return Lock(yaml.safe_dump(lock)).facts(lambda _: params)


def test_results_are_told_with_what_they_were_made_with():
    found = facts()
    assert found.left == set()
    assert found.params == {
        "params.yaml": {"lr": 0.001, "grow.size": 3, "split": "test"}
    }
    assert found.inputs == {"era5.zarr": f"{A}.dir"}
    assert found.outs == {"model": B, "scores.json": C}
    assert found.scores == ["scores.json"]


@pytest.mark.parametrize(
    ("params", "left"),
    [
        (PARAMS.replace("1e-3", "0.002"), {"train", "score"}),
        (PARAMS.replace("size: 3", "size: 3.0"), {"train", "score"}),
        (PARAMS.replace("test", "val"), {"score"}),
        (PARAMS.replace("split: test", ""), {"score"}),
        (PARAMS.replace("other: 5", "other: 6"), set()),
        (None, set()),
    ],
)
def test_results_that_the_commit_s_own_files_contradict_are_left_out(
    params: str | None, left: set[str]
):
    found = facts(params=params)
    assert found.left == left
    assert ("scores.json" in found.outs) is ("score" not in left)


def test_a_result_that_was_made_from_another_one_is_left_out():
    score = LOCK["stages"]["score"] | {"deps": [MODEL | {"md5": A}]}
    found = facts({"stages": LOCK["stages"] | {"score": score}})
    assert (found.left, found.outs) == ({"score"}, {"model": B})


@pytest.mark.parametrize(
    "text",
    ["", "a", "- 1", "stages: 3", "stages: {a: {params: 3, outs: 4}}", "{", "&a [*a]"],
)
def test_a_lock_that_is_none_says_nothing(text: str):
    assert Lock(text).facts(lambda _: text).outs == {}


def test_plain_words_are_those_of_yaml_1_2():
    text = "{a: 1e-3, b: yes, c: 012, d: 0o12, e: ~, f: .inf, g: 2026-11-27, h: 1_000, i: '1', j: on, k: true, l: }"
    assert read_values("params.yaml", text) == {
        **{"a": 0.001, "b": "yes", "c": 12, "d": 10, "e": None, "f": math.inf},
        **{"g": "2026-11-27", "h": 1000, "i": "1", "j": "on", "k": True, "l": None},
    }
    assert read_values("params.toml", "a = 1") == {"a": 1}
    assert read_values("params.py", "a = 1") is None


def test_commits_are_read_many_at_a_time_and_none_too_large(tmp_path: Path):
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "scores.json").write_text('{"rmse": {"t2m": 1.5}}')
    (tmp_path / "dvc.yaml").write_text("stages: {train: {}, score: {}}")
    git(tmp_path, "add", "-A")
    who = ("-c", "user.name=Léna M", "-c", "user.email=l@example.org")
    git(tmp_path, *who, "commit", "-qm", "one\n\nauthor Nobody <x> 3 +0000")
    commit = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/wide", commit)
    git(tmp_path, "update-ref", "refs/exps/exec/EXEC_HEAD", commit)
    assert list(in_git.kept(tmp_path)) == [Kept(tmp_path, "wide", commit)]
    [(found, told)] = commits.Reader(tmp_path).read(list(in_git.kept(tmp_path)))
    assert (found, told.person, told.state) == (commit, "Léna M", "done")
    assert told.values == {
        "params.yaml:lr": 0.001,
        "params.yaml:grow.size": 3,
        "params.yaml:split": "test",
        "scores.json:rmse.t2m": 1.5,
    }
    names = [
        f"{commit}:params.yaml",
        f"{commit}:nothing",
        f"{commit}:a\nb",
        "HEAD:scores.json",
    ]
    assert git_objects(tmp_path, names, 30) == {
        names[0]: None,
        names[1]: None,
        names[2]: None,
        names[3]: b'{"rmse": {"t2m": 1.5}}',
    }
