"""A store of forecasts on disk: laid out first, then filled, one forecast at a time, by as many processes as there are.

A forecast counts when its mark is there. Marks are empty files beside the store, made
when the last chunk of the forecast is in its place; a chunk is put there by a rename
(zarr's ``LocalStore``, from 3.1.3 on). So a process that is killed leaves nothing half
that counts, and two that write the same forecast do no harm.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import NotFinite
from mllam_exps.stages.neural_lam.forecasts.layout import LAYOUTS, Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MARKS = ".done"
"""Behind the store's name: the folder with a mark for each forecast that is whole."""
_HALF = "*.partial"
"""What zarr calls a chunk that is being written."""


@dataclass(frozen=True, order=True)
class Unit:
    """One forecast: what is computed, written and marked as a whole.

    Parameters
    ----------
    start : int
        Which initial time of the store.
    member : int
        Which member; 0 where there are none.
    """

    start: int
    member: int = 0


class Store:
    """Forecasts in one zarr, and the marks of those that are whole.

    Parameters
    ----------
    path : Path
        The zarr.
    layout : Layout
        What it holds.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.marks = marks_of(path)
        self._group: Any = None

    @property
    def units(self) -> list[Unit]:
        """All forecasts that it is to hold."""
        members = range(self.layout.members or 1)
        return [
            Unit(start, member)
            for start in range(len(self.layout.starts))
            for member in members
        ]

    def lay_out(self) -> None:
        """Write all but the forecasts, unless it is there: by a rename, so that the first of several processes wins."""
        import zarr

        if not self.path.exists():
            made = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
            # A chunk that holds nothing but its fill value is written, too: one that is
            # missing is a hole.
            with zarr.config.set({"array.write_empty_chunks": True}):
                self.layout.dataset().to_zarr(
                    made,
                    compute=False,
                    zarr_format=2,  # which programs with zarr 2 read as well
                    consolidated=True,
                    encoding=self.layout.encoding(),
                )
            try:
                made.rename(self.path)
            except OSError:  # another process was first: a folder with files stays
                shutil.rmtree(made, ignore_errors=True)
                if not self.path.exists():
                    raise
        self.marks.mkdir(exist_ok=True)

    def done(self) -> set[Unit]:
        """Return the forecasts that are whole."""
        marks = set(marked(self.path))
        return {unit for unit in self.units if self.mark(unit) in marks}

    def mark(self, unit: Unit) -> str:
        """Return the name of a forecast's mark."""
        member = f"_{unit.member}" if self.layout.members else ""
        return f"{self._named(unit)}{member}"

    def _named(self, unit: Unit) -> str:
        import numpy as np

        return str(np.datetime_as_string(self.layout.starts[unit.start], unit="m"))

    def write(self, unit: Unit, fields: Mapping[str, NDArray[np.float32]]) -> None:
        """Write one forecast, and mark it.

        Parameters
        ----------
        unit : Unit
        fields : mapping
            By variable, its values by lead time and grid point, in physical units and in
            neural-lam's order of points.

        Raises
        ------
        NotFinite
            If a value is not finite: the forecast is not marked.
        """
        for name in self.layout.names:
            self._refuse_not_finite(unit, name, fields[name])
        grid = self.layout.grid
        placed = {name: grid.place(fields[name]) for name in self.layout.names}
        self._put(unit, placed)

    def _put(self, unit: Unit, placed: Mapping[str, NDArray[np.float32]]) -> None:
        import zarr

        if self._group is None:
            self._group = zarr.open_group(self.path, mode="r+")
        place = (unit.start, unit.member) if self.layout.members else (unit.start,)
        for name in self.layout.names:
            self._group[name][place] = placed[name]
        (self.marks / self.mark(unit)).touch()

    def take(self, path: Path, starts: Iterable[str]) -> int:
        """Take forecasts from another store of the same model and settings, and mark them; return how many.

        Parameters
        ----------
        starts : iterable of str
            Their initial times, as far as this store is to hold them.

        Raises
        ------
        OSError, KeyError, ValueError
            If the other one is gone, or lies otherwise: what is taken by then counts.
        """
        import xarray as xr

        here = {str(time): at for at, time in enumerate(_seconds(self.layout.starts))}
        done, taken = self.done(), 0
        with xr.open_zarr(path, chunks=None) as other:
            there = [str(time) for time in _seconds(other[self.layout.kind].values)]
            for start in starts:
                place = there.index(start)
                units = [one for one in self.units if one.start == here[start]]
                for unit in units:
                    if unit in done:
                        continue
                    fields = {name: other[name][place] for name in self.layout.names}
                    if self.layout.members:
                        fields = {
                            name: one[unit.member] for name, one in fields.items()
                        }
                    self._put(unit, {name: one.values for name, one in fields.items()})
                    taken += 1
        return taken

    def _refuse_not_finite(self, unit: Unit, name: str, values: Any) -> None:
        import numpy as np

        finite = np.isfinite(values)
        if finite.all():
            return
        lead = (int(np.argmin(finite.all(axis=-1))) + 1) * self.layout.step
        hours = lead / np.timedelta64(1, "h")
        raise NotFinite(
            f"the forecast of {name} from {self._named(unit)} is not finite at {hours:g} h",
            why=f"{int((~finite).sum())} of {finite.size} values are NaN or infinite",
            next="look for missing values in data/datastore.zarr at that time; if there are none, the model "
            "is not steady: ask for fewer steps, or train again with a larger ar_steps_train",
        )

    def missing(self) -> list[Unit]:
        """Return the forecasts that are not whole, in order."""
        return sorted(set(self.units) - self.done())


