"""Neural-LAM's maps have coastlines where nothing can be downloaded."""

from __future__ import annotations

import operator
from pathlib import Path

import pytest

pytestmark = pytest.mark.models


def test_coastlines_and_borders_are_drawn_without_the_internet(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    import cartopy
    from cartopy.feature import BORDERS, COASTLINE, LAKES, NaturalEarthFeature

    from mllam_exps.stages.neural_lam.patches import draw_without_downloading

    monkeypatch.setitem(cartopy.config, "data_dir", tmp_path)
    # Back to what it was, after the test.
    monkeypatch.setattr(
        NaturalEarthFeature, "geometries", NaturalEarthFeature.geometries
    )
    draw_without_downloading.apply()
    denmark = (8.0, 13.0, 54.5, 58.0)
    assert len(list(COASTLINE.intersecting_geometries(denmark))) > 10
    assert list(BORDERS.intersecting_geometries(denmark))
    first, again = (list(COASTLINE.geometries()) for _ in range(2))
    assert all(map(operator.is_, first, again)), "Cartopy projects each object once"
    assert not capsys.readouterr().out
    assert not list(LAKES.geometries())
    assert "drawn without lakes" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "nothing was downloaded"
