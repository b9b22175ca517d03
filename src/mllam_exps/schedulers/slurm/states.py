"""What Slurm's words for states and reasons mean. Pure; each interpretation with the version that was seen.

The words are those of ``squeue``, ``scontrol show job`` and ``sacct``, of Slurm 22.05
unless said otherwise.
"""

from __future__ import annotations

import re
from dataclasses import replace

from mllam_exps.base.endings.causes import Cause
from mllam_exps.schedulers.base import JobPhase, JobState

_PENDING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
}
# COMPLETING: its processes are being ended, or its epilogue runs. Not over yet: its
# exit code may not be known.
_RUNNING = {
    "RUNNING",
    "COMPLETING",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
}

_ENDED = {
    "TIMEOUT": "it reached its time limit",
    "OUT_OF_MEMORY": "it ran out of memory",
    "NODE_FAIL": "its node failed",
    "PREEMPTED": "it was pre-empted by another job",
    "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "it could not end before its deadline",
    "REVOKED": "another cluster took it",
}

_CAUSES = {
    "TIMEOUT": Cause.TIME_LIMIT,
    "DEADLINE": Cause.TIME_LIMIT,
    "OUT_OF_MEMORY": Cause.HOST_MEMORY,
    "NODE_FAIL": Cause.NODE_FAILURE,
    "BOOT_FAIL": Cause.NODE_FAILURE,
    "PREEMPTED": Cause.PREEMPTION,
}

_WAITS = {
    "None": "waiting to be looked at",
    "Resources": "waiting for resources",
    "Priority": "waiting behind jobs with a higher priority",
    "BeginTime": "waiting until its begin time",
    "Cleaning": "waiting until its last try is cleaned up",
    "Dependency": "waiting for the jobs that it depends on",
    "FrontEndDown": "waiting for a front end",
    "JobArrayTaskLimit": "waiting: its array runs as many tasks as it may",
    "JobHeldAdmin": "held by an administrator",
    "JobHeldUser": "held by its user; `scontrol release {id}` lets it go",
    "JobHoldMaxRequeue": "held: it was requeued too often",
    "Licenses": "waiting for licences",
    "NodeDown": "waiting: a node that it needs is down",
    "PartitionDown": "waiting: its partition is down",
    "PartitionInactive": "waiting: its partition is inactive",
    "ReqNodeNotAvail": "waiting: a node that it needs is not available",
    "Reservation": "waiting for its reservation",
    "launch failed requeued held": "held: it could not be launched",
    "job requeued in held state": "held after it was requeued",
    "SystemFailure": "waiting: Slurm had a failure",
}

_NEVER = {
    "AccountNotAllowed": "its account may not use this partition",
    "BadConstraints": "no node has what it asks for",
    "DependencyNeverSatisfied": "a job that it depends on failed",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its quality of service is not valid",
    # Slurm 22.05 says so of a job that asks for more time, or nodes, than its partition
    # has; sbatch accepted it.
    "PartitionConfig": "it asks for more time or nodes than its partition allows",
    "PartitionNodeLimit": "it asks for more nodes, or more of a node, than its partition has",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "QOSNotAllowed": "its quality of service may not be used here",
    "QOSResourceLimit": "its quality of service does not allow so much",
    "ReservationDeleted": "its reservation was deleted",
}

# 22.05 has sentences, too: "Job's account not permitted to use this partition (short
# allows foo not root)".
_NOT_PERMITTED = re.compile(
    r"Job's (account|QOS) not permitted to use this partition.*"
)
# AssocGrpCPUMinutesLimit, QOSMaxJobsPerUserLimit …: about 90 of them, and more in each
# version.
_LIMIT = re.compile(r"(?P<owner>Assoc|QOS)(?P<what>\w+?)(Limit)?")
_PER_JOB = re.compile(r"PerJob|MaxWallDuration|PerNode\b")


def of_pending(reason: str, job_id: str) -> JobState:
    """Return the state of a job that has not started, with its reason in words.

    Parameters
    ----------
    reason : str
        As ``squeue -o %r`` tells it.
    job_id : str
        For the commands that the words name.
    """
    # "ReqNodeNotAvail, UnavailableNodes:n[1-4]"
    word, _, more = reason.partition(",")
    word, more = word.strip(), more.strip()
    # squeue writes "launch failed requeued held", scontrol the same with underscores.
    word = word if word in _WAITS else word.replace("_", " ")
    why, hopeless = _pending(word, more, reason, job_id)
    text = f"will never run: {why}" if hopeless else why
    return JobState(JobPhase.PENDING, text, reason, hopeless)


