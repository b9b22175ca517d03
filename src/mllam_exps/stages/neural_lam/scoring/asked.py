"""What is scored, by ``data/verification_params.yaml`` and the dataset, and where the results lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.stages.neural_lam.file_names import DATASET
from mllam_exps.stages.neural_lam.parameters import verification
from mllam_exps.stages.neural_lam.scoring import truth
from mllam_exps.verification.scorecard import Wanted

RESULTS = "verification"
SCORES = f"{RESULTS}/scores.zarr"
SPECTRA = f"{RESULTS}/spectra.zarr"
"""With the activity of the truth."""
FIELDS = f"{RESULTS}/fields.zarr"
"""Of a few cases, for maps."""
METRICS = "metrics/verify.json"


def against(reference: str) -> str:
    """Return where the differences to a reference are kept."""
    return f"{RESULTS}/against_{reference}.zarr"


@dataclass(frozen=True)
class Scoring:
    """All that the scoring needs, opened and not yet read.

    Parameters
    ----------
    forecasts : mapping
        By the name of the source; the experiment's own first.
    truth : xarray.Dataset
    wanted : Wanted
    """

    forecasts: Mapping[str, Any]
    truth: Any
    wanted: Wanted

    @property
    def own(self) -> str:
        """The name of the experiment's own forecasts."""
        return next(iter(self.forecasts))


def opened(root: Path, values: Mapping[str, Any]) -> Scoring:
    """Open forecasts and dataset below `root`.

    Parameters
    ----------
    values : mapping
        The parameter file.

    Raises
    ------
    CheckFailed
        If one does not open, or the dataset holds no truth.
    """
    import numpy as np

    given = verification.told(values)
    forecasts = {
        name: truth.open_lazily(root / path, path)
        for name, path in verification.paths(values).items()
    }
    dataset = truth.open_lazily(root / DATASET, DATASET)
    seconds = np.array(given["spectra_hours"], dtype="float64") * 3600
    wanted = Wanted(
        training=truth.training(dataset),
        variables=given["variables"] or None,
        regions=given["regions"],
        spectra_at=list(seconds.astype("m8[s]").astype("m8[ns]")),
    )
    return Scoring(forecasts, truth.of_dataset(dataset, DATASET), wanted)
