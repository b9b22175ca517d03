"""What `mllam-exps status` says of a run, and from what that follows: a table, read from the top."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import Problem
from mllam_exps.base.records import Trouble
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import End, Outcome
from mllam_exps.runs.results import Result, SetAside
from mllam_exps.runs.state.judge import (
    AttemptSeen,
    Observation,
    RunState,
    judge,
)
from mllam_exps.runs.store import Run
from mllam_exps.schedulers import JobPhase, JobState

RUN = Run(Path("/store/runs") / f"train-{'0' * 32}")
SECOND = Attempt(RUN, 2)

PENDING = JobState(JobPhase.PENDING, "waits for resources")
NEVER = JobState(JobPhase.PENDING, "will never run: no such node", hopeless=True)
RUNS = JobState(JobPhase.RUNNING, "on n1")
SUSPENDED = JobState(JobPhase.RUNNING, "suspended")
SILENT = JobState(JobPhase.UNKNOWN, "Slurm does not answer")
TIMEOUT = JobState(
    JobPhase.FAILED,
    "it reached its time limit",
    "TIMEOUT 0:15 on n1",
    cause=Cause.TIME_LIMIT,
)
EXIT_1 = JobState(JobPhase.FAILED, "exit code 1", "FAILED 1:0", plain=True)
CANCELLED = JobState(JobPhase.CANCELLED, "cancelled", "CANCELLED 0:0")
COMPLETED = JobState(JobPhase.SUCCEEDED, told="COMPLETED 0:0")
GONE = JobState(JobPhase.GONE)
FORGOTTEN = JobState(JobPhase.FORGOTTEN, "Slurm has forgotten it")
NOBODY_KNOWS = JobState(JobPhase.FORGOTTEN)

WELL = End(Outcome.SUCCEEDED)
NAN = End(Outcome.FAILED, Problem("the loss is NaN", next="mllam-exps logs"))
STOPPED = End(Outcome.FAILED, Problem("stopped by SIGTERM, which nobody asked us for"))
OUT_OF_TIME = End(
    Outcome.FAILED,
    Problem("time limit: it took longer than 60 s"),
    cause=Cause.TIME_LIMIT,
)
LIMIT = frozenset({Cause.TIME_LIMIT})
IN_VAIN = {Cause.TIME_LIMIT: "3 attempts came no further"}
CALLED_OFF = End(Outcome.CANCELLED, Problem("cancelled"))
NO_ROOM = End(Outcome.REFUSED, Problem("waits: 2 of your jobs at once"))

DAMAGED = Trouble(Path("/store/result.json"), "names attempt 1, which is gone")
NEWER = Trouble(Path("/store/result.json"), "was written by a newer one", hidden=True)
BAD_FILE = SetAside("/store/out: holds something else")
STALE = SetAside("the result of train was made from another data/x", stale=True)

CLAIMER = "anna's process 7 on login1"
ENVIRONMENT = "`module load cuda` failed"


def attempt(**seen: object) -> Observation:
    """Return what is seen of a run without a result, whose newest attempt is the second."""
    return Observation(last=AttemptSeen(SECOND, **seen))  # type: ignore[arg-type]


TABLE = {
    # The files of the run say it.
    "nobody has asked for it": (Observation(), "new", ""),
    "it has a result": (
        Observation(Result(2), last=AttemptSeen(SECOND)),
        "done",
        "",
    ),
    "its result has lost its files": (
        Observation(damage=DAMAGED),
        "lost",
        "its result is damaged: result.json names attempt 1, which is gone",
    ),
    "its result is of a newer version": (
        Observation(damage=NEWER),
        "unknown",
        "/store/result.json was written by a newer one",
    ),
    # The attempt has said how it ended.
    "it failed": (attempt(end=NAN), "failed", "the loss is NaN"),
    "it failed as its job did": (
        attempt(end=NAN, started=True, word=EXIT_1),
        "failed",
        "the loss is NaN",
    ),
    "it failed, and the scheduler knows better why": (
        attempt(end=STOPPED, started=True, word=TIMEOUT),
        "failed",
        "it reached its time limit (TIMEOUT 0:15 on n1)",
    ),
    "another attempt is to follow a time limit": (
        attempt(end=STOPPED, started=True, word=TIMEOUT, again=LIMIT),
        "new",
        "attempt 2 ended, and another one is to follow: it reached its time limit (TIMEOUT 0:15 on n1)",
    ),
    "another attempt is to follow a time limit that the attempt kept itself": (
        attempt(end=OUT_OF_TIME, started=True, again=LIMIT),
        "new",
        "attempt 2 ended, and another one is to follow: time limit: it took longer than 60 s",
    ),
    "another attempt is to follow, but they come no further": (
        attempt(end=OUT_OF_TIME, started=True, why_not_again=IN_VAIN),
        "failed",
        "time limit: it took longer than 60 s; 3 attempts came no further",
    ),
    "another attempt is to follow one that was killed": (
        attempt(word=GONE, started=True, again=frozenset({Cause.KILLED})),
        "new",
        "attempt 2 ended, and another one is to follow: the attempt ended without a word of its own"
        " (killed, or its host went down)",
    ),
    "no attempt follows one that was asked to stop when it had ended": (
        attempt(end=OUT_OF_TIME, started=True, again=LIMIT, cancel_requested=True),
        "cancelled",
        "cancelled: attempt 2 ended, and no other one follows: time limit: it took longer than 60 s",
    ),
    "no attempt follows one that was killed while it was asked to stop": (
        attempt(
            word=GONE,
            started=True,
            again=frozenset({Cause.KILLED}),
            cancel_requested=True,
        ),
        "cancelled",
        "cancelled: attempt 2 ended, and no other one follows: the attempt ended without a word of its own"
        " (killed, or its host went down)",
    ),
    "no attempt follows one that a person cancelled": (
        attempt(end=STOPPED, started=True, word=CANCELLED, again=frozenset(Cause)),
        "cancelled",
        "cancelled (CANCELLED 0:0)",
    ),
    "no attempt follows one that never started": (
        attempt(word=GONE, again=frozenset(Cause)),
        "lost",
        "the attempt never started",
    ),
    "it was stopped, and the scheduler knows that somebody cancelled it": (
        attempt(end=STOPPED, started=True, word=CANCELLED),
        "cancelled",
        "cancelled (CANCELLED 0:0)",
    ),
    "it failed, and the scheduler has forgotten its job": (
        attempt(end=NAN, started=True, word=FORGOTTEN),
        "failed",
        "the loss is NaN (Slurm has forgotten it)",
    ),
    "it was given up before it started": (
        attempt(end=STOPPED, word=TIMEOUT),
        "failed",
        "stopped by SIGTERM, which nobody asked us for",
    ),
    "it was cancelled": (
        attempt(end=CALLED_OFF, started=True),
        "cancelled",
        "cancelled",
    ),
    "the scheduler had no room for it": (
        attempt(end=NO_ROOM),
        "new",
        "waits: 2 of your jobs at once",
    ),
    "it succeeded, and somebody wants it made again": (attempt(end=WELL), "new", ""),
    "it succeeded, and a file of its result was damaged": (
        attempt(end=WELL, set_aside=BAD_FILE),
        "failed",
        "its result was damaged, and set aside: /store/out: holds something else",
    ),
    "it succeeded, and an input was made again since, and became another": (
        attempt(end=WELL, set_aside=STALE),
        "new",
        "its result is to be made again: the result of train was made from another data/x",
    ),
    "it says that it succeeded, and its job failed": (
        attempt(end=WELL, word=TIMEOUT),
        "failed",
        "it says that it succeeded, but its job did not: it reached its time limit (TIMEOUT 0:15 on n1)",
    ),
    # Its records cannot be used.
    "its records are a colleague's to read": (
        attempt(hidden="/store/attempts/2.json cannot be read by you"),
        "unknown",
        "/store/attempts/2.json cannot be read by you",
    ),
    "its claim is damaged": (
        attempt(is_claimed=False),
        "lost",
        "its claim cannot be read any more: nobody can tell who works on it",
    ),
    "its directory was purged": (
        attempt(is_gone=True),
        "lost",
        "the directory of attempt 2 is gone: it was deleted, or purged from its file system",
    ),
    "its directory is about to be made": (
        attempt(is_gone=True, submitter=CLAIMER),
        "starting",
        f"being started by {CLAIMER}",
    ),
    # It has no job yet, or never had one.
    "somebody is about to submit it": (
        attempt(submitter=CLAIMER),
        "starting",
        f"being started by {CLAIMER}",
    ),
    "its submitter died": (
        attempt(),
        "lost",
        "it was never started: whoever was about to start it is gone",
    ),
    "sbatch timed out, and there is no job of its name": (
        attempt(doubt="sbatch timed out", submitter=CLAIMER),
        "lost",
        "it was never started: sbatch timed out; whoever was about to start it is gone",
    ),
    "sbatch timed out, and squeue does not answer": (
        attempt(doubt="sbatch timed out", uncertain="squeue timed out"),
        "unknown",
        "sbatch timed out; squeue timed out",
    ),
    "squeue does not answer while somebody submits it": (
        attempt(uncertain="squeue timed out", submitter=CLAIMER),
        "starting",
        f"being started by {CLAIMER}",
    ),
    "its scheduler is not known to this version": (
        attempt(unasked="there is no scheduler 'pbs' in this version"),
        "unknown",
        "there is no scheduler 'pbs' in this version",
    ),
    # Its job lives.
    "its job is pending": (attempt(state=PENDING), "pending", "waits for resources"),
    "its job will never run": (
        attempt(state=NEVER),
        "pending",
        "will never run: no such node",
    ),
    "its job is pending, and it is asked to stop": (
        attempt(state=PENDING, cancel_requested=True),
        "pending",
        "asked to stop; waits for resources",
    ),
    "it has started since squeue was asked": (
        attempt(state=PENDING, started=True),
        "running",
        "",
    ),
    "its job runs": (attempt(state=RUNS, started=True, silent=1.0), "running", "on n1"),
    "its job runs, and it has not started": (attempt(state=RUNS), "running", "on n1"),
    "its job is said to run, and nothing is heard of it": (
        attempt(state=RUNS, started=True, silent=600.0),
        "running",
        "it is said to run, but nothing has been heard of it for 10 min",
    ),
    "its job is suspended": (
        attempt(state=SUSPENDED, started=True, silent=600.0),
        "running",
        "suspended",
    ),
    "Slurm does not answer, and it gives signs of life": (
        attempt(state=SILENT, started=True, silent=5.0),
        "running",
        "",
    ),
    "Slurm does not answer, and it has been silent": (
        attempt(state=SILENT, started=True, silent=90.0),
        "unknown",
        "Slurm does not answer; no sign of life for 90 s",
    ),
    "Slurm does not answer, and it never gave a sign": (
        attempt(state=SILENT),
        "unknown",
        "Slurm does not answer; no sign of life ever",
    ),
    # Its job has ended, and it wrote nothing down.
    "its job was killed": (
        attempt(word=TIMEOUT, started=True),
        "failed",
        "it reached its time limit (TIMEOUT 0:15 on n1)",
    ),
    "its job failed before it started": (
        attempt(word=EXIT_1),
        "failed",
        "exit code 1, before it started (FAILED 1:0)",
    ),
    "the machine's environment could not be made ready": (
        attempt(word=EXIT_1, environment=ENVIRONMENT),
        "failed",
        ENVIRONMENT,
    ),
    "the run store was full": (
        attempt(word=EXIT_1, store_failure="the disk of the run store was full"),
        "failed",
        "the disk of the run store was full (FAILED 1:0)",
    ),
    "the run store was full when its job was cancelled": (
        attempt(word=CANCELLED, started=True, store_failure="the disk was full"),
        "cancelled",
        "the disk was full (CANCELLED 0:0)",
    ),
    "its job was cancelled": (
        attempt(word=CANCELLED, started=True),
        "cancelled",
        "cancelled (CANCELLED 0:0)",
    ),
    "somebody cancelled its pending job": (
        attempt(word=CANCELLED, cancel_requested=True, not_made=["prepare"]),
        "cancelled",
        "cancelled, before it started (CANCELLED 0:0)",
    ),
    "Slurm took its job back, as a stage before it failed": (
        attempt(word=CANCELLED, not_made=["prepare", "graph"]),
        "cancelled",
        "not started: prepare, which it needs, was not made",
    ),
    "Slurm took its job back, though the stage before it has a result": (
        attempt(word=CANCELLED, ended_badly="prepare"),
        "cancelled",
        "not started: the job of prepare, which it needs, did not end well, though it was made",
    ),
    "Slurm took its job back, and has forgotten it": (
        attempt(word=FORGOTTEN, not_made=["prepare"]),
        "cancelled",
        "not started: prepare, which it needs, was not made",
    ),
    "Slurm has forgotten its job, and it gives signs of life": (
        attempt(word=FORGOTTEN, started=True, silent=5.0),
        "running",
        "Slurm has forgotten it, but it gives signs of life",
    ),
    "Slurm has forgotten its job": (
        attempt(word=FORGOTTEN, started=True, silent=300.0),
        "lost",
        "the attempt ended without a word of its own (killed, or its host went down): Slurm has forgotten it",
    ),
    "it started, and has no job": (
        attempt(word=NOBODY_KNOWS, started=True),
        "lost",
        "the attempt ended without a word of its own (killed, or its host went down)",
    ),
    "its job succeeded without its word": (
        attempt(word=COMPLETED, started=True),
        "lost",
        "the attempt ended without a word of its own (killed, or its host went down):  (COMPLETED 0:0)",
    ),
    "its process is gone, and had no environment": (
        attempt(word=GONE, environment=ENVIRONMENT),
        "lost",
        ENVIRONMENT,
    ),
    "its process is gone, and the disk is full": (
        attempt(word=GONE, full_disks="/store, 0.0 of 9.0 MB free"),
        "lost",
        "the attempt never started: the disk of the run store is full (/store, 0.0 of 9.0 MB free)",
    ),
    "its process is gone": (attempt(word=GONE), "lost", "the attempt never started"),
}


@pytest.mark.parametrize(("seen", "state", "reason"), TABLE.values(), ids=TABLE)
def test_state_and_reason(seen: Observation, state: str, reason: str):
    now = judge(seen)
    assert now.state == state
    # `owner` of a trouble is looked up at the edge.
    assert now.reason.partition("; it belongs to ")[0] == reason


def test_a_way_out_stays_with_its_problem():
    for word in (None, FORGOTTEN):
        now = judge(attempt(end=NAN, started=True, word=word))
        assert now.problem.next == "mllam-exps logs"
    assert judge(attempt(end=NAN, started=True, word=TIMEOUT)).problem.next == ""


UNTRIED = {
    "the scheduler had no room for it",
    "its submitter died",
    "sbatch timed out, and there is no job of its name",
    "Slurm took its job back, as a stage before it failed",
    "Slurm took its job back, though the stage before it has a result",
    "Slurm took its job back, and has forgotten it",
}


@pytest.mark.parametrize("case", TABLE)
def test_what_was_never_started_is_no_try(case: str):
    now = judge(TABLE[case][0])
    assert now.untried is (case in UNTRIED)
    assert now.hopeless is (case == "its job will never run")
    silent = "its job is said to run, and nothing is heard of it"
    assert now.silent is (case == silent)


def test_the_attempt_that_a_state_is_about_is_named():
    for seen, _, _ in TABLE.values():
        assert judge(seen).attempt == (seen.last.attempt if seen.last else None)


def test_of_each_state_either_an_attempt_lives_or_another_may_be_started():
    for state in RunState:
        assert state.living is not (state.settled or state.stopped or state == "new")
    assert RunState.LOST.stopped
    assert not RunState.LOST.settled, "what was lost is begun again"
    assert RunState.UNKNOWN.living, "nothing is started beside it"


@pytest.mark.parametrize(
    "case",
    [
        "it succeeded, and a file of its result was damaged",
        "it says that it succeeded, and its job failed",
    ],
)
def test_a_result_that_was_lost_is_not_its_program_s_fault(case: str):
    """`retry` had refused it where a file that it reads was changed since: the same is made again from the clone."""
    now = judge(TABLE[case][0])
    begun: Any = SimpleNamespace(started=object())
    failed = replace(now, attempt=begun)
    assert not failed.is_its_program_s
    assert replace(failed, ended_well=False).is_its_program_s
