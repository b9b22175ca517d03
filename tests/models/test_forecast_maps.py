"""Maps of forecasts: which cases they show, that each value stands where it belongs, and the coast in its place."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.models
np = pytest.importorskip("numpy")
xr = pytest.importorskip("xarray")
pytest.importorskip("scipy")
Image = pytest.importorskip("PIL.Image")

from support.scored import make_forecast, make_truth, times  # noqa: E402

from mllam_exps.maps import natural_earth, on_grid  # noqa: E402
from mllam_exps.stages.neural_lam.reporting import figures, maps  # noqa: E402
from mllam_exps.stages.neural_lam.scoring.asked import FIELDS  # noqa: E402
from mllam_exps.verification import scorecard, shown  # noqa: E402

STARTS = times(60)[20:40]


def scored(forecast: Any, truth: Any) -> Any:
    """Return the scores of a forecast."""
    training = (str(times(60)[0]), str(times(60)[10]))
    return scorecard.score({"own": forecast}, truth, scorecard.Wanted(training))


def errors(values: Any) -> Any:
    """Return scores with one variable and lead time, whose RMSE by case is given."""
    dims = ("forecast_source", "init_time", "lead_time")
    shaped = np.asarray(values, float)[None, :, None]
    coords = {"init_time": times(len(values)), "lead_time": [np.timedelta64(6, "h")]}
    return xr.Dataset({"rmse.a": (dims, shaped)}, coords)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([3, 1, 2], {"best": 1, "median": 2, "worst": 0}),
        ([5, np.nan, 1, 4, 9, np.nan], {"best": 2, "median": 0, "worst": 4}),
        ([2, 1], {"best": 1, "median": 0}),
        ([7], {"best": 0}),
        ([np.nan, np.nan], {}),
        ([0, 0], {"best": 0, "median": 1}),
    ],
)
def test_the_best_a_middling_and_the_worst_case_are_shown(values, found):
    assert shown.chosen(errors(values)) == found


def test_no_variable_outweighs_another():
    both = errors([1, 2, 3]).assign(**{"rmse.b": errors([9e5, 5e5, 5e5])["rmse.a"]})
    assert shown.chosen(both)["best"] == 1


@pytest.mark.parametrize("members", [0, 3])
def test_each_field_is_that_of_its_case_and_lead_time(members):
    truth = make_truth()
    order = np.random.default_rng(0).permutation(len(STARTS))
    forecast = make_forecast(truth, STARTS[order], members=members)
    scores = scored(forecast, truth)
    fields = shown.fields(forecast, truth, scores)
    assert list(fields["kind"].values) == ["best", "median", "worst"]
    for case in fields["init_time"].values:
        for hours, lead in ((6, np.timedelta64(6, "h")), (12, np.timedelta64(12, "h"))):
            at = {"init_time": case, "lead_time": lead}
            own = forecast["t2m"].sel(reference_time=case, lead_time=hours)
            if members:
                own = own.mean("member")
            assert np.allclose(fields["forecast.t2m"].sel(at), own, atol=1e-4)
            was = truth["t2m"].sel(time=case + lead)
            assert np.array_equal(fields["truth.t2m"].sel(at), was)
            level = truth["z"].sel(time=case + lead, level=500)
            assert np.allclose(fields["truth.z"].sel(at), level)
    assert fields["truth.z"].attrs[shown.LEVEL] == "level 500"
    # By hand: the worst case has the largest error, each variable in units of its own.
    own = forecast.mean("member") if members else forecast
    apart = [
        np.sqrt(
            ((own["t2m"].sel(reference_time=case).values - truth["t2m"].sel(
                time=[case + np.timedelta64(h, "h") for h in (6, 12)]).values) ** 2).mean((1, 2))
        ).mean()
        for case in fields["init_time"].values
    ]  # fmt: skip
    assert apart[0] < apart[2]


def test_a_large_grid_is_thinned_and_points_are_left_out():
    truth = make_truth(count=50, rows=330, columns=20)[["t2m"]]
    forecast = make_forecast(truth, times(50)[20:23])
    scores = scored(forecast, truth)
    fields = shown.fields(forecast, truth, scores)
    assert dict(fields.sizes) == {"init_time": 3, "lead_time": 2, "yc": 110, "xc": 20}
    assert np.array_equal(fields["yc"], truth["yc"][::3])
    flat = {"grid_index": ("yc", "xc")}
    points = [one.stack(flat).drop_vars(("grid_index", "yc", "xc")) for one in (forecast, truth)]  # fmt: skip
    assert shown.fields(*points, scores) is None


def decoded(data: str) -> Any:
    """Return a picture's shades: (row, column)."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture
