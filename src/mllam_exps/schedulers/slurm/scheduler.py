"""The Slurm scheduler: an attempt is a job, submitted with ``sbatch``."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base import records
from mllam_exps.base.endings.last_words import last_line
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.schedulers.base import (
    Job,
    JobPhase,
    JobRequest,
    JobState,
    NoRoom,
    Objection,
    SilentError,
    Uncertain,
)
from mllam_exps.schedulers.slurm import answers, batch_script, calls, refusals
from mllam_exps.schedulers.slurm.calls import NotAnswered, NotAsked
from mllam_exps.schedulers.slurm.shared_squeue import (
    HEADER,
    MARK,
    Queue,
    Silence,
)

log = logging.getLogger(__name__)

PATIENCE = calls.PATIENCE
ASK_AGAIN = 10.0
LIST_PATIENCE = 5.0
"""Seconds that a list of one's own jobs may take: without it nothing is submitted for now, and nothing is lost."""

# 22.05: "sbatch: error: Batch job submission failed: Invalid account or
# account/partition combination specified", and with --test-only "allocation failure:
# …". What is wrong in particular may stand in a line before.
_FAILED = re.compile(r"(?:Batch job submission failed|allocation failure): (.*)")
# --parsable: "123", or "123;cluster". A site's wrapper may print lines of its own, or
# leave the option out: "Submitted batch job 123 on cluster a".
_ACCEPTED = re.compile(
    r"^\s*(?:Submitted batch job )?(\d+)(?:;\S*| on cluster \S+)?\s*$", re.MULTILINE
)
_UNKNOWN_JOB = "Invalid job id"
_FIELD = re.compile(r"(\w+)=(\S*)")


