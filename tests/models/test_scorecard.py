"""Scores of forecasts are those of a plain computation, whatever the layout, and in however small pieces."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.models
np = pytest.importorskip("numpy")
xr = pytest.importorskip("xarray")
# Of the extra `models`; an older environment may lack it.
pytest.importorskip("scores")

from support.scored import make_forecast, make_truth, times  # noqa: E402

from mllam_exps.base.errors import CheckFailed  # noqa: E402
from mllam_exps.verification import measures, scorecard  # noqa: E402
from mllam_exps.verification.scorecard import Wanted, score  # noqa: E402

TRAINING = (times(60)[0], times(60)[35])
WANTED = Wanted(TRAINING)
STARTS = times(60)[40:50]


def climatology_of(truth: Any, name: str, when: Any) -> Any:
    """Return the mean of the training's times at the same hour of the day."""
    of_training = truth[name].sel(time=slice(*TRAINING)).astype("float64")
    hour = when.astype("datetime64[h]").astype(int) % 24
    return of_training[of_training.time.dt.hour.values == hour].mean("time").values


def test_scores_are_those_of_a_plain_computation():
    truth = make_truth()
    inside = np.zeros((9, 12), dtype=bool)
    inside[2:7, 3:10] = True
    truth = truth.assign_coords(interior=(("yc", "xc"), inside))
    forecast = make_forecast(truth, STARTS, members=4)
    found = score({"mine": forecast}, truth, WANTED)
    assert list(found.forecast_source.values) == ["mine", "persistence", "climatology"]
    case, lead = 3, 1
    when = STARTS[case] + np.timedelta64(12, "h")
    is_true = truth.t2m.sel(time=when).values[inside].astype("float64")
    normal = climatology_of(truth, "t2m", when)[inside].astype("float64")
    one = forecast.t2m.isel(reference_time=case, lead_time=lead).values[:, inside]
    mean = one.mean(axis=0)
    at_start = truth.t2m.sel(time=STARTS[case]).values[inside].astype("float64")
    anomalies = [values - normal for values in (mean, is_true)]
    apart = np.mean([abs(a - b) for i, a in enumerate(one) for b in one[:i]])
    expected = {
        "rmse": np.sqrt(((mean - is_true) ** 2).mean()),
        "mae": abs(mean - is_true).mean(),
        "bias": (mean - is_true).mean(),
        "acc": np.corrcoef(*anomalies)[0, 1],
        "activity": anomalies[0].std(),
        # Over all pairs of different members: fair.
        "crps": abs(one - is_true).mean() - apart / 2,
        "spread": np.sqrt(one.var(axis=0, ddof=1).mean()),
    }
    for name, number in expected.items():
        made = found[f"{name}.t2m"].isel(init_time=case, lead_time=lead)
        np.testing.assert_allclose(made.values[0], number, rtol=1e-6, err_msg=name)
    there = found.isel(init_time=case, lead_time=lead)
    ranks = np.bincount((one < is_true).sum(axis=0), minlength=5) / inside.sum()
    np.testing.assert_allclose(there["rank_histogram.t2m"][0], ranks, rtol=1e-6)
    assert np.isnan(there["rank_histogram.t2m"][1:]).all()
    still = there["rmse.t2m"].values[1]
    np.testing.assert_allclose(still, np.sqrt(((at_start - is_true) ** 2).mean()))
    usual = np.sqrt(((normal - is_true) ** 2).mean())
    np.testing.assert_allclose(there["rmse.t2m"].values[2], usual)
    np.testing.assert_allclose(there["truth_activity.t2m"], anomalies[1].std())
    # A single forecast's CRPS is its mean absolute error; the climatology has no anomaly.
    np.testing.assert_allclose(there["crps.t2m"][1], there["mae.t2m"][1])
    assert np.isnan(there["acc.t2m"].values[2])


def test_the_form_is_that_of_a_scorecard():
    truth = make_truth()
    found = score({"mine": make_forecast(truth, STARTS)}, truth, WANTED)
    assert found["rmse.t2m"].dims == ("forecast_source", "init_time", "lead_time")
    assert found["rmse.z"].dims == (*found["rmse.t2m"].dims, "level")
    assert list(found.level.values) == [500, 850]
    assert found.lead_time.dtype == "timedelta64[ns]"
    assert found["rmse.t2m"].attrs == {
        "units": "K",
        "long_name": "root mean square error of temperature",
    }
    assert found["acc.z"].attrs["units"] == "1"
    assert not {"variable", "metric"} & {*found.dims}
    assert not any(str(name).startswith("crps") for name in found)


