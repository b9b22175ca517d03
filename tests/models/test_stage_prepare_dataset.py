"""A dataset with any fault that can be seen without reading all of it is refused, with the fault named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support import synthetic

from mllam_exps import stages
from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam.data import zarr_check
from mllam_exps.stages.neural_lam.programs import mllam_data_prep

# zarr 3.1 warns that text, and consolidated metadata, have no specification yet;
# mllam-data-prep writes both.
pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore::Warning")]
CONFIG = synthetic.datastore()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an experiment with its dataset, made by the stage's own program."""
    root = synthetic.make_experiment(tmp_path_factory.mktemp("prepare"))
    argv = stages.get("prepare_dataset").command(context(root))
    subprocess.run(
        [sys.executable, *argv[1:]], cwd=root, check=True, capture_output=True
    )
    return root


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the dataset to damage."""
    return Path(
        shutil.copytree(made / "data/datastore.zarr", tmp_path / "datastore.zarr")
    )


def context(root: Path) -> StageContext:
    return StageContext(
        work=root,
        scratch=root,
        params={"params.yaml": {}, "data/datastore.yaml": CONFIG},
    )


def rewrite(path: Path, change: Any) -> None:
    """Write the dataset anew, changed."""
    import xarray as xr

    changed = change(xr.open_zarr(path, chunks=None).load()).drop_encoding()
    shutil.rmtree(path)
    changed.to_zarr(path, mode="w", consolidated=True)


def test_what_the_program_makes_is_good(made: Path) -> None:
    stages.get("prepare_dataset").check(context(made))


def test_a_missing_chunk_is_refused(dataset: Path) -> None:
    (dataset / "state/c/0/3/0").unlink()
    with pytest.raises(
        CheckFailed, match=r"'state' lacks 1 of its 8 chunks, the first 'c/0/3/0'"
    ):
        zarr_check.check_dataset(dataset, CONFIG)


def test_an_empty_chunk_is_refused(dataset: Path) -> None:
    (dataset / "x/c/0").write_bytes(b"")
    with pytest.raises(CheckFailed, match="'x' lacks 1 of its 1 chunks"):
        zarr_check.check_dataset(dataset, CONFIG)


def test_a_dataset_not_written_to_its_end_is_refused(
    dataset: Path, tmp_path: Path
) -> None:
    metadata = json.loads((dataset / "zarr.json").read_text())
    metadata.pop("consolidated_metadata")
    (dataset / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(CheckFailed, match="does not open"):
        zarr_check.check_dataset(dataset, CONFIG)
    with pytest.raises(CheckFailed, match="there is no dataset"):
        zarr_check.check_dataset(tmp_path / "none.zarr", CONFIG)


def test_other_times_than_asked_for_are_refused(dataset: Path) -> None:
    config = synthetic.datastore()
    config["output"]["coord_ranges"]["time"]["end"] = "2025-12-11T00:00"
    with pytest.raises(CheckFailed, match="40 times, 41 were asked for"):
        zarr_check.check_dataset(dataset, config)
    rewrite(dataset, lambda ds: ds.drop_isel(time=7))
    with pytest.raises(CheckFailed, match="time step changes after 2025-12-02T12:00"):
        zarr_check.check_dataset(dataset, {})


def test_a_split_without_times_is_refused(dataset: Path) -> None:
    def shift(ds: Any) -> Any:
        ds["splits"].loc["val", "start"] = "2025-12-31T00"
        return ds

    rewrite(dataset, shift)
    with pytest.raises(CheckFailed, match=r"split 'val' .* holds no time"):
        zarr_check.check_dataset(dataset, CONFIG)


def test_a_missing_split_is_refused(dataset: Path) -> None:
    rewrite(dataset, lambda ds: ds.sel(split_name=["train", "val"]))
    with pytest.raises(CheckFailed, match="no split 'test'"):
        zarr_check.check_dataset(dataset, CONFIG)


CONSTANT = r"t2m {} of the split train \(state__train__{} is 0.0\): .*\n.*leave t2m out of inputs.weather"


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (float("nan"), "mean", "state__train__mean of t2m is nan"),
        (0.0, "std", CONSTANT.format("has one value everywhere, at all times", "std")),
        (
            0.0,
            "diff_std",
            CONSTANT.format("never changes from one time to the next", "diff_std"),
        ),
    ],
)
def test_unusable_statistics_are_refused(
    dataset: Path, value: float, kind: str, message: str
) -> None:
    def spoil(ds: Any) -> Any:
        ds[f"state__train__{kind}"][1] = value
        return ds

    rewrite(dataset, spoil)
    with pytest.raises(CheckFailed, match=message):
        zarr_check.check_dataset(dataset, CONFIG)


def test_what_is_not_finite_is_counted_and_refused_unless_it_is_allowed(
    dataset: Path,
) -> None:
    def spoil(ds: Any) -> Any:
        ds["state"].loc[
            {"time": ["2025-12-02T06:00", "2025-12-07T00:00"], "state_feature": "t2m"}
        ] = float("nan")
        ds["state"][{"time": -1, "grid_index": 5, "state_feature": 0}] = float("inf")
        ds["static"][{"grid_index": slice(3)}] = float("nan")
        return ds

    rewrite(dataset, spoil)
    with pytest.raises(CheckFailed) as refused:
        zarr_check.check_dataset(dataset, CONFIG)
    assert refused.value.what == (
        "missing or infinite values: "
        "msl of state, 1 of 40320 in test (1 of 10 times, the first 2025-12-10T18:00); "
        "t2m of state, 4032 of 80640 in train (1 of 20 times, the first 2025-12-02T06:00), "
        "4032 of 40320 in val (1 of 10 times, the first 2025-12-07T00:00); "
        "lsm of static, 3 of 4032"
    )
    config = synthetic.datastore()
    config["extra"]["missing_values"] = ["t2m", "lsm"]
    with pytest.raises(
        CheckFailed,
        match="missing or infinite values: msl of state, 1 of 40320 in test",
    ):
        zarr_check.check_dataset(dataset, config)
    config["extra"]["missing_values"] = ["t2m", "lsm", "msl"]
    zarr_check.check_dataset(dataset, config)


def test_a_grid_with_holes_is_refused(dataset: Path) -> None:
    rewrite(dataset, lambda ds: ds.isel(grid_index=slice(1, None)))
    with pytest.raises(CheckFailed, match="its 4031 points are no whole grid of 64×63"):
        zarr_check.check_dataset(dataset, CONFIG)


def test_a_grid_without_interior_is_refused(dataset: Path) -> None:
    rewrite(dataset, lambda ds: ds.isel(grid_index=ds["x"].values < 580e3))
    with pytest.raises(CheckFailed, match="leaves no interior"):
        zarr_check.check_dataset(dataset, CONFIG)


@pytest.mark.parametrize(
    "options", [{"zarr_format": 2}, {"zarr_format": 3}, {"shards": (4, 4)}]
)
def test_chunks_are_counted_in_every_format(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    import numpy as np
    import zarr

    root = tmp_path / "a.zarr"
    group = zarr.open_group(root, mode="w", zarr_format=options.pop("zarr_format", 3))
    array = group.create_array("a", shape=(7, 4), chunks=(2, 2), dtype="f4", **options)
    array[:] = np.arange(1, 29).reshape(7, 4)
    zarr_check.check_chunks(root)
    files = [
        path
        for path in (root / "a").rglob("*")
        if path.is_file() and not path.name.startswith((".z", "zarr"))
    ]
    assert len(files) == (2 if "shards" in options else 8)
    files[-1].unlink()
    with pytest.raises(CheckFailed, match=f"lacks 1 of its {len(files)} chunks"):
        zarr_check.check_chunks(root)


def test_missing_sources_are_named_before_anything_starts(tmp_path: Path) -> None:
    stage = stages.get("prepare_dataset")
    with pytest.raises(
        CheckFailed, match=r"data/datastore\.yaml: the input is missing"
    ):
        stage.inputs(context(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/datastore.yaml").touch()
    with pytest.raises(
        CheckFailed, match=r"examples/tiny/tiny\.zarr: the source data are missing"
    ):
        stage.inputs(context(tmp_path))
    remote = synthetic.datastore("https://example.org/weather.zarr")
    stage.inputs(StageContext(tmp_path, tmp_path, {"data/datastore.yaml": remote}))


def test_cores_are_those_of_the_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLAM_EXPS_CORES", "1")
    assert mllam_data_prep.cores() == 1
    monkeypatch.setenv("MLLAM_EXPS_CORES", "100000")
    everything = mllam_data_prep.cores()
    monkeypatch.delenv("MLLAM_EXPS_CORES")
    assert mllam_data_prep.cores() == everything


def test_progress_is_told_by_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mllam_data_prep, "INTERVAL_S", 0.01)
    stop = threading.Event()
    output = tmp_path / "out.zarr"
    output.mkdir()
    (output / "chunk").write_bytes(b"x" * 12345)
    thread = threading.Thread(
        target=mllam_data_prep.report, args=(output, tmp_path, stop)
    )
    thread.start()
    progress = tmp_path / "progress.json"
    for _ in range(500):
        if progress.exists():
            break
        stop.wait(0.01)
    stop.set()
    thread.join()
    assert json.loads(progress.read_text()) == {"text": "12.3 kB written in 1 files"}


@pytest.mark.parametrize(
    ("stage", "has"), [("train", True), ("prepare_dataset", False), ("evaluate", False)]
)
def test_only_a_training_goes_on_from_a_checkpoint(stage: str, has: bool):
    assert stages.get(stage).has_checkpoints is has
