"""The contract of the schedulers, which all keep: processes on this host, a real Slurm, and the double of one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.experiment import eventually
from support.slurm_cluster import start_cluster
from support.slurm_double import Double

from mllam_exps import schedulers
from mllam_exps.base.errors import MllamError
from mllam_exps.machines.model import Resources
from mllam_exps.schedulers import (
    Job,
    JobPhase,
    JobRequest,
    JobState,
    Objection,
    Scheduler,
    Uncertain,
)
from mllam_exps.schedulers.slurm import shared_squeue

SLURM = pytest.param("slurm", marks=pytest.mark.slurm)
slurm_only = pytest.mark.parametrize("site", [SLURM, "double"], indirect=True)

ODD = """a "b" 'c'; %j %% $(touch x) `touch x` #7 \\n é — ł"""


@dataclass
class Site:
    """A scheduler, and a folder of the test's own."""

    name: str
    folder: Path

    def scheduler(self) -> Scheduler:
        """Return the scheduler afresh, as another process has it."""
        return schedulers.get.__wrapped__(self.name, self.folder)

    def request(
        self, command: str | list[str], folder: str = "job", **changes: Any
    ) -> JobRequest:
        """Return a request to run a line of bash, or a command, with GREETING in its machine's environment."""
        command = ["bash", "-c", command] if isinstance(command, str) else command
        directory = self.folder / folder
        directory.mkdir(exist_ok=True)
        asked = {
            "argv": ["env", "GREETING=good day", *command],
            "prologue": ["export GREETING='good day'"],
        }
        asked |= {
            "name": f"contract/{uuid.uuid4()}",
            "environment": dict(os.environ),
            "log": directory / "log.txt",
            "script": directory / "job.sh",
        }
        asked |= {
            "command": command,
            "directory": directory,
            "resources": Resources(partition="main", memory="50M"),
        }
        return JobRequest(**asked | changes)

    def submit(self, request: JobRequest | str, **changes: Any) -> Job:
        return self.scheduler().submit(
            request
            if isinstance(request, JobRequest)
            else self.request(request, **changes)
        )

    def phase(self, phase: JobPhase) -> JobPhase:
        """Return what a phase is here: nobody keeps the exit code of a process."""
        return JobPhase.GONE if self.name == "local" else phase

    def ended(self, job: Job) -> JobState:
        """Wait for a job's end, and return the verdict. Late news never moves it back."""
        seen: list[JobPhase] = []
        eventually(
            lambda: (
                seen.append(self.scheduler().state(job).phase)
                or sum(x.ended for x in seen) > 4
            ),
            60,
        )
        known = [phase.value for phase in seen if phase is not JobPhase.UNKNOWN]
        assert known == sorted(known)
        return self.scheduler().verdict(job)

    def found(self, name: str, written: float) -> Job | Uncertain | None:
        try:
            return self.scheduler().find(name, written)
        except Uncertain as doubt:
            return doubt


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from start_cluster(tmp_path_factory.mktemp("slurm") / "cluster")


