"""A store of forecasts: its layout, and what many processes that are killed make of it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forecasts import (
    COLUMNS,
    ROWS,
    STEPS,
    fields,
    make_grid,
    make_layout,
    make_store,
)

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.neural_lam.forecasts import layout, names, store
from mllam_exps.stages.neural_lam.forecasts.claims import Claims
from mllam_exps.stages.neural_lam.forecasts.store import NotFinite, Store, Unit
from mllam_exps.stages.neural_lam.new_input import asked

xr = pytest.importorskip("xarray")
pytestmark = pytest.mark.models


def filled(folder: Path, **changed: Any) -> Store:
    made = make_store(folder, **changed)
    for unit in made.units:
        made.write(unit, fields(unit, made))
    return made


def test_layout_as_the_validator_wants_it(tmp_path: Path) -> None:
    path = filled(tmp_path).path
    with xr.open_zarr(path) as found:
        assert found.msl.dims == ("reference_time", "lead_time", "yc", "xc")
        assert set(found.data_vars) == {"msl", "msl_std", "u10m"}
        assert {"latitude", "longitude", "valid_time"} <= set(found.coords)
        assert found.lead_time.dtype == "int64"  # a number with a unit, no duration
        assert found.lead_time.attrs["units"] == "hours"
        assert found.lead_time.values.tolist() == [6, 12, 18, 24]
        valid = found.valid_time.sel(reference_time="2025-12-01T06", lead_time=12)
        assert valid.values == np.datetime64("2025-12-01T18")
        told = {
            name: found[name].attrs["standard_name"]
            for name in found.coords
            if "standard_name" in found[name].attrs
        }
        assert told == {
            "reference_time": "forecast_reference_time",
            "lead_time": "forecast_period",
            "valid_time": "time",
            "xc": "projection_x_coordinate",
            "yc": "projection_y_coordinate",
            "latitude": "latitude",
            "longitude": "longitude",
        }
        pressure = found.msl.attrs
        assert pressure["standard_name"] == "air_pressure_at_mean_sea_level"
        assert pressure["ancillary_variables"] == "msl_std"
        assert (
            found[pressure["grid_mapping"]].attrs["grid_mapping_name"]
            == "lambert_conformal_conic"
        )
        assert found.u10m.attrs["standard_name"] == "x_wind"
        assert found.attrs["Conventions"].startswith("CF-")
        assert found.attrs["experiment"] == "x"
        # Rows go from south to north, columns from west to east; points come x first.
        assert (found.latitude.diff("yc") > 0).all()
        assert (found.longitude.diff("xc") > 0).all()
        one = found.msl.isel(reference_time=1, lead_time=2).values
        assert one[3, 4] == 1e4 + 200 + 4 * ROWS + 3
        assert found.interior.values.sum() == ROWS * (COLUMNS - 3)
        assert found.msl.encoding["chunks"] == (1, STEPS, ROWS, COLUMNS)


def test_members_have_a_dimension(tmp_path: Path) -> None:
    with xr.open_zarr(filled(tmp_path, members=2).path) as found:
        assert found.msl.dims[:3] == ("reference_time", "member", "lead_time")
        assert found.member.attrs["standard_name"] == "realization"
        assert found.msl.values[2, 1, 0, 0, 0] == 2e4 + 1e3
        assert np.isfinite(found.msl.values).all()


@pytest.mark.parametrize(
    "changed", [{}, {"members": 2}, {"kind": "start_time"}], ids=str
)
def test_forecasts_of_another_store_are_taken_and_the_rest_is_left(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    few = np.array(["2025-12-02T00", "2025-11-30T00"], "datetime64[s]")
    for name in "ab":
        (tmp_path / name).mkdir()
    other = filled(tmp_path / "a", starts=few, **changed)
    made = make_store(tmp_path / "b", **changed)
    wanted = [str(time) for time in made.layout.starts]
    folders = {"gone": tmp_path / "c", "a": tmp_path / "a", "again": tmp_path / "a"}
    found = store.shared(folders, other.path.name, wanted)
    assert found == {"a": ["2025-12-02T00:00:00"]}
    members = changed.get("members", 1)
    assert made.take(other.path, found["a"]) == members
    assert made.take(other.path, found["a"]) == 0  # they are there
    assert {unit.start for unit in made.missing()} == {0, 1}
    with xr.open_zarr(made.path) as here, xr.open_zarr(other.path) as there:
        for name in made.layout.names:
            np.testing.assert_array_equal(here[name][2], there[name][0])
    with pytest.raises((ValueError, KeyError)):
        make_store(tmp_path, steps=STEPS + 1, **changed).take(other.path, found["a"])


def test_a_grid_that_is_not_in_metres_is_a_list_of_points(tmp_path: Path) -> None:
    with xr.open_zarr(filled(tmp_path, grid=make_grid(is_metric=False)).path) as found:
        assert found.msl.dims == ("reference_time", "lead_time", "grid_index")
        assert found.latitude.dims == ("grid_index",)
        assert not {"xc", "yc", "crs"} & set(found.variables)


def test_names_that_neural_lam_has(tmp_path: Path) -> None:
    with xr.open_zarr(filled(tmp_path, kind="start_time").path) as found:
        assert found.msl.dims == ("start_time", "elapsed_forecast_duration", "y", "x")
        first = found.elapsed_forecast_duration.values[0]
        assert first == np.timedelta64(6, "h")


def test_what_is_not_known_has_no_standard_name() -> None:
    assert names.known("msl", "Pa") == "air_pressure_at_mean_sea_level"
    assert names.known("t500", "K") == names.known("T850.0", "K") == "air_temperature"
    assert names.known("t2m", "degC") == ""
    assert names.known("u10m", "m s-1") == ""
    assert names.variable("lsm", "-", "land").units == "1"


def test_tiles_of_a_large_grid() -> None:
    assert layout.tiles(4, (88, 100)) == (88, 100)
    tiles = layout.tiles(20, (589, 789))
    assert 4 * 20 * tiles[0] * tiles[1] <= layout.CHUNK_BYTES
    assert 4 * 20 * tiles[0] * tiles[1] * 2 > layout.CHUNK_BYTES
    assert make_layout(steps=10**7).chunks[-2:] == (1, 1)


def test_a_value_that_is_not_finite_is_no_forecast(tmp_path: Path) -> None:
    made = make_store(tmp_path)
    values = fields(Unit(1), made)
    values["u10m"][2, 7] = np.nan
    with pytest.raises(NotFinite) as refused:
        made.write(Unit(1), values)
    assert "u10m from 2025-12-01T06:00 is not finite at 18 h" in refused.value.what
    assert made.missing() == made.units


def test_one_that_is_laid_out_twice_keeps_what_is_in_it(tmp_path: Path) -> None:
    made = make_store(tmp_path)
    made.write(Unit(0), fields(Unit(0), made))
    again = make_store(tmp_path)
    assert again.done() == {Unit(0)}
    assert [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == []


def work(folder: Path) -> None:
    """Do as a job does; slowly."""
    made = make_store(folder, starts=STARTS)
    for batch in Claims(made, 2, patience=0.3):
        for unit in batch:
            time.sleep(0.02)
            made.write(unit, fields(unit, made))


STARTS = np.datetime64("2025-12-01T00", "s") + 6 * np.arange(24) * np.timedelta64(
    1, "h"
)


def test_jobs_that_are_killed_leave_nothing_missing_nor_half(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    jobs = [fork.Process(target=work, args=(tmp_path,)) for _ in range(3)]
    for job in jobs:
        job.start()
    chance = random.Random(1)
    for _ in range(3):
        time.sleep(chance.uniform(0.1, 0.5))
        number = chance.randrange(len(jobs))
        pid = jobs[number].pid
        assert pid is not None
        if jobs[number].is_alive():
            os.kill(pid, signal.SIGKILL)
        jobs[number] = fork.Process(target=work, args=(tmp_path,))
        jobs[number].start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    made = make_store(tmp_path, starts=STARTS)
    assert not made.missing()
    store.finish(made.path, tmp_path / "out/made.zarr")
    assert not list((tmp_path / "out").rglob("*.partial"))
    with xr.open_zarr(tmp_path / "out/made.zarr") as found:
        for name in made.layout.names:
            for unit in made.units:
                wanted = made.layout.grid.place(fields(unit, made)[name])
                assert (found[name][unit.start].values == wanted).all()


def test_the_next_attempt_takes_over_what_is_whole(tmp_path: Path) -> None:
    earlier, own = tmp_path / "1", tmp_path / "2"
    for folder in (earlier, own):
        folder.mkdir()
    made = make_store(earlier)
    made.write(Unit(1), fields(Unit(1), made))
    (made.path / "msl/2.0.0.partial").write_bytes(b"half")
    assert store.carry(made.path, own / "forecasts.zarr") == 1
    taken = make_store(own)
    assert taken.missing() == [Unit(0), Unit(2)]
    # What the earlier one, if it lives on, writes now is not ours.
    other = {name: values + 1 for name, values in fields(Unit(1), made).items()}
    made.write(Unit(1), other)
    for unit in taken.missing():
        taken.write(unit, fields(unit, taken))
    with xr.open_zarr(taken.path) as found:
        assert found.msl.values[1, 0, 0, 0] == 1e4
    assert not list(own.rglob("*.partial"))
    assert store.carry(tmp_path / "nothing.zarr", tmp_path / "3.zarr") == 0


def test_new_input_of_another_grid_or_with_other_variables_is_refused() -> None:
    def dataset(x: list[float], **features: list[str]) -> Any:
        given = {f"{kind}_feature": names for kind, names in features.items()}
        points = {"x": ("grid_index", x), "y": ("grid_index", [0.0] * len(x))}
        return xr.Dataset(coords={**points, **given})

    trained = dataset([0.0, 1e3], state=["msl", "t2m"], static=["lsm"])
    asked.refuse_another(trained, trained)
    for other, told in (
        (dataset([0.0, 2e3], state=["msl", "t2m"]), "another grid .*: its x differ"),
        (dataset([0.0], state=["msl", "t2m"]), "another grid .*: its x differ"),
        (dataset([0.0, 1e3], state=["t2m", "msl"]), "its state is t2m, msl, the"),
        (dataset([0.0, 1e3], state=["msl", "t2m"]), "its static is none, the"),
    ):
        with pytest.raises(UsageError, match=told):
            asked.refuse_another(other, trained)
