"""Paths into the user's repository lead into an attempt's copy of it."""

from __future__ import annotations

from pathlib import Path

from mllam_exps.attempts.variables import redirected


def test_paths_into_the_repository(tmp_path: Path) -> None:
    origin, work = tmp_path / "origin", tmp_path / "work"
    for folder in (origin / "src", work / "src", origin / ".venv/bin", origin / "out"):
        folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(origin)
    environ = {
        "PYTHONPATH": f"{origin}/src:/site:{tmp_path}/link/src",
        "PWD": str(origin),
        "PATH": f"{origin}/.venv/bin:/usr/bin",
        "HOME": str(origin),
        "MLFLOW_TRACKING_URI": f"sqlite:///{origin}/src/mlflow.db",
        "OUT": f"{origin}/out",
        "NEW": f"{origin}/new/x",
        "FLAGS": f"-O2 -I{origin}/src --conf={origin}/src,{origin}2/src",
        "HOME_CONF": f"{origin}/src",
        "TITLE": "a: b",
        "EMPTY": "",
    }
    assert redirected(environ, origin, work, [Path("out/r.txt")]) == environ | {
        "OUT": f"{work}/out",
        "NEW": f"{work}/new/x",
        "FLAGS": f"-O2 -I{work}/src --conf={work}/src,{origin}2/src",
        "HOME_CONF": f"{work}/src",
        "PYTHONPATH": f"{work}/src:/site:{work}/src",
        "PWD": str(work),
    }