@dataclass
class SlurmScheduler:
    """Jobs of one cluster: the one that ``sbatch`` on this host submits to.

    Parameters
    ----------
    queue : Queue
        What squeue says, shared with all other drivers of this user.
    """

    queue: Queue
    name: str = "slurm"
    limits: bool = True
    chains: bool = True
    inherits: bool = False
    settles: float = 0.8
    _verdicts: dict[str, tuple[float, JobState]] = field(default_factory=dict)

    def missing(self) -> str:
        """Look for ``sbatch``."""
        return "" if shutil.which("sbatch") else "no command sbatch on this host"

    def launch(self, request: JobRequest) -> list[str]:
        """Return srun, with the job's nodes and tasks."""
        return batch_script.launch(request)

    def inside(self) -> dict[str, str]:
        """Return where the processes of several nodes meet, where the first node's name is no host's.

        Lightning takes the name, and processes that cannot resolve it wait for half an
        hour. Slurm itself reaches nodes by their NodeAddr. We run on the first node.
        """
        node = os.environ.get("SLURMD_NODENAME", "")
        is_alone = os.environ.get("SLURM_JOB_NUM_NODES", "1") == "1"
        if is_alone or "MASTER_ADDR" in os.environ:
            return {}
        with contextlib.suppress(OSError):
            socket.getaddrinfo(node, None)
            return {}
        with contextlib.suppress(NotAnswered):
            done = calls.call(["scontrol", "--oneliner", "show", "node", node])
            if address := dict(_FIELD.findall(done.stdout)).get("NodeAddr"):
                return {"MASTER_ADDR": address}
        return {}

    def script(self, request: JobRequest) -> str:
        """Return the batch script."""
        return batch_script.render(request)

    def objection(self, request: JobRequest) -> Objection | None:
        """Ask ``sbatch --test-only``, which submits nothing."""
        environ = batch_script.environment(request.environment)
        try:
            done = calls.call(
                ["sbatch", "--test-only"], environ, input=self.script(request)
            )
        except NotAnswered as silence:
            raise Uncertain(str(silence)) from None
        # Wrappers of sbatch have been seen to lose its exit code.
        if done.returncode == 0 and not _FAILED.search(done.stderr):
            return None
        return refusals.judge(
            answers.refusal(done).removeprefix("allocation failure: "),
            done.stderr,
            request,
        )

    def submit(self, request: JobRequest) -> Job:
        """Write the batch script into the attempt's directory, and submit it."""
        script = request.script
        script.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(records.open_file(script, flags), "w", encoding="utf-8") as file:
            file.write(batch_script.render(request))
        try:
            return self._submit(request, script)
        except MllamError as error:
            if "SLURM_JOB_ID" not in os.environ or isinstance(error, NoRoom):
                raise
            # Sites forbid sbatch on their nodes, each with words of its own: that says
            # nothing of this job.
            raise NoRoom(
                "sbatch takes no job from inside a job", why=error.why or error.what
            ) from error

    def _submit(self, request: JobRequest, script: Path) -> Job:
        try:
            done = calls.call(
                ["sbatch", "--parsable", str(script)],
                batch_script.environment(request.environment),
                patience=PATIENCE,
            )
        except NotAsked as silence:
            raise NoRoom(f"Slurm takes no job now: {silence}") from None
        except NotAnswered as silence:
            raise Uncertain(str(silence)) from None
        if accepted := _ACCEPTED.findall(done.stdout):
            log.info("%s was accepted as job %s", request.name, accepted[-1])
            return self._job(accepted[-1], request.name, self.queue.clock(), script)
        log.info("%s was not accepted: %s", request.name, answers.refusal(done))
        if full := calls.NO_ROOM.search(done.stderr):
            what = "Slurm takes no more jobs of yours for now"
            raise NoRoom(what, why=full[0])
        if _FAILED.search(done.stderr) or (done.returncode > 0 and done.stderr.strip()):
            raise MllamError(
                "sbatch refused the job",
                str(script),
                answers.refusal(done),
                "mllam-exps machine show",
            )
        return self._unnamed(request, script, done)

    def _unnamed(
        self, request: JobRequest, script: Path, done: subprocess.CompletedProcess[str]
    ) -> Job:
        """Return the job that sbatch gave no id of, by its name."""
        with contextlib.suppress(Uncertain):
            for job_id, name in self._listed("%A|%j"):
                if name == request.name:
                    return self._job(job_id, name, self.queue.clock(), script)
        why = last_line(done.stderr)
        raise Uncertain(why or f"sbatch gave no job id (exit code {done.returncode})")

    def find(self, name: str, written: float) -> Job | None:
        """Find a job by its name, in squeue's newest answer."""
        answer = self.queue.read()
        if isinstance(answer, Silence):
            raise Uncertain(answers.of_silence(answer).reason)
        for entry in answer.jobs.values():
            if entry.name == name:
                return self._job(entry.job_id, name, answer.asked)
        # A submitter that was killed may leave its sbatch behind, which then waits for
        # the controller.
        if answer.asked < written + PATIENCE + ASK_AGAIN:
            raise Uncertain("looking for its job by its name")
        return None

    def job_id(self) -> str:
        """Return what Slurm's variable says."""
        return os.environ.get("SLURM_JOB_ID", "")

    def nodes(self) -> str | None:
        """Return what Slurm's variable says, e.g. ``n[1-3]``."""
        return os.environ.get("SLURM_JOB_NODELIST") or None

    def cores(self) -> int | None:
        """Return what Slurm's variable says: it is there where the job asked for ``--cpus-per-task``."""
        told = os.environ.get("SLURM_CPUS_PER_TASK", "")
        return int(told) if told.isdigit() and int(told) > 0 else None

    def answers(self, *, now: bool = False) -> bool:
        """Tell whether squeue does; its answer may be one that others got."""
        found = self.queue.read()
        if now and isinstance(found, Silence):
            found = self.queue.ask_anew()
        return not isinstance(found, Silence)

    def outage(self) -> str:
        """Ask ``scontrol ping``."""
        return calls.outage()

    def names(self) -> dict[str, str]:
        """Ask squeue for this user's jobs."""
        jobs = {}
        for _, name, script in self._listed("%A|%j|%o"):
            jobs[name] = str(Path(script).parent) if script.startswith("/") else ""
        return jobs

    def _listed(self, columns: str) -> Iterator[list[str]]:
        """Ask squeue for this user's jobs now; yield their columns."""
        which = ["--all", f"--user={os.getuid()}"]
        try:
            done = calls.call(
                ["squeue", *which, f"--format={MARK}|{columns}"], patience=LIST_PATIENCE
            )
        except NotAnswered as silence:
            raise Uncertain(str(silence)) from None
        lines = done.stdout.splitlines()
        if done.returncode != 0 or not any(line.startswith(HEADER) for line in lines):
            raise Uncertain(calls.blame(done.stderr) or "squeue gave no list of jobs")
        for line in lines:
            if line.startswith(f"{MARK}|") and not line.startswith(HEADER):
                yield line.split("|", columns.count("|") + 1)[1:]

    def job(self, record: dict[str, Any]) -> Job:
        """Return the job with the recorded id."""
        return Job(record, f"job {record['id']}")

    def _job(
        self, job_id: str, name: str, submitted: float, script: Path | str = ""
    ) -> Job:
        """Return a job; an answer to a question that was put before it was `submitted` need not know it."""
        return self.job(
            {"id": job_id, "name": name, "submitted": submitted, "script": str(script)}
        )

    def current(self) -> Job:
        """Return the job of this process, as Slurm's variables name it.

        Raises
        ------
        MllamError
            Outside of a job.
        """
        if "SLURM_JOB_ID" not in os.environ:
            raise MllamError("this is no job of Slurm's", next="sbatch the script")
        job_id, name = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_JOB_NAME", "")
        return self._job(job_id, name, self.queue.clock())

    def state(self, job: Job) -> JobState:
        """Say where the job is, by squeue's newest answer; by a question of its own where that knows it no more."""
        answer = self.queue.read()
        if isinstance(answer, Silence):
            return answers.of_silence(answer)
        if entry := answers.entry_of(job, answer):
            return answers.of_entry(entry)
        if answer.asked < job.record["submitted"]:
            return JobState(JobPhase.PENDING, "submitted")
        job_id, now = str(job.record["id"]), time.monotonic()
        if job_id in self._verdicts:
            asked, state = self._verdicts[job_id]
            if state.phase.ended or now - asked <= ASK_AGAIN:
                return state
        state = self.verdict(job)
        self._verdicts[job_id] = (time.monotonic(), state)
        return state

    def verdict(self, job: Job) -> JobState:
        """Ask for this one job: the controller, and where that has purged it, the accounting."""
        job_id, name = str(job.record["id"]), str(job.record["name"])
        try:
            done = calls.call(["scontrol", "--oneliner", "show", "job", job_id])
            if done.returncode == 0 and answers.is_ours(job, done.stdout):
                return answers.of_controller(done.stdout, job_id)
            if done.returncode != 0 and _UNKNOWN_JOB not in done.stderr + done.stdout:
                return JobState(
                    JobPhase.UNKNOWN,
                    f"scontrol: {calls.blame(done.stderr) or done.returncode}",
                )
            return answers.of_accounting(job_id, name)
        except NotAnswered as silence:
            return JobState(JobPhase.UNKNOWN, str(silence))
        except MllamError as error:
            return JobState(JobPhase.UNKNOWN, error.what)

    def _is_in_queue(self, job: Job) -> bool:
        answer = self.queue.read()
        if isinstance(answer, Silence):
            return False
        return answers.entry_of(job, answer) is not None

    def signal_steps(self, number: int) -> bool:
        """Have ``scancel`` send it: to the steps, and not to the batch script (22.05)."""
        self._ask(["scancel", f"--signal={number}", self.job_id()], "signal")
        return True

    def put_behind(self, job: Job, after: tuple[Job, ...]) -> None:
        """Give it another dependency."""
        kind = batch_script.dependency(after, success=True)
        words = ["update", f"JobId={job.record['id']}", f"Dependency={kind}"]
        self._ask(["scontrol", *words], f"put {job.label} behind another")

    @staticmethod
    def _ask(argv: list[str], what: str) -> None:
        """Ask for something that is done or refused at once.

        Raises
        ------
        MllamError
            If it is refused, or nobody answers.
        """
        try:
            done = calls.call(argv)
        except NotAnswered as silence:
            raise SilentError(f"could not {what}", why=str(silence)) from None
        if done.returncode != 0:
            why = last_line(done.stderr)
            raise MllamError(f"could not {what}", why=why)

    def cancel(self, job: Job) -> None:
        """Cancel the job, whatever it is doing."""
        # An id that nobody knows as ours may be another job's by now.
        if not self._is_in_queue(job) and self.verdict(job).phase is JobPhase.FORGOTTEN:
            return
        job_id = str(job.record["id"])
        what, by_hand = f"could not cancel {job.label}", f"scancel {job_id}"
        try:
            done = calls.call(["scancel", job_id])
        except NotAnswered as silence:
            why, way_out = str(silence), f"{by_hand}, once Slurm answers"
            raise SilentError(what, why=why, next=way_out, exit=Exit.UNKNOWN) from None
        if done.returncode != 0 and _UNKNOWN_JOB not in done.stderr:
            why = last_line(done.stderr)
            raise MllamError(what, why=why, next=by_hand)
