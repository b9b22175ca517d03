"""What a real cluster can't be made to do, on the double of one: through the scheduler, and through the driver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.experiment import PATIENCE, Experiment, eventually
from support.slurm_cluster import epochs, job_of, on, run_of
from support.slurm_double import Double

from mllam_exps.base.endings.causes import Cause
from mllam_exps.machines.model import Resources
from mllam_exps.schedulers import (
    Job,
    JobPhase,
    JobRequest,
    JobState,
    NoRoom,
    SilentError,
    Uncertain,
)
from mllam_exps.schedulers.slurm import calls, scheduler, shared_squeue
from mllam_exps.schedulers.slurm.scheduler import SlurmScheduler
from mllam_exps.schedulers.slurm.shared_squeue import Queue

# A driver whose patience is short, so that tests are.
HASTE = """
from mllam_exps import cli
from mllam_exps.attempts import driver
from mllam_exps.schedulers.slurm import calls, scheduler, shared_squeue
shared_squeue.PERIOD = driver.ASSESS_SECONDS = 0.5
shared_squeue.PATIENCE = scheduler.PATIENCE = 2.5
calls.PING = calls.DOWN_FOR = 1.0
scheduler.ASK_AGAIN = 0.0
cli.main()
"""
GROW = (sys.executable, "-c", HASTE, "run", "grow")
WAITS = {
    "AssocGrpCPUMinutesLimit": (
        "account limit reached: AssocGrpCPUMinutesLimit",
        False,
    ),
    "QOSMaxJobsPerUserLimit": (
        "quality-of-service limit reached: QOSMaxJobsPerUserLimit",
        False,
    ),
    "DependencyNeverSatisfied": (
        "will never run: a job that it depends on failed",
        True,
    ),
    "ReqNodeNotAvail, UnavailableNodes:n[1-4]": (
        "waiting: a node that it needs is not available",
        False,
    ),
}
ENDS = [
    ("TIMEOUT", "0:15", "TimeLimit", "it reached its time limit"),
    ("PREEMPTED", "0:15", "None", "it was pre-empted by another job"),
    ("NODE_FAIL", "1:0", "NodeDown", "its node failed"),
    ("DEADLINE", "0:1", "DeadLine", "it could not end before its deadline"),
    ("OUT_OF_MEMORY", "0:125", "OutOfMemory", "it ran out of memory"),
]
CAUSES = {
    "TIMEOUT": Cause.TIME_LIMIT,
    "PREEMPTED": Cause.PREEMPTION,
    "NODE_FAIL": Cause.NODE_FAILURE,
    "DEADLINE": Cause.TIME_LIMIT,
    "OUT_OF_MEMORY": Cause.HOST_MEMORY,
}
UNREACHABLE = "error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Double]:
    double = Double(tmp_path / "double")
    yield double
    double.down()


@dataclass
class Site:
    """The scheduler on the double, each time afresh, in a folder of the test's own."""

    double: Double
    folder: Path

    @property
    def scheduler(self) -> SlurmScheduler:
        return SlurmScheduler(Queue(self.folder / "shared"))

    def request(
        self, command: str, name: str = "a", nodes: int = 1, **resources: Any
    ) -> JobRequest:
        where = {
            "directory": self.folder,
            "log": self.folder / f"{name}.log",
            "script": self.folder / "job.sh",
            "environment": os.environ,
        }
        how = {
            "argv": [],
            "command": ["bash", "-c", command],
            "prologue": [],
            "resources": Resources(**resources),
        }
        return JobRequest(name=name, nodes=nodes, **where, **how)

    def submit(self, command: str, name: str = "a", **resources: Any) -> Job:
        return self.scheduler.submit(self.request(command, name, **resources))

    def becomes(self, job: Job, phase: JobPhase) -> JobState:
        eventually(
            lambda: self.scheduler.state(job).phase is phase, 20, f"{job} {phase}"
        )
        return self.scheduler.state(job)


def silence(double: Double, hang: bool = False) -> None:
    for program in ("squeue", "scontrol"):
        double.hang(program) if hang else double.say(
            program, f"slurm_load_jobs {UNREACHABLE}"
        )