@pytest.mark.parametrize("kept", [1, 2**28])
def test_small_pieces_of_lazy_data_give_the_same(
    monkeypatch: pytest.MonkeyPatch, kept: int
):
    pytest.importorskip("dask")
    truth, wanted = make_truth(), Wanted(TRAINING, spectra_at=[np.timedelta64(12, "h")])
    starts = STARTS[:2]
    sources = {
        "mine": make_forecast(truth, starts),
        "other": make_forecast(truth, starts[1:], error=0.1, members=3),
    }
    whole = score(sources, truth, wanted)
    monkeypatch.setattr(scorecard, "BLOCK_BYTES", 1)
    monkeypatch.setattr(scorecard, "CLIMATOLOGY_BYTES", 1)
    monkeypatch.setattr("mllam_exps.verification.reading.KEPT_BYTES", 1)
    monkeypatch.setattr(scorecard, "KEPT_BYTES", kept)
    monkeypatch.setattr("mllam_exps.verification.reading.PIECE_BYTES", 2**14)
    told: list[tuple[int, int]] = []
    lazy = {name: one.chunk() for name, one in sources.items()}
    pieces = score(lazy, truth.chunk(), wanted, lambda *one: told.append(one))
    xr.testing.assert_allclose(pieces, whole)
    assert told[-1] == (2 * 2 * 2, 2 * 2 * 2)  # variables, cases, leads


def test_what_cannot_be_scored_is_missing():
    truth = make_truth()
    starts = times(60)[50:60]
    other = make_forecast(truth, starts[:4], leads=(6,), seed=7)
    found = score(
        {"mine": make_forecast(truth, starts), "other": other[["t2m"]]}, truth, WANTED
    )
    there = found["rmse.t2m"].notnull()
    # The truth ends with the last start.
    assert there.sel(forecast_source="mine").sum("init_time").values.tolist() == [9, 8]
    assert there.sel(forecast_source="other").sum("init_time").values.tolist() == [4, 0]
    assert not found["rmse.z"].sel(forecast_source="other").notnull().any()


def test_a_point_without_truth_does_not_count():
    truth = make_truth()
    forecast = make_forecast(truth, STARTS)
    when = STARTS[0] + np.timedelta64(6, "h")
    truth.t2m.loc[{"time": when, "xc": 3000.0}] = np.nan
    found = score({"mine": forecast}, truth, WANTED)
    there = truth.xc.values != 3000.0
    error = (forecast.t2m[0, 0] - truth.t2m.sel(time=when)).values[:, there]
    first = found.isel(forecast_source=0, init_time=0, lead_time=0)
    np.testing.assert_allclose(first["rmse.t2m"], np.sqrt((error**2).mean()))
    normal = climatology_of(truth, "t2m", when)[:, there]
    values = forecast.t2m[0, 0].values[:, there]
    np.testing.assert_allclose(first["activity.t2m"], (values - normal).std())


def test_the_climatology_knows_nothing_but_the_training():
    truth = make_truth()
    forecast = make_forecast(truth, STARTS)
    before = score({"mine": forecast}, truth, WANTED)["activity.t2m"][0]
    later = truth.time > TRAINING[1]
    changed = score({"mine": forecast}, truth.where(~later, truth + 9), WANTED)
    xr.testing.assert_allclose(changed["activity.t2m"][0], before)


def test_a_forecast_standard_deviation_is_scored():
    from scipy import integrate, stats

    truth = make_truth()[["t2m"]]
    forecast = make_forecast(truth, STARTS)
    forecast["t2m_std"] = forecast.t2m * 0 + 0.7
    found = score({"mine": forecast}, truth, WANTED)
    np.testing.assert_allclose(found["spread.t2m"][0], 0.7)
    is_true = truth.t2m.sel(time=STARTS[0] + np.timedelta64(6, "h")).values.ravel()
    mean = forecast.t2m[0, 0].values.ravel()
    grid = np.linspace(265, 295, 20001)
    expected = []
    for one, middle in zip(is_true, mean, strict=True):
        off = stats.norm.cdf(grid, middle, 0.7) - (grid >= one)
        expected.append(integrate.trapezoid(off**2, grid))
    made = float(found["crps.t2m"][0, 0, 0])
    np.testing.assert_allclose(made, np.mean(expected), rtol=1e-3)
    tenth = (10 * stats.norm.cdf(is_true, mean, 0.7)).astype(int).clip(max=9)
    ranks = np.bincount(tenth, minlength=10) / is_true.size
    np.testing.assert_allclose(found["rank_histogram.t2m"][0, 0, 0], ranks, rtol=1e-5)


