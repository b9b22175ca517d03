"""`mllam-exps submit` on a real Slurm: nothing left running, nothing twice, nothing lost, whatever the cluster does."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.experiment import PATIENCE, Experiment, eventually
from support.python_for_all import programs
from support.slurm_cluster import (
    ON_BOTH,
    WITH_ACCOUNTING,
    jobs,
    visit,
    write_machine,
)
from support.submissions import ours, rows, settled, shown, started, submit

from mllam_exps.base import records
from mllam_exps.stages.contract import SAVE_AND_END

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.fixture
def toy(cluster: Any, toy: Experiment) -> Iterator[Experiment]:
    """A toy experiment on the cluster, nothing of it done."""
    yield from visit(cluster, toy)


@pytest.fixture
def made(cluster: Any, made: Experiment) -> Iterator[Experiment]:
    """A toy experiment on the cluster, its first stage done."""
    yield from visit(cluster, made)


def job_id(toy: Experiment, stage: str) -> str:
    [run] = toy.runs(stage)
    eventually((run / "attempts/1/job.json").exists, 60, "the job's id")
    return str((records.read(run / "attempts/1/job.json") or {})["id"])


def epochs_of(toy: Experiment, number: int) -> int:
    """Return how many epochs an attempt at `grow` has done."""
    for run in toy.runs("grow"):
        state = records.read(run / f"attempts/{number}/scratch/state.json")
        return int((state or {}).get("epochs", 0))
    return 0


def add_stage(toy: Experiment, name: str, stage: dict[str, Any]) -> None:
    """Add a stage with one output, `seen`, and commit it."""
    path = toy.root / "dvc.yaml"
    stages = yaml.safe_load(path.read_text())
    stages["stages"][name] = stage | {"outs": ["seen"]}
    path.write_text(yaml.safe_dump(stages, sort_keys=False))
    toy.ok("git", "commit", "-qam", name)


@ON_BOTH
def test_a_sweep_leaves_nothing_running_and_makes_everything_once(
    toy: Experiment, cluster: Any
):
    values = ",".join(f"0.0{n}" for n in range(1, 9))
    said = submit(toy, "-n", "lr", "-S", f"toy.yaml:grow.seconds={values}")
    assert not ours(toy), "no process outside of jobs"
    assert [s["state"] for s in said[1]["stages"]] == ["attached", "submitted"]
    again = submit(toy, "-n", "lr", "-S", f"toy.yaml:grow.seconds={values}")
    assert {s["state"] for one in again for s in one["stages"]} <= {"attached", "known"}
    names = [f"lr-{n}" for n in range(1, 9)]
    found = settled(toy, *names, seconds=240)
    assert {found[name]["state"] for name in names} == {"done"}
    assert set(started(toy).values()) == {1}
    assert len(toy.runs("make")) == 1
    assert toy.starts() == 8
    assert set(shown(toy)) == set(names)
    assert Counter(
        name.partition("/")[2].partition("-")[0]
        for name in jobs(cluster)
        if name.startswith("lr-")
    ) == {
        "make": 1,
        "grow": 8,
        "save": 8,
    }
    assert not ours(toy)
    toy.ok("dvc", "exp", "apply", "lr-3")
    assert "changed" not in toy.ok("dvc", "status", "make", "grow").replace(
        "always changed", ""
    )


def test_the_last_stage_s_job_saves_and_where_it_does_not_the_last_job_does(
    made: Experiment,
):
    submit(made, "-n", "soon", "-S", "toy.yaml:grow.seconds=0.01")
    settled(made, "soon", seconds=60)
    [saving] = made.store.parent.glob("experiments/save-*/attempts/1")
    eventually((saving / "end.json").exists, 30, "its own last job is taken back")
    assert (records.read(saving / "end.json") or {})["reason"].startswith(
        "saved by job"
    )
    assert not (saving / "started.json").exists()
    [lock] = made.store.parent.glob("locks/saver-*")
    with lock.open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        submit(made, "-n", "late", "-S", "toy.yaml:grow.seconds=0.02")
        [other] = {*made.store.parent.glob("experiments/save-*/attempts/1")} - {saving}
        eventually((other / "started.json").exists, 60, "its last job")
        assert not (other.parents[1] / "result.json").exists()
    settled(made, "late", seconds=60)
    assert (records.read(other / "end.json") or {})["reason"] == ""
    assert set(shown(made)) == {"soon", "late"}


def test_a_job_waits_for_one_that_saves_its_experiment(made: Experiment, cluster: Any):
    submit(made, "-n", "first", "-S", "toy.yaml:grow.seconds=0.01")
    settled(made, "first", seconds=60)
    [saving] = made.store.parent.glob("experiments/save-*/attempts/1")
    [before] = made.runs("grow")
    [lock] = made.store.parent.glob("locks/saver-*")
    with lock.open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        submit(made, "-n", "second", "-S", "toy.yaml:grow.seconds=0.02")
        [other] = {*made.store.parent.glob("experiments/save-*/attempts/1")} - {saving}
        [run] = {*made.runs("grow")} - {before}
        result = run / "result.json"
        eventually(result.exists, 60, "the result")
        time.sleep(1.5)
        job = (records.read(result.parent / "attempts/1/job.json") or {})["id"]
        assert (
            cluster.command(
                "squeue", "--noheader", "--format=%T", f"--jobs={job}"
            ).stdout
            == "RUNNING\n"
        )
    eventually(
        (other / "end.json").exists,
        30,
        "it is saved, and its own last job is taken back",
    )
    assert not (other / "started.json").exists()


@ON_BOTH
def test_what_goes_wrong_in_a_chain_is_told_and_gone_on_from(
    made: Experiment, cluster: Any
):
    """A program that fails, a job that is cancelled by hand, a stage whose input fails: each in an experiment."""
    made.set("toy.yaml", grow__seconds=0.1)
    submit(
        made, "-n", "raises", "-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=2"
    )
    submit(made, "-n", "input", "-S", "toy.yaml:make.size=many")
    found = settled(made, "raises", "input", seconds=120)
    assert {row["state"] for row in found.values() if row["user"]} == {"failed"}
    stages = {s["stage"]: s for s in found["input"]["stages"]}
    assert "make, which it needs, was not made" in stages["grow"]["reason"]
    assert stages["make"]["state"] == "failed"
    assert made.starts() == 1, "what failed upstream starts nothing"
    savings = [
        len(list(path.glob("attempts/*.json")))
        for path in made.store.parent.glob("experiments/save-*")
    ]
    assert max(savings) <= 2, "a failed stage wakes its experiment up once"
    made.set("toy.yaml", grow__seconds=30.0)
    submit(made, "-n", "scancelled", "-S", "toy.yaml:grow.epochs=4")
    eventually(lambda: made.starts() == 2, 60, "it works")
    attempt = max(
        made.store.glob("grow-*/attempts/1/job.json"),
        key=lambda path: path.stat().st_mtime,
    )
    cluster.command("scancel", str((records.read(attempt) or {})["id"]))
    row = settled(made, "scancelled", seconds=90)["scancelled"]
    assert (row["state"], row["stages"][-1]["state"]) == ("cancelled", "cancelled")
    made.ok("mllam-exps", "retry", "raises")
    assert settled(made, "raises", seconds=90)["raises"]["state"] == "done"
    made.ok("git", "stash")
    made.ok("dvc", "exp", "apply", "raises")
    assert (
        len(json.loads((made.root / "grown/state.json").read_text())["starts"]) == 2
    ), "from its checkpoint"


def test_a_node_dies_under_a_chain(made: Experiment, cluster: Any):
    made.hold("stall")
    submit(made, "-n", "lost")
    eventually(lambda: made.starts() == 1, 60, "it works")
    state = (
        records.read(next(made.store.glob("grow-*/attempts/1")) / "started.json") or {}
    )
    assert state
    node = cluster.command(
        "squeue", "-h", "-o", "%N", "-j", job_id(made, "grow")
    ).stdout.strip()
    eventually(
        lambda: bool(list(made.store.glob("grow-*/attempts/1/scratch/state.json"))),
        60,
        "an epoch",
    )
    cluster.stop(f"slurmd {node}", signal.SIGKILL, tree=True)
    try:
        row = settled(made, "lost", seconds=240)["lost"]
    finally:
        cluster.start(f"slurmd {node}")
        cluster.wait()
    assert row["state"] == "done", "nobody typed anything"
    assert "going on from" in (made.runs("grow")[0] / "attempts/2/log.txt").read_text()


def test_what_waits_for_a_training_waits_for_its_next_attempt(
    made: Experiment, cluster: Any
):
    """A warning before the time limit: it saves and ends, and its own job submits the next before it ends."""
    add_stage(made, "look", {"cmd": "cat grown.json > seen", "deps": ["grown.json"]})
    made.hold()
    submit(made, "-n", "long")
    eventually(lambda: epochs_of(made, 1) >= 1, 60, "an epoch")
    waiting = job_id(made, "look")
    made.ok("scancel", "--batch", "--signal=USR1", job_id(made, "grow"))
    [run] = made.runs("grow")
    warned = run / "attempts/1/scratch" / SAVE_AND_END
    eventually(warned.exists, what="its program is told")
    made.go_on()
    row = settled(made, "long", seconds=120)["long"]
    assert row["state"] == "done"
    end = records.read(run / "attempts/1/end.json") or {}
    assert (end["outcome"], end["cause"]) == ("failed", "time_limit")
    assert made.starts() == 2
    [look] = made.runs("look")
    assert [path.name for path in look.glob("attempts/*.json")] == ["1.json"]
    assert job_id(made, "look") == waiting
    assert not ours(made)


def test_a_stalled_program_is_stopped_and_says_where_it_stood(
    made: Experiment, cluster: Any
):
    write_machine(made, retry={"stall_timeout": 15})
    made.hold("stall")
    submit(made, "-n", "stalls")
    assert settled(made, "stalls", seconds=120)["stalls"]["state"] == "done"
    [run] = made.runs("grow")
    end = records.read(run / "attempts/1/end.json") or {}
    assert end["cause"] == "stall"
    log = (run / "attempts/1/log.txt").read_text()
    assert "in go_wrong" in log, "its stack"


def test_no_more_jobs_than_the_machine_allows_and_nobody_waits(
    made: Experiment, cluster: Any
):
    write_machine(made, max_jobs=2)
    values = ",".join(f"0.1{n}" for n in range(1, 7))
    said = made.ok(
        "mllam-exps", "submit", "-n", "m", "-S", f"toy.yaml:grow.seconds={values}"
    )
    assert "2 of your jobs at once (max_jobs in the machine file)" in " ".join(
        said.split()
    )
    assert not ours(made)
    most = 0
    until = time.monotonic() + 240
    while len(list(made.store.parent.glob("experiments/*/result.json"))) < 6:
        assert time.monotonic() < until
        living = cluster.command("squeue", "-h", "-o", "%j").stdout.split()
        most = max(most, sum("/grow-" in name for name in living))
        time.sleep(0.3)
    assert most <= 2
    assert made.starts() == 6
    assert not ours(made)


def test_slurmctld_is_down_while_experiments_are_submitted_and_while_they_run(
    made: Experiment, cluster: Any
):
    made.hold()
    submit(made, "-n", "before")
    eventually(lambda: made.starts() == 1, 60, "it works")
    cluster.stop("slurmctld")
    try:
        unknown = lambda: (  # noqa: E731
            "Slurm has not answered since" in json.dumps(rows(made)["before"])
        )
        eventually(unknown, 50, "what is not known is told")
        said = made.ok(
            "mllam-exps", "submit", "-n", "during", "-S", "toy.yaml:grow.epochs=2,3"
        )
        assert "mllam-exps advance goes on" in " ".join(said.split())
    finally:
        cluster.start("slurmctld")
    cluster.wait()
    # Its job submits the others when it ends.
    made.go_on()
    found = settled(made, "before", "during-1", "during-2", seconds=300)
    assert {row["state"] for row in found.values() if row["user"]} == {"done"}
    assert made.starts() == 3


def test_retry_loses_and_doubles_nothing_while_slurm_is_down(
    made: Experiment, cluster: Any
):
    submit(made, "-n", "f", "-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=1")
    assert settled(made, "f")["f"]["state"] == "failed"
    for daemon, said in (
        ("slurmctld", "slurmctld is down"),
        ("munged", "munged does not answer on this host"),
    ):
        cluster.stop(daemon)
        try:
            told = made.ok("mllam-exps", "retry", "f")
            assert f"f: waits in the run store: {said}" in told
            assert "mllam-exps advance goes on" in told
        finally:
            cluster.start(daemon)
        cluster.wait()
    assert made.starts() == 1
    assert "f: grow submitted" in made.ok("mllam-exps", "retry", "f")
    assert settled(made, "f")["f"]["state"] == "done"
    assert made.starts() == 2


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_hundred_at_once(toy: Experiment):
    values = ",".join(f"0.{n:03d}" for n in range(1, 101))
    said = toy.ok(
        "mllam-exps",
        "submit",
        "-n",
        "h",
        "-S",
        f"toy.yaml:grow.seconds={values}",
        timeout=600,
    )
    assert "1 × make, 100 × grow submitted" in said
    assert not ours(toy)
    eventually(
        lambda: len(list(toy.store.parent.glob("experiments/*/result.json"))) == 100,
        900,
        "all are saved",
    )
    assert set(started(toy).values()) == {1}
    assert toy.starts() == 100
    assert len(shown(toy)) == 100


@pytest.mark.long
def test_a_time_limit_in_a_chain(made: Experiment):
    made.set("toy.yaml", grow__seconds=0.5, grow__epochs=240)
    write_machine(
        made, resources={"default": {"partition": "main", "memory": "200M", "time": 1}}
    )
    submit(made, "-n", "limited")
    row = settled(made, "limited", seconds=400)["limited"]
    assert row["state"] == "done", "nobody typed anything"
    assert made.starts() > 1


def test_dvc_exp_run_attaches_to_what_was_submitted(toy: Experiment, cluster: Any):
    cluster.command("scontrol", "update", "partition=main", "state=down")
    try:
        submit(toy, "-n", "s")
        command = toy.start("dvc", "exp", "run", "-n", "r")
        said = next((line for line in command.stdout or () if "attached" in line), "")
    finally:
        cluster.command("scontrol", "update", "partition=main", "state=up")
    rest, _ = command.communicate(timeout=PATIENCE)
    assert said, rest
    assert command.returncode == 0, rest
    settled(toy, "s", seconds=90)
    assert set(shown(toy)) == {"s", "r"}
    assert toy.starts() == 1


@pytest.fixture(scope="module")
def python_for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs that other users can start."""
    folder = tmp_path_factory.mktemp("python")
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    return programs(folder)