def marks_of(path: Path) -> Path:
    """Return the folder with a store's marks."""
    return path.with_name(path.name + MARKS)


def marked(path: Path) -> list[str]:
    """Return the marks of the forecasts that are whole in a store."""
    marks = marks_of(path)
    return sorted(mark.name for mark in marks.iterdir()) if marks.is_dir() else []


def shared(
    stores: Mapping[str, Path], name: str, starts: Iterable[str]
) -> dict[str, list[str]]:
    """Return which initial times other stores hold, each by the first of them that has it.

    Parameters
    ----------
    stores : mapping
        The folder in which each lies, by a word for it.
    name : str
        The store in each folder.
    starts : iterable of str
        Those that are wanted.
    """
    import xarray as xr

    left, found = list(starts), dict[str, list[str]]()
    for word, folder in stores.items():
        there: set[str] = set()
        # What was cleaned meanwhile has none.
        with (
            contextlib.suppress(OSError, ValueError),
            xr.open_zarr(folder / name, chunks=None) as other,
        ):
            for dimension in {*LAYOUTS} & {*other.dims}:
                there = {str(time) for time in _seconds(other[dimension].values)}
        if here := [start for start in left if start in there]:
            found[word] = here
            left = [start for start in left if start not in there]
    return found


def _seconds(times: Any) -> Any:
    import numpy as np

    return np.asarray(times, "datetime64[s]")


def carry(earlier: Path, own: Path) -> int:
    """Take what an earlier attempt has written to its store, which it may still write to.

    Links, as chunks are replaced and never written in place: what one attempt puts there
    later does not reach the other's. Marks are looked at first: what is marked is
    whole.

    Parameters
    ----------
    earlier, own : Path
        The two stores.

    Returns
    -------
    int
        How many forecasts are whole.
    """
    found = marked(earlier)
    if not found or not earlier.is_dir():
        return 0
    if own.exists():
        shutil.rmtree(own)
    shutil.copytree(
        earlier, own, copy_function=_link, ignore=shutil.ignore_patterns(_HALF)
    )
    marks_of(own).mkdir(exist_ok=True)
    for name in found:
        (marks_of(own) / name).touch()
    return len(found)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except FileNotFoundError:
        pass  # it was replaced meanwhile, of a forecast that is not marked
    except OSError:
        shutil.copyfile(source, target)
    return target


def finish(path: Path, target: Path) -> None:
    """Put a store that is complete to its place."""
    for half in path.rglob(_HALF):
        half.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(target)
    except OSError:  # another file system
        shutil.copytree(path, target)
