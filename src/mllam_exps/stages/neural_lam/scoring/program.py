"""``python -m mllam_exps.stages.neural_lam.scoring.program``: scores forecasts, where it is called."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from mllam_exps import __version__
from mllam_exps.base.errors import MllamError
from mllam_exps.stages import versions
from mllam_exps.stages.neural_lam.parameters import verification
from mllam_exps.stages.neural_lam.scoring import asked, conclusions
from mllam_exps.stages.programs import fence
from mllam_exps.stages.programs.telling import PROGRESS, SCRATCH, replace
from mllam_exps.verification import differences, scorecard, shown, table

PROGRAMS = ("scores", "xarray", "numpy", "scipy")
"""Programs that make the numbers, whose versions the stores name beside ours."""
ORIGIN = (
    "experiment",
    "git_commit",
    "run_key",
    "checkpoint",
    "checkpoint_sha256",
    "dataset_version",
    "boundary",
    "programs",
)
"""What forecasts say of where they come from (`keeping.attributes`), as far as another program's do."""


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
    said = attributes(given)
    made, beside = table.apart(found.assign_attrs(said))
    write(made, root / asked.SCORES)
    write(beside, root / asked.SPECTRA)
    keep_fields(given, made, root / asked.FIELDS)
    cases = verification.told(values)["cases"]
    against = {}
    for reference in (str(one) for one in made[table.SOURCE].values[1:]):
        compared = differences.compare(made, reference, cases=cases)
        title = f"Differences of scores to those of {reference}"
        attrs = {**said, **compared.attrs, "title": title}
        against[reference] = compared.assign_attrs(attrs)
        write(against[reference], root / asked.against(reference))
    metrics = root / asked.METRICS
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(json.dumps(conclusions.metrics(made, against), indent=2) + "\n")
    print("\n".join(conclusions.sentences(against, given.own)))


def keep_fields(given: asked.Scoring, scores: Any, path: Path) -> None:
    """Keep the fields of a few of the experiment's own forecasts, for maps."""
    own = given.forecasts[given.own]
    fields = shown.fields(own, given.truth, scores)
    if fields is not None:
        title = "Fields of the best, a middling and the worst forecast"
        write(fields.assign_attrs({**scores.attrs, "title": title}), path)


def attributes(given: asked.Scoring) -> dict[str, str]:
    """Return what the stores say of where they come from, and of the forecasts by their source."""
    found = versions.installed(PROGRAMS)
    programs = {"mllam-exps": __version__} | {name: found[name] for name in PROGRAMS}
    forecasts = {}
    for name, one in given.forecasts.items():
        of_one = {key: str(one.attrs[key]) for key in ORIGIN if key in one.attrs}
        forecasts[name] = of_one
    told = {
        "title": "Scores of forecasts",
        "history": f"written by mllam-exps {__version__}, stage verify",
        "experiment": os.environ.get("MLLAM_EXPS_EXPERIMENT", ""),
        "git_commit": os.environ.get("MLLAM_EXPS_COMMIT", ""),
        "run_key": os.environ.get("MLLAM_EXPS_KEY", ""),
        "programs": json.dumps(programs),
        "forecasts": json.dumps(forecasts),
    }
    return {name: value for name, value in told.items() if value}


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
