"""What was made by hand is taken over if a stage's own check passes it, and each experiment that has it says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from support.experiment import Experiment
from support.submissions import settled, submit

from mllam_exps.dvc.saved.commits import Checkout
from mllam_exps.sharing import adopted


def test_what_was_made_by_hand_is_taken_over_and_says_so(
    made: Experiment, tmp_path: Path
):
    mine = Path(shutil.copytree(made.root / "made", tmp_path / "mine"))
    (mine / "by-hand.txt").write_text("mine\n")
    refused = made.command("mllam-exps", "adopt", "make", str(mine))
    assert (refused.returncode, refused.stdout) == (
        2,
        "error: made: lies in the workspace already\n  → --force replaces it there\n",
    )
    wrong = made.command("mllam-exps", "adopt", "grow", str(mine))
    assert wrong.returncode == 2
    assert (
        "does not hold all that grow makes: grown, grown.json is not there"
        in wrong.stdout
    )
    before = made.ok("git", "status", "--porcelain")
    failing = tmp_path / "failing"
    (failing / "grown").mkdir(parents=True)
    (failing / "grown.json").write_text("{}")
    (failing / "grown/state.json").write_text('{"epochs": 1, "starts": []}')
    failed = made.command("mllam-exps", "adopt", "grow", str(failing))
    assert (failed.returncode, failed.stdout) == (
        2,
        "error: only 1 of 3 epochs were done\n",
    )
    assert made.ok("git", "status", "--porcelain") == before

    known = made.command("mllam-exps", "adopt", "make", str(mine), "--force")
    assert "make: a run has made that with these parameters: make-" in known.stdout
    made.set("toy.yaml", make__size=21)
    same = made.command("mllam-exps", "adopt", "make", "made")
    assert "make: a run has made exactly that: make-" in same.stdout
    assert made.ok("git", "status", "--porcelain").split() == ["M", "toy.yaml"]
    said = made.ok("mllam-exps", "adopt", "make", str(mine), "--force")
    assert f"make was taken over from {mine}, by A Researcher" in said
    assert (made.root / "made/by-hand.txt").read_text() == "mine\n"
    assert made.ok("dvc", "status", "make").startswith("Data and pipelines are up")
    assert mine.is_dir(), "it stays where it was"
    made.ok("git", "add", "-A")
    made.ok("git", "commit", "-qm", "Made by hand")

    submit(made, "-n", "x")
    assert settled(made, "x")["x"]["state"] == "done"
    [told] = json.loads(made.ok("mllam-exps", "show", "x", "--json"))["adopted"]
    assert (told["stage"], told["where"]) == ("make", str(mine))
    assert "adopted     make was taken over" in made.ok("mllam-exps", "show", "x")

    # Where another one was made since, nothing is said of it.
    lock = yaml.safe_load((made.root / "dvc.lock").read_text())
    assert len(list(adopted.of(Checkout(made.root)))) == 1
    lock["stages"]["make"]["outs"][0]["md5"] = f"{'0' * 32}.dir"
    (made.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert not list(adopted.of(Checkout(made.root)))
