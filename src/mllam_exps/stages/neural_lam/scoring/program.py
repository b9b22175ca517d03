"""``python -m mllam_exps.stages.neural_lam.scoring.program``: scores forecasts, where it is called."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError
from mllam_exps.stages.neural_lam.parameters import verification
from mllam_exps.stages.neural_lam.scoring import asked, verdict
from mllam_exps.stages.programs import fence
from mllam_exps.stages.programs.telling import PROGRESS, SCRATCH, replace
from mllam_exps.verification import differences, scorecard, table


def main() -> None:
    """Write the scores, the differences with their significance, and the few numbers; a refusal is one line."""
    fence.guard()
    try:
        score(Path.cwd())
    except MllamError as error:
        sys.exit(error.problem.line)


def score(root: Path) -> None:
    """Score the forecasts of the repository at `root`.

    Raises
    ------
    CheckFailed
        If they cannot be scored, or hold a missing value.
    """
    values = verification.read(root)
    given = asked.opened(root, values)
    found = scorecard.score(given.forecasts, given.truth, given.wanted, tell)
    # What the forecasts say of themselves, the scores say too.
    said = {**given.forecasts[given.own].attrs, "title": "Scores of forecasts"}
    made, beside = table.apart(found.assign_attrs(said))
    write(made, root / asked.SCORES)
    write(beside, root / asked.SPECTRA)
    cases = verification.told(values)["cases"]
    against = {}
    for reference in (str(one) for one in made[table.SOURCE].values[1:]):
        against[reference] = differences.compare(made, reference, cases=cases)
        write(against[reference], root / asked.against(reference))
    metrics = root / asked.METRICS
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps(verdict.metrics(made, against), indent=2) + "\n")
    print("\n".join(verdict.sentences(against, given.own)))


def write(made: Any, path: Path) -> None:
    """Write scores as a zarr of the form that programs with zarr 2 read as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.to_zarr(path, mode="w", zarr_format=2, consolidated=True)


def tell(done: int, total: int) -> None:
    """Say how far it is."""
    scratch = os.environ.get(SCRATCH)
    if not scratch:
        return
    told = {"text": f"scored {done}/{total}", "done": done, "total": total}
    replace(Path(scratch) / PROGRESS, json.dumps(told))


if __name__ == "__main__":
    main()
