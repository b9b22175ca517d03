"""Forecasts from new input: which file is for which input, and the dataset that is made of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import synthetic

from mllam_exps.base.errors import Exit, MllamError, Problem, UsageError
from mllam_exps.commands.running import infer
from mllam_exps.stages.neural_lam import file_names
from mllam_exps.stages.neural_lam.new_input.asked import (
    TRAINED_ON,
    NewInput,
    all_of_them,
    datastore_of,
    is_no_field,
    left_to_name,
    new_ones,
    options,
    outputs,
    refuse,
    refuse_password,
)

DATASTORE = synthetic.datastore()
DANRA = {
    "inputs": {
        "height": {"path": "/archive/height.zarr", "dims": ["time", "x", "y"]},
        "surface": {"path": "/archive/surface.zarr", "dims": ["time", "x", "y"]},
        "ground": {"path": "ground.zarr", "dims": ["x", "y"]},
    }
}


def test_a_file_alone_is_for_the_archive_that_all_are_read_from():
    assert new_ones(DATASTORE, ["n.zarr"]) == {"weather": "n.zarr", "ground": "n.zarr"}
    assert new_ones(DATASTORE, ["weather=n.zarr"]) == {"weather": "n.zarr"}
    both = new_ones(DANRA, ["height=h.zarr", "surface=a=b.zarr"])
    assert both == {"height": "h.zarr", "surface": "a=b.zarr"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["n.zarr"], "not clear which input it is for"),
        (["height=h.zarr", "n.zarr"], "--input NAME=FILE, of height, surface, ground"),
        (["hight=h.zarr"], "has no input hight; did you mean height?"),
    ],
)
def test_what_is_not_clear_is_refused(words: list[str], told: str):
    with pytest.raises(UsageError) as error:
        new_ones(DANRA, words)
    assert told in str(error.value)


def test_each_archive_has_to_be_there(tmp_path: Path):
    (tmp_path / "ground.zarr").mkdir()
    new = {"height": str(tmp_path / "ground.zarr"), "surface": "s3://bucket/s.zarr"}
    found = all_of_them(DANRA, new, tmp_path)
    ground = str(tmp_path / "ground.zarr")
    assert found == {**new, "height": ground, "ground": ground}
    with pytest.raises(UsageError, match=r"inputs.surface.path: there is no /archive"):
        all_of_them(DANRA, {"height": ground}, tmp_path)
    with pytest.raises(UsageError, match=r"--input height: there is no away.zarr"):
        all_of_them(DANRA, {"height": "away.zarr"}, tmp_path)


def test_without_a_repository_each_archive_is_named_that_has_no_url(tmp_path: Path):
    remote = {**DANRA["inputs"], "surface": {"path": "s3://bucket/s.zarr"}}
    assert left_to_name({"inputs": remote}) == ["height", "ground"]
    with pytest.raises(UsageError) as error:
        all_of_them({"inputs": remote}, {"height": str(tmp_path)}, None)
    assert "no archive is named for ground" in str(error.value)
    assert error.value.next == "--input ground=FILE"


@pytest.mark.parametrize(
    ("datastore", "steps", "told"),
    [
        (DATASTORE, 4, ["--input FILE"]),
        (DANRA, None, [*(f"--input {n}=FILE" for n in DANRA["inputs"]), "--steps N"]),
    ],
)
def test_the_command_of_a_folder_names_what_it_lacks(
    datastore: dict[str, Any], steps: int | None, told: list[str], tmp_path: Path
):
    (tmp_path / "data").mkdir()
    (tmp_path / file_names.DATASTORE).write_text(
        yaml.safe_dump(datastore, sort_keys=False)
    )
    if steps:
        (tmp_path / file_names.INFERENCE).write_text(f"steps: {steps}\n")
    assert options(tmp_path) == told


def test_one_checkpoint_is_needed_the_graph_and_no_field(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / file_names.INFERENCE).write_text("checkpoint: last\n")
    made = ["last.ckpt", "min_val_loss.ckpt", "x/c/0", "state/c/0"]
    found = {place: [*filter(wanted, made)] for _, place, wanted in outputs(tmp_path)}
    assert found["saved_models"] == ["last.ckpt"]
    assert found["data/graph"] == made
    assert found[TRAINED_ON] == [one for one in made if one != "state/c/0"]


def test_no_address_with_a_password_goes_to_others():
    refuse_password(DANRA)
    path = "https://me:planted@host/s.zarr"
    with pytest.raises(UsageError, match=r"inputs.a.path: carries a pass") as error:
        refuse_password({"inputs": {"a": {"path": path}}})
    assert "planted" not in str(error.value)


def test_the_dataset_has_all_times_and_no_statistics_of_its_own():
    paths = {"weather": "/n.zarr", "ground": "/g.zarr"}
    made = datastore_of(DATASTORE, paths, "2026-01-01T00:00", "2026-01-03T18:00")
    every = {"start": "2026-01-01T00:00", "end": "2026-01-03T18:00"}
    assert made["output"]["coord_ranges"]["time"] == {**every, "step": "PT6H"}
    splits = made["output"]["splitting"]["splits"]
    assert splits == {"train": every, "val": every, "test": every}
    assert made["inputs"]["ground"]["path"] == "/g.zarr"
    assert made["extra"] == DATASTORE["extra"]
    assert DATASTORE["inputs"]["ground"]["path"] == synthetic.SOURCE


def test_of_the_training_s_dataset_no_field_is_needed():
    needed = ["zarr.json", "state/zarr.json", "state/.zarray", "x/c/0", "time/c/0"]
    needed += ["state__train__mean/c/0", "state_feature/c/0", "splits/c/0/0"]
    assert all(map(is_no_field, needed))
    assert not any(map(is_no_field, ["state/c/0/0/0", "forcing/0.0.0", "static/c/0"]))


def test_what_is_asked_is_read_as_it_was_written(tmp_path: Path):
    asked = NewInput(
        {"a": "/b"}, "/out.zarr", ["2026-01-01T00:00"], 3, "e", "1a", ["a"]
    )
    asked.write(tmp_path)
    assert NewInput.read(tmp_path) == asked


@pytest.mark.parametrize("program", ["ended", "refused"])
def test_why_the_program_made_nothing(program: str, tmp_path: Path):
    fails = [sys.executable, "-c", "raise KeyError('height')"]
    why = Problem("is cut off", "last.ckpt", next="name another one")
    if program == "refused":
        refuse(tmp_path, replace(why, where=str(tmp_path / why.where)))
    log = tmp_path / "log.txt"
    with pytest.raises(MllamError) as told:
        infer._run(fails, tmp_path, log)
    if program == "refused":
        assert (told.value.problem, told.value.exit) == (why, Exit.USAGE)
    else:
        assert told.value.why == "exit code 1: KeyError: 'height'"
        assert told.value.where == str(log)
