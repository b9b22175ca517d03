"""The stage `verify`: what it makes of a dataset and of forecasts, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.models
np = pytest.importorskip("numpy")
xr = pytest.importorskip("xarray")
pytest.importorskip("scores")

from support import synthetic  # noqa: E402
from support.scored import TIMES, make_dataset, make_forecast, times  # noqa: E402

from mllam_exps.base.errors import CheckFailed  # noqa: E402
from mllam_exps.stages.contract import StageContext  # noqa: E402
from mllam_exps.stages.neural_lam import scores  # noqa: E402
from mllam_exps.stages.neural_lam.data import region_checks  # noqa: E402
from mllam_exps.stages.neural_lam.file_names import (  # noqa: E402
    DATASET,
    DATASTORE,
    VERIFICATION,
)
from mllam_exps.stages.neural_lam.scoring import asked, conclusions, program, truth  # noqa: E402
from mllam_exps.stages.neural_lam.verify import STAGE  # noqa: E402

FORECASTS = "forecasts/infer.zarr"
STARTS = times(TIMES)[31:57]  # those of neural-lam for two steps of a split from 30 on


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as the repository, with a dataset and forecasts of it."""
    root = tmp_path_factory.mktemp("verify")
    dataset = make_dataset()
    dataset.to_zarr(root / DATASET, zarr_format=2, consolidated=True)
    as_truth = truth.of_dataset(dataset, DATASET).rename(x="xc", y="yc")
    points = as_truth.drop_vars("interior").set_index(grid_index=("yc", "xc"))
    rectangle = points.unstack("grid_index").transpose("time", "yc", "xc")
    forecast = make_forecast(rectangle, STARTS, error=0.5)
    forecast.attrs["experiment"] = "tiny"
    forecast.to_zarr(root / FORECASTS, zarr_format=2)
    other = make_forecast(rectangle, STARTS[4:], error=1.5, seed=9)
    other.to_zarr(root / "forecasts/other.zarr", zarr_format=2)
    asks(root, compare={"other": "forecasts/other.zarr"}, spectra_hours=[12])
    program.score(root)
    return root


def asks(root: Path, **values: Any) -> StageContext:
    (root / VERIFICATION).write_text(yaml.safe_dump(values))
    return StageContext(root, root, STAGE.parameters(root))


def test_persistence_is_that_of_evaluate(made: Path):
    found = xr.open_zarr(made / asked.SCORES)
    dataset = make_dataset()
    rmse, mae = scores.persistence(dataset, scores.Sampling("test", steps=2))
    for number, name in enumerate("ab"):
        of_case = found[f"rmse.{name}"].sel(forecast_source="persistence")
        of_all = np.sqrt((of_case**2).mean("init_time"))
        np.testing.assert_allclose(of_all, rmse[:, number], rtol=1e-6)
        mean = found[f"mae.{name}"].sel(forecast_source="persistence").mean("init_time")
        np.testing.assert_allclose(mean, mae[:, number], rtol=1e-6)


