"""What a driver does with a run, in real DVC repositories, with stages that take no time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from support.experiment import PATIENCE, Experiment, eventually

from mllam_exps.attempts import workdir
from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs.store import RunStore
from mllam_exps.stages.neural_lam.file_names import FILES

GROW = ("dvc", "repro", "-s", "grow")


def end_of(run: Path, attempt: int = 1) -> dict:
    return records.read(run / f"attempts/{attempt}/end.json") or {}


def alive(process: psutil.Process) -> bool:
    """Whether a process lives; in a container nobody may reap orphans, so that zombies stay."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def slow(toy: Experiment, seconds: float = 0.5, epochs: int = 6) -> None:
    toy.set("toy.yaml", grow__seconds=seconds, grow__epochs=epochs)


def grown(toy: Experiment) -> dict:
    return json.loads((toy.root / "grown/state.json").read_text())


def running_attempt(toy: Experiment) -> psutil.Process:
    """Return the process of the attempt at `grow`, once its program has done an epoch."""
    eventually(
        lambda: any(
            (r / "attempts/1/scratch/state.json").exists() for r in toy.runs("grow")
        ),
        60,
        "an epoch",
    )
    started = [records.read(r / "attempts/1/started.json") for r in toy.runs("grow")]
    return psutil.Process(started[-1]["pid"])


def test_a_run_is_done_once_and_found_again(toy: Experiment):
    out = toy.ok("dvc", "exp", "run")
    assert "grow: done in attempt 1" in out
    out = toy.ok("dvc", "exp", "run")
    assert "Stage 'make' didn't change, skipping" in out
    assert "Stage 'grow' didn't change, skipping" in out
    # The workspace forgets; the store does not.
    for path in ("made", "grown"):
        shutil.rmtree(toy.root / path)
    shutil.rmtree(toy.root / ".dvc/cache/runs")
    (toy.root / "dvc.lock").unlink()
    toy.set("toy.yaml", grow__epochs=3)
    out = toy.ok("dvc", "exp", "run")
    assert "make: known: collected" in out
    assert "grow: known: collected" in out
    assert toy.starts() == 1


def test_outputs_exist_once_and_survive_gc(toy: Experiment):
    toy.ok("dvc", "config", "cache.type", "hardlink,symlink")
    toy.ok("dvc", "repro", "make")
    [run] = toy.runs("make")
    told = json.loads((run / "attempts/1/environment.json").read_text())
    assert "dvc" in {package["name"] for package in told["packages"]}
    kept = run / "attempts/1/outputs/made/sub/7.txt"
    # Three names, one inode: the store's, the cache's and the workspace's.
    assert kept.stat().st_nlink == 3
    assert (toy.root / "made/sub/7.txt").stat().st_ino == kept.stat().st_ino
    assert not kept.stat().st_mode & 0o222
    shutil.rmtree(toy.root / "made")
    shutil.rmtree(toy.root / ".dvc/cache/files")
    (toy.root / "dvc.lock").unlink()
    assert "make: known: collected" in toy.ok("dvc", "repro", "make")
    assert (toy.root / "made/sub/7.txt").read_text() == "7\n" * 10
    assert kept.stat().st_nlink == 3
    assert "up to date" in toy.ok("dvc", "status", "make")


def test_our_folder_digest_is_dvcs(made: Experiment):
    [run] = made.runs("make")
    ours = json.loads((run / "result.json").read_text())["outputs"]["made"]
    assert f"md5: {ours['digest']}" in (made.root / "dvc.lock").read_text()
    assert ours["files"] == 20


def test_dvc_killed_the_run_goes_on_and_is_attached_to(made: Experiment):
    slow(made)
    made.ok("git", "commit", "-qam", "slower")
    driver = made.start("dvc", "exp", "run")
    attempt = running_attempt(made)
    commit = made.ok("git", "rev-parse", "HEAD").strip()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    out = made.ok("dvc", "exp", "run")
    assert (
        records.read(made.runs("grow")[0] / "attempts/1/started.json")["pid"]
        == attempt.pid
    )
    assert "grow: attached to attempt 1" in out or "grow: known: collected" in out
    assert "a `dvc exp run` left HEAD detached here: it was killed" in out
    assert "git switch main" in out
    assert made.starts() == 1
    assert grown(made)["epochs"] == 6
    assert made.ok("git", "rev-parse", "HEAD").strip() == commit
    made.ok("git", "switch", "-q", "main")
    assert "left HEAD detached" not in made.ok("mllam-exps", "status")