def _pending(word: str, more: str, reason: str, job_id: str) -> tuple[str, bool]:
    """Say why a job has not started, and whether it will never start.

    Parameters
    ----------
    word, more : str
        The first word of the reason, and what follows it.
    """
    if word in _NEVER:
        return _NEVER[word], True
    if word in _WAITS:
        text = _WAITS[word].format(id=job_id)
        return f"{text} ({more})" if more else text, False
    if refused := _NOT_PERMITTED.fullmatch(reason.replace("_", " ")):
        return refused[0], True
    if limit := _LIMIT.fullmatch(word):
        owner = "account" if limit["owner"] == "Assoc" else "quality-of-service"
        # A limit on one job does not go away; one on all jobs of an account does when
        # others end.
        if _PER_JOB.search(word):
            return f"beyond the {owner} limit {word}", True
        return f"{owner} limit reached: {word}", False
    return f"waiting: {reason}", False


def of_state(
    word: str, *, job_id: str, reason: str = "", exit_code: str = "", nodes: str = ""
) -> JobState:
    """Return what a state means.

    Parameters
    ----------
    word : str
        Such as ``RUNNING``, or ``CANCELLED by 1000`` as sacct says it.
    reason, exit_code, nodes : str
        What else Slurm says of the job: ``Resources``, ``0:15``, ``n[1-2]``.
    """
    state, _, by = word.partition(" by ")
    # sacct cuts a long state short, with a plus.
    state = state.strip().removesuffix("+")
    told = _told(word.strip(), exit_code, nodes)
    if state in _PENDING:
        pending = of_pending(reason or "None", job_id)
        return replace(pending, told=f"{told} {reason}".strip())
    if state in _RUNNING:
        stands_still = state in {"SUSPENDED", "STOPPED"}
        return JobState(JobPhase.RUNNING, "suspended" if stands_still else "", told)
    if state == "COMPLETED":
        return _completed(exit_code, told)
    if state == "FAILED":
        return _failed(exit_code, reason, told)
    if state.startswith("CANCELLED"):
        who = f"cancelled by {_user(by)}" if by else "cancelled"
        return JobState(JobPhase.CANCELLED, who, told)
    if state in _ENDED:
        cause = _CAUSES.get(state)
        return JobState(JobPhase.FAILED, _ENDED[state], told, cause=cause)
    # A word that no version had so far: nothing follows from it.
    return JobState(JobPhase.UNKNOWN, f"Slurm calls its state {word!r}", told)


def _told(word: str, exit_code: str, nodes: str) -> str:
    """Return Slurm's own words, e.g. ``TIMEOUT 0:15 on n1``."""
    place = f"on {nodes}" if nodes else ""
    return " ".join(filter(None, (word, exit_code, place)))


def _completed(exit_code: str, told: str) -> JobState:
    if exit_code in {"", "0:0"}:
        return JobState(JobPhase.SUCCEEDED, "", told)
    return JobState(JobPhase.FAILED, _exit(exit_code), told, plain=True)


def _failed(exit_code: str, reason: str, told: str) -> JobState:
    # 22.05 calls a batch script that was killed by a signal `JobLaunchFailure 0:9`;
    # `0:53` is a real one, where the log could not be opened, say.
    signalled = exit_code.startswith("0:") and exit_code not in {"0:0", "0:53"}
    if signalled or reason in {"", "None", "NonZeroExitCode"}:
        failed = JobState(JobPhase.FAILED, _exit(exit_code), told, plain=True)
        # SIGKILL: of the attempt itself, which could write nothing down. 137 where the
        # script's bash has waited for it.
        is_killed = exit_code in {"0:9", "137:0"}
        return replace(failed, cause=Cause.KILLED) if is_killed else failed
    return JobState(JobPhase.FAILED, f"Slurm says {reason}", told)


def _exit(exit_code: str) -> str:
    code, _, number = exit_code.partition(":")
    if number and number != "0":
        return f"it was killed by signal {number}"
    return f"exit code {code}" if code else "it failed"


def _user(uid: str) -> str:
    import pwd

    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError):
        return uid
