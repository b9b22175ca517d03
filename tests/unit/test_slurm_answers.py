"""What Slurm's programs say of one job, as they said it (22.05), and the state that follows."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from mllam_exps import schedulers
from mllam_exps.base.errors import UsageError
from mllam_exps.schedulers import Job, JobPhase
from mllam_exps.schedulers.slurm import answers, calls, consumed
from mllam_exps.schedulers.slurm.shared_squeue import Answer, Entry, Silence

JOB = Job({"id": "7", "name": "train-1", "script": "/a/job.sh"}, "job 7")
OLD_JOB = Job({"id": "7", "name": "train-1"}, "job 7")


@pytest.mark.parametrize(
    ("job", "shown", "ours"),
    [
        (JOB, "JobId=7 JobName=train-1 UserId=me Command=/b/job.sh WorkDir=/a", True),
        (JOB, "JobId=7 JobName=renamed UserId=me Command=/a/job.sh WorkDir=/a", True),
        (JOB, "JobId=7 JobName=renamed UserId=me Command=/b/job.sh WorkDir=/a", False),
        (OLD_JOB, "JobId=7 JobName=renamed UserId=me Command= WorkDir=/a", False),
    ],
)
def test_a_job_is_ours_by_its_name_or_its_script(job: Job, shown: str, ours: bool):
    assert answers.is_ours(job, shown) is ours


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        (
            "sbatch: error: invalid partition specified: x\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "invalid partition specified: x",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account",
            "Invalid account",
        ),
        ("wrapper: not today", "wrapper: not today"),
        ("", "exit code 3"),
    ],
)
def test_a_refusal_is_told_by_its_first_complaint(stderr: str, told: str):
    done = subprocess.CompletedProcess(["sbatch"], 3, "", stderr)
    assert answers.refusal(done) == told


def entry(state: str, name: str = "train-1", nodes: str = "") -> Entry:
    return Entry("7", state, "None", "0:01", nodes, name)


@pytest.mark.parametrize(
    ("state", "nodes", "phase", "reason"),
    [
        ("RUNNING", "n[1-2]", JobPhase.RUNNING, "on n[1-2]"),
        ("SUSPENDED", "n1", JobPhase.RUNNING, "suspended"),
        ("PENDING", "", JobPhase.PENDING, "waiting to be looked at"),
        ("TIMEOUT", "n1", JobPhase.FAILED, "it reached its time limit"),
    ],
)
def test_what_squeue_says(state: str, nodes: str, phase: JobPhase, reason: str):
    found = answers.of_entry(entry(state, nodes=nodes))
    assert (found.phase, found.reason) == (phase, reason)


def test_an_id_is_another_job_s_where_it_has_another_name():
    ours, others = entry("RUNNING"), entry("RUNNING", "somebody's")
    assert answers.entry_of(JOB, Answer(1, 0.0, {"7": ours})) is ours
    assert answers.entry_of(JOB, Answer(1, 0.0, {"7": others})) is None
    assert answers.entry_of(JOB, Answer(1, 0.0, {})) is None


def test_a_silence_is_unknown_since_when():
    found = answers.of_silence(Silence("slurmctld is down", "12:00:00"))
    assert found.phase is JobPhase.UNKNOWN
    told = "Slurm has not answered since 12:00:00: slurmctld is down"
    assert found.reason == told


@pytest.mark.parametrize(
    ("shown", "phase", "told"),
    [
        (
            "JobId=7 JobName=x JobState=RUNNING UserId=me(1) JobState=TIMEOUT Reason=TimeLimit"
            " ExitCode=0:15 NodeList=n1 Comment=JobState=COMPLETED",
            JobPhase.FAILED,
            "TIMEOUT 0:15 on n1",
        ),
        (
            "JobId=7 JobName=x UserId=me(1) JobState=PENDING Reason=Priority NodeList=(null)",
            JobPhase.PENDING,
            "PENDING Priority",
        ),
        ("JobId=7 JobName=x", JobPhase.UNKNOWN, ""),
    ],
)
def test_what_scontrol_says(shown: str, phase: JobPhase, told: str):
    found = answers.of_controller(shown, "7")
    assert (found.phase, found.told) == (phase, told)


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "phase", "reason"),
    [
        ("COMPLETED|0:0|n1|train-1", "", 0, JobPhase.SUCCEEDED, ""),
        (
            "FAILED|1:0|n1|earlier\nTIMEOUT|0:0|n1|train-1",
            "",
            0,
            JobPhase.FAILED,
            "it reached its time limit",
        ),
        # The name comes a moment after the end.
        ("COMPLETED|0:0|n1|allocation", "", 0, JobPhase.SUCCEEDED, ""),
        (
            "COMPLETED|0:0|n1|another",
            "",
            0,
            JobPhase.FORGOTTEN,
            "Slurm has forgotten its job",
        ),
        # slurmdbd has not heard of the end.
        (
            "RUNNING|0:0|n1|train-1",
            "",
            0,
            JobPhase.FORGOTTEN,
            "Slurm has forgotten its job",
        ),
        (
            "CANCELLED|0:0|None assigned|train-1",
            "",
            0,
            JobPhase.FORGOTTEN,
            "Slurm lost its job, or took it back: nobody cancelled it",
        ),
        (
            "",
            "Slurm accounting storage is disabled",
            1,
            JobPhase.FORGOTTEN,
            "Slurm has forgotten its job",
        ),
        (
            "",
            "sacct: error: Problem talking to the database",
            1,
            JobPhase.UNKNOWN,
            "slurmdbd does not answer: sacct: error: Problem talking to the database",
        ),
    ],
)
def test_what_sacct_says(
    monkeypatch: pytest.MonkeyPatch,
    stdout: str,
    stderr: str,
    code: int,
    phase: JobPhase,
    reason: str,
):
    def account(command: list[str]) -> subprocess.CompletedProcess[Any]:
        return subprocess.CompletedProcess(command, code, stdout, stderr)

    monkeypatch.setattr(calls, "account", account)
    found = answers.of_accounting("7", "train-1")
    assert (found.phase, found.reason) == (phase, reason)


UNKNOWN = 2**64 - 2


@pytest.mark.parametrize(
    ("rows", "joules"),
    [
        # A site without a plugin; a job that the accounting does not know; another's.
        (["7|0|train-1", "7.batch|0|batch", "7.0||python"], None),
        ([], None),
        (["7|900|other", "7.batch|900|batch"], None),
        (["7||train-1", f"7.batch|{UNKNOWN}|batch", f"7.0|{UNKNOWN}|a|b"], None),
        # What runs beside each other on a node counts once.
        (["7|900|train-1", "7.batch|500|batch", "7.0|400|python"], 500.0),
        (
            ["7|900|train-1", "7.batch|100|batch", "7.0|300|a|b", "7.1|400|python"],
            700.0,
        ),
        (["7|9|train-1", "7.batch|500|batch", "7.extern|600|extern", "7.0|1|x"], 600.0),
        # The number was another job's before the controller lost its state.
        (["7|1|old", "7.0|1|x", "7|5|train-1", "7.0|5|x"], 5.0),
        (["7|5|train-1", "7.0|5|x", "7|1|new", "7.0|1|x"], 5.0),
    ],
)
def test_the_energy_of_a_job_is_that_of_its_steps(
    monkeypatch: pytest.MonkeyPatch, rows: list[str], joules: float | None
):
    asked = []

    def account(command: list[str]) -> subprocess.CompletedProcess[Any]:
        asked.append(command)
        other = ["8|0|train-2", "8.batch|30|batch"]
        text = "\n".join([*rows, *other])
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(calls, "account", account)
    jobs = [
        Job({"id": number, "name": name}, name)
        for number, name in ((7, "train-1"), ("8", "train-2"), ("--help", "no id"))
    ]
    assert consumed.of_jobs(jobs) == [joules, 30.0, None]
    [command] = asked
    assert command[command.index("-j") + 1] == "7,8"


@pytest.mark.parametrize(
    "error", [calls.NotAnswered("it hangs"), UsageError("no command sacct")]
)
def test_where_the_accounting_is_silent_no_energy_is_known(
    monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def account(command: list[str]) -> subprocess.CompletedProcess[Any]:
        raise error

    monkeypatch.setattr(calls, "account", account)
    # Twice: what is imported late must not stand in the way of what asks for it.
    for _ in range(2):
        assert schedulers.energy("slurm", [JOB]) == [None]
