"""Paths into the user's repository lead into an attempt's copy of it."""

from __future__ import annotations

from pathlib import Path

from mllam_exps.attempts.variables import redirected


def test_paths_into_the_repository(tmp_path: Path) -> None:
    origin, work = tmp_path / "origin", tmp_path / "work"
    for folder in (origin / "src", work / "src", origin / ".venv/bin"):
        folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(origin)
    environ = {
        "PYTHONPATH": f"{origin}/src:/site:{tmp_path}/link/src",
        "PWD": str(origin),
        "PATH": f"{origin}/.venv/bin:/usr/bin",
        "HOME": str(origin),
        "MLFLOW_TRACKING_URI": f"sqlite:///{origin}/src/mlflow.db",
        "TITLE": "a: b",
        "EMPTY": "",
    }
    assert redirected(environ, origin, work) == environ | {
        "PYTHONPATH": f"{work}/src:/site:{work}/src",
        "PWD": str(work),
    }
