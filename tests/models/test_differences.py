"""Differences between forecasts, and that chance is called chance as often as it is said."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.models
np = pytest.importorskip("numpy")
xr = pytest.importorskip("xarray")

from support.scored import times  # noqa: E402

from mllam_exps.base.errors import CheckFailed  # noqa: E402
from mllam_exps.verification import bootstrap, differences  # noqa: E402
from mllam_exps.verification.bootstrap import block_length, means  # noqa: E402

HALF_DAY = np.timedelta64(12, "h")


def autoregressive(count: int, cases: int, from_before: float, seed: int = 1) -> Any:
    """Return series of which each case has a part of the one before; their mean is zero."""
    series = np.random.default_rng(seed).standard_normal((count, cases + 100))
    series[:, 0] /= np.sqrt(1 - from_before**2)
    for case in range(1, cases + 100):
        series[:, case] += from_before * series[:, case - 1]
    return series[:, 100:]


def called(series: Any, when: Any) -> Any:
    """Return which part of the series is called different from zero, by level, in per cent."""
    found = means(series, when)
    return 100 * (abs(found.mean) > found.half_width).mean(axis=1)


def test_a_block_spans_ten_days_or_a_sixth_of_the_cases():
    assert block_length(times(1460)) == 40
    assert block_length(times(1460, HALF_DAY)) == 20
    assert block_length(times(365, np.timedelta64(24, "h"))) == 10
    assert block_length(times(60)) == 10
    assert block_length(times(8)) == 1


@pytest.mark.parametrize("from_before", [0.0, 0.6])
def test_chance_is_called_different_as_often_as_said(from_before: float):
    part = called(autoregressive(3000, 120, from_before), times(120, HALF_DAY))
    assert 27 <= part[0] <= 37
    assert 3.5 <= part[1] <= 6.5
    assert part[2] <= 0.8


@pytest.mark.long
@pytest.mark.parametrize("hours", [6, 24])
@pytest.mark.parametrize("from_before", [0.0, 0.3, 0.5, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("cases", [12, 20, 30, 60, 120, 365, 1460])
def test_chance_is_never_called_more_often(cases: int, from_before: float, hours: int):
    when = times(cases, np.timedelta64(hours, "h"))
    part = called(autoregressive(6000, cases, from_before, seed=cases), when)
    # Of 6,000 series the part is known to 0.3.
    assert part[1] <= 6.5 + 0.6
    if cases >= 120 and from_before <= 0.8:
        assert part[1] >= 3.5


def test_a_real_difference_is_called_one():
    series = 0.5 + autoregressive(500, 120, 0.3)
    assert called(series, times(120, HALF_DAY))[1] > 80


def test_the_interval_is_that_of_a_plain_loop():
    series = autoregressive(1, 90, 0.5, seed=8)[0]
    when = times(90, HALF_DAY)
    found = means(series[None], when)
    length, cases = 15, 89
    assert block_length(when) == length
    departures = series - series.mean()
    plain = (departures[1:] * departures[:-1]).sum() / (departures**2).sum()
    part = plain + (1 + 3 * plain) / 90
    left = departures[1:] - part * departures[:-1]
    left -= left.mean()
    blocks = [
        left[start : start + length].mean() for start in range(cases - length + 1)
    ]
    rng = np.random.default_rng(bootstrap.SEED)
    starts = rng.integers(0, len(blocks), (2000, 6))
    off = [abs(np.mean([blocks[s] for s in row]) - np.mean(blocks)) for row in starts]
    from scipy import stats

    independent = 90 * (1 - part) / (1 + part)
    np.testing.assert_allclose(found.independent, independent)
    freedom = min(1.5 * (cases / length - 1), independent - 1)
    for level, width in zip(bootstrap.LEVELS, found.half_width[:, 0], strict=True):
        upper = (1 + level) / 2
        factor = stats.t.ppf(upper, freedom) / stats.norm.ppf(upper)
        factor *= np.sqrt(6 * length / cases) / np.sqrt(1 - length / cases)
        np.testing.assert_allclose(width, np.quantile(off, level) / (1 - part) * factor)


def test_the_blocks_are_those_of_another_implementation():
    processing = pytest.importorskip("scores.processing")
    # Not correlated with the one before, so that nothing is taken out.
    series = autoregressive(1, 240, -0.2, seed=4)
    when = times(240, HALF_DAY)
    left = xr.DataArray((series - series.mean())[0, 1:], dims="case")
    np.random.seed(0)
    theirs = processing.block_bootstrap(
        left, blocks={"case": block_length(when)}, n_iteration=4000, circular=False
    ).mean("case")
    off = abs(theirs - theirs.mean()).values
    length, cases = block_length(when), 239
    widened = 1 / np.sqrt(1 - length / cases)
    from scipy import stats

    widened *= stats.t.ppf(0.84, 1.5 * (cases / length - 1)) / stats.norm.ppf(0.84)
    ours = means(series, when).half_width[0, 0] / widened
    # 4,000 and 2,000 resamples: a quantile is known to three per cent.
    np.testing.assert_allclose(ours, np.quantile(off, 0.68), rtol=0.09)


def scores_of(**errors: Any) -> Any:
    cases = len(next(iter(errors.values())))
    values = np.stack(list(errors.values()))[:, :, None]
    dims = ("forecast_source", "init_time", "lead_time")
    return xr.Dataset(
        {
            "rmse.t2m": (dims, values, {"units": "K", "long_name": "the error"}),
            "acc.t2m": (dims, -values),
            "bias.t2m": (dims, values),
        },
        coords={
            "forecast_source": list(errors),
            "init_time": times(cases, HALF_DAY),
            "lead_time": [np.timedelta64(6, "h")],
        },
    )


def test_sources_are_paired_case_by_case():
    rng = np.random.default_rng(2)
    weather = 10 * rng.random(60)  # far larger than what they differ by
    found = differences.compare(
        scores_of(a=weather + 0.1 + 0.05 * rng.random(60), b=weather), "b"
    )
    assert list(found.forecast_source.values) == ["a"]
    assert found["difference.rmse.t2m"].item() == pytest.approx(0.125, abs=0.01)
    assert found["confidence.rmse.t2m"].item() == 0.997
    low, high = (
        found[f"{side}.rmse.t2m"].values.ravel() for side in ("lower", "upper")
    )
    assert (low < 0.125).all()
    assert (np.diff(low) < 0).all()
    assert (np.diff(high) > 0).all()
    assert not differences.is_better("rmse.t2m", found["difference.rmse.t2m"])
    assert not differences.is_better("acc.t2m", found["difference.acc.t2m"])
    assert "difference.bias.t2m" not in found
    assert found["lower.rmse.t2m"].attrs == {
        "long_name": "lower end of the interval of the difference in the error",
        "units": "K",
    }
    assert found["cases.rmse.t2m"].attrs["units"] == "1"


def test_common_cases_are_those_of_all_sources_and_pairwise_those_of_two():
    noise = np.random.default_rng(2).random((3, 40))
    noise[1, :10] = noise[2, 30:] = np.nan
    scores = scores_of(**dict(zip("abc", noise, strict=True)))
    common = differences.compare(scores, "a")["cases.rmse.t2m"]
    pairwise = differences.compare(scores, "a", cases="pairwise")["cases.rmse.t2m"]
    assert common.values.ravel().tolist() == [20, 20]
    assert pairwise.values.ravel().tolist() == [30, 30]
    # Who has no score at all takes nobody's cases away.
    noise[2] = np.nan
    alone = differences.compare(scores_of(**dict(zip("abc", noise, strict=True))), "a")
    assert alone["cases.rmse.t2m"].values.ravel().tolist() == [30, 0]


def test_few_independent_cases_decide_nothing():
    series = 5 + autoregressive(1, 30, 0.95, seed=2)
    found = means(series, times(30))
    assert found.independent[0] < 12
    assert np.isnan(found.half_width).all()
    scores = scores_of(a=series[0], b=np.zeros(30))
    compared = differences.compare(scores, "b")
    # Missing: 0 would say that no difference was found.
    assert np.isnan(compared["confidence.rmse.t2m"].item())
    same = np.random.default_rng(4).normal(size=60)
    alike = scores_of(a=same - same.mean(), b=np.zeros(60))
    compared = differences.compare(alike, "b")
    assert compared["confidence.rmse.t2m"].item() == 0


def test_the_same_scores_give_the_same_intervals():
    scores = scores_of(a=autoregressive(1, 50, 0.5)[0], b=np.zeros(50))
    xr.testing.assert_identical(*(differences.compare(scores, "b") for _ in "ab"))


def test_no_common_case_is_refused():
    noise = np.random.default_rng(2).random((2, 40))
    noise[0, 20:] = noise[1, :20] = np.nan
    scores = scores_of(**dict(zip("ab", noise, strict=True)))
    with pytest.raises(CheckFailed, match="a have no case in common with b"):
        differences.compare(scores, "b")
    with pytest.raises(CheckFailed, match="there is no source c: there are a, b"):
        differences.compare(scores, "c")
