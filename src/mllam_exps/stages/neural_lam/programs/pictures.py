"""The maps that neural-lam draws: from local coastlines, with their own colours, and kept as PNG."""

from __future__ import annotations

import atexit
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mllam_exps.stages.neural_lam.programs.ranks import is_first_process

FOLDER = "pictures"
MAX_PICTURES = 60
DPI = 80


def draw_without_downloading() -> None:
    """Make Cartopy draw Natural Earth's lines from files that are here, or nothing where there are none.

    neural-lam's maps ask for ``coastlines("50m")`` and borders. Cartopy 0.26 downloads
    what it lacks while it draws, and on a compute node the attempt to connect can hang
    for minutes before it raises. Another resolution is better than none.
    """
    from cartopy.feature import NaturalEarthFeature

    geometries: Callable[[Any], Iterator[Any]] = NaturalEarthFeature.geometries
    warned: set[str] = set()

    def from_files(self: Any) -> Iterator[Any]:
        scale = next(
            (
                s
                for s in (self.scale, "50m", "110m", "10m")
                if has_shapefile(self.category, self.name, s)
            ),
            None,
        )
        if scale is None:
            if not warned and is_first_process():
                how = "put them where CARTOPY_DATA_DIR points to"
                print(
                    f"warning: maps are drawn without {self.name}: no Natural Earth files here; {how}",
                    flush=True,
                )
            warned.add(self.name)
            return iter(())
        return geometries(self if scale == self.scale else self.with_scale(scale))

    NaturalEarthFeature.geometries = from_files


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


def keep(steps_of_forecast: int) -> None:
    """Keep the example forecasts as PNG: neural-lam hands its figures to the logger, which keeps no file.

    First, middle and last step of each example only; all of them go to the tracking
    server. Drawing a map takes a second or two, so a figure that is drawn for the
    logger anyway is not drawn again.
    """
    scratch = os.environ.get("MLLAM_EXPS_SCRATCH")
    if not scratch or not is_first_process():
        return
    from matplotlib.figure import Figure
    from neural_lam import vis

    directory = Path(scratch) / FOLDER
    directory.mkdir(parents=True, exist_ok=True)
    steps = {1, (steps_of_forecast + 1) // 2, steps_of_forecast}
    plot, save = vis.plot_prediction, Figure.savefig
    wanted: dict[Any, Path] = {}

    def plot_and_note(*args: Any, **kwargs: Any) -> Any:
        figure = plot(*args, **kwargs)
        mend_colour_bar(figure)
        step = re.search(r"\bt=(\d+)\b", str(kwargs.get("title")))
        if step and int(step[1]) in steps and len(wanted) < MAX_PICTURES:
            wanted[figure] = directory / picture_name(
                kwargs["datastore"], kwargs["da_prediction"], int(step[1])
            )
        return figure

    def save_and_keep(figure: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        saved = save(figure, name, *args, **kwargs)
        kept = wanted.get(figure)
        if kept is not None and not kept.exists() and str(name).endswith(".png"):
            shutil.copyfile(name, kept)
        return saved

    def keep_the_rest() -> None:
        for figure, path in wanted.items():
            if not path.exists():
                save(figure, path, dpi=DPI)

    vis.plot_prediction = plot_and_note
    setattr(Figure, "savefig", save_and_keep)  # noqa: B010 - mypy refuses an assignment to a method
    atexit.register(keep_the_rest)


def mend_colour_bar(figure: Any) -> None:
    """Let the colour bar show the field's values.

    neural-lam 0.7 takes the first collection of the axes for the field. With Cartopy
    0.26 that is the coastline, and the bar would run from 0 to 1.
    """
    from matplotlib.collections import QuadMesh

    fields = [
        c for axes in figure.axes for c in axes.collections if isinstance(c, QuadMesh)
    ]
    bars = [axes._colorbar for axes in figure.axes if getattr(axes, "_colorbar", None)]
    for bar in bars:
        if fields and not isinstance(bar.mappable, QuadMesh):
            bar.update_normal(fields[0])


def picture_name(datastore: Any, prediction: Any, step: int) -> str:
    """Return e.g. ``msl_2025-12-26T12_+018h.png``: variable, initial time, lead time."""
    import numpy as np

    lead = np.timedelta64(int(datastore.step_length.total_seconds()), "s") * step
    initial = np.datetime_as_string(prediction["time"].values - lead, unit="h")
    hours = lead / np.timedelta64(1, "h")
    variable = re.sub(r"[^\w.-]", "-", str(prediction["state_feature"].values))
    return f"{variable}_{initial}_+{hours:03.0f}h.png"
