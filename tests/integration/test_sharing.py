"""A clone uses a team's share: as typed, with DVC and git as they are."""

from __future__ import annotations

import grp
import json
import os
import subprocess
from pathlib import Path

from support.experiment import Experiment

GROUP = grp.getgrgid(os.getgid()).gr_name


def test_a_clone_does_not_leave_a_run_store_in_which_something_is_at_work(
    made: Experiment, tmp_path: Path
):
    made.ok("git", "branch", "-m", "ours")
    made.hold()
    made.ok("mllam-exps", "submit", "-n", "waits")
    share = tmp_path / "share"
    refused = made.command("mllam-exps", "share", "init", str(share), "--group", GROUP)
    assert refused.returncode == 2
    assert "waits: not over yet" in refused.stdout
    made.go_on()
    made.ok("mllam-exps", "status", "--watch")
    told = made.ok("mllam-exps", "share", "init", str(share), "--group", GROUP)
    assert "git push share ours" in told
    made.ok("git", "push", "-q", "share", "ours")
    clone = tmp_path / "clone"
    made.ok("git", "clone", "-q", str(share), str(clone))
    assert (clone / "dvc.yaml").is_file(), "git checks out the branch that was pushed"


def test_push_and_pull_hold_the_remote_against_what_an_experiment_needs(
    made: Experiment, tmp_path: Path
):
    remote = tmp_path / "remote"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    made.ok("dvc", "exp", "run", "-q", "-n", "early")
    made.ok("git", "remote", "add", "origin", str(tmp_path / "others"))
    unnamed = made.command("mllam-exps", "push", "early")
    assert unnamed.returncode == 2
    assert "mllam-exps push early origin; or join" in unnamed.stdout
    push = ("mllam-exps", "push", "early", str(remote))
    refused = made.command(*push)
    assert (refused.returncode, "no DVC remote" in refused.stdout) == (2, True)
    # The experiment knows no remote: DVC would say "Pushed", and send nothing.
    made.ok("dvc", "remote", "add", "--local", "-d", "later", str(remote))
    [told] = json.loads(made.ok(*push, "--json"))
    assert told["moved"] == told["objects"] > 3
    objects = [path for path in (remote / "files").rglob("*") if path.is_file()]
    assert len(objects) == told["objects"]
    # One is lost there, one was cut off: DVC would not look.
    *_, lost, cut_off = sorted(objects, key=lambda path: (path.suffix, path.name))
    lost.unlink()
    cut_off.chmod(0o644)
    cut_off.write_bytes(cut_off.read_bytes()[:-1])
    cut_off.chmod(0o444)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", made.root, clone], check=True)
    theirs = Experiment(clone, made.environ)
    theirs.ok("dvc", "remote", "add", "--local", "-d", "later", str(remote))
    pull = ("mllam-exps", "pull", "early", str(remote))
    half = theirs.command(*pull)
    assert (half.returncode, "the remote has not all of" in half.stdout) == (1, True)
    [told] = json.loads(made.ok(*push, "--json"))
    assert told["moved"] == 2
    theirs.ok(*pull)
    for path in (remote / "files/md5").rglob("*"):
        if path.is_file():
            fetched = clone / ".dvc/cache" / path.relative_to(remote)
            assert fetched.read_bytes() == path.read_bytes()
    theirs.ok("dvc", "exp", "apply", "early")
    programs = made.starts()
    theirs.ok("dvc", "repro", "grow")
    assert made.starts() == programs


def test_a_small_job_tells_whether_compute_nodes_see_what_this_host_sees(
    made: Experiment,
):
    done = made.command("mllam-exps", "doctor", "--deep", "--json")
    told, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("[") :])
    states = {one["topic"]: one["state"] for one in told}
    deep = ("compute node", "paths", "clock", "programs")
    assert [states[topic] for topic in deep] == ["fine"] * 4
