"""CONTRIBUTING's stage of one's own, typed as written."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

from support.experiment import ROOT, Experiment

BLOCK = re.compile(r'^```\w+ title="(.*?)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def install(package: Path, site: Path) -> None:
    """Do what `pip install -e` does, which would fetch hatchling: name the package's entry points."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {to}" for name, to in entries.items())]
    folder = (
        site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    )
    folder.mkdir()
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )


def test_a_stage_of_one_s_own(toy: Experiment):
    blocks = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))
    (toy.root / "mean-stage").mkdir()
    for path in ("mean-stage/pyproject.toml", "mean-stage/mean_stage.py"):
        (toy.root / path).write_text(blocks[path])
    with (toy.root / "dvc.yaml").open("a") as file:
        file.write(blocks["dvc.yaml"])
    (toy.root / "data/numbers.json").write_text("[1, 2, 6]")
    package = toy.root / "mean-stage"
    install(package, package)
    toy.environ["PYTHONPATH"] += f"{os.pathsep}{package}"
    commands = [line.removeprefix("$ ") for line in blocks["mean"].splitlines()]
    assert commands[0].startswith("pip install")
    said = [toy.ok(*command.split()) for command in commands[1:]]
    assert json.loads((toy.root / "mean.json").read_text()) == 3
    assert "mean: done in attempt 1" in said[0]
    assert "mean" in said[1]
    (toy.root / "data/numbers.json").write_text("[1000]")
    done = toy.command("dvc", "repro", "mean")
    assert done.returncode != 0
    assert "the mean is 1000.0, beyond -100 to 100" in done.stdout
