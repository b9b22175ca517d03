"""``python -m mllam_exps.preflight.check_outputs STAGE ROOT MADE FILE…``: what a stage's own check says of an output.

It is run in the environment of the stages. ``MADE`` is laid out as the repository
``ROOT``, whose parameters count: those that the stage reads, and the files that
``dvc.yaml`` tracks for it. What is wrong is printed as JSON, on one line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mllam_exps import stages
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.dvc.parameters import parameter_files
from mllam_exps.stages.contract import StageContext


def check(name: str, root: Path, made: Path, files: Sequence[str]) -> Problem:
    """Return what a stage's check says of what somebody else made; an empty one if it passes."""
    stage = stages.get(name)
    with tempfile.TemporaryDirectory() as scratch:
        tracked = {file: parameter_files.read(root / file) for file in files}
        given = tracked | dict(stage.parameters(root))
        try:
            stage.check(StageContext(work=made, scratch=Path(scratch), params=given))
        except MllamError as error:
            return error.problem
        except OSError as error:
            return Problem(error.strerror or str(error), str(error.filename or ""))
    return Problem()


if __name__ == "__main__":
    stage, repository, outputs, *others = sys.argv[1:]
    said = check(stage, Path(repository), Path(outputs), others)
    print(json.dumps(asdict(said)))