def test_scores_differences_and_numbers_are_there(made: Path):
    STAGE.check(asks(made))
    found = xr.open_zarr(made / asked.SCORES)
    sources = ["experiment", "other", "persistence", "climatology"]
    assert found.forecast_source.values.tolist() == sources
    assert found["rmse.a"].attrs["units"] == "K"
    assert found.lead_time.dtype.kind == "m"
    # Nothing stands in it that a scorecard does not know.
    dims = {"forecast_source", "init_time", "lead_time"}
    assert {*found.dims} == dims
    assert all({*one.dims} == dims for one in found.data_vars.values())
    known = {"rmse", "mae", "bias", "acc", "activity"}
    assert {name.rpartition(".")[0] for name in found.data_vars} == known
    beside = xr.open_zarr(made / asked.SPECTRA)
    assert {"spectrum.a", "truth_spectrum.a", "truth_activity.b"} <= {*beside.data_vars}
    # Points in any order are a rectangle for who draws them.
    fields = xr.open_zarr(made / asked.FIELDS)
    assert dict(fields.sizes) == {"init_time": 3, "lead_time": 2, "yc": 62, "xc": 63}
    assert (abs(fields["forecast.a"] - fields["truth.a"]).mean() < 0.6).all()
    for reference in sources[1:]:
        said = xr.open_zarr(made / asked.against(reference))
        # The other one lacks the first four starts.
        assert (said["cases.rmse.a"].sel(forecast_source="experiment") == 22).all()
        assert said.attrs["forecasts"] == found.attrs["forecasts"]
        assert said.attrs["reference"] == reference
        assert f"less that of {reference}," in said.attrs["comment"]
    origin = json.loads(found.attrs["forecasts"])
    assert origin == {"experiment": {"experiment": "tiny"}, "other": {}}
    assert "scores" in json.loads(found.attrs["programs"])
    numbers = json.loads((made / asked.METRICS).read_text())
    # A column of another file keeps its name in `dvc exp show` beside it.
    assert list(numbers) == ["verify"]
    numbers = numbers["verify"]
    assert numbers["cases"] == 26
    assert numbers["rmse"]["a"]["12h"] == pytest.approx(0.5, abs=0.05)
    told = {name: numbers[f"against_{name}"] for name in sources[1:]}
    assert told["persistence"]["gain"] == pytest.approx(1 - 0.5 / np.sqrt(2), abs=0.05)
    assert told["climatology"]["gain"] == pytest.approx(0.52, abs=0.06)
    assert told["other"]["gain"] == pytest.approx(1 - 0.5 / 1.5, abs=0.05)
    # 22 cases: not of all is it known to how many independent ones they amount.
    assert told["other"]["verdict"] == "better in 4 of 4"
    assert min(one["better"] for one in told.values()) >= 2


def test_the_verdict_tells_what_cannot_be_judged_from_what_is_no_better():
    words = conclusions.in_words
    keys = (
        conclusions.BETTER,
        conclusions.WORSE,
        conclusions.NEITHER,
        conclusions.BLIND,
    )

    def count(*numbers: int, lower: int = 3) -> dict[str, int]:
        return dict(zip(keys, numbers, strict=True)) | {conclusions.LOWER: lower}

    assert (
        words(count(0, 0, 0, 6, lower=5))
        == "lower RMSE in 5 of 6; too few independent cases to say whether by chance"
    )
    assert words(count(0, 0, 6, 0)) == "no sure difference in any of 6"
    assert (
        words(count(2, 1, 1, 2)) == "better in 2, worse in 1 of 4; 2 cannot be judged"
    )
    assert words(count(0, 6, 0, 0)) == "worse in 6 of 6"
    # The interior alone is counted, where there are regions.
    shape = (1, 2, 4)
    dims = ("forecast_source", "spatial_region", "lead_time")
    difference = np.tile([-1.0, 1.0, -1.0, -1.0], (1, 2, 1))
    confidence = np.tile([0.95, 0.997, 0.68, np.nan], (1, 2, 1))
    said = xr.Dataset(
        {
            "difference.rmse.a": (dims, difference.reshape(shape)),
            "confidence.rmse.a": (dims, confidence.reshape(shape)),
        },
        {"forecast_source": ["x"]},
    )
    assert conclusions.counted(said, "x") == count(1, 1, 1, 1)


def test_good_inputs_are_let_through_and_the_program_is_ours(made: Path):
    context = asks(made, compare={"other": "forecasts/other.zarr"})
    STAGE.inputs(context)
    assert STAGE.command(context)[:2] == ["python", "-m"]


def test_forecasts_of_another_grid_or_other_starts_are_refused_before_it_starts(
    made: Path,
):
    good = xr.open_zarr(made / FORECASTS).load()
    good.isel(xc=slice(9)).to_zarr(made / "forecasts/grid.zarr", zarr_format=2)
    with pytest.raises(
        CheckFailed, match=r"yaml: compare\.grid: it is on another grid: yc, xc of"
    ):
        STAGE.inputs(asks(made, compare={"grid": "forecasts/grid.zarr"}))
    later = good.assign_coords(reference_time=STARTS + np.timedelta64(1, "h"))
    later.to_zarr(made / "forecasts/later.zarr", zarr_format=2)
    with pytest.raises(
        CheckFailed, match=r"yaml: compare\.later: none of its 26 starts is"
    ):
        STAGE.inputs(asks(made, compare={"later": "forecasts/later.zarr"}))


