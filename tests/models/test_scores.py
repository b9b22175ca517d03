"""Persistence is scored as neural-lam scores a model; scores survive their file; what is missing is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import CheckFailed, UsageError
from mllam_exps.commands.reading import scores as report
from mllam_exps.stages.neural_lam import scores
from mllam_exps.stages.neural_lam.data.zarr_check import interior
from mllam_exps.stages.neural_lam.scores import Sampling, Score

ROWS = [
    Score("msl", "Pa", 6, 100.0, 80.0, 125.0, 100.0),
    Score("msl", "Pa", 12, 150.0, 120.0, 150.0, 110.0),
    Score("t2m", "K", 6, 1.5, 1.0, 1.0, 0.8),
    Score("t2m", "K", 12, 2.0, 1.0, 4.0, 2.0),
]


def small_dataset(times: int = 12, **more: int) -> Any:
    """A grid of 63 × 62 points, of which 3 × 2 are the interior, with the grid's points in any order."""
    import numpy as np
    import xarray as xr

    rng = np.random.default_rng(0)
    x, y = (
        part.ravel()
        for part in np.meshgrid(np.arange(63.0), np.arange(62.0), indexing="ij")
    )
    order = rng.permutation(len(x))
    dims = ("time", *more, "grid_index", "state_feature")
    shape = (times, *more.values(), len(x), 2)
    time = np.datetime64("2025-01-01", "ns") + np.arange(times) * np.timedelta64(3, "h")
    state = rng.normal(size=shape).astype("float32")
    limits = [
        ["2025-01-01T00", "2025-01-01T06"],
        ["2025-01-01T06", "2025-01-09"],
        ["2025-01-01", "2025-01-09"],
    ]
    return xr.Dataset(
        {
            "state": (dims, state),
            "splits": (("split_name", "split_part"), np.array(limits)),
        },
        coords={
            "time": time,
            "x": ("grid_index", x[order]),
            "y": ("grid_index", y[order]),
            "state_feature": ["a", "b"],
            "state_feature_units": ("state_feature", ["K", "Pa"]),
            "split_name": ["train", "val", "test"],
        },
    )


@pytest.mark.models
def test_interior_is_what_lies_30_points_inside() -> None:
    dataset = small_dataset()
    inside = interior(dataset)
    assert inside.sum() == 3 * 2
    assert set(dataset["x"].values[inside]) == {30.0, 31.0, 32.0}
    assert set(dataset["y"].values[inside]) == {30.0, 31.0}


@pytest.mark.models
@pytest.mark.parametrize("past", [1, 3])
def test_persistence_is_the_plain_computation(past: int) -> None:
    import numpy as np

    dataset = small_dataset()
    rmse, mae = scores.persistence(
        dataset, Sampling("test", steps=2, past=past, future=1)
    )
    values = dataset["state"].values[:, interior(dataset)].astype("float64")
    begins = range(max(2, past) - 1, 12 - 2 - 1)
    for step in (1, 2):
        errors = np.array([values[begin + step] - values[begin] for begin in begins])
        np.testing.assert_allclose(
            rmse[step - 1], np.sqrt((errors**2).mean(axis=(0, 1)))
        )
        np.testing.assert_allclose(mae[step - 1], np.abs(errors).mean(axis=(0, 1)))


@pytest.mark.models
def test_members_of_an_ensemble_are_forecasts_of_their_own() -> None:
    import numpy as np

    dataset = small_dataset(ensemble_member=2)
    both, _ = scores.persistence(dataset, Sampling("test", steps=2))
    each = [
        scores.persistence(
            dataset.isel(ensemble_member=[m]), Sampling("test", steps=2)
        )[0]
        for m in (0, 1)
    ]
    np.testing.assert_allclose(both**2, (each[0] ** 2 + each[1] ** 2) / 2)
    first, _ = scores.persistence(
        dataset, Sampling("test", steps=2, single_member=True)
    )
    np.testing.assert_allclose(first, each[0])


@pytest.mark.models
def test_a_split_too_short_for_a_forecast_is_refused() -> None:
    with pytest.raises(CheckFailed, match="too short"):
        scores.persistence(small_dataset(), Sampling("train", steps=4))


def test_as_many_forecasts_as_neural_lam_makes() -> None:
    assert Sampling("test", steps=3).count(10) == 10 - (2 + 3 + 1) + 1
    assert Sampling("test", steps=3, past=4, future=0).count(10) == 10 - (4 + 3) + 1
    assert Sampling("test", steps=9).count(10) == 0
    assert Sampling("test", steps=3, limit=2).count(10) == 2


def test_file_and_back(tmp_path: Path) -> None:
    path = tmp_path / "plots/scores.csv"
    scores.write_csv(path, ROWS)
    assert path.read_text().splitlines()[1] == "msl,Pa,6,100.0,80.0,125.0,100.0"
    assert scores.read_csv(path) == ROWS
    path.write_text("variable,units\nmsl,Pa\n")
    with pytest.raises(CheckFailed, match="no readable scores"):
        scores.read_csv(path)


def test_the_summary_is_three_numbers_a_variable() -> None:
    assert scores.summary(ROWS) == {
        "rmse": {"msl": {"12h": 150.0}, "t2m": {"12h": 2.0}},
        "mae": {"msl": {"12h": 120.0}, "t2m": {"12h": 1.0}},
        "gain_over_persistence": {"msl": 0.1, "t2m": 0.0, "mean": 0.05},
    }
    assert list(scores.summary(ROWS[:1])["rmse"]["msl"]) == ["06h"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (ROWS[:3], "no score of t2m at 12 h"),
        (
            [*ROWS[:3], Score("t2m", "K", 12, float("nan"), 1, 1, 1)],
            "rmse of t2m at 12 h is nan",
        ),
        ([*ROWS, Score("t2m", "K", 18, 1, 1, 1, 1)], "5 scores, 4 were expected"),
    ],
)
def test_incomplete_scores_are_refused(rows: list[Score], reason: str) -> None:
    scores.check(ROWS, ["msl", "t2m"], [6.0, 12.0])
    with pytest.raises(CheckFailed, match=reason):
        scores.check(rows, ["msl", "t2m"], [6.0, 12.0])


def test_the_report_shows_gain_and_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = SimpleNamespace(root=tmp_path)
    monkeypatch.setattr("mllam_exps.machines.workspace.Workspace.here", lambda: here)
    with pytest.raises(UsageError, match="no scores here yet"):
        report.show(as_json=False)
    scores.write_csv(tmp_path / "plots/scores.csv", ROWS)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/train.json").write_text(
        '{"epochs": 20, "best_epoch": 18, "best_val_loss": 0.25}'
    )
    (tmp_path / "plots/forecasts").mkdir()
    for name in ("t2m_x_+006h.png", "msl_x_+006h.png", "notes.txt"):
        (tmp_path / "plots/forecasts" / name).touch()

    report.show(as_json=False)
    text = capsys.readouterr().out
    assert "+20.0 %" in text
    assert "-50.0 %" in text
    assert "best of 20 epochs: 18, validation loss 0.25" in text
    assert text.count("msl (Pa)") == 1
    assert "plots/forecasts/msl_x_+006h.png" in text
    assert "notes.txt" not in text

    report.show(as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["scores"][0]["gain"] == pytest.approx(0.2)
    assert found["training"]["best_epoch"] == 18
    assert found["pictures"] == [
        "plots/forecasts/msl_x_+006h.png",
        "plots/forecasts/t2m_x_+006h.png",
    ]