def test_an_orphaned_driver_publishes_nothing(made: Experiment):
    made.hold()
    dvc = made.start(*GROW)
    running_attempt(made)
    driver = next(
        p
        for p in psutil.Process(dvc.pid).children(recursive=True)
        if "run" in p.cmdline() and "grow" in p.cmdline()
    )
    dvc.send_signal(signal.SIGKILL)
    dvc.wait()
    eventually(lambda: not alive(driver), what="the orphan leaves")
    made.go_on()
    eventually(lambda: end_of(made.runs("grow")[0]).get("outcome") == "succeeded", 30)
    assert not (made.root / "grown").exists()
    assert not (made.root / "grown.json").exists()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "ValueError: the weather is bad"),
        ("segfault", "killed by SIGSEGV"),
        ("nothing", "did not make its output grown"),
        ("early", "only 1 of 3 epochs were done"),
    ],
)
def test_a_failure_is_told_and_never_published(made: Experiment, how: str, reason: str):
    made.set("toy.yaml", grow__do=how, grow__at=1)
    done = made.command(*GROW)
    assert done.returncode != 0
    assert reason in done.stdout
    assert "epoch 1 done" in done.stdout, "the end of the log is shown"
    assert not (made.root / "grown").exists()
    [run] = made.runs("grow")
    assert not (run / "result.json").exists()
    [status] = made.status("grow")
    assert status["state"] == "failed"
    assert reason in status["reason"]
    if how == "raise":
        # The same command goes on from the checkpoint: two epochs instead of three.
        assert "going on from" not in Path(status["log"]).read_text()
        made.ok(*GROW)
        assert len(grown(made)["starts"]) == 2
        assert grown(made)["epochs"] == 3
        assert "going on from carried.json of attempt 1" in made.ok(
            "mllam-exps", "logs", "grow"
        )


def test_a_killed_supervisor_takes_its_program_along_and_another_follows(
    made: Experiment,
):
    made.hold("stall")
    driver = made.start(*GROW)
    attempt = running_attempt(made)
    [program] = attempt.children()
    attempt.kill()
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, out
    assert "another one is to follow: the attempt ended without a word" in out
    eventually(lambda: not alive(program))
    assert len(grown(made)["starts"]) == 2


