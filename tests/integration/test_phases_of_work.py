"""A stage's work in phases, submitted and by DVC: what a later phase changes repeats no earlier one."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import yaml
from support.experiment import Experiment
from support.submissions import rows, settled, started, submit

PHASES = [{"epochs": 2}, {"epochs": 4}, {"epochs": 5}]


def in_phases(toy: Experiment, *several: dict[str, Any]) -> None:
    toy.set("toy.yaml", phases=list(several))


def state(toy: Experiment, name: str) -> dict[str, Any]:
    """Return what the last phase of a saved experiment made."""
    ref = toy.ok("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}")
    lock = yaml.safe_load(toy.ok("git", "show", f"{ref.strip()}:dvc.lock"))
    digest = lock["stages"]["grow"]["outs"][0]["md5"]
    cache = toy.root / ".dvc/cache/files/md5"
    [file] = json.loads((cache / digest[:2] / digest[2:]).read_text())
    return json.loads((cache / file["md5"][:2] / file["md5"][2:]).read_text())


def test_a_sweep_over_the_last_phase_shares_those_before(made: Experiment):
    in_phases(made, *PHASES)
    submit(made, "-n", "s", "-S", "toy.yaml:phases.2.epochs=5,6")
    found = settled(made, "s-1", "s-2")
    assert [one["state"] for one in found.values() if one["name"][:2] == "s-"] == [
        "done"
    ] * 2
    first, second = state(made, "s-1"), state(made, "s-2")
    assert (first["epochs"], second["epochs"]) == (5, 6)
    # Each phase is a start of the program; two of three are the same.
    assert len(first["starts"]) == len(second["starts"]) == 3
    assert first["starts"][:2] == second["starts"][:2]
    assert sum(started(made).values()) - 1 == 4  # but for `make`
    [first_phase] = json.loads(
        made.ok("mllam-exps", "show", "s-2", "--lineage", "--json")
    )
    assert first_phase["experiments"] == ["s-1", "s-2"]
    [second_phase] = first_phase["then"]
    third = {tuple(one["experiments"]): one for one in second_phase["then"]}
    assert third["s-2",]["differs"] == ["grow.epochs: 6"]
    assert (third["s-1",]["asked"], third["s-2",]["asked"]) == (False, True)
    # The middle one is another: it is repeated, and the one behind it.
    submit(made, "-n", "m", "-S", "toy.yaml:phases.1.epochs=3")
    settled(made, "m")
    assert state(made, "m")["starts"][:1] == first["starts"][:1]
    assert made.starts() == 6
    # DVC finds all of it known.
    in_phases(made, *PHASES[:2], {"epochs": 6})
    said = made.ok("dvc", "repro", "grow")
    assert "known: collected" in said
    assert made.starts() == 6


def test_dvc_runs_one_phase_behind_the_other(made: Experiment):
    in_phases(made, *PHASES[:2])
    said = made.ok("dvc", "exp", "run", "-n", "two")
    assert "grow:1: " in said
    assert (state(made, "two")["epochs"], made.starts()) == (4, 2)
    [one] = submit(made, "-n", "again", "-S", "toy.yaml:+other=1")
    words = {stage["stage"]: stage["state"] for stage in one["stages"]}
    assert words == {"make": "known", "grow:1": "known", "grow": "known"}


def test_a_phase_that_fails_is_gone_on_from(made: Experiment):
    in_phases(made, {"epochs": 2, "do": "raise", "at": 1}, {"epochs": 3})
    pipeline = yaml.safe_load((made.root / "dvc.yaml").read_text())
    reads = {"cmd": "cp grown/state.json last.json", "deps": ["grown"]}
    pipeline["stages"]["last"] = reads | {"outs": [{"last.json": {"cache": False}}]}
    (made.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    submit(made, "-n", "x")
    found = settled(made, "x")["x"]
    assert found["state"] == "failed"
    states = {stage["stage"]: stage["state"] for stage in found["stages"]}
    assert (states["grow:1"], states["grow"]) == ("failed", "new")
    made.ok("mllam-exps", "retry", "x")
    assert settled(made, "x")["x"]["state"] == "done"
    # What reads the last phase's outputs was made from these, and not from the first's.
    tries = {stage["stage"]: stage["tries"] for stage in rows(made)["x"]["stages"]}
    assert tries == {"make": 1, "grow:1": 2, "grow": 1, "last": 1}
    ref = made.ok("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/x")
    read = json.loads(made.ok("git", "show", f"{ref.strip()}:last.json"))
    assert read == state(made, "x")
    assert read["epochs"] == 3
    [log] = made.store.glob("last-*/attempts/1/log.txt")
    command = log.read_text().splitlines()
    assert any(
        line.startswith("$ ") and line.endswith(" 'cp grown/state.json last.json'")
        for line in command
    ), "as one could type it"

    # What is saved needs its earlier phases no more, whatever becomes of them.
    first = next(
        run
        for run in made.runs("grow")
        if json.loads((run / "run.json").read_text())["phase"] == 1
    )
    [file] = first.glob("attempts/*/outputs/grown/state.json")
    file.chmod(0o644)
    file.write_text(file.read_text().replace("2", "3"))
    damaged = made.command("mllam-exps", "verify").stdout
    assert "→ what is saved needs it no more" in damaged
    assert "1 file is damaged" in damaged
    is_done = "error: x: is done\n  → dvc exp apply x"
    assert is_done in made.command("mllam-exps", "retry", "x").stdout
    subprocess.run(["chmod", "-R", "u+w", str(first)], check=True)
    shutil.rmtree(first)
    assert is_done in made.command("mllam-exps", "retry", "x").stdout
    said = made.ok("mllam-exps", "status")
    assert "removed" in said and "x: grow:1 " not in said