def test_ranks_are_flat_where_truth_and_members_are_of_one_kind_and_ties_are_shared():
    drawn = np.random.default_rng(1).normal(size=(1, 1, 10, 1, 40_000))
    each = {"dims": ("case", "lead", "member", "entry", "point")}
    forecast = xr.DataArray(drawn[:, :, :9], **each)
    truth = xr.DataArray(drawn[:, :, 9], dims=("case", "lead", "entry", "point"))
    weights = xr.DataArray(np.ones(40_000), dims="point")
    told = forecast, truth, weights, "member"
    np.testing.assert_allclose(measures.ranks_of_members(*told), 0.1, atol=0.006)
    # Rain: truth and all members are 0 at all points but one, where there is no truth.
    dry = truth.where(truth.point > 0) * 0
    told = forecast * 0, dry, weights, "member"
    np.testing.assert_allclose(measures.ranks_of_members(*told), 0.1)


def test_the_spectrum_of_a_wave_lies_at_its_wavelength():
    truth = make_truth(rows=32, columns=32)[["t2m"]]
    wave = np.cos(np.pi * (np.arange(32) + 0.5) * 8 / 32)
    truth["t2m"] = truth.t2m * 0 + 3 * xr.DataArray(wave, dims="xc")
    wanted = Wanted(TRAINING, spectra_at=[np.timedelta64(12, "h")])
    found = score({"mine": make_forecast(truth, STARTS, error=0)}, truth, wanted)
    spectrum = found["spectrum.t2m"].sel(forecast_source="mine").isel(init_time=0)
    assert np.isnan(spectrum.isel(lead_time=0)).all()
    at_wave = spectrum.isel(lead_time=1)
    # Eight half waves on 32 points of a kilometre.
    band = int(np.argmax(at_wave.values))
    assert abs(np.log2(float(found.wavelength[band]) / 8000)) <= 1 / 6 + 1e-9
    np.testing.assert_allclose(at_wave.values[band], 4.5, rtol=1e-5)
    np.testing.assert_allclose(at_wave.sum(), 4.5, rtol=1e-5)
    np.testing.assert_allclose(found["truth_spectrum.t2m"][0, 1], at_wave, atol=1e-9)


def test_bands_hold_the_whole_variance_but_that_of_the_corners():
    from scipy.fft import dctn, idctn

    from mllam_exps.verification import spectra

    field = np.random.default_rng(1).normal(size=(20, 30))
    made = dctn(field, norm="ortho")
    corner = np.hypot(
        *np.meshgrid(np.arange(20) / 20, np.arange(30) / 30, indexing="ij")
    )
    made[corner > 1] = 0
    smooth = idctn(made, norm="ortho")
    bands = spectra.bands(20, 30, 1.0)
    np.testing.assert_allclose(
        spectra.variance_by_band(smooth, bands).sum(), smooth.var()
    )
    assert (np.diff(bands.wavelength) < 0).all()


def test_regions_and_areas():
    truth = make_truth(rows=8, columns=6).rename(yc="latitude", xc="longitude")
    truth = truth.assign_coords(
        latitude=np.arange(8) * 10.0, longitude=np.arange(6) * 10.0 - 20
    )
    forecast = make_forecast(truth, STARTS)
    box = {"latitude": [25, 45], "longitude": [-15, 15]}
    found = score({"mine": forecast}, truth, Wanted(TRAINING, regions={"box": box}))
    assert found["rmse.t2m"].dims[3:] == ("spatial_region",)
    assert list(found.spatial_region.values) == ["interior", "box"]
    when = STARTS[0] + np.timedelta64(6, "h")
    error = (forecast.t2m[0, 0] - truth.t2m.sel(time=when)).values
    area = np.cos(np.deg2rad(truth.latitude.values))[:, None] + 0 * error
    everywhere = np.sqrt(np.average(error**2, weights=area))
    some = np.s_[3:5, 1:4]
    of_box = np.sqrt(np.average(error[some] ** 2, weights=area[some]))
    made = found["rmse.t2m"][0, 0, 0]
    np.testing.assert_allclose(made, [everywhere, of_box], rtol=1e-6)
    # The same as a list of points.
    points = {
        name: one.stack(grid_index=("longitude", "latitude")).reset_index("grid_index")
        for name, one in (("truth", truth), ("forecast", forecast))
    }
    listed = score({"mine": points["forecast"]}, points["truth"], WANTED)
    np.testing.assert_allclose(listed["rmse.t2m"][0, 0, 0], everywhere, rtol=1e-6)
    far = {"latitude": [81, 85], "longitude": [0, 1]}
    with pytest.raises(CheckFailed, match="region far: it holds no point"):
        score({"mine": forecast}, truth, Wanted(TRAINING, regions={"far": far}))


