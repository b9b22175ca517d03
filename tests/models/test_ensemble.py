"""A stochastic model's members, from what it returns for a batch to the page that experiments are chosen by."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.models
np = pytest.importorskip("numpy")
xr = pytest.importorskip("xarray")
torch = pytest.importorskip("torch")
pytest.importorskip("neural_lam")
pytest.importorskip("scores")

from support.scored import TIMES, make_dataset, times  # noqa: E402

from mllam_exps.stages.neural_lam.data.zarr_check import interior  # noqa: E402
from mllam_exps.stages.neural_lam.file_names import DATASET, VERIFICATION  # noqa: E402
from mllam_exps.stages.neural_lam.forecasts import names  # noqa: E402
from mllam_exps.stages.neural_lam.forecasts.claims import Claims  # noqa: E402
from mllam_exps.stages.neural_lam.forecasts.grid import Grid  # noqa: E402
from mllam_exps.stages.neural_lam.forecasts.layout import Layout  # noqa: E402
from mllam_exps.stages.neural_lam.forecasts.store import Store  # noqa: E402
from mllam_exps.stages.neural_lam.programs.one_forecaster import (  # noqa: E402
    OneForecaster,
)
from mllam_exps.stages.neural_lam.reporting import content, page  # noqa: E402
from mllam_exps.stages.neural_lam.reporting.comparison import Comparison  # noqa: E402
from mllam_exps.stages.neural_lam.reporting.evidence import Evidence  # noqa: E402
from mllam_exps.stages.neural_lam.scoring import asked, program  # noqa: E402

MEMBERS, STEPS, MEAN, SPREAD = 4, 2, 7.0, 3.0
STARTS = times(TIMES)[31:57]


class Dice:
    """A model that throws dice, of the same kind as those that have made the weather: a reliable ensemble."""

    datastore = SimpleNamespace(get_vars_names=lambda category: ["a", "b"])
    state_mean = torch.full((2,), MEAN)
    state_std = torch.full((2,), SPREAD)

    def __init__(self, points: int) -> None:
        self.points = points
        self.random = torch.Generator().manual_seed(1)

    def common_step(self, batch: list[Any]) -> tuple[Any, ...]:
        """As neural-lam's: prediction, target, standard deviation, times; normalised."""
        shape = (len(batch), STEPS, self.points, 2)
        thrown = torch.randn(shape, generator=self.random)
        return (thrown - MEAN) / SPREAD, None, None, None


def test_a_stochastic_model_is_stored_scored_and_reported_by_members(tmp_path: Path):
    dataset = make_dataset()
    dataset.to_zarr(tmp_path / DATASET, zarr_format=2, consolidated=True)
    x, y = dataset.x.values, dataset.y.values
    grid = Grid(x, y, 50 + y / 100, x / 100, interior(dataset))
    variables = [names.variable("a", "K", "one"), names.variable("b", "Pa", "other")]
    step = np.timedelta64(6, "h")
    layout = Layout(grid, variables, STARTS, step, STEPS, MEMBERS)
    store = Store(tmp_path / "forecasts/infer.zarr", layout)
    store.path.parent.mkdir()
    store.lay_out()
    units: deque[Any] = deque()
    infer = OneForecaster(Dice(len(x)), store, units, lambda: None)
    for number, batch in enumerate(Claims(store, batch_size=13)):
        units.append(batch)
        infer.test_step(batch, number)

    with xr.open_zarr(store.path) as made:
        assert made.a.dims == ("reference_time", "member", "lead_time", "yc", "xc")
        assert (made.a.std("member", ddof=1) > 0).all(), "members are different ones"
    (tmp_path / VERIFICATION).write_text("{}\n")
    program.score(tmp_path)

    scores = (
        xr.open_zarr(tmp_path / asked.SCORES).load().sel(forecast_source="experiment")
    )
    mean = scores.mean(["init_time", "lead_time"])
    # Of a standard normal distribution, by formula.
    assert mean["spread.a"] == pytest.approx(1, abs=0.05)
    assert mean["crps.a"] == pytest.approx(1 / np.sqrt(np.pi), abs=0.06)
    assert float((scores["rmse.a"] ** 2).mean()) == pytest.approx(1 + 1 / MEMBERS, abs=0.15)  # fmt: skip
    beside = xr.open_zarr(tmp_path / asked.SPECTRA).sel(forecast_source="experiment")
    ranks = beside["rank_histogram.a"].mean(["init_time", "lead_time"])
    np.testing.assert_allclose(ranks, 1 / (MEMBERS + 1), atol=0.06)
    said = xr.open_zarr(tmp_path / asked.against("persistence"))
    assert {"difference.crps.a", "lower.crps.a", "confidence.crps.a"} <= {*said}
    numbers = json.loads((tmp_path / asked.METRICS).read_text())["verify"]
    assert numbers["cases"] == len(STARTS)

    compared = Comparison([Evidence("dice", tmp_path)])
    shown = content.of(compared, ["persistence"])
    assert [one.experiment for one in shown.atlases] == ["dice"]
    page.write(tmp_path / "report.html", shown, "typed")
    text = (tmp_path / "report.html").read_text()
    spread = np.sqrt((scores["spread.a"].isel(lead_time=0) ** 2).mean().item())
    assert '<th scope="col">spread, dice</th>' in text
    assert f"<td>{spread:.4g}</td>" in text
    assert "spread, persistence" not in text
