"""neural-lam makes the samples of a small dataset once, and not in each epoch."""

from __future__ import annotations

import functools
from typing import Any

from mllam_exps.stages.patch import Issue, Patch

SMALL = 2**29
"""Bytes up to which the samples of a split are kept in memory."""

PATCH = Patch(
    name="keep_small_samples",
    purpose="the samples of a small dataset are made once, and not in each epoch: a third of the example's epoch",
    tried={"neural-lam": ("0.7.0",)},
    spots={"neural_lam.weather_dataset:WeatherDataset.__getitem__": ""},
    until="neural-lam can keep the samples of a split in memory",
    issue=Issue(
        repository="mllam/neural-lam",
        title="Keep samples in memory where a split is small",
        body="""\
`WeatherDataset.__getitem__` builds each sample from xarray and dask, again in each epoch. On a small
dataset (100 x 88 points, some hundred times) and with `--num_workers 0` that is a third of an epoch
(0.7.0), for samples that together take less than 512 MB.

Proposal: an option, `--cache_samples`, or by itself below some size: keep what `__getitem__` returned,
by index. What joins samples to a batch copies them, and the results are the same to the bit.
""",
    ),
)


def apply() -> None:
    """Keep the samples of each split that is small. With ``num_workers`` other processes read, each from the files."""
    if not PATCH.fits():
        return
    from neural_lam.weather_dataset import WeatherDataset

    make_sample = WeatherDataset.__getitem__

    @functools.wraps(make_sample)
    def sample_kept(self: Any, index: int) -> Any:
        kept = self.__dict__.setdefault("_kept", {})
        if index not in kept:
            sample = make_sample(self, index)
            if len(self) * sum(part.nbytes for part in sample) > SMALL:
                return sample
            kept[index] = sample
        # Whoever joins samples to a batch copies them.
        return kept[index]

    WeatherDataset.__getitem__ = sample_kept
