"""CONTRIBUTING's stage and scheduler of one's own, typed as written."""

from __future__ import annotations

import json
import os
import re
import tomllib

from support.experiment import ROOT, Experiment

BLOCK = re.compile(r'^```\w+ title="(.*?)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def install(toy: Experiment, name: str) -> None:
    """Do what `pip install -e` does, which would fetch hatchling: name the package's entry points."""
    package = toy.root / name
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {to}" for name, to in entries.items())]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    folder = package / f"{stem}.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    toy.environ["PYTHONPATH"] += f"{os.pathsep}{package}"


def test_a_stage_and_a_scheduler_of_one_s_own(toy: Experiment):
    blocks = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))
    for path, text in blocks.items():
        if path.endswith((".py", ".toml", "mine.yaml")):
            (toy.root / path).parent.mkdir(exist_ok=True)
            (toy.root / path).write_text(text)
    with (toy.root / "dvc.yaml").open("a") as file:
        file.write(blocks["dvc.yaml"])
    (toy.root / "data/numbers.json").write_text("[1, 2, 6]")

    [pip, repro, status] = commands(blocks["mean"])
    assert pip == "pip install -e mean-stage"
    install(toy, "mean-stage")
    assert "mean: done in attempt 1" in toy.ok(*repro.split())
    assert json.loads((toy.root / "mean.json").read_text()) == 3
    assert "mean" in toy.ok(*status.split())

    [pip, repro] = commands(blocks["mine"])
    assert pip == "pip install -e my-scheduler"
    install(toy, "my-scheduler")
    (toy.root / "data/numbers.json").write_text("[1000]")
    done = toy.command("env", *repro.split())
    assert done.returncode != 0
    assert "the mean is 1000.0, beyond -100 to 100" in done.stdout
    claims = [
        json.loads(path.read_text()) for path in toy.store.glob("*/attempts/1.json")
    ]
    assert {claim["scheduler"] for claim in claims} == {"local", "mine"}


def commands(block: str) -> list[str]:
    return [line.removeprefix("$ ") for line in block.splitlines()]