def test_neural_lams_words_and_lists_of_points_give_the_same():
    truth = make_truth()
    forecast = make_forecast(truth, STARTS)
    expected = score({"mine": forecast}, truth, WANTED)
    renamed = forecast.rename(
        reference_time="start_time", lead_time="elapsed_forecast_duration"
    ).rename(xc="x", yc="y")
    hours = forecast.lead_time.values.astype("m8[h]").astype("m8[ns]")
    renamed = renamed.assign_coords(elapsed_forecast_duration=hours)
    points = truth.stack(grid_index=("xc", "yc")).reset_index("grid_index")
    points = points.isel(grid_index=np.random.default_rng(0).permutation(9 * 12))
    found = score({"mine": renamed}, points.rename(xc="x", yc="y"), WANTED)
    xr.testing.assert_allclose(found, expected)


def refused(truth: Any, wanted: Wanted = WANTED, **forecasts: Any) -> str:
    with pytest.raises(CheckFailed) as told:
        score(forecasts, truth, wanted)
    assert "\n" not in told.value.problem.sentence
    return told.value.problem.sentence


def test_what_cannot_be_compared_is_refused_in_a_sentence():
    truth = make_truth()
    good = make_forecast(truth, STARTS)
    smaller = good.isel(xc=slice(5))
    told = refused(truth, good=good, other=smaller)
    assert (
        told == "other: it is on another grid: yc, xc of 9×5 points, the truth has 9×12"
    )
    moved = good.assign_coords(xc=good.xc + 500)
    told = refused(truth, good=good, other=moved)
    assert told.startswith(
        "other: it is on another grid: its xc differs from the truth's"
    )
    later = good.assign_coords(reference_time=STARTS + np.timedelta64(3, "h"))
    told = refused(truth, good=good, other=later)
    assert told == "other: none of its 10 starts is one of the 10 of good"
    holed = good.copy(deep=True)
    holed.z[4, 1, 1, 2, 2] = np.nan
    told = refused(truth, good=holed)
    assert told == (
        "good: the forecast of z from 2025-01-12T00:00 holds values that are missing or infinite at 12 h"
    )
    in_future = good.assign_coords(reference_time=STARTS + np.timedelta64(999, "D"))
    told = refused(truth, good=in_future)
    assert told == "good: the truth has none of the times that it forecasts"
    told = refused(truth, Wanted(TRAINING, ["q"]), good=good)
    assert told == "good: there is no q in both forecast and truth: they share t2m, z"
    nothing = refused(truth, good=good.drop_vars("lead_time"))
    assert nothing == "good: it has no dimension lead_time"
    twice = good.isel(reference_time=[0, 0])
    assert refused(truth, good=twice).startswith("good: it has the start 2025-01-11")


def test_the_year_is_in_the_climatology_where_it_is_long_enough():
    from mllam_exps.verification import climatology

    when = times(2 * 365 * 4)
    days = (when - when[0]) / np.timedelta64(1, "D")
    hour = (days % 1)[:, None] * np.array([2.0, 3.0])
    cycle = 10 * np.cos(2 * np.pi * days / 365.2425)[:, None] + hour + 280
    noise = np.random.default_rng(0).normal(size=cycle.shape)
    made = climatology.fit(when, [(when, cycle + noise)])
    assert made.by_day_of_year
    assert abs(made.at(when) - cycle).max() < 0.5
    short = climatology.fit(
        when[:400], [(when[:200], cycle[:200]), (when[200:400], cycle[200:400])]
    )
    assert not short.by_day_of_year
    np.testing.assert_allclose(short.at(when[4:5]), [cycle[:400:4].mean(axis=0)])
    assert np.isnan(short.at(when[:1] + np.timedelta64(3, "h"))).all()
