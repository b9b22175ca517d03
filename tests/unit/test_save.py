"""The one saver: whoever calls it, an experiment is saved once, and by the job that made the last of its results."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base import records
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import afterwards, experiments
from mllam_exps.submission.saving import commit, save


def experiment(store: RunStore, digit: str, *runs: Any) -> Any:
    """Return an unsaved experiment, whose own last job waits."""
    place = experiments.folder(store) / f"{SAVE}-{digit * 32}"
    place.mkdir(parents=True)
    return SimpleNamespace(
        name=digit,
        directory=place,
        store=store,
        machine="cluster",
        is_mine=True,
        saving=Run(place),
        runs={f"stage-{number}": run for number, run in enumerate(runs)},
        check_ours=lambda: None,
        created=0.0,
    )


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the experiments that were committed."""
    made: list[str] = []

    def note(one: Any) -> str:
        made.append(one.name)
        return "1a2b3c4"

    monkeypatch.setattr(commit, "save", note)
    monkeypatch.setattr(commit, "forget_clone", lambda _: None)
    return made


def test_an_experiment_is_saved_once(tmp_path: Path, commits: list[str]):
    one = experiment(RunStore(tmp_path), "a")
    assert save.save(one)
    assert not save.save(one)
    assert commits == ["a"]
    result = records.read(one.directory / "result.json") or {}
    assert result["commit"] == "1a2b3c4"


def test_one_that_another_host_saves_at_the_same_time_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = experiment(RunStore(tmp_path), "a")

    def find_the_clone_gone(_: Any) -> str:
        raise FileNotFoundError("clone")

    monkeypatch.setattr(commit, "save", find_the_clone_gone)
    with pytest.raises(FileNotFoundError):
        save.save(one)

    def be_late(_: Any) -> str:
        record = {"attempt": 1, "outputs": {}, "commit": "1a2b3c4", "time": 0.0}
        records.replace(one.directory / "result.json", record)
        raise FileNotFoundError("clone")

    monkeypatch.setattr(commit, "save", be_late)
    assert not save.save(one)


def test_a_job_saves_what_waited_for_just_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: list[str]
):
    store = RunStore(tmp_path)
    done, undone = SimpleNamespace(result={}), SimpleNamespace(result=None)
    waited = experiment(store, "a", done, done)
    lacks_another = experiment(store, "b", done, undone)
    elsewhere = experiment(store, "c", done)
    elsewhere.machine = "laptop"
    ready_but_no_matter_of_ours = experiment(store, "d", done)
    there = {
        one.directory: one
        for one in (waited, lacks_another, elsewhere, ready_but_no_matter_of_ours)
    }
    attempt = SimpleNamespace(started={})
    monkeypatch.setattr(experiments, "read", there.get)
    monkeypatch.setattr(afterwards, "_to_come", lambda _: attempt)
    monkeypatch.setattr(afterwards, "_teller", lambda *_: lambda: None)
    run: Any = SimpleNamespace(
        store=tmp_path,
        wanted=[f"{SAVE}-{digit * 32}" for digit in "abc"] + ["..", "save-x"],
    )
    told: list[str] = []
    after = afterwards.AfterResult(run, "cluster", "job 7", lambda: False, told.append)
    after.save()
    assert commits == ["a"]
    assert told == []

    monkeypatch.setattr(save, "save", lambda _: 1 / 0)
    (waited.directory / "result.json").unlink()
    after.save()
    assert told == ["a is left to its own last job: division by zero"]
