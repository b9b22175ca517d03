"""What Slurm's programs say of one job, as the state of a job."""

from __future__ import annotations

import re
import subprocess

from mllam_exps.base.endings.last_words import last_line
from mllam_exps.schedulers.base import Job, JobPhase, JobState
from mllam_exps.schedulers.slurm import calls, states
from mllam_exps.schedulers.slurm.shared_squeue import Answer, Entry, Silence

_REFUSED = re.compile(r"(?:sbatch: )?error: (?:Batch job submission failed: )?(.*)")
_FIELD = re.compile(r"(\w+)=(\S*)")
_FORGOTTEN = "Slurm has forgotten its job"


def is_ours(job: Job, shown: str) -> bool:
    """Return whether scontrol shows our job, by its name, or its script: people and plugins rename jobs."""
    if f" JobName={job.record['name']} " in shown:
        return True
    script = job.record.get("script")
    return bool(script) and f" Command={script} " in shown


def entry_of(job: Job, answer: Answer) -> Entry | None:
    """Return what squeue says of our job; None where it does not name it.

    A controller that lost its state counts from the beginning again: an id may be
    another job's by now.
    """
    entry = answer.jobs.get(str(job.record["id"]))
    return entry if entry and entry.name == job.record["name"] else None


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return why sbatch refused a job: its first complaint, as the last is often general."""
    if refused := _REFUSED.search(done.stderr):
        return refused[1]
    return last_line(done.stderr) or f"exit code {done.returncode}"


def of_silence(answer: Silence) -> JobState:
    """Say since when Slurm has not answered."""
    return JobState(
        JobPhase.UNKNOWN, f"Slurm has not answered since {answer.since}: {answer.why}"
    )


def of_entry(entry: Entry) -> JobState:
    """Read what squeue says of a job."""
    where = f"on {entry.nodes}" if entry.nodes else ""
    state = states.of_state(
        entry.state, job_id=entry.job_id, reason=entry.reason, nodes=entry.nodes
    )
    if state.phase is JobPhase.RUNNING and not state.reason:
        return JobState(state.phase, where, state.told)
    return state


def of_controller(text: str, job_id: str) -> JobState:
    """Read ``scontrol --oneliner show job``: ``JobId=7 JobName=… UserId=… JobState=TIMEOUT … NodeList=n1``.

    Only what follows the name is read, and the first of each field: names, comments and
    paths may hold anything.
    """
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(text.rpartition(" UserId=")[2]):
        found.setdefault(name, value)
    nodes = found.get("NodeList", "")
    return states.of_state(
        found.get("JobState", ""),
        job_id=job_id,
        reason=found.get("Reason", ""),
        exit_code=found.get("ExitCode", ""),
        nodes="" if nodes == "(null)" else nodes,
    )


def of_accounting(job_id: str, name: str) -> JobState:
    """Ask sacct; where there is no accounting, nobody remembers the job."""
    fields = "State,ExitCode,NodeList,JobName"
    done = calls.account(["sacct", "-j", job_id, "-X", "-n", "-P", "-D", "-o", fields])
    rows = [line.split("|", 3) for line in done.stdout.splitlines()]
    # 22.05: the accounting may learn a job's end a second or two before its name, and
    # says "allocation" until then.
    ours = [row for row in rows if len(row) == 4 and row[3] in {name, "allocation"}]
    if done.returncode == 0 and ours:
        return _of_row(ours[-1], job_id)
    # Without slurmdbd: "Slurm accounting storage is disabled", exit code 1. One that
    # does not answer may know more.
    if done.returncode == 0 or "disabled" in done.stderr:
        return JobState(JobPhase.FORGOTTEN, _FORGOTTEN)
    return JobState(
        JobPhase.UNKNOWN, f"slurmdbd does not answer: {last_line(done.stderr)}"
    )


def _of_row(row: list[str], job_id: str) -> JobState:
    """Read what sacct says of a job."""
    state, exit_code, nodes, _ = row
    if state == "CANCELLED":
        # 22.05: one that somebody cancelled is "CANCELLED by 1000". This is said of
        # jobs of a controller that lost its state, and of one that was taken back
        # because a job which it depended on failed.
        why = "Slurm lost its job, or took it back: nobody cancelled it"
        return JobState(JobPhase.FORGOTTEN, why)
    nodes = "" if nodes == "None assigned" else nodes
    answer = states.of_state(state, job_id=job_id, exit_code=exit_code, nodes=nodes)
    # slurmdbd may not have been told yet that the job ended: the controller knows no
    # living job of that id.
    return answer if answer.phase.ended else JobState(JobPhase.FORGOTTEN, _FORGOTTEN)
