"""Runs on a real Slurm: whatever the cluster does, a run is made once, and what became of it is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.experiment import PATIENCE, Experiment, eventually
from support.slurm_cluster import (
    ON_BOTH,
    WITH_ACCOUNTING,
    epochs,
    job_of,
    jobs,
    run_of,
    visit,
    wrap,
    write_machine,
)

from mllam_exps.base import records
from mllam_exps.runs.state.seen import HEARTBEAT_PATIENCE

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

GROW = ("mllam-exps", "run", "grow")


@pytest.fixture
def toy(cluster: Any, made: Experiment) -> Iterator[Experiment]:
    """A toy experiment on the cluster, its first stage done."""
    yield from visit(cluster, made)


def slow(toy: Experiment, seconds: float = 0.5, epochs: int = 8) -> None:
    toy.set("toy.yaml", grow__seconds=seconds, grow__epochs=epochs)


def read(run: Path, name: str) -> dict[str, Any]:
    return records.read(run / "attempts" / name) or {}


def until(driver: subprocess.Popen[str], said: str) -> None:
    """Wait until a driver has said something."""
    assert driver.stdout is not None
    seen = []
    for line in iter(driver.stdout.readline, ""):
        seen.append(line)
        if said in line:
            return
    raise AssertionError(f"it never said {said!r}: {''.join(seen)}")


def grown(toy: Experiment) -> int:
    return int(json.loads((toy.root / "grown.json").read_text())["epochs"])


@ON_BOTH
def test_a_stage_is_a_job(toy: Experiment, cluster: Any):
    secret = "a-secret-that-must-not-travel"
    toy.environ |= {
        "WANDB_API_KEY": secret,
        "LC_TOKEN": secret,
        "WANDB_MODE": "offline",
    }
    out = toy.ok("dvc", "exp", "run", "-n", "first")
    assert "grow: done in attempt 1" in out
    run = run_of(toy)
    verdict = read(run, "1/verdict.json")
    assert verdict["phase"] == "SUCCEEDED"
    assert verdict["told"].startswith("COMPLETED 0:0")
    [name] = [name for name in jobs(cluster) if name.startswith("first/grow-")]
    claim = read(run, "1.json")
    assert claim["job_name"] == name
    log = (run / "attempts/1/log.txt").read_text()
    assert "0: epoch 1 done" in log, "srun labels the tasks' lines"
    script = (run / "attempts/1/job.sh").read_text()
    assert f"#SBATCH --job-name={name}" in script
    assert "#SBATCH --mem=200M" in script
    spooled = cluster.command(
        "scontrol", "write", "batch_script", job_of(toy), "-"
    ).stdout
    assert "a-secret" not in spooled + script + log
    [environment] = cluster.directory.glob(f"**/job.{job_of(toy)}/environment")
    assert b"a-secret" not in environment.read_bytes()
    assert b"WANDB_MODE=offline" in environment.read_bytes()
    [link] = [path for path in (toy.root / "logs").iterdir() if "-grow-" in path.name]
    assert link.resolve() == (run / "attempts/1/log.txt").resolve()


def test_a_killed_driver_s_job_goes_on_and_is_attached_to_and_collected(
    toy: Experiment,
):
    toy.hold()
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    second = toy.start(*GROW)
    until(second, "attached to attempt 1, already running")
    second.send_signal(signal.SIGHUP)
    out, _ = second.communicate(timeout=PATIENCE)
    assert "the run goes on" in out
    assert second.returncode != 0
    toy.go_on()
    eventually(lambda: bool(read(run_of(toy), "1/end.json")), 60, "the job's end")
    out = toy.ok(*GROW)
    assert "known: collected" in out
    assert toy.starts() == 1
    assert grown(toy) == 4


@ON_BOTH
def test_cancelled_while_pending(toy: Experiment):
    write_machine(toy, default={"sbatch": {"hold": True}})
    driver = toy.start(*GROW)
    job = job_of(toy)
    time.sleep(1)
    toy.ok("scancel", job)
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode != 0
    assert "grow was cancelled" in out
    assert "before it started" in out
    assert toy.starts() == 0
    assert not (run_of(toy) / "result.json").exists()
    write_machine(toy)
    assert "done in attempt 2" in toy.ok(*GROW)


def test_a_held_job_is_told_as_one(toy: Experiment):
    write_machine(toy, default={"sbatch": {"hold": True}})
    driver = toy.start(*GROW)
    job = job_of(toy)
    assert driver.stdout is not None
    lines = iter(driver.stdout.readline, "")
    assert any("held by its user; `scontrol release" in line for line in lines)
    toy.ok("scontrol", "release", job)
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, out


@ON_BOTH
def test_cancelled_while_running(toy: Experiment):
    slow(toy, 0.5, 40)
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 2, 60, "two epochs")
    toy.ok("scancel", job_of(toy))
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode != 0
    assert "grow was cancelled" in out
    assert "CANCELLED" in out
    slow(toy, 0.0, 40)


def test_ctrl_c_cancels_the_job_and_the_next_goes_on(toy: Experiment, cluster: Any):
    toy.hold("stall")
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    os.killpg(driver.pid, signal.SIGINT)
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130
    assert "the run was stopped" in out
    state = cluster.command(
        "squeue", "--noheader", "--states=all", f"--jobs={job_of(toy)}", "--format=%T"
    ).stdout
    assert state.strip() in {"CANCELLED", "COMPLETING", "COMPLETED", "FAILED"}
    assert "done in attempt 2" in toy.ok(*GROW)
    assert "going on from" in (run_of(toy) / "attempts/2/log.txt").read_text()
    assert grown(toy) == 4


@ON_BOTH
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "ValueError: the weather is bad"),
        ("memory", "out of memory"),
        ("nothing", "grown"),
    ],
)
def test_a_failure_is_told_and_never_published(
    toy: Experiment, cluster: Any, how: str, said: str
):
    if how == "memory" and cluster.limits == "none":
        pytest.skip("nothing limits the memory of jobs on this machine")
    toy.set("toy.yaml", grow__do=how, grow__at=1)
    done = toy.command(*GROW)
    assert done.returncode != 0
    assert said in done.stdout
    assert "Traceback" not in "".join(
        line for line in done.stdout.splitlines() if not line.startswith("  |")
    )
    assert not (toy.root / "grown").exists()
    assert not (run_of(toy) / "result.json").exists()


@ON_BOTH
def test_a_killed_step_is_followed_by_another_attempt(toy: Experiment):
    toy.hold("stall")
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    toy.ok("scancel", f"{job_of(toy)}.0")
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, out
    assert "attempt 1 ended, and another one is to follow" in out


def test_what_will_never_run_is_an_error(toy: Experiment):
    write_machine(toy, default={"partition": "short", "time": 60})
    done = toy.command(*GROW)
    assert done.returncode != 0
    assert "time" in done.stdout
    assert toy.starts() == 0
    assert toy.command("squeue", "--noheader", "--states=PENDING,RUNNING").stdout == ""


def test_what_slurm_refuses_is_told_in_its_words(toy: Experiment):
    write_machine(toy, default={"partition": "nowhere"})
    done = toy.command(*GROW)
    assert done.returncode != 0
    assert "nowhere" in done.stdout or "invalid partition" in done.stdout.lower()
    assert "Traceback" not in done.stdout


def test_what_slurm_would_refuse_is_refused_at_the_first_stage(toy: Experiment):
    write_machine(toy, default={"memory": "900G"})
    done = toy.command("dvc", "exp", "run")
    assert done.returncode != 0
    assert (
        "the scheduler would refuse its job: Requested node configuration is not available"
        in done.stdout
    )
    assert "mllam-exps machine show --script" in done.stdout
    assert not toy.runs("grow")


def test_credentials_that_stay_behind_are_named(toy: Experiment):
    toy.environ["MLFLOW_TRACKING_PASSWORD"] = "a-secret-that-must-not-travel"
    out = toy.ok("mllam-exps", "run", "check_for_venv_path")
    assert "MLFLOW_TRACKING_PASSWORD does not reach a job" in out
    assert "a-secret" not in out


def test_machine_show_prints_the_batch_script(toy: Experiment, cluster: Any):
    script = toy.ok("mllam-exps", "machine", "show", "--script", "grow")
    assert "#SBATCH --mem=200M" in script
    path = toy.root / "job.sh"
    path.write_text(script)
    assert cluster.command("sbatch", "--test-only", str(path)).returncode == 0


def test_a_script_that_is_submitted_by_hand_is_the_next_attempt(toy: Experiment):
    toy.set("toy.yaml", grow__do="raise", grow__at=2)
    assert toy.command(*GROW).returncode != 0
    script = run_of(toy) / "attempts/1/job.sh"
    toy.ok("sbatch", "--wait", str(script))
    assert read(run_of(toy), "2/end.json")["outcome"] == "succeeded"
    log = script.with_name("log.txt").read_text()
    assert "going on from" in log
    assert toy.command("sbatch", "--wait", str(script)).returncode == 0
    assert "this run is done" in script.with_name("log.txt").read_text()
    assert "known: collected" in toy.ok(*GROW)
    assert toy.starts() == 2


def test_a_script_submitted_by_hand_while_its_job_is_pending_takes_the_attempt(
    toy: Experiment,
):
    slow(toy, 0.3, 10)
    write_machine(toy, default={"sbatch": {"hold": True}})
    driver = toy.start(*GROW)
    held = job_of(toy)
    toy.ok("sbatch", "--hold", str(run_of(toy) / "attempts/1/job.sh"))
    by_hand = toy.ok("squeue", "--noheader", "--format=%i").split()
    [other] = [job for job in by_hand if job != held]
    toy.ok("scontrol", "release", other)
    out, _ = driver.communicate(timeout=PATIENCE)
    assert "done in attempt 1" in out
    assert job_of(toy) == other
    assert held not in toy.ok("squeue", "--noheader", "--format=%i")
    assert toy.starts() == 1


def test_jobs_of_any_name_disturb_nobody(toy: Experiment):
    for name in (b"two\nlines", b"bad\xff\xfename", b"a|b|c|d|e|f|g"):
        subprocess.run(
            ["sbatch", "-H", "-J", name, "--wrap=true"],
            env=toy.environ,
            check=True,
            capture_output=True,
        )
    assert "done in attempt 1" in toy.ok(*GROW)


def test_an_attempt_that_squeue_does_not_show_is_known_by_its_own_record(
    toy: Experiment,
):
    toy.hold()
    wrap(toy, "sbatch", '"$REAL" "$@"; kill -9 $PPID')
    toy.start(*GROW).communicate(timeout=PATIENCE)
    (toy.root.parent / "bin/sbatch").unlink()
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    wrap(toy, "squeue", "exit 0")
    driver = toy.start(*GROW)
    until(driver, "attached to attempt 1, already running")
    toy.go_on()
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, out
    assert toy.starts() == 1


def test_an_environment_that_cannot_be_made_ready_is_told(toy: Experiment):
    (toy.root / "machines/broken.sh").write_text('[ -z "$SLURM_JOB_ID" ] || exit 0\n')
    write_machine(toy, environment={"source": "broken.sh"})
    done = toy.command(*GROW)
    assert done.returncode != 0
    assert (
        "log.txt: grow attempt 1 failed: the environment could not be made ready"
        in done.stdout
    )


def test_an_sbatch_that_failed_although_the_job_runs(toy: Experiment, cluster: Any):
    wrap(
        toy,
        "sbatch",
        '"$REAL" "$@" >/dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1',
    )
    out = toy.ok(*GROW)
    assert "done in attempt 1" in out
    assert toy.starts() == 1
    assert (run_of(toy) / "attempts/1/uncertain.json").exists()


def test_a_driver_that_died_between_submission_and_record(toy: Experiment):
    slow(toy, 0.3, 6)
    wrap(
        toy,
        "sbatch",
        '"$REAL" "$@"; kill -9 $PPID',
    )
    driver = toy.start(*GROW)
    driver.communicate(timeout=PATIENCE)
    assert driver.returncode == -signal.SIGKILL
    assert not (run_of(toy) / "attempts/1/job.json").exists()
    (toy.root.parent / "bin/sbatch").unlink()
    out = toy.ok(*GROW)
    assert "attempt 2" not in out
    assert toy.starts() == 1


def test_two_drivers_submit_once(toy: Experiment, tmp_path: Path, cluster: Any):
    slow(toy, 0.3, 6)
    toy.ok("git", "add", "-A")
    toy.ok("git", "commit", "-qm", "slow")
    other = toy.clone(tmp_path / "other")
    for one in (toy, other):
        one.ok("dvc", "config", "--local", "cache.dir", str(toy.root / ".dvc/cache"))
    other.ok("dvc", "checkout", "made")
    write_machine(other)
    drivers = [one.start(*GROW) for one in (toy, other)]
    outs = [driver.communicate(timeout=PATIENCE)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outs
    assert toy.starts() == 1
    assert grown(toy) == grown(other) == 6


def test_a_squeue_that_fails_every_second_time(toy: Experiment):
    slow(toy, 0.5, 30)
    wrap(
        toy,
        "squeue",
        'file="${0%/*}/count"; echo >> "$file"; (($(wc -l < "$file") % 2)) && exit 1; exec "$REAL" "$@"',
    )
    assert "done in attempt 1" in toy.ok(*GROW)


@ON_BOTH
def test_slurmctld_is_down_when_the_job_ends(toy: Experiment, cluster: Any):
    toy.hold()
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    cluster.stop("slurmctld")
    try:
        toy.go_on()
        eventually(lambda: bool(read(run_of(toy), "1/end.json")), 60, "the job's end")
        time.sleep(3)
        assert driver.poll() is None, (
            "success is not believed before the scheduler has spoken"
        )
    finally:
        cluster.start("slurmctld")
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, out
    cluster.wait()


def test_slurmctld_is_down_when_a_job_is_submitted(toy: Experiment, cluster: Any):
    cluster.stop("slurmctld")
    driver = toy.start(*GROW)
    try:
        time.sleep(15)
        assert driver.poll() is None, driver.communicate()[0]
    finally:
        cluster.start("slurmctld")
    out, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, out
    assert toy.starts() == 1
    cluster.wait()


def test_a_controller_that_lost_its_state(toy: Experiment, cluster: Any):
    toy.hold("stall")
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    attempt = psutil.Process(read(run_of(toy), "1/started.json")["pid"])
    cluster.stop("slurmctld", signal.SIGKILL)
    state = cluster.directory / "state"
    shutil.rmtree(state)
    state.mkdir(mode=0o700)
    cluster.start("slurmctld")
    cluster.wait()
    # Slurm 22.05 ends a job that it does not know where a node says that it has it.
    eventually(lambda: not attempt.is_running(), what="Slurm has ended it")
    # Nobody has to wait until it has given no sign of life for long enough.
    long_ago = time.time() - HEARTBEAT_PATIENCE
    os.utime(run_of(toy) / "attempts/1/heartbeat", (long_ago, long_ago))
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, out
    assert "another one is to follow" in out
    assert "Slurm has forgotten its job" in out
    assert "done in attempt 2" in out


@pytest.mark.long
def test_the_time_limit(toy: Experiment):
    slow(toy, 0.5, 1000)
    write_machine(toy, default={"time": 1})
    driver = toy.start(*GROW)
    eventually(
        lambda: epochs(toy, 2) > 60, 180, "it goes on from the newest checkpoint"
    )
    # It was warned, ended in time, and said so itself.
    assert read(run_of(toy), "1/end.json")["cause"] == "time_limit"
    os.killpg(driver.pid, signal.SIGINT)
    driver.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("with_stepd", [False, True])
def test_a_node_that_is_lost_while_its_processes_live_on(
    toy: Experiment, cluster: Any, with_stepd: bool
):
    """slurmd dies, alone or with its slurmstepd: Slurm calls the node failed. Two attempts never write at once."""
    slow(toy, 0.5, 400)
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 2, 60, "two epochs")
    node = read(run_of(toy), "1/started.json")["node"]
    program = psutil.Process(read(run_of(toy), "1/scratch/state.json")["starts"][-1])
    cluster.stop(f"slurmd {node}", signal.SIGKILL, tree=with_stepd)
    try:
        if not with_stepd:
            before = epochs(toy, 1)
            eventually(lambda: epochs(toy, 1) > before, 10, "its program lives on")
        eventually(lambda: epochs(toy, 2) > 0, 120, "the second attempt works")
        assert not program.is_running() or program.status() == psutil.STATUS_ZOMBIE
        assert "going on from" in (run_of(toy) / "attempts/2/log.txt").read_text()
        os.killpg(driver.pid, signal.SIGINT)
        driver.communicate(timeout=PATIENCE)
    finally:
        cluster.start(f"slurmd {node}")
        cluster.wait()


def test_a_purged_job_is_judged_by_its_record(toy: Experiment, cluster: Any):
    slow(toy, 0.3, 6)
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    eventually(lambda: bool(read(run_of(toy), "1/end.json")), 60, "the job's end")
    job = job_of(toy)
    # What a purge answers, without waiting for MinJobAge.
    wrap(
        toy,
        "scontrol",
        'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1',
    )
    wrap(toy, "squeue", f'"$REAL" "$@" | grep -v "^{job}|"; true')
    assert "known: collected" in toy.ok(*GROW)
    assert read(run_of(toy), "1/verdict.json")["phase"] == "FORGOTTEN"


@WITH_ACCOUNTING
@pytest.mark.parametrize("how", ["done", "cancelled"])
def test_accounting_remembers_a_purged_job(toy: Experiment, how: str):
    slow(toy, 0.3, 6 if how == "done" else 100)
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    job = job_of(toy)
    if how == "cancelled":
        toy.ok("scancel", job)
    else:
        eventually(lambda: bool(read(run_of(toy), "1/end.json")), 60, "the job's end")
    word = "COMPLETED" if how == "done" else "CANCELLED"
    eventually(
        lambda: word in toy.ok("sacct", "-nXPj", job, "-o", "State"),
        30,
        "accounting knows",
    )
    # What a purge answers, without waiting for MinJobAge.
    wrap(
        toy,
        "scontrol",
        'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1',
    )
    wrap(toy, "squeue", f'"$REAL" "$@" | grep -v "^{job}|"; true')
    if how == "done":
        assert "known: collected" in toy.ok(*GROW)
        assert read(run_of(toy), "1/verdict.json")["told"].startswith("COMPLETED")
    else:
        [found] = toy.status("grow")
        assert found["state"] == "cancelled", found
        assert "CANCELLED" in found["reason"]
