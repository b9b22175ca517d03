"""A clone uses a team's share: as typed, with DVC and git as they are."""

from __future__ import annotations

import grp
import json
import os
import subprocess
from pathlib import Path

from support.experiment import Experiment

GROUP = grp.getgrgid(os.getgid()).gr_name


def test_what_one_clone_made_and_pushed_the_other_has_without_running_anything(
    made: Experiment, tmp_path: Path
):
    share = tmp_path / "share"
    init = ("mllam-exps", "share", "init", str(share), "--group", GROUP)
    planned = made.ok(*init, "--dry-run")
    assert "would make it a bare git repository" in planned
    assert not share.exists()
    said = made.ok(*init)
    assert "objects of" in said, "what the cache had comes along"
    assert made.ok(*init).splitlines() == [
        f"{share} is a share of the group {GROUP}",
        f"{made.root} uses the share {share}",
    ]
    made.ok("dvc", "exp", "run", "-q", "-n", "first")
    made.ok("dvc", "exp", "push", str(share), "first")
    made.ok("git", "push", "-q", "share", "HEAD:main")

    subprocess.run(["git", "clone", "-q", share, tmp_path / "theirs"], check=True)
    theirs = Experiment(tmp_path / "theirs", made.environ)
    theirs.ok("mllam-exps", "share", "join", str(share))
    theirs.ok("dvc", "exp", "pull", str(share), "first")
    theirs.ok("dvc", "exp", "apply", "first")
    programs = made.starts()
    theirs.ok("dvc", "repro")
    assert made.starts() == programs
    [output] = (theirs.root / "grown").rglob("state.json")
    assert output.resolve().is_relative_to(share)
    assert json.loads(theirs.ok("mllam-exps", "share", "check", "--json")) == {
        "mended": [],
        "left": [],
    }


def test_a_clone_does_not_leave_a_run_store_in_which_something_is_at_work(
    made: Experiment, tmp_path: Path
):
    made.hold()
    made.ok("mllam-exps", "submit", "-n", "waits")
    share = tmp_path / "share"
    refused = made.command("mllam-exps", "share", "init", str(share), "--group", GROUP)
    assert refused.returncode == 2
    assert "waits: not over yet" in refused.stdout
    made.go_on()
    made.ok("mllam-exps", "status", "--watch")
    made.ok("mllam-exps", "share", "join", str(share))
