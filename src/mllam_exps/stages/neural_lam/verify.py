"""verify: ``verification/`` and ``metrics/verify.json``, the scores of forecasts that are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import (
    CheckFailed,
    MllamError,
    NotFinite,
    Problems,
    UsageError,
)
from mllam_exps.stages.contract import Ask, Preflight, Stage, StageContext
from mllam_exps.stages.neural_lam.common import need
from mllam_exps.stages.neural_lam.file_names import DATASET, FORECASTS, VERIFICATION
from mllam_exps.stages.neural_lam.parameters import verification
from mllam_exps.stages.neural_lam.parameters.params import given


class VerifyPreflight(Preflight):
    """Looks at ``data/verification_params.yaml``; the other files have been looked at for the stages before."""

    files = (VERIFICATION,)
    programs = ("scores", "xarray", "zarr")

    def check_parameters(self, root: Path, python: Path) -> Iterable[MllamError]:
        """Check every key, and that each path that is named is an input of the stage."""
        try:
            values = verification.read(root)
        except UsageError as problem:
            return [problem]
        problems = verification.check(values)
        return problems or verification.check_deps(values, root)

    def check_in_environment(self, root: Path, ask: Ask) -> None:
        """Refuse a region without a point, by the dataset that is there; of another, `prepare_dataset` is asked first.

        Raises
        ------
        Problems
            With one line for each.
        """
        if not ((root / DATASET).exists() and verification.regions(root)):
            return
        module = "mllam_exps.stages.neural_lam.data.region_checks"
        answer = ask(module, str(root))
        if isinstance(answer, str):
            what = "the regions cannot be looked for in the dataset"
            raise UsageError(what, f"{VERIFICATION}: regions", answer)
        problems: list[MllamError] = [UsageError(**one) for one in answer]
        if problems:
            raise Problems(problems=problems)


class Verify(Stage):
    """Score forecasts beside persistence, climatology and other forecasts."""

    name = "verify"
    recipe = 4
    preflight = VerifyPreflight()

    def parameters(self, root: Path) -> Mapping[str, Mapping[str, Any]]:
        """Return its own file."""
        return {VERIFICATION: verification.read(root)}

    def counting(self, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave out what is null."""
        if file != VERIFICATION:
            return values
        return given(values)

    def inputs(self, context: StageContext) -> None:
        """Refuse missing inputs, forecasts on another grid, and those without a case to compare."""
        from mllam_exps.stages.neural_lam.scoring import asked
        from mllam_exps.verification import scorecard

        values = context.params[VERIFICATION]
        need(context, DATASET, made_by="prepare_dataset")
        for path in verification.paths(values).values():
            _need_forecasts(context, path)
        job = asked.opened(context.work, values)
        try:
            scorecard.check(job.forecasts, job.truth, job.wanted)
        except CheckFailed as problem:
            if key := verification.key_of(problem.where, values):
                problem.where = f"{VERIFICATION}: {key}"
                problem.next = problem.next or "correct it there"
            raise

    def command(self, context: StageContext) -> list[str]:
        """Return our program: it finds everything at its place."""
        return ["python", "-m", "mllam_exps.stages.neural_lam.scoring.program"]

    def check(self, context: StageContext) -> None:
        """Prove the scores: every variable has one at every lead time, and the numbers for people are finite."""
        from mllam_exps.stages.neural_lam.scoring import truth
        from mllam_exps.stages.neural_lam.scoring.asked import METRICS, SCORES

        place = context.work / METRICS
        if not place.is_file():
            raise CheckFailed("there are no scores", where=METRICS)
        found = json.loads(place.read_text())
        for key, number in _numbers(found):
            if not math.isfinite(number):
                raise NotFinite(f"{key} is {number}", where=METRICS)
        scores = truth.open_lazily(context.work / SCORES, SCORES)
        first = scores.isel(forecast_source=0)
        for name in map(str, scores.data_vars):
            if not name.startswith("rmse."):
                continue
            there = first[name].notnull().any("init_time")
            if not bool(there.all()):
                what = f"{name} is missing at a lead time"
                raise CheckFailed(what, where=SCORES)


def _need_forecasts(context: StageContext, path: str) -> None:
    """Refuse forecasts that are not there, with the command that makes them.

    Raises
    ------
    CheckFailed
        With what to do.
    """
    if (context.work / path).exists():
        return
    own = path == FORECASTS
    raise CheckFailed(
        "there are no forecasts",
        where=path,
        why=f"{VERIFICATION} names them",
        next="dvc repro infer" if own else "dvc checkout",
    )


def _numbers(found: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number with its key, as `dvc exp show` has it."""
    if not isinstance(found, Mapping):
        if not isinstance(found, str):
            yield key, float(found)
        return
    for name, value in found.items():
        yield from _numbers(value, f"{key}.{name}" if key else name)


STAGE = Verify()
