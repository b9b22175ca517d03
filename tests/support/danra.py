"""Archives shaped as DANRA's, small enough for a test: its names, dimensions, projection and whole time axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np

STEPS = 11_689
"""3-hourly from 2013-11-01T00 to 2017-11-01T00: mllam-data-prep wants both ends, and every step between."""
SPACING = 2500.0
LEVELS = (500, 700, 850)
SURFACE = {
    "pres_seasurface": ("Pa", 101325.0, 800.0),
    "t2m": ("K", 281.0, 8.0),
    "u10m": ("m s**-1", 3.0, 6.0),
    "v10m": ("m s**-1", 1.0, 6.0),
    "r2m": ("1", 0.75, 0.2),
}
PRESSURE = {
    "z": ("m**2 s**-2", 54000.0, 900.0),
    "r": ("1", 0.6, 0.3),
    "u": ("m s**-1", 6.0, 9.0),
    "v": ("m s**-1", 1.0, 9.0),
}
CHUNK = 487


def make_sources(
    directory: Path, steps: int = STEPS, nx: int = 70, ny: int = 66
) -> Path:
    """Write ``single_levels.zarr`` and ``pressure_levels.zarr``.

    Waves run over the grid, in few enough distinct values that 11,689 fields compress
    to some megabytes. More than 60 points along each side leave neural-lam an interior
    between its boundaries of 30.
    """
    import cartopy.crs as ccrs
    import dask.array as da
    import xarray as xr

    x = (np.arange(nx) - nx / 2) * SPACING
    y = (np.arange(ny) - ny / 2) * SPACING
    globe = ccrs.Globe(ellipse=None, semimajor_axis=6367470.0, semiminor_axis=6367470.0)
    grid = ccrs.LambertConformal(
        25.0, 56.7, standard_parallels=(56.7, 56.7), globe=globe
    )
    there = ccrs.PlateCarree(globe=globe).transform_points(
        grid, *np.meshgrid(x, y, indexing="ij")
    )
    coords = {
        "time": np.datetime64("2013-11-01T00", "ns")
        + np.arange(steps) * np.timedelta64(3, "h"),
        "x": ("x", x, {"units": "m"}),
        "y": ("y", y, {"units": "m"}),
        "lon": (("x", "y"), there[..., 0], {"units": "degrees_east"}),
        "lat": (("x", "y"), there[..., 1], {"units": "degrees_north"}),
    }

    def waves(number: int, mean: float, size: float):
        def block(block_info=None):
            (start, stop), *_ = block_info[None]["array-location"]
            t, i, j = np.ogrid[start:stop, 0:nx, 0:ny]
            phase = i / (23.0 + number) + j / 31.0 - t / (9.0 + number)
            steps_of = (
                np.rint(8 * np.sin(2 * np.pi * phase) + 2 * np.sin(2 * np.pi * t / 8))
                / 8
            )
            return (mean + size * steps_of).astype("float32")

        sizes = tuple(min(CHUNK, steps - start) for start in range(0, steps, CHUNK))
        return da.map_blocks(
            block,
            chunks=(sizes, (nx,), (ny,)),
            dtype="float32",
            meta=np.empty((0, 0, 0), "f4"),
        )

    surface = {
        name: (
            ("time", "x", "y"),
            waves(n, mean, size),
            {"units": units, "long_name": name},
        )
        for n, (name, (units, mean, size)) in enumerate(SURFACE.items())
    }
    land = (
        np.hypot(np.arange(nx)[:, None] - nx / 2, np.arange(ny) - ny / 2) < 20
    ).astype("float32")
    surface["lsm"] = (("x", "y"), land, {"units": "1", "long_name": "land-sea mask"})
    xr.Dataset(surface, coords).to_zarr(
        directory / "single_levels.zarr", consolidated=True
    )

    pressure = {}
    for n, (name, (units, mean, size)) in enumerate(PRESSURE.items()):
        one = waves(5 + n, mean, size)
        # One field at every level: what a level holds is not what is looked at.
        field = da.stack([one] * len(LEVELS), axis=1)
        pressure[name] = (
            ("time", "pressure", "x", "y"),
            field,
            {"units": units, "long_name": name},
        )
    levels = {"pressure": ("pressure", np.array(LEVELS), {"units": "hPa"})}
    xr.Dataset(pressure, coords | levels).to_zarr(
        directory / "pressure_levels.zarr", consolidated=True
    )
    return directory
