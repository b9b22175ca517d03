"""The grid of forecasts: from neural-lam's list of points to rows and columns, with CF's words for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MAPPING = "crs"
"""The variable that holds the projection."""
LATITUDE = {
    "standard_name": "latitude",
    "long_name": "latitude",
    "units": "degrees_north",
}
LONGITUDE = {
    "standard_name": "longitude",
    "long_name": "longitude",
    "units": "degrees_east",
}
INTERIOR = "1 where the model forecasts, 0 where it is given the analysis"


@dataclass(frozen=True)
class Grid:
    """The points of a grid, in neural-lam's order.

    Parameters
    ----------
    x, y : array
        Where each point is, in the projection's coordinates.
    latitude, longitude : array
        Where it is on the earth, in degrees.
    interior : array of bool
        Where the model forecasts; elsewhere it is given the analysis.
    projection : mapping
        CF's attributes of the projection.
    is_metric : bool
        Whether ``x`` and ``y`` are metres: else the points are kept as a list, as CF's
        names of rows and columns are for metres.
    """

    x: Array
    y: Array
    latitude: Array
    longitude: Array
    interior: Array
    projection: Mapping[str, Any] = field(default_factory=dict)
    is_metric: bool = True

    @cached_property
    def has_rows(self) -> bool:
        """Whether the points are kept as rows and columns: they must be a whole grid."""
        import numpy as np

        count = len(np.unique(self.x)) * len(np.unique(self.y))
        return self.is_metric and count == len(self.x)

    @property
    def dims(self) -> tuple[str, ...]:
        """The dimensions of a field."""
        return ("yc", "xc") if self.has_rows else ("grid_index",)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of a field."""
        import numpy as np

        if not self.has_rows:
            return (len(self.x),)
        return (len(np.unique(self.y)), len(np.unique(self.x)))

    @cached_property
    def _order(self) -> Array:
        """The points by rows."""
        import numpy as np

        return np.lexsort((self.x, self.y))

    def place(self, values: Array) -> Array:
        """Return fields of points, the last dimension of `values`, as fields of rows from south to north."""
        if not self.has_rows:
            return values
        return values[..., self._order].reshape(*values.shape[:-1], *self.shape)

    def coordinates(self) -> dict[str, tuple[Any, ...]]:
        """Return what xarray makes the coordinates of: dimensions, values, attributes."""
        import numpy as np

        found: dict[str, tuple[Any, ...]] = {
            "latitude": (self.dims, self.place(self.latitude), LATITUDE),
            "longitude": (self.dims, self.place(self.longitude), LONGITUDE),
            "interior": (
                self.dims,
                self.place(self.interior).astype("int8"),
                {"long_name": INTERIOR, "units": "1"},
            ),
        }
        if self.has_rows:
            for axis, points in (("x", self.x), ("y", self.y)):
                attributes = {
                    "standard_name": f"projection_{axis}_coordinate",
                    "long_name": f"{axis} coordinate of the projection",
                    "units": "m",
                    "axis": axis.upper(),
                }
                found[f"{axis}c"] = ((f"{axis}c",), np.unique(points), attributes)
            named = {"long_name": "projection of the grid", **self.projection}
            found[MAPPING] = ((), np.int32(0), named)
        return found

    @property
    def attributes(self) -> dict[str, str]:
        """What a variable on this grid says of it."""
        return {"grid_mapping": MAPPING} if self.has_rows else {}


def of_datastore(datastore: Any) -> Grid:
    """Return the grid of neural-lam's datastore (``MDPDatastore`` of 0.7.0)."""
    import numpy as np

    state = datastore.get_dataarray(category="state", split="train")
    longitude, latitude = np.asarray(datastore.get_lat_lon("state"), "float64").T
    projection = datastore.coords_projection
    return Grid(
        np.asarray(state["x"].values, "float64"),
        np.asarray(state["y"].values, "float64"),
        latitude,
        longitude,
        ~datastore.boundary_mask.values.astype(bool),
        plain(projection.to_cf()),
        is_metric=not projection.is_geographic,
    )


def plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as a file can hold them: text, numbers and lists of numbers."""
    found: dict[str, Any] = {}
    for name, value in attributes.items():
        if isinstance(value, tuple | list):
            found[name] = [float(one) for one in value]
        elif isinstance(value, str | int | float):
            found[name] = value
    return found