@dataclass
class Colleague:
    """A Unix user with a copy of the toy experiment, in a team that shares a run store."""

    name: str
    uid: int
    home: Path
    environ: dict[str, str]

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command as this user, in the copy."""
        command = [
            "bash",
            "-c",
            'umask 002; cd "$1"; shift; exec "$@"',
            "-",
            str(self.home),
            *argv,
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [*_as_user(self.uid), *command], env=self.environ, **pipes
        )  # type: ignore[call-overload]

    def ok(self, *argv: str) -> str:
        """Run a command as this user; it has to succeed."""
        process = self.start(*argv)
        out, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, out + error
        return str(out + error)

    def machine(self, **changes: Any) -> None:
        """Change the machine file."""
        path = self.home / "machines/cluster.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.fixture
def team(
    toy: Experiment, cluster: Any, tmp_path: Path, python_for_all: Path
) -> list[Colleague]:
    """Two users who share a run store."""
    if os.getuid() != 0:
        pytest.skip("only root can be several users")
    users = {name: _user(name) for name in ("mllam-a", "mllam-b")}
    toy.environ["PATH"] = f"{python_for_all}{os.pathsep}{toy.environ['PATH']}"
    for uid in users.values():
        trial = [*_as_user(uid), "bash", "-c", "exec mllam-exps --version"]
        if subprocess.run(
            trial, env=toy.environ, check=False, capture_output=True
        ).returncode:
            pytest.skip("other users cannot start this Python")
    shared = tmp_path / "shared"
    shared.mkdir()
    for folder in (
        tmp_path,
        *tmp_path.parents[:3],
        cluster.directory,
        cluster.directory.parent,
        cluster.runtime,
    ):
        folder.chmod(folder.stat().st_mode | 0o055)
    os.chown(shared, -1, _group("mllam-team"))
    shared.chmod(0o2775)
    count = shared / "count"
    count.touch()
    os.chown(count, -1, _group("mllam-team"))
    count.chmod(0o664)
    write_machine(toy, paths={"run_store": str(shared / "store")})
    found = []
    for name, uid in users.items():
        home = tmp_path / name
        subprocess.run(["cp", "-r", str(toy.root), str(home)], check=True)
        (home / "home").mkdir()
        (home / "home/.gitconfig").write_text(
            f"[user]\n\tname = {name}\n\temail = {name}@example.org\n"
        )
        machine = (
            (home / "machines/cluster.yaml")
            .read_text()
            .replace(toy.environ["TOY_COUNT"], str(count))
        )
        (home / "machines/cluster.yaml").write_text(machine)
        subprocess.run(["chown", "-R", f"{uid}:mllam-team", str(home)], check=True)
        own = {
            "HOME": str(home / "home"),
            "DVC_SITE_CACHE_DIR": str(home / "home/site"),
            "USER": name,
            "LOGNAME": name,
        }
        found.append(
            Colleague(name, uid, home, toy.environ | own | {"TOY_COUNT": str(count)})
        )
    return found


def test_two_users_submit_the_same_in_the_same_second(
    team: list[Colleague], tmp_path: Path
):
    """Both get their experiment; each run is made once, by whoever came first."""
    words = (
        "mllam-exps",
        "submit",
        "-n",
        "mine",
        "--json",
        "-S",
        "toy.yaml:grow.seconds=0.2",
    )
    both = [one.start(*words) for one in team]
    outs = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    shared = tmp_path / "shared"
    saved = lambda: list(shared.glob("store/experiments/*/result.json"))  # noqa: E731
    eventually(lambda: len(saved()) == 2, 120, f"both are saved: {outs}")
    assert len((shared / "count").read_text().splitlines()) == 1, "one training"
    attempts = Counter(
        path.parents[2].name
        for path in shared.glob("store/runs/*/attempts/*/started.json")
    )
    assert sorted(attempts.values()) == [1, 1], attempts


def _as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", "--regid=mllam-team", "--clear-groups"]


def _user(name: str) -> int:
    import pwd

    _group("mllam-team")
    if name not in {entry.pw_name for entry in pwd.getpwall()}:
        subprocess.run(
            ["useradd", "--no-create-home", "--gid", "mllam-team", name], check=True
        )
    return pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    import grp

    if name not in {entry.gr_name for entry in grp.getgrall()}:
        subprocess.run(["groupadd", name], check=True)
    return grp.getgrnam(name).gr_gid


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a disk that is full")
def test_a_full_disk_under_the_store_loses_nothing(made: Experiment, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=True
    )
    try:
        write_machine(made, paths={"run_store": str(disk / "store")})
        words = ("-n", "d", "-S", "toy.yaml:grow.seconds=0.01,0.02,0.03")
        done = made.command("mllam-exps", "submit", *words)
        assert "the disk is full" in done.stdout, done.stdout
        assert "Traceback" not in done.stdout
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        submit(made, *words)
        # Nobody could write down that the first attempt was not started.
        made.ok("mllam-exps", "advance", "--watch")
        names = ["d-1", "d-2", "d-3"]
        found = settled(made, *names, seconds=120)
        assert {found[name]["state"] for name in names} == {"done"}
        assert made.starts() == 3
        made.environ["MLLAM_MACHINE"] = "cluster"
    finally:
        eventually(
            lambda: subprocess.run(["umount", str(disk)], check=False).returncode == 0,
            30,
            "unmounted",
        )


@WITH_ACCOUNTING
@pytest.mark.parametrize("limit", [2, 3])
def test_what_the_cluster_does_not_take_waits(
    made: Experiment,
    cluster: Any,
    limit: int,
):
    user = os.environ.get("USER") or "root"
    cluster.command(
        "sacctmgr",
        "--immediate",
        "modify",
        "user",
        user,
        "set",
        f"MaxSubmitJobs={limit}",
    )
    known = ("scontrol", "show", "assoc_mgr", "flags=assoc", f"users={user}")
    eventually(
        lambda: f"MaxSubmitJobs={limit}(" in cluster.command(*known).stdout,
        20,
        "slurmctld knows the limit",
    )
    try:
        said = made.ok(
            *("mllam-exps", "submit", "-n", f"c{limit}"),
            *("-S", f"toy.yaml:grow.seconds=0.{limit}1,0.{limit}2,0.{limit}3"),
        )
        assert "AssocMaxSubmitJobLimit" in said, said
        names = [f"c{limit}-{n}" for n in (1, 2, 3)]
        # Nobody looks: the last job of each submits what fits.
        eventually(
            lambda: len(list(made.store.parent.glob("experiments/*/result.json"))) == 3,
            200,
            "all are saved",
        )
        assert {settled(made, *names)[name]["state"] for name in names} == {"done"}
        assert set(started(made).values()) == {1}
        assert made.starts() == 3
        assert {row["state"] for row in rows(made).values() if row["user"]} == {"done"}
    finally:
        cluster.command(
            "sacctmgr", "--immediate", "modify", "user", user, "set", "MaxSubmitJobs=-1"
        )
