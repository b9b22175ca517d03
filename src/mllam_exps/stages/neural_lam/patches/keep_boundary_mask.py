"""neural-lam reads the mask of the boundary once, and not for every map."""

from __future__ import annotations

import functools
from typing import Any

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="keep_boundary_mask",
    purpose="the mask of the boundary is worked out once, and not for every map: half of a small evaluation",
    tried={"neural-lam": ("0.7.0",)},
    spots={
        "neural_lam.datastore.mdp:MDPDatastore.__init__": "",
        "neural_lam.datastore.mdp:MDPDatastore.boundary_mask": "unstack_grid_coords",
    },
    until="`boundary_mask` returns an array in memory",
    issue=Issue(
        repository="mllam/neural-lam",
        title="MDPDatastore.boundary_mask is a lazy array: every map works it out from the dataset again",
        body="""\
`boundary_mask` is a `cached_property`, but what it returns is a lazy (dask) array made from the whole
dataset. What is kept is the recipe, and each use of its values, in `vis.plot_prediction` for one, reads
the dataset again: half of the time of a small evaluation (0.7.0).

Proposal: end the property with `.load()`. It is one value for each grid point.
""",
    ),
)


def apply() -> None:
    """Have each datastore load its mask when it is opened. The numbers are the same."""
    if not PATCH.fits():
        return
    from neural_lam.datastore.mdp import MDPDatastore

    open_datastore = MDPDatastore.__init__

    @functools.wraps(open_datastore)
    def open_with_mask(self: Any, *args: Any, **kwargs: Any) -> None:
        open_datastore(self, *args, **kwargs)
        self.boundary_mask.load()

    MDPDatastore.__init__ = open_with_mask
