"""Five hundred experiments of one sweep: all saved, all right, nothing left running; on this host and on Slurm.

What is right is worked out here from each commit's own files; only git is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from support.experiment import (
    PARAMETER_FILES,
    ROOT,
    Experiment,
    eventually,
    make_repository,
)
from support.slurm_cluster import on, start_cluster

SCALES, RATES = (
    int(number) for number in os.environ.get("SWEEP_MANY", "10x50").split("x")
)
"""How many values of the first stage's parameter, which experiments share, and of the second's."""

PREPARE = """
import json, yaml
from pathlib import Path
scale = yaml.safe_load(Path("sweep.yaml").read_text())["scale"]
numbers = [int(line) for line in Path("data.txt").read_text().split()]
Path("prepared.json").write_text(json.dumps({"sum": scale * sum(numbers)}))
"""
SCORE = """
import json, yaml
from pathlib import Path
rate = yaml.safe_load(Path("sweep.yaml").read_text())["rate"]
total = json.loads(Path("prepared.json").read_text())["sum"]
Path("model.txt").write_text(f"{total} at {rate}")
Path("score.json").write_text(json.dumps({"score": total * 1000 + rate}))
"""
PIPELINE = {
    "prepare": {
        "cmd": "python prepare.py",
        "deps": ["prepare.py", "data.txt"],
        "params": [{"sweep.yaml": ["scale"]}],
        "outs": ["prepared.json"],
    },
    "score": {
        "cmd": "python score.py",
        "deps": ["score.py", "prepared.json"],
        "params": [{"sweep.yaml": ["rate"]}],
        "outs": ["model.txt"],
        "metrics": [{"score.json": {"cache": False}}],
    },
}


@pytest.fixture
def small(tmp_path: Path, environ: dict[str, str]) -> Experiment:
    """A repository whose two stages do one sum each."""
    root = tmp_path / "small"
    for file in PARAMETER_FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    (root / "prepare.py").write_text(PREPARE)
    (root / "score.py").write_text(SCORE)
    (root / "data.txt").write_text("3\n5\n7\n")
    (root / "sweep.yaml").write_text("scale: 0\nrate: 0\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": PIPELINE}))
    return make_repository(root, environ)


@pytest.fixture
def machine(
    request: pytest.FixtureRequest, small: Experiment, tmp_path: Path
) -> Iterator[Experiment]:
    """The repository, on one kind of machine."""
    if request.param == "slurm":
        for cluster in start_cluster(tmp_path / "cluster"):
            yield on(cluster, small)
    else:
        yield small


def false_of(small: Experiment, ref: str) -> list[str]:
    """Return what is not true of a saved experiment."""

    def saved(path: str) -> str:
        return small.ok("git", "show", f"{ref}:{path}", stderr=subprocess.DEVNULL)

    params, locked = (
        yaml.safe_load(saved("sweep.yaml")),
        yaml.safe_load(saved("dvc.lock"))["stages"],
    )
    total = params["scale"] * sum(int(line) for line in saved("data.txt").split())
    score = total * 1000 + params["rate"]
    made = {
        "prepared.json": json.dumps({"sum": total}),
        "model.txt": f"{total} at {params['rate']}",
        "score.json": json.dumps({"score": score}),
    }
    found = []
    if json.loads(saved("score.json")) != {"score": score}:
        found.append(f"{params}: {saved('score.json')}")
    for stage, entry in locked.items():
        if any(
            entry["params"]["sweep.yaml"][key] != params[key]
            for key in PIPELINE[stage]["params"][0]["sweep.yaml"]
        ):
            found.append(f"{params}: dvc.lock has {entry['params']} for {stage}")
        for out in entry["outs"]:
            held = small.root / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
            if (
                out["md5"]
                != hashlib.md5(
                    made[out["path"]].encode(), usedforsecurity=False
                ).hexdigest()
            ):
                found.append(f"{params}: dvc.lock has another {out['path']}")
            elif out["path"] != "score.json" and held.read_text() != made[out["path"]]:
                found.append(f"{params}: the cache has another {out['path']}")
    return found + (
        []
        if locked.keys() == PIPELINE.keys()
        else [f"{params}: dvc.lock has {list(locked)}"]
    )


def left_of(root: Path) -> list[list[str]]:
    """Return the command lines of processes that work for what lies in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.pid != os.getpid() and any(
                str(root) in word for word in [*words, process.cwd()]
            ):
                found.append(words)
        except psutil.Error:
            continue
    return found


@pytest.mark.long
@pytest.mark.timeout(2 * 3600)
@pytest.mark.parametrize(
    "machine", ["local", pytest.param("slurm", marks=pytest.mark.slurm)], indirect=True
)
def test_five_hundred_experiments_are_all_right(machine: Experiment):
    begun, wanted = time.monotonic(), SCALES * RATES
    sweep = (
        f"sweep.yaml:scale=range(1,{SCALES + 1})",
        f"sweep.yaml:rate=range(1,{RATES + 1})",
    )
    machine.ok(
        "mllam-exps", "submit", "-n", "s", "-S", sweep[0], "-S", sweep[1], timeout=1200
    )
    submitted = time.monotonic()
    results = machine.store.parent
    eventually(
        lambda: len(list(results.glob("experiments/*/result.json"))) == wanted,
        6000,
        f"{wanted} are saved",
    )
    saved = time.monotonic()
    refs = machine.ok("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    params = {machine.ok("git", "show", f"{ref}:sweep.yaml") for ref in refs}
    assert len(params) == len(refs) == wanted, "each has parameters of its own"
    assert not [what for ref in refs for what in false_of(machine, ref)]
    assert {
        row["state"] for row in json.loads(machine.ok("mllam-exps", "status", "--json"))
    } == {"done"}
    assert len(machine.runs("prepare")) == SCALES, "what they share was made once"
    assert len(list(machine.store.glob("*/attempts/1.json"))) == SCALES + wanted
    assert not list(machine.store.glob("*/attempts/2.json"))
    eventually(lambda: not left_of(machine.root), 30, "nothing is left running")
    print(
        f"{wanted} experiments: submitted in {submitted - begun:.0f} s, all saved after {saved - begun:.0f} s, 0 false"
    )
