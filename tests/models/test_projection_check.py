"""A projection that neural-lam could not make after the training is refused before it."""

from __future__ import annotations

from typing import Any

import pytest

from mllam_exps.stages.neural_lam.data.projection_check import check

pytestmark = pytest.mark.models

LAMBERT = {
    "central_longitude": -15.0,
    "central_latitude": 52.0,
    "standard_parallels": [38.0, 66.0],
}
SPHERE = {"ellipse": None, "semimajor_axis": 6371229.0, "semiminor_axis": 6371229.0}


@pytest.mark.parametrize(
    ("name", "kwargs", "key", "what"),
    [
        ("LambertConformal", LAMBERT | {"globe": SPHERE}, None, None),
        ("PlateCarree", {}, None, None),
        ("PlateCarree", {"globe": {}}, None, None),
        ("RotatedPole", {"pole_longitude": 10.0, "pole_latitude": 40.0}, None, None),
        (
            "LambertConformel",
            LAMBERT,
            ".class_name",
            "cartopy.crs has no projection LambertConformel; did you mean LambertConformal?",
        ),
        ("Globe", {}, ".class_name", "cartopy.crs has no projection Globe"),
        (
            "UTM",
            {},
            ".kwargs",
            "UTM.__init__() missing 1 required positional argument: 'zone'",
        ),
        (
            "LambertConformal",
            {"central_lat": 1},
            ".kwargs",
            "got an unexpected keyword argument 'central_lat'",
        ),
        (
            "LambertConformal",
            {"central_latitude": 520.0},
            ".kwargs",
            "Invalid value for lat_0: |lat_0| should be <= 90°",
        ),
        (
            "LambertConformal",
            {"globe": {"axis": 1.0}},
            ".kwargs",
            "got an unexpected keyword argument 'axis'",
        ),
        (
            "LambertConformal",
            {"globe": None},
            ".kwargs.globe",
            "must hold the arguments of cartopy.crs.Globe, not None",
        ),
        (
            "LambertConformal",
            None,
            ".kwargs",
            "must hold the arguments of LambertConformal, or be {}, not None",
        ),
        (None, {}, ".class_name", "cartopy.crs has no projection None"),
    ],
)
def test_a_projection_is_made_before_it_is_needed(
    name: Any, kwargs: Any, key: str | None, what: str | None
) -> None:
    found = check({"class_name": name, "kwargs": kwargs})
    assert found.get("key") == key
    assert what is None or found["what"].endswith(what)