def laid(tmp_path: Path) -> Path:
    """A folder with fields that grow with y, and with x in the forecast, on 40 × 30 points around Iceland."""
    y, x = np.arange(40) * 1e4, np.arange(30) * 1e4
    up, across = np.meshgrid(np.arange(40.0), np.arange(30.0), indexing="ij")
    inside = np.zeros((40, 30), bool)
    inside[10:20, 5:25] = True
    dims = ("init_time", "lead_time", "yc", "xc")
    coords = {
        "init_time": times(1),
        "lead_time": [np.timedelta64(6, "h").astype("m8[ns]")],
        "kind": ("init_time", ["best"]),
        "yc": y,
        "xc": x,
        "interior": (("yc", "xc"), inside),
        "latitude": (("yc", "xc"), 62 + up * 0.15),
        "longitude": (("yc", "xc"), -26 + across * 0.5),
    }
    said = {"units": "K"}
    fields = {
        "forecast.a": (dims, (up + across)[None, None], said),
        "truth.a": (dims, up[None, None], said),
    }
    made = xr.Dataset(fields, coords)
    made.to_zarr(tmp_path / FIELDS, zarr_format=2)
    return tmp_path


def test_north_is_up_and_the_error_is_that_of_the_points_that_count(laid: Path):
    found = maps.atlas("mine", laid)
    assert found is not None
    assert (found.cases, found.leads) == (["best: 2025-01-01T00:00"], [6.0])
    [one] = found.maps["a"]
    shades = {name: decoded(data) for name, data in one.pictures.items()}
    assert all(picture.shape == (40, 30) for picture in shades.values())
    assert shades["truth"][0, 0] > shades["truth"][-1, 0]
    assert (np.diff(shades["truth"].astype(int), axis=1) == 0).all()
    assert shades["forecast"][0, -1] == maps.SHADES - 1
    assert shades["forecast − truth"][0, 0] == maps.SHADES // 2
    assert one.rmse == pytest.approx(np.sqrt((np.arange(5, 25) ** 2).mean()))
    assert found.scales["a"].units == "K"
    # Rows are counted from the top: 40 − 20.
    assert found.inside == (5, 20, 20, 10)
    assert maps.atlas("nothing", laid / "nowhere") is None


def test_a_map_for_a_paper_shows_the_values(laid: Path):
    atlas = maps.atlas("mine", laid)
    assert atlas is not None
    figure = figures._maps(atlas, "a", 0)
    assert figure.get_suptitle() == "a\nmine, best case, start 2025-01-01 00:00 UTC"
    forecast, truth, apart = (axes.images[0] for axes in figure.axes[:3])
    values = atlas.values["a"]
    assert np.array_equal(forecast.get_array(), values.forecast[0, 0])
    assert np.array_equal(apart.get_array(), (values.forecast - values.truth)[0, 0])
    assert forecast.get_clim() == truth.get_clim() == (0, 68)
    assert apart.get_clim() == (-29, 29)
    first = figure.axes[0]
    assert (first.get_ylabel(), first.get_title()) == ("+6 h", "forecast")
    assert figure.axes[2].get_xlabel() == f"RMSE {atlas.maps['a'][0].rmse:.4g} K"
    [coast] = first.collections
    assert len(coast.get_paths()) == len(atlas.coastlines) > 0
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == ["K", "K"]


def test_what_is_missing_has_no_colour(laid: Path):
    fields = xr.open_zarr(laid / FIELDS).load()
    fields["forecast.a"][0, 0, 0, 0] = np.nan
    fields.to_zarr(laid / FIELDS, mode="w", zarr_format=2)
    [one] = maps.atlas("mine", laid).maps["a"]  # type: ignore[union-attr]
    assert decoded(one.pictures["forecast"])[-1, 0] == maps.SHADES
    assert np.isfinite(one.rmse)


def test_coastlines_lie_where_they_are():
    # A turned, curved grid: 60 × 50 points about 65° N 18° W.
    v, u = np.meshgrid(np.linspace(-6, 6, 60), np.linspace(-9, 9, 50), indexing="ij")
    latitude, longitude = 65 + v + 0.1 * u, -18 + u * (1 + 0.02 * v) - 0.2 * v
    lines = on_grid.coastlines(latitude, longitude)
    known = np.concatenate(natural_earth.coastlines())
    points = np.concatenate(lines)
    assert len(points) > 100
    assert points.min() >= 0
    assert (points.max(axis=0) <= [49, 59]).all()
    from scipy.interpolate import RegularGridInterpolator

    axes = (np.arange(60.0), np.arange(50.0))
    for grid, place in ((longitude, 0), (latitude, 1)):
        back = RegularGridInterpolator(axes, grid)(points[:, ::-1])
        nearest = np.abs(known[:, place][None, :] - back[:200, None]).min(axis=1)
        assert nearest.max() < 0.01


def test_there_is_no_coast_where_the_grid_is_no_part_of_a_plane():
    latitude, longitude = np.meshgrid(np.linspace(-90, 90, 19), np.arange(0.0, 360, 10), indexing="ij")  # fmt: skip
    assert on_grid.coastlines(latitude, longitude) == []
    assert on_grid.coastlines(latitude[:1], longitude[:1]) == []


def test_a_grid_across_the_date_line_has_its_coast():
    latitude, longitude = np.meshgrid(np.linspace(-20, -14, 30), np.linspace(176, 184, 40), indexing="ij")  # fmt: skip
    wrapped = (longitude + 180) % 360 - 180
    lines = on_grid.coastlines(latitude, wrapped)
    assert lines, "Fiji"
    assert max(np.abs(np.diff(line, axis=0)).max() for line in lines) < 10
