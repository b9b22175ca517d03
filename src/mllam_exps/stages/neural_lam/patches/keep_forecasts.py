"""The forecasts that neural-lam's evaluation makes are written to a store, and not made again for it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from mllam_exps.stages.neural_lam.forecasts.captured import Captured
from mllam_exps.stages.neural_lam.forecasts.plan import STORE, Plan
from mllam_exps.stages.neural_lam.forecasts.store import Store
from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="keep_forecasts",
    purpose="the forecasts of an evaluation are there as files, with one pass of the network",
    tried={"neural-lam": ("0.7.0",)},
    spots={"neural_lam.models.module:ForecasterModule.common_step": "self.forecaster("},
    until="neural-lam writes the forecasts of an evaluation itself (its pull request 289)",
    issue=Issue(
        repository="mllam/neural-lam",
        title="Write the forecasts of an evaluation: a hook behind common_step is enough",
        body="""\
`--eval` makes every forecast of a split, scores it, and forgets it (0.7.0). Whoever wants the fields, for
another verification or for maps, has to make them again.

What `ForecasterModule.common_step` returns, times `state_std` plus `state_mean`, is all there is to write: the
RMSE worked out from it over `interior_mask_bool` equals `test_rmse.csv` to 1e-6. The valid times are there, too.
Proposal: `--save_forecasts PATH`, which lays out a zarr with a chunk for each start time and variable, and
writes from `test_step`; each rank writes its own samples, as no two share a chunk.
""",
    ),
    needed=True,
)


def apply(path: Path) -> None:
    """Have each batch of an evaluation written.

    Parameters
    ----------
    path : Path
        The plan; the store is made beside it.
    """
    PATCH.fits()
    from neural_lam.models.module import ForecasterModule

    plan = Plan.read(path)
    step = ForecasterModule.common_step
    kept: list[Captured] = []

    @functools.wraps(step)
    def step_and_write(self: Any, batch: Any) -> Any:
        made = step(self, batch)
        if self.trainer.testing:
            if not kept:
                spread = bool(self.forecaster.predicts_std)
                layout = plan.layout(self.datastore, with_spread=spread)
                store = Store(path.with_name(STORE), layout)
                store.lay_out()
                kept.append(Captured(store, self))
            prediction, _, spread_of_it, valid_times = made
            units = list(kept[0].units_of(valid_times))
            kept[0].write(units, prediction, spread_of_it)
        return made

    ForecasterModule.common_step = step_and_write
