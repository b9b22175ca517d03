"""Coastlines in a grid's own columns and rows, whatever its projection is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mllam_exps.maps import natural_earth

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

KNOTS = 60
"""Rows and columns of the grid by which a place is found; between them it is interpolated."""
EDGE = 1e-6
"""How far a place must lie within the outermost points."""


def coastlines(latitude: Array, longitude: Array) -> list[Array]:
    """Return the coastlines that cross a grid.

    Parameters
    ----------
    latitude, longitude : ndarray
        Of the grid's points, in degrees: (rows, columns).

    Returns
    -------
    list of ndarray
        Column and row of the points of each line: (points, 2). None where the grid
        covers more than half of the globe, or is a line.
    """
    import numpy as np
    from scipy.interpolate import LinearNDInterpolator

    rows, columns = latitude.shape
    if min(rows, columns) < 2:
        return []
    some_rows, some_columns = _knots(rows), _knots(columns)
    knots = np.ix_(some_rows, some_columns)
    directions = _directions(longitude[knots], latitude[knots]).reshape(-1, 3)
    plane = _Plane(directions.mean(axis=0))
    if (directions @ plane.centre).min() <= 0:
        return []
    down, across = np.meshgrid(some_rows, some_columns, indexing="ij")
    indices = np.stack([across.ravel(), down.ravel()], axis=1).astype("float64")
    place_of = LinearNDInterpolator(plane(directions), indices)
    edge = (directions @ plane.centre).min()
    found = []
    for line in natural_earth.coastlines():
        towards = _directions(line[:, 0], line[:, 1])
        near = towards @ plane.centre >= edge
        if not near.any():
            continue
        places = np.full((len(line), 2), np.nan)
        places[near] = place_of(plane(towards[near]))
        found += _whole(places, (columns - 1, rows - 1))
    return found


class _Plane:
    """A stereographic projection about a direction: a plane without a seam, to interpolate in."""

    def __init__(self, about: Array) -> None:
        import numpy as np

        self.centre = about / np.linalg.norm(about)
        # Any axis will do that is not the centre itself.
        other = np.eye(3)[np.argmin(np.abs(self.centre))]
        self.right = np.cross(other, self.centre)
        self.right /= np.linalg.norm(self.right)
        self.up = np.cross(self.centre, self.right)

    def __call__(self, directions: Array) -> Array:
        """Return the place of each direction: (points, 2)."""
        import numpy as np

        scale = 2 / (1 + directions @ self.centre)
        parts = [scale * (directions @ axis) for axis in (self.right, self.up)]
        return np.stack(parts, axis=1)


def _directions(longitude: Array, latitude: Array) -> Array:
    """Return places on the globe as unit vectors from its centre: (…, 3)."""
    import numpy as np

    east, north = np.deg2rad(longitude), np.deg2rad(latitude)
    parts = (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north))
    return np.stack(parts, axis=-1)


def _knots(number: int) -> NDArray[np.intp]:
    import numpy as np

    places = np.linspace(0, number - 1, min(number, KNOTS)).round()
    return np.unique(places.astype("intp"))


def _whole(places: Array, last: tuple[int, int]) -> list[Array]:
    """Return the parts of a line that lie in the grid, whose last column and row are given."""
    import numpy as np

    # Beyond a curved edge, between two of its points, the interpolation gives the edge.
    inside = ((places > EDGE) & (places < np.array(last) - EDGE)).all(axis=1)
    cuts = np.flatnonzero(np.diff(inside)) + 1
    parts = np.split(places, cuts)
    kept = np.split(inside, cuts)
    pairs = zip(parts, kept, strict=True)
    return [part for part, whole in pairs if len(part) > 1 and whole[0]]
