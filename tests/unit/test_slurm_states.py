"""What Slurm's words mean, and what a batch script says: no Slurm needed."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base.endings.causes import Cause
from mllam_exps.machines.model import Resources
from mllam_exps.schedulers.base import JobPhase, JobRequest
from mllam_exps.schedulers.slurm import batch_script, states
from mllam_exps.schedulers.slurm.answers import of_controller


@pytest.mark.parametrize(
    ("reason", "said", "hopeless"),
    [
        ("Resources", "waiting for resources", False),
        ("None", "waiting to be looked at", False),
        ("JobHeldUser", "held by its user; `scontrol release 7` lets it go", False),
        (
            "Job's account not permitted to use this partition (a allows b not c)",
            "account not permitted",
            True,
        ),
        (
            "ReqNodeNotAvail, UnavailableNodes:n[1-4]",
            "a node that it needs is not available (UnavailableNodes",
            False,
        ),
        ("AssocGrpCpuLimit", "account limit reached: AssocGrpCpuLimit", False),
        (
            "QOSMaxJobsPerUserLimit",
            "quality-of-service limit reached: QOSMaxJobsPerUserLimit",
            False,
        ),
        (
            "AssocMaxCpuPerJobLimit",
            "will never run: beyond the account limit AssocMaxCpuPerJobLimit",
            True,
        ),
        (
            "PartitionTimeLimit",
            "will never run: it asks for more time than its partition allows",
            True,
        ),
        (
            "DependencyNeverSatisfied",
            "will never run: a job that it depends on failed",
            True,
        ),
        ("SomethingOfSlurm99", "waiting: SomethingOfSlurm99", False),
    ],
)
def test_what_a_pending_job_waits_for(reason: str, said: str, hopeless: bool):
    state = states.of_pending(reason, "7")
    assert said in state.reason
    assert state.hopeless is hopeless
    assert state.phase is JobPhase.PENDING


@pytest.mark.parametrize(
    ("word", "exit_code", "phase", "said"),
    [
        ("COMPLETED", "0:0", JobPhase.SUCCEEDED, ""),
        # Not seen from Slurm; but a success must be whole.
        ("COMPLETED", "1:0", JobPhase.FAILED, "exit code 1"),
        ("FAILED", "3:0", JobPhase.FAILED, "exit code 3"),
        ("FAILED", "0:9", JobPhase.FAILED, "it was killed by signal 9"),
        ("TIMEOUT", "0:15", JobPhase.FAILED, "it reached its time limit"),
        ("OUT_OF_MEMORY", "0:125", JobPhase.FAILED, "it ran out of memory"),
        ("OUT_OF_ME+", "0:125", JobPhase.UNKNOWN, "Slurm calls its state"),
        ("NODE_FAIL", "1:0", JobPhase.FAILED, "its node failed"),
        ("CANCELLED by 0", "0:15", JobPhase.CANCELLED, "cancelled by root"),
        ("CANCELLED+", "0:0", JobPhase.CANCELLED, "cancelled"),
        ("COMPLETING", "0:0", JobPhase.RUNNING, ""),
        ("SUSPENDED", "0:0", JobPhase.RUNNING, "suspended"),
        ("PENDING", "0:0", JobPhase.PENDING, "waiting to be looked at"),
        ("NEW_IN_SLURM_99", "0:0", JobPhase.UNKNOWN, "NEW_IN_SLURM_99"),
        ("", "", JobPhase.UNKNOWN, ""),
    ],
)
def test_states(word: str, exit_code: str, phase: JobPhase, said: str):
    state = states.of_state(word, job_id="7", exit_code=exit_code)
    assert state.phase is phase
    assert said in state.reason
    assert state.plain is (word in {"FAILED", "COMPLETED"} and phase is JobPhase.FAILED)


@pytest.mark.parametrize(
    ("exit_code", "cause"),
    [("0:9", Cause.KILLED), ("137:0", Cause.KILLED), ("0:11", None), ("1:0", None)],
)
def test_an_attempt_that_was_killed_itself_says_nothing(
    exit_code: str, cause: Cause | None
):
    state = states.of_state("FAILED", job_id="7", exit_code=exit_code)
    assert state.cause is cause


def test_the_controller_s_answer_is_not_fooled_by_a_job_s_name():
    text = (
        "JobId=7 JobName=x-JobState=COMPLETED UserId=a(1) JobState=TIMEOUT Reason=None ExitCode=0:15"
        " NodeList=n2 StdOut=/x/JobState=FAILED\n"
    )
    state = of_controller(text, "7")
    assert state.phase is JobPhase.FAILED
    assert state.told == "TIMEOUT 0:15 on n2"
    assert state.cause is Cause.TIME_LIMIT


def request(directory: Path, **resources) -> JobRequest:
    return JobRequest(
        name="experiment/train-1a2b",
        argv=["never", "used"],
        command=["/venv/bin/python", "-m", "mllam_exps.attempt", str(directory), "1"],
        prologue=["export PATH='/venv/bin':\"$PATH\""],
        directory=directory,
        log=directory / "log.txt",
        script=directory / "job.sh",
        environment={},
        resources=Resources.model_validate(resources),
        nodes=2,
        tasks=4,
        comment="attempt 1\nat a run",
    )


def test_a_batch_script_says_everything():
    script = batch_script.render(
        request(
            Path("/store/100% of 'it'/1"),
            time=90,
            memory="4G",
            sbatch={"constraint": "a100&ib"},
        )
    )
    lines = script.splitlines()
    assert lines[:2] == ["#!/bin/bash", "# attempt 1 at a run"]
    assert "#SBATCH --output=\"/store/100%% of 'it'/1/log.txt\"" in lines
    assert '#SBATCH --constraint="a100&ib"' in lines
    for option in (
        "--nodes=2",
        "--ntasks-per-node=4",
        "--no-requeue",
        "--mem=4G",
        "--open-mode=append",
    ):
        assert f"#SBATCH {option}" in lines
    assert shlex.split(lines[-1])[-2:] == ["/store/100% of 'it'/1", "1"]


def test_a_job_is_warned_before_its_time_limit_where_that_is_of_use():
    of_training = replace(request(Path("/x"), time=90), warning=120)
    # To the script alone: Lightning has an answer of its own to that signal.
    assert "#SBATCH --signal=B:USR1@120\n" in batch_script.render(of_training)
    assert "--signal" not in batch_script.render(request(Path("/x"), time=90))
    unwarned = replace(of_training, warning=0)
    assert "--signal" not in batch_script.render(unwarned)


@pytest.mark.parametrize(
    ("resources", "seconds"),
    [
        ({}, 300),
        ({"time": 10}, 60),
        ({"time": "1-00:00:00"}, 300),
        ({"time": "0:00:05"}, 1),
        ({"time": 10, "warning": 90}, 90),
        ({"time": 10, "warning": 0}, 0),
    ],
)
def test_how_early_it_is_warned(resources: dict[str, Any], seconds: int):
    assert Resources(**resources).warning_seconds == seconds


def test_srun_has_the_shape_of_the_job():
    launch = batch_script.launch(
        request(Path("/x"), cpus=3, srun={"cpu-bind": "cores"})
    )
    assert launch[0] == "srun"
    assert {
        "--nodes=2",
        "--ntasks-per-node=4",
        "--cpus-per-task=3",
        "--cpu-bind=cores",
    } <= set(launch)
    assert {"--unbuffered", "--label", "--kill-on-bad-exit=1"} <= set(launch)


def test_no_credential_and_nothing_of_an_outer_job_gets_into_a_job():
    environ = {
        "HOME": "/h",
        "LC_ALL": "C",
        "SLURM_JOB_ID": "1",
        "SBATCH_ACCOUNT": "x",
        "WANDB_API_KEY": "secret",
    }
    assert batch_script.environment(environ) == {"HOME": "/h", "LC_ALL": "C"}