@pytest.fixture
def site(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("PATH", str(double.bin), prepend=os.pathsep)
    monkeypatch.setattr(shared_squeue, "PERIOD", 0.2)
    monkeypatch.setattr(shared_squeue, "PATIENCE", 1.5)
    monkeypatch.setattr(scheduler, "PATIENCE", 1.5)
    monkeypatch.setattr(scheduler, "ASK_AGAIN", 1.0)
    for name, seconds in {
        "PATIENCE": 3.0,
        "PING": 2.0,
        "UP_FOR": 0.0,
        "DOWN_FOR": 0.3,
    }.items():
        monkeypatch.setattr(calls, name, seconds)
    # What an earlier test heard of them is nothing to this one.
    for daemon in ("_controller", "_accounting"):
        monkeypatch.setattr(calls, daemon, calls._Daemon())
    return Site(double, tmp_path)


def test_what_a_job_waits_for(site: Site):
    jobs = []
    for reason in WAITS:
        site.double.pend(reason)
        jobs.append(site.submit("true", reason[:5]))
    for job, (said, hopeless) in zip(jobs, WAITS.values(), strict=True):
        eventually(
            lambda job=job, said=said: site.scheduler.state(job).reason.startswith(
                said
            ),
            10,
            said,
        )
        for state in (site.scheduler.state(job), site.scheduler.verdict(job)):
            assert (state.phase, state.hopeless) == (JobPhase.PENDING, hopeless)
            assert state.reason.startswith(said)
    site.double.release()
    assert all(site.becomes(job, JobPhase.SUCCEEDED) for job in jobs)


def test_how_a_running_job_is_ended(site: Site):
    jobs = [
        site.submit("trap 'echo warned; exit' TERM; echo up; sleep 60 & wait", end[0])
        for end in ENDS
    ]
    for job, (state, exit_code, reason, said) in zip(jobs, ENDS, strict=True):
        log = site.folder / f"{state}.log"
        eventually(
            lambda log=log: log.exists() and log.read_text() == "up\n", 10, "it runs"
        )
        site.double.end(job.record["id"], state, exit_code, reason)
        verdict = site.scheduler.verdict(job)
        told = f"{state} {exit_code} on n1"
        cause = CAUSES.get(state)
        assert verdict == JobState(JobPhase.FAILED, said, told, cause=cause)
        assert site.becomes(job, JobPhase.FAILED).reason == said
        assert log.read_text() == (
            "up\n" if state in ("NODE_FAIL", "OUT_OF_MEMORY") else "up\nwarned\n"
        )


def test_a_purged_job_is_known_to_the_accounting_or_to_nobody(site: Site):
    job = site.submit("sleep 60")
    site.becomes(job, JobPhase.RUNNING)
    site.double.end(job.record["id"], "TIMEOUT", "0:15", "TimeLimit")
    site.double.forget(job.record["id"])
    assert site.becomes(job, JobPhase.FORGOTTEN)
    site.double.say_nothing_more("sacct")
    assert site.scheduler.verdict(job).told == "TIMEOUT 0:15 on n1"
    site.double.say(
        "sacct", "sacct: error: Sending PersistInit msg: Connection refused"
    )
    assert site.scheduler.verdict(job).phase is JobPhase.UNKNOWN


def test_a_job_that_the_controller_lost_was_cancelled_by_nobody(site: Site):
    site.double.say_nothing_more("sacct")
    site.double.pend("Priority")
    lost, cancelled = site.submit("true", "lost"), site.submit("true", "cancelled")
    site.double.lose(lost.record["id"])
    site.double.forget(cancelled.record["id"])
    assert site.scheduler.verdict(lost).phase is JobPhase.FORGOTTEN
    assert "nobody cancelled it" in site.scheduler.verdict(lost).reason
    assert site.scheduler.verdict(cancelled).phase is JobPhase.CANCELLED


@pytest.mark.parametrize(
    ("hang", "said"), [(False, UNREACHABLE), (True, "gave no answer within")]
)
def test_a_controller_that_is_away_and_comes_back(site: Site, hang: bool, said: str):
    job = site.submit("sleep 60")
    site.becomes(job, JobPhase.RUNNING)
    silence(site.double, hang)
    assert "Slurm has not answered since" in site.becomes(job, JobPhase.UNKNOWN).reason
    for state in (site.scheduler.state(job), site.scheduler.verdict(job)):
        assert (state.phase, said in state.reason) == (JobPhase.UNKNOWN, True)
    with pytest.raises(Uncertain):
        site.scheduler.find("a", time.time() - 3600)
    site.double.say_nothing_more()
    assert site.becomes(job, JobPhase.RUNNING)
    # squeue may have been asked before the controller is asked again whether it
    # answers.
    eventually(
        lambda: site.scheduler.verdict(job).phase is JobPhase.RUNNING,
        20,
        "Slurm's word on the job",
    )


@pytest.mark.parametrize("hang", [False, True])
def test_a_submission_without_an_answer_is_looked_for_by_its_name(
    site: Site, hang: bool
):
    written = time.time()
    site.double.hang("sbatch") if hang else site.double.say(
        "sbatch", f"sbatch: {UNREACHABLE}"
    )
    with pytest.raises(Uncertain):
        site.submit("true")
    with pytest.raises(Uncertain):
        site.scheduler.find("a", written)
    time.sleep(written + 2.6 - time.time())
    assert site.scheduler.find("a", written) is None


def test_a_job_that_squeue_does_not_know_yet_is_not_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    site.scheduler.queue.read()
    monkeypatch.setattr(shared_squeue, "PERIOD", 60.0)
    assert site.scheduler.state(site.submit("true")) == JobState(
        JobPhase.PENDING, "submitted"
    )


def test_a_job_in_a_hidden_partition_is_found(site: Site):
    site.submit("sleep 60", partition="hidden")
    assert site.scheduler.find("a", time.time() - 3600) is not None


def test_what_test_only_refuses_and_sbatch_queues_is_no_refusal(site: Site):
    site.double.refuse(
        "allocation failure: Requested node configuration is not available"
    )
    site.double.has_nodes("drained", "drained")
    for partition in (None, "main"):
        objection = site.scheduler.objection(site.request("true", partition=partition))
        assert objection is not None
        assert not objection.final
        assert "2 drained" in objection.why


@pytest.mark.parametrize("code", [0, 3])
def test_what_a_site_s_wrappers_print_and_return_is_not_slurm_s_answer(
    site: Site, code: int
):
    for program in ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sinfo"):
        site.double.greet(
            program,
            f"*** {program}: maintenance on 7 | 12 ***",
            code if program == "sbatch" else None,
        )
    assert not site.scheduler.names()
    job = site.submit("sleep 60")
    assert site.double.job(job.record["id"])["name"] == "a"
    assert site.becomes(job, JobPhase.RUNNING)
    assert list(site.scheduler.names()) == ["a"]
    assert site.scheduler.verdict(job).phase is JobPhase.RUNNING
    site.scheduler.cancel(job)
    assert site.becomes(job, JobPhase.CANCELLED)


@pytest.mark.parametrize(
    "said",
    ["", "Submitted batch job {id} on cluster a", "{id};a", "{id}\n*** good luck ***"],
)
def test_a_job_whose_id_is_told_oddly_or_not_at_all(
    site: Site, monkeypatch: pytest.MonkeyPatch, said: str
):
    wrapper = site.folder / "wrapped/sbatch"
    wrapper.parent.mkdir()
    print_id = f'printf "{said.replace("{id}", "$id")}\\n"'
    wrapper.write_text(
        f'#!/bin/bash\necho "you have 3 jobs"\nid=$({site.double.bin}/sbatch "$@")\n{print_id}\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=os.pathsep)
    site.double.pend("Priority")
    site.submit("true", "other")
    job = site.submit("true", "mine")
    assert site.double.job(job.record["id"])["name"] == "mine"


def programs_asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each of Slurm's programs is added that is started from now on."""
    asked: list[str] = []
    run = calls._run

    def noted(command: list[str], *rest: Any, **options: Any) -> Any:
        asked.append(command[0])
        return run(command, *rest, **options)

    monkeypatch.setattr(calls, "_run", noted)
    return asked


@pytest.mark.parametrize("hang", [False, True])
def test_one_silence_is_enough_for_all_that_would_be_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch, hang: bool
):
    job = site.submit("sleep 60")
    site.becomes(job, JobPhase.RUNNING)
    silence(site.double, hang)
    for program in ("sbatch", "scancel", "sinfo"):
        site.double.hang(program)
    monkeypatch.setattr(calls, "DOWN_FOR", 60.0)
    asked = programs_asked(monkeypatch)
    assert site.scheduler.outage()
    assert site.scheduler.verdict(job).phase is JobPhase.UNKNOWN
    with pytest.raises(SilentError):
        site.scheduler.cancel(job)
    with pytest.raises(NoRoom):
        site.submit("true", "b")
    with pytest.raises(Uncertain):
        site.scheduler.objection(site.request("true"))
    with pytest.raises(Uncertain):
        site.scheduler.names()
    assert asked == ["scontrol"]


def test_a_slurmdbd_that_hangs_is_waited_for_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(calls, "ACCOUNTING", 1.0)
    monkeypatch.setattr(calls, "ACCOUNTING_DOWN_FOR", 60.0)
    site.double.pend("Priority")
    jobs = [site.submit("true", name) for name in ("a", "b", "c")]
    for job in jobs:
        site.double.forget(job.record["id"])
    site.double.hang("sacct")
    asked = programs_asked(monkeypatch)
    for job in jobs:
        state = site.scheduler.verdict(job)
        assert state.phase is JobPhase.UNKNOWN
        assert state.reason.startswith("slurmdbd does not answer")
    assert asked.count("sacct") == 1


@pytest.mark.parametrize(
    ("said", "blamed"),
    [
        (
            'squeue: error: Munge encode failed: Failed to access "/run/m": No such file\nError',
            "munged does not answer",
        ),
        (
            "error: Unable to contact slurm controller (connect failure)",
            "Unable to contact slurm controller",
        ),
    ],
)
def test_who_is_to_blame(site: Site, said: str, blamed: str):
    site.double.say("scontrol", said)
    assert blamed in site.scheduler.outage()


@pytest.fixture
def toy(double: Double, made: Experiment) -> Experiment:
    made.environ["PATH"] = f"{double.bin}{os.pathsep}{made.environ['PATH']}"
    return on(double, made)


def says(driver: subprocess.Popen[str], words: str) -> bool:
    return any(words in line for line in iter(driver.stdout.readline, ""))


def failed(toy: Experiment, driver: subprocess.Popen[str]) -> str:
    out, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode != 0
    assert not (toy.root / "grown").exists()
    assert not (run_of(toy) / "result.json").exists()
    return out


@pytest.mark.parametrize("end", ENDS, ids=[end[0] for end in ENDS])
def test_a_run_whose_job_was_ended_fails(
    toy: Experiment, double: Double, end: tuple[str, str, str, str]
):
    toy.set("toy.yaml", grow__seconds=0.2, grow__epochs=200)
    rules = ("time_limit", "preemption", "node_failure")
    stop = " ".join(f"retry.{rule}=stop" for rule in rules)
    toy.environ["MLLAM_MACHINE_OPTIONS"] = stop
    driver = toy.start(*GROW)
    eventually(lambda: epochs(toy) >= 1, 60, "an epoch")
    double.end(job_of(toy), *end[:3])
    assert f"grow attempt 1 failed: {end[3]} ({end[0]}" in failed(toy, driver)


def test_a_limit_is_told_and_the_run_goes_on_when_it_is_gone(
    toy: Experiment, double: Double
):
    double.pend("AssocGrpCPUMinutesLimit")
    driver = toy.start(*GROW)
    assert says(driver, "pending: account limit reached: AssocGrpCPUMinutesLimit")
    assert toy.starts() == 0
    double.release()
    assert "done in attempt 1" in driver.communicate(timeout=PATIENCE)[0]


def test_a_job_that_will_never_run_is_taken_back(toy: Experiment, double: Double):
    double.pend("DependencyNeverSatisfied")
    assert "will never run: a job that it depends on failed" in failed(
        toy, toy.start(*GROW)
    )
    assert double.job(job_of(toy))["state"] == "CANCELLED"
    assert toy.starts() == 0


def test_a_job_that_is_forgotten_before_it_started_is_lost(
    toy: Experiment, double: Double
):
    double.pend("Priority")
    driver = toy.start(*GROW)
    assert says(driver, "waiting behind jobs with a higher priority")
    double.forget(job_of(toy))
    assert (
        "grow attempt 1 lost: the attempt never started: Slurm has forgotten its job"
        in failed(toy, driver)
    )


def test_a_result_is_none_where_slurm_says_that_the_job_failed(
    toy: Experiment, double: Double
):
    double.pend("Resources")
    driver = toy.start(*GROW)
    job = job_of(toy)
    silence(double)
    double.release()
    eventually(lambda: double.job(job)["state"] == "COMPLETED", 60, "its end")
    assert (run_of(toy) / "result.json").exists()
    double.end(job, "FAILED", "0:9", "NonZeroExitCode", kill=False)
    double.say_nothing_more("squeue", "scontrol")
    assert (
        "but its job did not: it was killed by signal 9 (FAILED 0:9 on n1)"
        in failed(toy, driver)
    )


def test_a_controller_that_is_away_while_the_job_runs_and_ends(
    toy: Experiment, double: Double
):
    driver = toy.start(*GROW)
    job = job_of(toy)
    silence(double)
    eventually(lambda: double.job(job)["state"] == "COMPLETED", 60, "its end")
    time.sleep(2)
    assert driver.poll() is None, "success is not believed before Slurm has spoken"
    double.say_nothing_more()
    assert "done in attempt 1" in driver.communicate(timeout=PATIENCE)[0]
    assert (
        "COMPLETED 0:0 on n1" in (run_of(toy) / "attempts/1/verdict.json").read_text()
    )


def test_a_submission_that_was_never_taken_is_made_again(
    toy: Experiment, double: Double
):
    double.say(
        "sbatch",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    )
    driver = toy.start(*GROW)
    assert says(
        driver,
        "Socket timed out on send/recv operation; looking for its job by its name",
    )
    double.say_nothing_more("sbatch")
    assert "done in attempt 2" in driver.communicate(timeout=PATIENCE)[0]
    assert toy.starts() == 1
