"""The world's lines that lie in the package."""

from __future__ import annotations

import pytest

# Only the environment of the stages has it.
np = pytest.importorskip("numpy")

from mllam_exps.maps import natural_earth  # noqa: E402
from mllam_exps.maps.natural_earth import Line  # noqa: E402


def distance(lines: tuple[Line, ...], longitude: float, latitude: float) -> float:
    """Return how far the nearest point of any line is from a place, in km; near that place the Earth is flat."""
    points = np.concatenate(lines)
    east = (points[:, 0] - longitude) * np.cos(np.radians(latitude))
    return float(np.hypot(east, points[:, 1] - latitude).min() * 111.2)


@pytest.mark.parametrize(
    ("lines", "longitude", "latitude"),
    [
        (natural_earth.coastlines(), 10.60, 57.74),  # Skagen, Denmark's northern end
        (natural_earth.coastlines(), -5.71, 50.06),  # Land's End
        (natural_earth.coastlines(), 144.0, -39.0),  # Bass Strait: no coast near
        (natural_earth.borders(), 6.02, 50.75),  # where Belgium meets two others
        (natural_earth.borders(), -110.0, 49.0),  # the 49th parallel
    ],
)
def test_lines_are_where_they_are_on_earth(
    lines: tuple[Line, ...], longitude: float, latitude: float
):
    near = distance(lines, longitude, latitude)
    if (longitude, latitude) == (144.0, -39.0):
        assert near > 30
    elif latitude == 49.0:
        # A straight line has few points: some line has to go by.
        along = np.concatenate([line for line in lines if np.ptp(line[:, 0]) > 5])
        assert np.any(np.abs(along[:, 1] - latitude) < 0.1)
    else:
        assert near < 10


def test_a_border_is_no_coast_and_no_line_crosses_the_map():
    coasts, borders = natural_earth.coastlines(), natural_earth.borders()
    assert distance(coasts, 6.02, 50.75) > 50, "inland"
    for line in (*coasts, *borders):
        assert len(line) > 1
        assert np.abs(np.diff(line[:, 0])).max() <= 180
        assert np.abs(line[:, 0]).max() <= 180.001
        assert line[:, 1].min() > -89.9, "the map's lower edge"
