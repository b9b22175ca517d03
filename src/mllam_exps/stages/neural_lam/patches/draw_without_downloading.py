"""Cartopy draws coastlines and borders from files that are here, and downloads nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from mllam_exps.maps import natural_earth
from mllam_exps.stages.neural_lam.ranks import is_first_process
from mllam_exps.stages.patch import Issue, Patch

SCALES = ("50m", "110m", "10m")
OURS = {
    "coastline": natural_earth.coastlines,
    "admin_0_boundary_lines_land": natural_earth.borders,
}
"""What the package has, by Natural Earth's names."""

PATCH = Patch(
    name="draw_without_downloading",
    purpose="maps are drawn where there is no internet, as on compute nodes",
    tried={"cartopy": ("0.26.0",)},
    spots={
        "cartopy.feature:NaturalEarthFeature.geometries": "natural_earth",
        "cartopy.io:Downloader.from_config": "",
    },
    until="neural-lam draws its maps without lines that are not there, or Cartopy has a setting for it",
    issue=Issue(
        repository="mllam/neural-lam",
        title="Evaluation fails at its first map where there is no internet",
        body="""\
`vis.py` draws `coastlines("50m")` and `BORDERS`. Cartopy downloads Natural Earth's files at their first
use, while it draws; on a compute node without internet that hangs for minutes and then raises, and the
evaluation is lost after all its scores were made (neural-lam 0.7.0, Cartopy 0.26).

Proposal: ask Cartopy first (`Downloader.from_config(("shapefiles", "natural_earth",
…)).pre_downloaded_path(…)` and `target_path`), take another resolution where that is there, and leave
the lines out with one warning where none is. A map without a coastline is better than none.
""",
    ),
)


def apply() -> None:
    """Make Cartopy draw Natural Earth's lines from its own files where they are here, else from the package's.

    Another resolution is better than none. What the package has not is left out.
    """
    if not PATCH.fits():
        return
    from cartopy.feature import NaturalEarthFeature

    geometries: Callable[[Any], Iterator[Any]] = NaturalEarthFeature.geometries
    warned: set[str] = set()

    def from_files(self: Any) -> Iterator[Any]:
        for scale in (self.scale, *SCALES):
            if has_shapefile(self.category, self.name, scale):
                return geometries(
                    self if scale == self.scale else self.with_scale(scale)
                )
        if self.name in OURS:
            return iter(_shapes(self.name))
        if not warned and is_first_process():
            how = "put them where CARTOPY_DATA_DIR points to"
            print(
                f"warning: maps are drawn without {self.name}: no Natural Earth files here; {how}",
                flush=True,
            )
        warned.add(self.name)
        return iter(())

    NaturalEarthFeature.geometries = from_files


@functools.cache
def _shapes(name: str) -> list[Any]:
    # The same objects each time: by these Cartopy (0.26) knows what it has projected.
    from shapely import LineString

    return [LineString(line) for line in OURS[name]()]


def has_shapefile(category: str, name: str, resolution: str) -> bool:
    """Tell whether Cartopy would find these lines without a download."""
    import cartopy
    from cartopy.io import Downloader

    place = {
        "config": cartopy.config,
        "category": category,
        "name": name,
        "resolution": resolution,
    }
    downloader = Downloader.from_config(
        ("shapefiles", "natural_earth", resolution, category, name)
    )
    paths = (downloader.pre_downloaded_path(place), downloader.target_path(place))
    return any(path is not None and path.exists() for path in paths)