@pytest.fixture(params=["local", SLURM, "double"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Site:
    monkeypatch.setattr(shared_squeue, "PERIOD", 0.5)
    monkeypatch.chdir(tmp_path)
    if request.param == "slurm":
        cluster = request.getfixturevalue("cluster")
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        request.addfinalizer(
            lambda: cluster.command("scancel", f"--user={os.getuid()}")
        )
    elif request.param == "double":
        double = Double(tmp_path / "double")
        monkeypatch.setenv("PATH", str(double.bin), prepend=os.pathsep)
        request.addfinalizer(double.down)
    return Site("local" if request.param == "local" else "slurm", tmp_path)


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_runs_as_its_request_says_and_ends_as_its_command_does(
    site: Site, code: int
):
    request = site.request(f'pwd; echo "$GREETING"; echo complaint >&2; exit {code}')
    request.log.write_text("what was there\n")
    assert site.scheduler().objection(request) is None
    verdict = site.ended(site.submit(request))
    assert (
        request.log.read_text()
        == f"what was there\n{request.directory}\ngood day\ncomplaint\n"
    )
    assert verdict.phase is site.phase(JobPhase.FAILED if code else JobPhase.SUCCEEDED)
    if site.name == "local":
        assert site.scheduler().launch(request) == []
    else:
        assert (verdict.plain, verdict.told) == (
            (True, "FAILED 3:0 on n1") if code else (False, "COMPLETED 0:0 on n1")
        )


@slurm_only
def test_a_job_killed_by_a_signal_is_called_that(site: Site):
    assert "signal 9" in site.ended(site.submit("kill -9 $$")).reason


def submit_and_die(site: Site, request: JobRequest, by: int) -> None:
    os.setsid()
    (site.folder / "record").write_text(json.dumps(site.submit(request).record))
    os.killpg(0, by)


@pytest.mark.parametrize("by", [0, signal.SIGKILL])
def test_a_job_outlives_its_submitter(site: Site, by: int):
    request = site.request("sleep 2; echo alive")
    submitter = multiprocessing.get_context("spawn").Process(
        target=submit_and_die, args=(site, request, by)
    )
    submitter.start()
    submitter.join()
    assert submitter.exitcode == -by
    job = site.scheduler().job(json.loads((site.folder / "record").read_text()))
    assert site.ended(job).phase is site.phase(JobPhase.SUCCEEDED)
    assert request.log.read_text() == "alive\n"


def test_a_job_is_found_by_its_name_and_no_other_is(site: Site):
    name, written = f"contract/{uuid.uuid4()}-10", time.time()
    job = site.submit("sleep 60", name=name)
    while not isinstance(found := site.found(name, written), Job):
        assert isinstance(found, Uncertain), "that there is no such job would be wrong"
        assert time.time() < written + 60
    assert found.label == job.label
    for other in (name[:-1], f"{name}0", name.partition("/")[2], "", "%", f"{name} "):
        assert site.found(other, written - 3600) is None
        assert not isinstance(site.found(other, time.time()), Job)
    site.scheduler().cancel(job)


def test_jobs_that_are_submitted_at_once_are_jobs_of_their_own(site: Site):
    with ThreadPoolExecutor() as pool:
        jobs = list(
            pool.map(
                lambda i: site.submit(f"sleep 1; echo {i}", folder=str(i)), range(5)
            )
        )
    assert {site.ended(job).phase for job in jobs} == {site.phase(JobPhase.SUCCEEDED)}
    assert [(site.folder / f"{i}/log.txt").read_text() for i in range(5)] == [
        f"{i}\n" for i in range(5)
    ]


def test_a_cancelled_job_ends_and_may_be_cancelled_again(site: Site):
    job, log = site.submit("echo $$; exec sleep 60"), site.folder / "job/log.txt"
    eventually(
        lambda: log.exists() and log.read_text().endswith("\n"), 20, "its output"
    )
    process = psutil.Process(int(log.read_text()))
    for _ in range(2):
        begun = time.monotonic()
        site.scheduler().cancel(job)
        assert time.monotonic() - begun < 30
        assert site.ended(job).phase is site.phase(JobPhase.CANCELLED)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@slurm_only
def test_a_job_that_was_cancelled_while_it_was_held_never_runs(site: Site):
    job = site.submit("echo ran", resources=Resources(sbatch={"hold": True}))
    eventually(
        lambda: "held by its user" in site.scheduler().state(job).reason,
        20,
        "it is called held",
    )
    site.scheduler().cancel(job)
    assert site.ended(job).phase is JobPhase.CANCELLED
    assert not (site.folder / "job/log.txt").exists()


def test_a_job_that_never_was_and_one_whose_number_is_another_s_by_now(site: Site):
    job = site.submit("sleep 60")
    never, another = {"id": "987654"}, {"name": "lost", "script": ""}
    for change in (
        ({"pid": 2**22 + 1}, {"started": 1})
        if site.name == "local"
        else (never, another)
    ):
        other = site.scheduler().job(job.record | change)
        site.scheduler().cancel(other)
        assert site.ended(other).phase is site.phase(JobPhase.FORGOTTEN)
    eventually(
        lambda: site.scheduler().state(job).phase is JobPhase.RUNNING, 20, "it runs on"
    )
    site.scheduler().cancel(job)


@slurm_only
def test_launch_runs_a_program_as_often_as_asked_for(site: Site):
    launch = site.scheduler().launch(site.request("", nodes=2, tasks=2))
    program = 'echo "task $SLURM_PROCID of $SLURM_NTASKS on $SLURM_NODEID: $1"; exit $((SLURM_PROCID == 3 ? 5 : 0))'
    request = site.request(
        [*launch, "bash", "-c", program, "bash", ODD], nodes=2, tasks=2
    )
    verdict = site.ended(site.submit(request))
    told = request.log.read_text().splitlines()
    # What Slurm says of the step that it ends stands between them.
    assert sorted(line for line in told if ": task " in line and ODD in line) == [
        f"{i}: task {i} of 4 on {i // 2}: {ODD}" for i in range(4)
    ]
    assert "srun: error: n2: task 3: Exited with exit code 5" in told
    assert (verdict.reason, verdict.told) == ("exit code 5", "FAILED 5:0 on n[1-2]")


@pytest.mark.parametrize("folder", [ODD.replace("\\", ""), ODD], ids=["", "backslash"])
def test_odd_names_survive(site: Site, folder: str):
    name, written = f"{ODD} {uuid.uuid4()} JobState=FAILED", time.time()
    command = [
        "bash",
        "-c",
        'printf "%s\\n" "$PWD" "$1" "${SLURM_JOB_NAME-$MLLAM_EXPS_JOB_NAME}"; sleep 2',
        "",
        ODD,
    ]
    asked = site.request(command, folder=folder, name=name, comment=ODD)
    assert site.scheduler().objection(asked) is None
    job = site.submit(asked)
    assert f"# {ODD}" in site.scheduler().script(asked).splitlines()
    eventually(lambda: isinstance(site.found(name, written), Job), 20, "it is found")
    assert site.ended(job).phase is site.phase(JobPhase.SUCCEEDED)
    assert asked.log.read_text().splitlines() == [str(asked.directory), ODD, name]
    assert not list(site.folder.rglob("x"))


@slurm_only
def test_nothing_of_the_caller_reaches_a_job(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    for name in (
        "SLURM_NTASKS",
        "SLURM_JOB_ID",
        "SBATCH_PARTITION",
        "SRUN_X",
        "DVC_ROOT",
        "WANDB_API_KEY",
    ):
        monkeypatch.setenv(name, "nowhere")
    request = site.request("env")
    assert site.scheduler().objection(request) is None
    job = site.submit(request)
    assert site.ended(job).phase is JobPhase.SUCCEEDED
    assert f"\nSLURM_JOB_ID={job.record['id']}\n" in request.log.read_text()
    assert "nowhere" not in request.log.read_text()


@slurm_only
def test_what_the_caller_wants_squeue_to_show_hides_no_job(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SQUEUE_PARTITION", "short")
    site.submit("sleep 60", name="contract/hidden")
    assert isinstance(site.found("contract/hidden", time.time() - 3600), Job)


def test_the_script_is_one_that_bash_runs_by_itself(site: Site):
    request = site.request('echo "$PWD: $GREETING"')
    script = site.scheduler().script(request)
    assert (
        subprocess.check_output(
            ["bash", "-n"], input=script, text=True, stderr=subprocess.STDOUT
        )
        == ""
    )
    assert (
        subprocess.check_output(["bash"], input=script, text=True)
        == f"{request.directory}: good day\n"
    )


@slurm_only
def test_what_slurm_refuses_is_told_in_its_words_and_is_no_job(site: Site):
    request = site.request("true", resources=Resources(partition="nowhere"))
    assert site.scheduler().objection(request) == Objection(
        "invalid partition specified: nowhere", final=True
    )
    with pytest.raises(MllamError, match="invalid partition specified: nowhere"):
        site.submit(request)
    assert site.found(request.name, time.time() - 3600) is None


@pytest.mark.slurm
@pytest.mark.parametrize("site", ["slurm"], indirect=True)
def test_slurm_queues_what_test_only_refuses_while_all_nodes_are_drained(
    site: Site, cluster: Any
):
    request, large = (
        site.request("true", resources=Resources(partition="main", memory=m))
        for m in ("50M", "1T")
    )
    cluster.command(
        "scontrol", "update", "nodename=n[1-4]", "state=drain", "reason=maintenance"
    )
    drained = ("sinfo", "--noheader", "--states=drained", "--format=%D")
    try:
        # A node on which a job is ending is draining still.
        eventually(
            lambda: cluster.command(*drained).stdout.split() == ["4"], 30, "all drained"
        )
        waits, never = (
            site.scheduler().objection(request),
            site.scheduler().objection(large),
        )
        assert waits is not None
        assert never is not None
        assert ("4 drained" in waits.why, waits.final, never.final) == (
            True,
            False,
            True,
        )
        assert isinstance(site.submit(request), Job)
        with pytest.raises(
            MllamError, match="Memory specification can not be satisfied"
        ):
            site.submit(large)
    finally:
        cluster.command("scontrol", "update", "nodename=n[1-4]", "state=undrain")


def test_it_names_the_jobs_that_are_pending_or_running(site: Site):
    scheduler = site.scheduler()
    assert scheduler.answers()
    job = site.submit(replace(site.request("sleep 60"), name="sweep/grow-0a1b2c3d"))
    eventually(lambda: "sweep/grow-0a1b2c3d" in scheduler.names(), 10, "its name")
    scheduler.cancel(job)
    eventually(lambda: "sweep/grow-0a1b2c3d" not in scheduler.names(), 30, "it is gone")


@pytest.mark.parametrize("site", [SLURM], indirect=True)
@pytest.mark.parametrize(("code", "ran"), [(0, {"any", "success"}), (3, {"any"})])
def test_jobs_behind_another_start_when_it_has_ended_and_if_it_succeeded(
    site: Site, code: int, ran: set[str]
):
    assert site.scheduler().chains
    first = site.submit(f"sleep 2; exit {code}", folder="first")
    later = {
        kind: site.submit(
            replace(
                site.request("echo ran", kind),
                after=(first,),
                after_success=kind == "success",
            )
        )
        for kind in ("any", "success")
    }
    states = {kind: site.ended(job) for kind, job in later.items()}
    logs = {kind: site.folder / kind / "log.txt" for kind in later}
    assert {
        kind for kind, log in logs.items() if log.exists() and "ran" in log.read_text()
    } == ran
    # A job whose turn can never come is cancelled at once, and does not wait for ever.
    assert states["success"].phase is (
        JobPhase.SUCCEEDED if code == 0 else JobPhase.CANCELLED
    )
