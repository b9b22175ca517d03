"""What the stages of one experiment have left, for its place in a report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.neural_lam.evaluate import FORECASTS as PICTURES
from mllam_exps.stages.neural_lam.file_names import LOSSES
from mllam_exps.stages.neural_lam.scoring.asked import SCORES
from mllam_exps.verification.table import SOURCE

NEEDED = (SCORES.partition("/")[0], LOSSES, PICTURES)
"""The outputs that a report reads, as far as they are there."""


@dataclass(frozen=True)
class Ancestor:
    """A training in the tree of those that go on from one another.

    Parameters
    ----------
    depth : int
        How many it goes on from, one behind the other.
    line : str
        What it is, for people.
    is_own : bool
        Whether it belongs to the experiment itself.
    """

    depth: int
    line: str
    is_own: bool


@dataclass(frozen=True)
class Background:
    """What an experiment took, and where it comes from, as far as that is known here.

    Parameters
    ----------
    took : str
        Node hours; empty where nothing is recorded.
    lineage : tuple of Ancestor
        The trees in which its trainings stand; empty where none goes on from another.
    programs : mapping
        The versions of its programs.
    adopted : tuple of str
        What of it was made by hand, a sentence each.
    """

    took: str = ""
    lineage: tuple[Ancestor, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    adopted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """An experiment in a report.

    Parameters
    ----------
    name : str
        The experiment's.
    folder : Path
        Laid out as the repository, with `NEEDED` in it.
    commit : str
        Its commit; empty for a workspace.
    parameters : mapping
        Those that are not the same in all experiments of the report, by name.
    background : Background
        What it took, and where it comes from.
    """

    name: str
    folder: Path
    commit: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    background: Background = field(default_factory=Background)

    @cached_property
    def scores(self) -> Any:
        """Its scores by case, the experiment's own first among the sources (`scores.zarr`).

        Raises
        ------
        UsageError
            If it has none.
        """
        import xarray as xr

        if not (self.folder / SCORES).is_dir():
            what = f"{self.name}: there is no {SCORES}: its forecasts were not scored"
            way_out = "mllam-exps init --with verify, then dvc exp run"
            raise UsageError(what, next=way_out)
        return xr.open_zarr(self.folder / SCORES).load()

    @property
    def own(self) -> str:
        """What its own forecasts are called among the sources."""
        return str(self.scores[SOURCE].values[0])

    @property
    def losses(self) -> dict[str, list[tuple[float, float]]]:
        """Its loss by epoch, in training and validation; empty where that was not kept."""
        path = self.folder / LOSSES
        if not path.is_file():
            return {}
        found: dict[str, list[tuple[float, float]]] = {"training": [], "validation": []}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name, column in (
                    ("training", "train"),
                    ("validation", "validation"),
                ):
                    if row.get(column):
                        found[name].append((float(row["epoch"]), float(row[column])))
        return {name: points for name, points in found.items() if points}

    @property
    def pictures(self) -> list[Path]:
        """Its pictures of forecasts."""
        return sorted((self.folder / PICTURES).glob("*.png"))
