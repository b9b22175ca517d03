"""The example forecasts that neural-lam draws are kept as PNG, with a colour bar of their own field."""

from __future__ import annotations

import atexit
import os
import re
import shutil
from pathlib import Path
from typing import Any

from mllam_exps.stages.neural_lam.ranks import is_first_process
from mllam_exps.stages.patch import Issue, Patch
from mllam_exps.stages.programs.telling import SCRATCH

FOLDER = "pictures"
MAX_PICTURES = 60
DPI = 80

PATCH = Patch(
    name="keep_pictures",
    purpose="the example forecasts are there as files, and their colour bars show the values of the field",
    tried={
        "neural-lam": ("0.7.0",),
        "cartopy": ("0.26.0",),
        "matplotlib": ("3.11.2",),
    },
    spots={
        "neural_lam.vis:plot_prediction": "collections[0]",
        "matplotlib.figure:Figure.savefig": "",
    },
    until="neural-lam writes its example plots to its run folder, and takes the field for the colour bar",
    issue=Issue(
        repository="mllam/neural-lam",
        title="Keep the example plots as files; their colour bar shows the coastline's range",
        body="""\
Two things about `vis.plot_prediction` (0.7.0):

1. Its figures go to the logger alone. Without a tracking server at hand there is no picture of a
   forecast after an evaluation, though `--n_example_pred` made neural-lam draw them. Proposal:
   `fig.savefig(run_dir / "example_plots" / …)`.
2. The colour bar is made for `axes[0].collections[0]`, "the field". With Cartopy 0.26 the first
   collection of the axes is the coastline, so the bar runs from 0 to 1 whatever the field is. Proposal:
   keep what `plot_on_axis` returns, the `QuadMesh`, and pass that.
""",
    ),
)


def apply(steps_of_forecast: int) -> None:
    """Keep the example forecasts: neural-lam hands its figures to the logger, which keeps no file.

    First, middle and last step of each example only; all of them go to the tracking
    server. Drawing a map takes a second or two, so a figure that is drawn for the
    logger anyway is not drawn again.
    """
    scratch = os.environ.get(SCRATCH)
    if not scratch or not is_first_process() or not PATCH.fits():
        return
    from matplotlib.figure import Figure
    from neural_lam import vis

    plot, save = vis.plot_prediction, Figure.savefig
    wanted = _Wanted(Path(scratch) / FOLDER, steps_of_forecast)

    def plot_and_note(*args: Any, **kwargs: Any) -> Any:
        figure = plot(*args, **kwargs)
        mend_colour_bar(figure)
        wanted.note(figure, **kwargs)
        return figure

    def save_and_keep(figure: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        saved = save(figure, name, *args, **kwargs)
        kept = wanted.places.get(figure)
        if kept is not None and not kept.exists() and str(name).endswith(".png"):
            shutil.copyfile(name, kept)
        return saved

    def keep_the_rest() -> None:
        for figure, path in wanted.places.items():
            if not path.exists():
                save(figure, path, dpi=DPI)

    vis.plot_prediction = plot_and_note
    setattr(Figure, "savefig", save_and_keep)  # noqa: B010 - mypy refuses an assignment to a method
    atexit.register(keep_the_rest)


class _Wanted:
    """The figures that are kept, and where."""

    def __init__(self, directory: Path, steps: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.steps = {1, (steps + 1) // 2, steps}
        self.places: dict[Any, Path] = {}

    def note(self, figure: Any, **drawn: Any) -> None:
        """Remember a figure of one of the steps that are kept, by what it was drawn from."""
        step = re.search(r"\bt=(\d+)\b", str(drawn.get("title")))
        if not step or len(self.places) >= MAX_PICTURES:
            return
        if int(step[1]) in self.steps:
            name = picture_name(
                drawn["datastore"], drawn["da_prediction"], int(step[1])
            )
            self.places[figure] = self.directory / name


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
