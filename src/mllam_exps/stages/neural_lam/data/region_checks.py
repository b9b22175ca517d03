"""Whether each region of ``data/verification_params.yaml`` holds a point that is scored, by a dataset's coordinates.

Run as a module with ROOT it looks at ``data/datastore.zarr`` there, and prints
``[{what, where, why, next}]`` as its last line. A dataset that was made by another
``data/datastore.yaml`` says nothing of the one that will be scored.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, MllamError, UsageError
from mllam_exps.stages.neural_lam.data import projection_check
from mllam_exps.stages.neural_lam.data.zarr_check import interior
from mllam_exps.stages.neural_lam.file_names import DATASET, DATASTORE, VERIFICATION
from mllam_exps.stages.neural_lam.parameters import verification
from mllam_exps.verification import layout


def check(
    dataset: Any, projection: Mapping[str, Any], regions: Mapping[str, Any]
) -> list[MllamError]:
    """Return a refusal of each region that holds no point.

    Parameters
    ----------
    dataset : xarray.Dataset
        As mllam-data-prep makes it; only its coordinates are read.
    projection : mapping
        ``extra.projection`` of ``data/datastore.yaml``.
    regions : mapping
        As `mllam_exps.verification.layout.regions` takes them.
    """
    problems: list[MllamError] = []
    if not regions:
        return problems
    placed, inside = _placed(dataset, projection), interior(dataset)
    for name, box in regions.items():
        try:
            layout.regions(placed, (layout.POINTS,), inside, {name: box})
        except CheckFailed as problem:
            where = f"{VERIFICATION}: regions.{name}"
            problems.append(UsageError(problem.what, where, problem.why, problem.next))
    return problems


def _placed(dataset: Any, projection: Mapping[str, Any]) -> Any:
    """Return where its points are on the earth, as neural-lam (0.7) finds it: written there, or by the projection."""
    import cartopy.crs as ccrs
    import xarray as xr

    known = layout.in_our_words(dataset.drop_vars(["x", "y"]))
    if {"latitude", "longitude"} <= {*known.coords}:
        north, east = known["latitude"].values, known["longitude"].values
    else:
        x, y = dataset["x"].values, dataset["y"].values
        made = projection_check.make(projection)
        east, north, _ = ccrs.PlateCarree().transform_points(made, x, y).T
    points = {"latitude": (layout.POINTS, north), "longitude": (layout.POINTS, east)}
    return xr.Dataset(coords=points)


def check_made(root: Path) -> list[MllamError]:
    """Check the regions by the dataset that is there, where that is the one that will be scored."""
    import xarray as xr
    import yaml
    from mllam_data_prep.config import Config

    config = Config.from_yaml_file(str(root / DATASTORE))
    with xr.open_zarr(root / DATASET, chunks={}) as dataset:
        made_by = Config.from_yaml(dataset.attrs.get("creation_config", ""))
        here, there = (yaml.safe_load(one.to_yaml()) for one in (config, made_by))
        # Nothing of this goes into the dataset.
        if {**here, "extra": None} != {**there, "extra": None}:
            return []
        projection = (config.extra or {}).get("projection", {})
        return check(dataset, projection, verification.regions(root))


def main(words: list[str]) -> None:
    """Print what is wrong as one line of JSON."""
    fields = ("what", "where", "why", "next")
    found = check_made(Path(words[0]))
    print(json.dumps([{name: getattr(one, name) for name in fields} for one in found]))


if __name__ == "__main__":
    main(sys.argv[1:])
