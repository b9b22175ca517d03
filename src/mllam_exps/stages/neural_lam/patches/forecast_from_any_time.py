"""neural-lam reads a dataset from its first time to its last, and not within one split."""

from __future__ import annotations

from typing import Any

from mllam_exps.stages.patch import Issue, Patch

SPLIT = "test"
"""The split that becomes the whole dataset."""

PATCH = Patch(
    name="forecast_from_any_time",
    purpose="a forecast can start from any time of the dataset, whatever the splits",
    tried={"neural-lam": ("0.7.0",)},
    spots={"neural_lam.datastore.mdp:MDPDatastore.get_dataarray": "self._ds.splits"},
    until="`get_dataarray(split=None)` returns all times of a state",
    issue=Issue(
        repository="mllam/neural-lam",
        title="MDPDatastore.get_dataarray: split=None should return all times",
        body="""\
Inference wants forecasts from given times, wherever they lie. `MDPDatastore.get_dataarray` always cuts to
a split where there is a time dimension, and with `split=None` it fails in `splits.sel` (0.7.0). So no
`WeatherDataset` can be made over all times, or over two splits.

Proposal: with `split=None`, leave the selection out, as the signature (`split: str | None`) promises.
""",
    ),
    needed=True,
)


def apply(datastore: Any) -> None:
    """Let `SPLIT` of an open datastore be all of its times; the statistics stay those of the training."""
    PATCH.fits()
    kept = datastore._ds
    splits = kept["splits"].load().astype(object)
    times = kept["time"].values
    splits.loc[{"split_name": SPLIT, "split_part": "start"}] = str(times[0])
    splits.loc[{"split_name": SPLIT, "split_part": "end"}] = str(times[-1])
    datastore._ds = kept.assign(splits=splits)
