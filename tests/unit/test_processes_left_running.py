"""The tests' own look at what is left running finds it: for long it found nothing, whatever ran."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.experiment import Experiment
from support.submissions import ours


@pytest.mark.parametrize("variable", ["OTHER", "SLURM_JOB_ID"])
def test_a_process_of_no_job_is_found(tmp_path: Path, variable: str) -> None:
    environ = {**os.environ, variable: "7"}
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path, env=environ) as process:
        try:
            found = ours(Experiment(tmp_path / "repo", environ))
        finally:
            process.kill()
    assert found == ([process.pid] if variable == "OTHER" else [])
