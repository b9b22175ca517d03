"""The local scheduler: what a job's process gets from whoever submits it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.schedulers.local import NAME_VARIABLE, LocalScheduler


def test_a_job_that_a_stage_s_command_submits_is_no_part_of_its_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: dict[str, Any] = {}

    def popen(argv: list[str], **options: Any) -> Any:
        given.update(options)
        return SimpleNamespace(pid=os.getpid())

    monkeypatch.setattr(subprocess, "Popen", popen)
    request: Any = SimpleNamespace(
        name="inner",
        argv=["true"],
        directory=tmp_path,
        log=tmp_path / "log",
        environment={"HOME": "/h", "MLLAM_EXPS_ATTEMPT": "/outer", NAME_VARIABLE: "o"},
    )
    LocalScheduler().submit(request)
    assert given["env"] == {"HOME": "/h", NAME_VARIABLE: "inner"}
    assert given["start_new_session"]