def test_a_region_without_a_point_is_named_by_its_key(made: Path):
    sea = {"sea": {"latitude": [0, 1], "longitude": [0, 1]}}
    with pytest.raises(CheckFailed, match=r"yaml: regions\.sea: the data have no lat"):
        STAGE.inputs(asks(made, regions=sea))


INTERIOR = (
    "those lie between 55.26 and 55.27 degrees north, -19.55 and -19.52 degrees east"
)


def test_a_region_without_a_point_is_refused_before_anything_is_made(tmp_path: Path):
    config = synthetic.datastore()
    dataset, projection = make_dataset(), config["extra"]["projection"]
    dataset = dataset.assign_coords(x=dataset.x * 1e3, y=dataset.y * 1e3)
    box = {"latitude": [55, 55.5], "longitude": [-20, -19]}
    regions = {"all": box, "sea": {**box, "latitude": [0, 1]}}
    [problem] = region_checks.check(dataset, projection, regions)
    assert problem.where == f"{VERIFICATION}: regions.sea"
    assert INTERIOR in str(problem)
    degrees = dict.fromkeys(("lat", "lon"), ("grid_index", dataset.x.values / 1000.0))
    written = dataset.assign_coords(degrees)
    problems = region_checks.check(written, projection, regions)
    assert [one.where[-11:] for one in problems] == ["regions.all", "regions.sea"]

    from mllam_data_prep.config import Config

    synthetic.make_experiment(tmp_path, source=tmp_path)
    asks(tmp_path, regions=regions)
    pipeline = tmp_path / "dvc.yaml"
    text = Config.from_dict(config).to_yaml()
    dataset.attrs["creation_config"] = text
    dataset.to_zarr(tmp_path / DATASET, zarr_format=2, consolidated=True)
    assert region_checks.check_made(tmp_path) == []  # as there is no such stage
    stage = (synthetic.REPOSITORY / "examples/options/verify/stage.yaml").read_text()
    given = yaml.safe_load(pipeline.read_text())
    given["stages"] |= yaml.safe_load(stage)
    pipeline.write_text(yaml.safe_dump(given))
    assert [one.what for one in region_checks.check_made(tmp_path)] == [problem.what]
    config["inputs"]["weather"]["variables"] = ["msl"]
    (tmp_path / DATASTORE).write_text(yaml.safe_dump(config))
    assert region_checks.check_made(tmp_path) == []  # of another dataset


def test_a_missing_value_is_one_line_of_the_program(made: Path):
    holed = xr.open_zarr(made / FORECASTS).load()
    holed.b[3, 1, 30, 31] = np.inf
    holed.to_zarr(made / "forecasts/holed.zarr", zarr_format=2)
    context = asks(made, forecasts="forecasts/holed.zarr")
    command = [sys.executable, *STAGE.command(context)[1:]]
    done = subprocess.run(
        command, cwd=made, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "experiment: the forecast of b from 2025-01-09T12:00 holds values that are missing or infinite at 12 h"
    )
    assert "Traceback" not in done.stderr


def test_scores_that_are_not_whole_do_not_count(made: Path, tmp_path: Path):
    context = StageContext(tmp_path, tmp_path, {})
    with pytest.raises(CheckFailed, match="there are no scores"):
        STAGE.check(context)
    (tmp_path / "metrics").mkdir()
    (tmp_path / asked.METRICS).write_text('{"rmse": {"a": {"12h": NaN}}}')
    with pytest.raises(CheckFailed, match=r"rmse\.a\.12h is nan"):
        STAGE.check(context)
    (tmp_path / asked.METRICS).write_text("{}")
    found = xr.open_zarr(made / asked.SCORES).load()
    found["rmse.b"][0, :, 1] = np.nan
    found.to_zarr(tmp_path / asked.SCORES, zarr_format=2)
    with pytest.raises(CheckFailed, match=r"rmse\.b is missing at a lead time"):
        STAGE.check(context)


def test_a_dataset_of_forecasts_or_members_is_no_truth():
    dataset = make_dataset()
    ensemble = dataset.assign(state=dataset.state.expand_dims("ensemble_member"))
    with pytest.raises(CheckFailed, match="only a series of analyses can be the truth"):
        truth.of_dataset(ensemble, DATASET)