def test_two_workspaces_start_a_key_once(toy: Experiment, tmp_path: Path):
    slow(toy)
    toy.ok("git", "commit", "-qam", "slower")
    other = toy.clone(tmp_path / "other")
    for workspace in (toy, other):
        workspace.ok("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    both = [workspace.start("dvc", "exp", "run") for workspace in (toy, other)]
    outs = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert toy.starts() == 1
    assert grown(toy) == grown(other)
    assert sum("grow: done in attempt 1" in out for out in outs) >= 1


def test_ctrl_c_stops_the_run_and_the_next_goes_on(made: Experiment):
    made.hold("stall")
    driver = made.start(*GROW)
    attempt = running_attempt(made)
    os.killpg(driver.pid, signal.SIGINT)
    out, _ = driver.communicate(timeout=PATIENCE)
    assert "interrupted; the run was stopped" in out
    assert not alive(attempt)
    assert end_of(made.runs("grow")[0])["outcome"] == "cancelled"
    made.ok(*GROW)
    assert len(grown(made)["starts"]) == 2


def test_ctrl_c_leaves_a_run_that_another_driver_waits_for(
    toy: Experiment, tmp_path: Path
):
    toy.hold()
    toy.ok("git", "commit", "-qam", "It waits")
    other = toy.clone(tmp_path / "other")
    for workspace in (toy, other):
        workspace.ok("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    first, second = (workspace.start("dvc", "repro") for workspace in (toy, other))
    runs = tmp_path / "cache/mllam-exps/runs"
    eventually(lambda: len(list(runs.glob("grow-*/waiters/*.json"))) == 2, 60)
    # Who has said that they wait may not have come to do so.
    eventually(lambda: any(runs.glob("grow-*/attempts/1/started.json")), 60)
    os.killpg(first.pid, signal.SIGINT)
    out, _ = first.communicate(timeout=PATIENCE)
    assert "the run goes on: somebody else waits for it" in out
    toy.go_on()
    out, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, out
    assert toy.starts() == 1


def test_ctrl_c_detaches_where_the_machine_says_so(made: Experiment):
    made.hold()
    made.environ["MLLAM_MACHINE_OPTIONS"] = "on_interrupt=detach"
    driver = made.start(*GROW)
    running_attempt(made)
    os.killpg(driver.pid, signal.SIGINT)
    out, _ = driver.communicate(timeout=PATIENCE)
    assert "the run goes on" in out
    made.go_on()
    assert "up to date" not in made.ok(*GROW)
    assert made.starts() == 1


def test_a_run_without_a_driver_can_be_cancelled(made: Experiment):
    made.hold("stall")
    driver = made.start(*GROW)
    attempt = running_attempt(made)
    refused = made.command("mllam-exps", "cancel", "grow")
    assert refused.returncode == 2
    assert "is waited for" in refused.stdout
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert "cancelled" in made.ok("mllam-exps", "cancel", "grow")
    eventually(lambda: not alive(attempt), 10, "its process ended")


def test_another_dvc_command_at_the_wrong_moment_costs_a_moment(made: Experiment):
    made.hold()
    driver = made.start(*GROW)
    running_attempt(made)
    with (made.root / ".dvc/tmp/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.go_on()
        eventually((made.root / "grown/state.json").exists)
        time.sleep(5)  # longer than the 3 s for which DVC waits
        assert driver.poll() is None
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, out


def test_temp_and_queue_share_the_store_and_lose_nothing(toy: Experiment):
    toy.ok("dvc", "exp", "run", "--temp")
    assert not (toy.root / "grown").exists()
    assert toy.starts() == 1
    toy.ok(
        "dvc",
        "exp",
        "run",
        "--queue",
        "-S",
        "toy.yaml:grow.do=raise",
        "-S",
        "toy.yaml:grow.at=2",
    )
    toy.ok("dvc", "queue", "start")
    eventually(
        lambda: "Failed" in toy.ok("dvc", "queue", "status"),
        60,
        "the queued experiment failed",
    )
    assert toy.starts() == 2
    failed = next(r for r in toy.status("grow") if r["state"] == "failed")
    assert "the weather is bad" in Path(failed["log"]).read_text()
    # DVC has removed its temporary workspace; the same in this one goes on from epoch
    # 2.
    toy.ok(
        "dvc", "exp", "run", "-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=2"
    )
    assert len(grown(toy)["starts"]) == 2
    assert len(toy.runs("make")) == 1


def test_a_full_disk_is_told_as_one(toy: Experiment, small_disk: Path):
    toy.environ["MLLAM_MACHINE_OPTIONS"] = f"paths.run_store={small_disk}"
    toy.ok("dvc", "repro", "make")
    toy.set("toy.yaml", grow__do="disk", grow__at=1)
    done = toy.command(*GROW)
    assert done.returncode != 0
    assert "the disk is full" in done.stdout
    assert not (toy.root / "grown").exists()
    [run] = (small_disk / "runs").glob("grow-*")
    assert end_of(run)["outcome"] == "failed"
    (run / "attempts/1/work/big").unlink()
    toy.ok(*GROW)
    assert len(grown(toy)["starts"]) == 2


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0 and not os.environ.get("CI"):
        pytest.skip("mounting a small file system needs root")
    assert mounted.returncode == 0, mounted.stderr
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_an_attempt_with_other_programs_fails_at_its_start(made: Experiment):
    # As if the environment changed between submission and start: the first attempt is
    # claimed with another version.
    [target] = made.runs("make")
    spec = records.read(target / "attempts/1/spec.json")
    (target / "result.json").unlink()
    for left in ("started.json", "end.json"):
        (target / "attempts/1" / left).unlink()
    shutil.rmtree(target / "attempts/1/outputs")
    for folder in ("work", "scratch"):
        (target / "attempts/1" / folder).mkdir(exist_ok=True)
    records.replace(
        target / "attempts/1/spec.json", spec | {"versions": {"numpy": "0.1"}}
    )
    done = made.command(
        sys.executable, "-P", "-m", "mllam_exps.attempt", str(target), "1"
    )
    assert done.returncode == 1
    assert "the key says 0.1" in end_of(target)["reason"]
    assert not (target / "result.json").exists()


def test_a_hand_made_input_counts_by_its_content(made: Experiment):
    made.ok(*GROW)
    shutil.rmtree(made.root / "made")
    (made.root / "made/sub").mkdir(parents=True)
    (made.root / "made/sub/by-hand.txt").write_text("mine")
    made.ok("dvc", "commit", "-f", "make")
    made.ok(*GROW)
    assert made.starts() == 2
    assert len(made.runs("grow")) == 2
    by_hand = [
        r
        for r in made.runs("grow")
        if json.loads((r / "run.json").read_text())["inputs"]["made"]["run"] is None
    ]
    assert len(by_hand) == 1


def test_bad_parameters_start_nothing(toy: Experiment):
    toy.set("data/training_params.yaml", hidden_dimm=8)
    done = toy.command("dvc", "exp", "run")
    assert done.returncode != 0
    assert "data/training_params.yaml: hidden_dimm" in done.stdout.replace("`", "")
    assert "hidden_dim" in done.stdout
    assert "Traceback" not in done.stdout
    assert not list(toy.store.glob("*"))


def test_why_and_logs_and_status_speak(made: Experiment):
    made.ok(*GROW)
    assert "grow is up to date" in made.ok("mllam-exps", "why", "grow")
    made.set("toy.yaml", grow__epochs=5)
    why = made.ok("mllam-exps", "why", "grow")
    assert "the parameter grow in toy.yaml is modified" in why
    assert "it has never run with these inputs" in why
    assert "epoch 3 done" in made.ok("mllam-exps", "logs", "grow")
    table = made.ok("mllam-exps", "status")
    assert "make" in table
    assert "done" in table
    missing = made.command("mllam-exps", "why", "gro")
    assert missing.returncode == 2
    assert "did you mean grow" in missing.stdout
    why_gives_one_answer(made)


def why_gives_one_answer(made: Experiment):
    made.set("toy.yaml", grow__epochs=3)
    # What an earlier stage makes stale DVC calls up to date, and our key of it is new.
    made.set("toy.yaml", make__size=21)
    why = made.ok("mllam-exps", "why", "grow")
    assert "up to date" not in why
    assert "stage make is stale, and runs before it: mllam-exps why make" in why
    assert "never run" not in why
    made.set("toy.yaml", make__size=20)
    # DVC has the result, and nobody else needs to.
    shutil.rmtree(made.store)
    assert (
        made.ok("mllam-exps", "why", "grow")
        == "grow is up to date: `dvc exp run` leaves it as it is\n"
    )
    # The programs count as they are, not as an earlier run wrote them down.
    (made.root / "version.mllam.txt").write_text("numpy: 0.0.1\n")
    assert "grow is up to date" in made.ok("mllam-exps", "why", "grow")
    lock = made.root / "dvc.lock"
    lock.write_text(re.sub("numpy: .*", "numpy: 0.0.1", lock.read_text()))
    why = made.ok("mllam-exps", "why", "grow")
    assert "the version of numpy was 0.0.1, and is " in why
    assert "up to date" not in why


def test_force_makes_a_known_result_again(made: Experiment):
    made.ok(*GROW)
    made.ok("mllam-exps", "run", "grow", "--force")
    assert made.starts() == 2
    assert len(grown(made)["starts"]) == 1, (
        "from the beginning, not from the checkpoint of the finished run"
    )


def test_an_output_that_was_added_since_is_published(made: Experiment):
    """DVC (3.67) takes one that its stage's entry in dvc.lock lacks for an output of DVC 2, with a cache of its own."""
    lock = yaml.safe_load((made.root / "dvc.lock").read_text())
    lock["stages"]["make"]["outs"] = []
    (made.root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(made.root / "made")
    shutil.rmtree(made.root / ".dvc/cache/runs")  # from which DVC would take it itself
    out = made.ok("dvc", "repro", "make")
    assert "known: collected" in out
    assert (made.root / "made").is_dir()
    lock = yaml.safe_load((made.root / "dvc.lock").read_text())
    assert lock["stages"]["make"]["outs"][0]["hash"] == "md5"


def test_no_more_attempts_at_once_than_the_machine_allows(made: Experiment):
    made.environ["MLLAM_MACHINE_OPTIONS"] = "max_jobs=1"
    slots = Path(made.environ["HOME"]) / ".local/state/mllam-exps/slots"
    slots.mkdir(parents=True)
    waiting = "waiting: 1 at once on this host"
    # As an attempt of another repository of this user's has it.
    with (slots / f"{socket.gethostname()}.0").open("w") as slot:
        fcntl.flock(slot, fcntl.LOCK_EX)
        driver = made.start("mllam-exps", "run", "grow")
        eventually(
            lambda: any(
                waiting in path.read_text()
                for path in made.store.glob("grow-*/attempts/1/scratch/progress.json")
            ),
            60,
            "it waits",
        )
        time.sleep(1)
        assert made.starts() == 0
    said, _ = driver.communicate(timeout=PATIENCE)
    assert (driver.returncode, made.starts()) == (0, 1), said


def test_damaged_records_cost_one_run_at_most(made: Experiment):
    made.ok(*GROW)
    [run] = made.runs("grow")
    (run / "result.json").write_text("")
    (run / "attempts/1.json").write_text("[1]")
    (run / "attempts/1/end.json").write_text("{}")
    states = {r["stage"]: r["state"] for r in made.status()}
    assert states == {"make": "done", "grow": "lost"}
    assert "grow: done in attempt 2" in made.ok("mllam-exps", "run", "grow")
    assert "grow: known: collected" in made.ok("mllam-exps", "run", "grow")


def test_a_changed_file_in_the_store_is_never_published(made: Experiment):
    made.ok(*GROW)
    [run] = made.runs("grow")
    shutil.rmtree(made.root / ".dvc/cache/files")
    for attempt, wrong in enumerate(
        (lambda _: b"short", lambda content: content.replace(b"3", b"4")), start=1
    ):
        kept = run / f"attempts/{attempt}/outputs/grown/state.json"
        content = kept.read_bytes()
        kept.chmod(0o644)
        kept.write_bytes(wrong(content))
        shutil.rmtree(made.root / "grown")
        said = made.ok("mllam-exps", "run", "grow")
        assert "the result of grow" in said
        assert "it is made again" in said
        assert made.starts() == attempt + 1
        assert grown(made)["epochs"] == 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("paths.run_store=/dev/null", "the run store cannot be written"),
        ("environment.source=nofile.sh", "there is no such script"),
        ("environment.venv=/nowhere", "no Python in the virtual environment"),
    ],
)
def test_a_machine_that_cannot_work_is_refused_by_the_first_stage(
    made: Experiment, option: str, message: str
):
    made.environ["MLLAM_MACHINE_OPTIONS"] = option
    done = made.command("mllam-exps", "run", "check_for_venv_path")
    assert done.returncode == 2
    assert message in done.stdout
    assert "Traceback" not in done.stdout


def test_a_secret_in_an_address_is_refused_and_others_are_written_nowhere(
    made: Experiment,
):
    made.environ["MLFLOW_TRACKING_URI"] = "http://user:hunter2@127.0.0.1:1/"
    done = made.command("mllam-exps", "run", "check_for_venv_path")
    assert done.returncode == 2
    assert "hunter2" not in done.stdout
    del made.environ["MLFLOW_TRACKING_URI"]
    made.environ["MLFLOW_TRACKING_PASSWORD"] = "hunter2"
    made.ok(*GROW)
    found = subprocess.run(
        ["grep", "-rl", "hunter2", str(made.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
    writable = subprocess.run(
        ["find", str(made.root), "-perm", "-o+w", "!", "-type", "l"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert writable.stdout == ""


def test_an_edit_while_a_run_is_being_started_never_gets_into_it(made: Experiment):
    pipeline = Pipeline(
        Repository.open(made.root), lambda: {"numpy": "2.0"}, as_it_lies=False
    )
    definition, store = pipeline.definition("make"), RunStore(made.root / "store")
    run = store.run(definition.key)
    run.begin(definition)
    workspace = Workspace.here({}, made.root)

    def laid_out(number: int) -> None:
        attempt = run.claim(
            number,
            scheduler="local",
            experiment="e",
            workspace=workspace.root,
            working_directory=None,
        )
        assert attempt is not None
        workdir.lay_out(
            pipeline.repository, made.root, store, attempt, definition, FILES
        )

    laid_out(1)
    shutil.copy(made.root / "toy.yaml", made.root / "before.yaml")
    made.set("toy.yaml", make__size=3)
    with pytest.raises(
        MllamError, match=r"toy\.yaml: it was edited while the run was being started"
    ):
        laid_out(2)
    shutil.copy(made.root / "before.yaml", made.root / "toy.yaml")
    made.set("data/datastore.yaml", dataset_version="v9")
    with pytest.raises(
        MllamError, match=r"its input data/datastore\.yaml changed since"
    ):
        laid_out(3)
