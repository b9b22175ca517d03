"""What a program is told of the forecasts to write: a file of JSON in its scratch folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.neural_lam.forecasts import grid, layout, names

FILE = "forecasts.json"
"""The plan, in the scratch folder."""
STORE = "forecasts.zarr"
"""The store, beside it."""


@dataclass(frozen=True)
class Plan:
    """Which forecasts are written, and what is said of them.

    Parameters
    ----------
    starts : list of str
        The initial times, in order.
    steps, past, future : int
        Steps of a forecast, and the width of its forcing window.
    checkpoint : str
        Its path in the repository.
    single_member : bool
        Of an ensemble, only the first member.
    variables : list of str or None
        Those that are kept; None of all.
    kind : str
        One of `layout.LAYOUTS`.
    standard_names : mapping
        CF's names that the user gives.
    attributes : mapping
        Of the whole store.
    taken : mapping
        The initial times whose forecasts are taken from another store, by its path.
    """

    starts: list[str]
    steps: int
    past: int
    future: int
    checkpoint: str
    single_member: bool = False
    variables: list[str] | None = None
    kind: str = layout.START
    standard_names: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    taken: Mapping[str, list[str]] = field(default_factory=dict)

    def write(self, scratch: Path) -> Path:
        """Write the plan to a scratch folder."""
        path = scratch / FILE
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan."""
        return cls(**json.loads(path.read_text()))

    def layout(self, datastore: Any, *, with_spread: bool) -> layout.Layout:
        """Return the layout of its store.

        Parameters
        ----------
        datastore : neural_lam.datastore.base.BaseDatastore
        with_spread : bool
            Whether the model forecasts a standard deviation.
        """
        import numpy as np

        seconds = int(datastore.step_length.total_seconds())
        kept = self.kept(datastore)
        spreads = [one.spread for one in kept] if with_spread else []
        members = 0
        if datastore.is_ensemble and not self.single_member:
            state = datastore.get_dataarray(category="state", split="train")
            members = int(state.sizes["ensemble_member"])
        found = grid.of_datastore(datastore)
        boundary = {}
        if not found.interior.all():
            boundary = {
                "boundary": "analysis",
                "comment": "Where `interior` is 0, at the edges of the grid, the forecast was given the analysis of "
                "each valid time: those points are no forecast, and the points beside them profit from it.",
            }
        return layout.Layout(
            found,
            [*kept, *spreads],
            np.array(self.starts, "datetime64[s]"),
            np.timedelta64(seconds, "s"),
            self.steps,
            members,
            {**self.attributes, **boundary},
            self.kind,
        )

    def kept(self, datastore: Any) -> list[names.Variable]:
        """Return the variables that are kept, in the dataset's order.

        Raises
        ------
        CheckFailed
            If the model forecasts one of them not.
        """
        told = zip(
            datastore.get_vars_names("state"),
            datastore.get_vars_units("state"),
            datastore.get_vars_long_names("state"),
            strict=True,
        )
        every = [
            names.variable(name, units, long, self.standard_names.get(name, ""))
            for name, units, long in told
        ]
        if self.variables is None:
            return every
        known = [one.name for one in every]
        for name in self.variables:
            if name not in known:
                what = f"the model forecasts no {name}: it has {', '.join(known)}"
                raise CheckFailed(what)
        return [one for one in every if one.name in self.variables]
