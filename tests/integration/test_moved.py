"""A repository that was moved or deleted after experiments of it were submitted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.commands.reading import status
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import experiments, opening
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.context import Context


@pytest.fixture
def moved(tmp_path: Path) -> Experiment:
    """An experiment of a repository with a machine file that lies somewhere else by now."""
    origin = tmp_path / "old place"
    (origin / ".dvc").mkdir(parents=True)
    (origin / ".dvc/config").touch()
    (origin / "machines").mkdir()
    (origin / "machines/x.yaml").write_text("scheduler: local\n")
    facts = {
        "name": "lr-1",
        "prefix": "",
        "baseline": "0" * 40,
        "overrides": {},
        "command": [],
        "message": "",
    }
    place = tmp_path / "store/experiments" / experiments.identity(facts)
    place.mkdir(parents=True)
    uid = place.stat().st_uid
    experiment = Experiment(
        place, origin=str(origin), machine="x", uid=uid, created=0.0, steps=(), **facts
    )
    experiments.records.replace(place / "run.json", experiment.to_record())
    assert opening.machine_of(experiment).name == "x"
    shutil.move(origin, tmp_path / "new place")
    (origin / ".dvc/cache").mkdir(parents=True)  # as an attempt does that goes on
    return experiment


def test_it_is_said_that_a_repository_has_moved(moved: Experiment):
    with pytest.raises(
        MllamError, match=r"the repository of lr-1 has moved, or was deleted"
    ) as caught:
        opening.machine_of(moved)
    assert caught.value.where == moved.origin
    assert f"ln -s \"$PWD\" '{moved.origin}'" in caught.value.next
    assert caught.value.exit == Exit.USAGE


def test_status_says_it_where_the_repository_is_now(
    moved: Experiment, tmp_path: Path, monkeypatch
):
    here = Context(
        Workspace(tmp_path / "new place", tmp_path / "new place", "workspace", ""), None
    )
    monkeypatch.setattr(Context, "store", RunStore(tmp_path / "store"))
    said = status._nothing(here)
    assert "the repository of 1 experiment in" in said
    assert moved.origin in said


def test_a_root_that_is_not_there_has_no_machines(tmp_path: Path):
    with pytest.raises(MllamError, match="has moved, or was deleted"):
        machine_files.load(tmp_path / "gone", "local")
