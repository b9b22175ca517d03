"""What sbatch, squeue, scontrol and scancel answer (Slurm 22.05), and what follows. No program is started."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base.errors import MllamError, UsageError
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
from mllam_exps.schedulers.slurm import batch_script, calls, scheduler, shared_squeue
from mllam_exps.schedulers.slurm.calls import NotAnswered, NotAsked
from mllam_exps.schedulers.slurm.scheduler import SlurmScheduler
from mllam_exps.schedulers.slurm.shared_squeue import Answer, Entry, Queue, Silence

JOB = Job({"id": "7", "name": "train-1", "submitted": 50.0, "script": "/a"}, "job 7")
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
HEADER = "mllam|JOBID|NAME"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmScheduler:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return SlurmScheduler(Queue(tmp_path / "queue"))


@pytest.fixture
def request_(tmp_path: Path) -> JobRequest:
    place = tmp_path / "attempt"
    place.mkdir()
    log, script = place / "log", place / "job.sh"
    return JobRequest("train-1", [], ["run"], [], place, log, script, {}, Resources())


def said(stdout: str = "", stderr: str = "", code: int = 0) -> Any:
    return subprocess.CompletedProcess([], code, stdout, stderr)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let programs answer, by name, or get no answer."""

    def answering(**answers: Any) -> None:
        def call(command: list[str], *_: Any, **__: Any) -> Any:
            answer = answers[command[0]]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(calls, "call", call)

    return answering


def seen(slurm: SlurmScheduler, answer: Answer | Silence) -> None:
    slurm.queue.read = lambda: answer  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "job_id"),
    [
        ("123\n", "", 0, "123"),
        ("123;big\n", "", 0, "123"),
        ("Welcome to big\nSubmitted batch job 123 on cluster big\n", "", 0, "123"),
        ("123\n", "sbatch: warning: use less", 0, "123"),
        # A wrapper that loses the exit code, or has one of its own.
        ("123\n", "", 1, "123"),
    ],
)
def test_a_job_that_was_accepted_has_its_id(
    slurm: SlurmScheduler,
    request_: JobRequest,
    answering: Callable[..., None],
    stdout: str,
    stderr: str,
    code: int,
    job_id: str,
):
    answering(sbatch=said(stdout, stderr, code))
    job = slurm.submit(request_)
    assert (job.record["id"], job.record["name"]) == (job_id, "train-1")
    assert Path(job.record["script"]).read_text() == batch_script.render(request_)


FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (
            said("", f"{FAILED}Invalid account", 1),
            MllamError,
            "sbatch refused the job: Invalid account",
        ),
        (
            said("", "sbatch: unknown option", 2),
            MllamError,
            "sbatch refused the job: sbatch: unknown option",
        ),
        # A wrapper may lose the exit code.
        (said("", f"{FAILED}Invalid account"), MllamError, "Invalid account"),
        (
            said("", "sbatch: error: AssocMaxSubmitJobLimit", 1),
            NoRoom,
            "Slurm takes no more jobs of yours for now: AssocMaxSubmitJobLimit",
        ),
        (
            NotAsked("slurmctld is down"),
            NoRoom,
            "Slurm takes no job now: slurmctld is down",
        ),
        (NotAnswered("sbatch gave no answer"), Uncertain, "sbatch gave no answer"),
        (said("", "", 1), Uncertain, r"sbatch gave no job id \(exit code 1\)"),
    ],
)
def test_a_job_that_was_not_accepted(
    slurm: SlurmScheduler,
    request_: JobRequest,
    answering: Callable[..., None],
    answer: Any,
    kind: type[Exception],
    told: str,
):
    answering(sbatch=answer, squeue=said(HEADER))
    with pytest.raises(kind, match=told) as caught:
        slurm.submit(request_)
    assert type(caught.value) is kind


def test_a_job_whose_id_nobody_told_is_found_by_its_name(
    slurm: SlurmScheduler, request_: JobRequest, answering: Callable[..., None]
):
    listed = f"maintenance!\n{HEADER}\nmllam|6|another\nmllam|7|train-1\n"
    answering(sbatch=said("thank you"), squeue=said(listed))
    assert slurm.submit(request_).record["id"] == "7"
    columns = "mllam|6|another|sleep\nmllam|7|train-1|/runs/1/job.sh\n"
    answering(squeue=said(f"maintenance!\n{HEADER}\n{columns}"))
    assert slurm.names() == {"another": "", "train-1": "/runs/1"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (said("", DOWN, 1), "Unable to contact slurm controller"),
        (said("maintenance!"), "squeue gave no list of jobs"),
        (NotAnswered("squeue gave no answer"), "squeue gave no answer"),
    ],
)
def test_no_list_is_not_an_empty_one(
    slurm: SlurmScheduler, answering: Callable[..., None], answer: Any, told: str
):
    answering(squeue=answer)
    with pytest.raises(Uncertain, match=told):
        slurm.names()


def test_inside_a_job_a_refusal_says_nothing_of_the_job(
    slurm: SlurmScheduler,
    request_: JobRequest,
    answering: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    answering(sbatch=said("", "sbatch: not on a compute node", 1))
    with pytest.raises(NoRoom, match="from inside a job: sbatch: not on a compute"):
        slurm.submit(request_)


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (said("", "sbatch: Job 1 to start at noon"), None),
        (said("", "allocation failure: Invalid account", 1), True),
        (said("", "allocation failure: Invalid account"), True),
        (said("", "allocation failure: AssocMaxSubmitJobLimit", 1), False),
    ],
)
def test_what_slurm_would_say_of_a_job(
    slurm: SlurmScheduler,
    request_: JobRequest,
    answering: Callable[..., None],
    answer: Any,
    final: bool | None,
):
    answering(sbatch=answer)
    found = slurm.objection(request_)
    assert (found.final if found else None) is final
    answering(sbatch=NotAnswered("slurmctld is down"))
    with pytest.raises(Uncertain, match="slurmctld is down"):
        slurm.objection(request_)


OURS = {"7": Entry("7", "RUNNING", "None", "0:01", "n1", "train-1")}
OTHERS = {"7": Entry("7", "RUNNING", "None", "0:01", "n1", "somebody's")}


def test_a_job_is_found_by_its_name(slurm: SlurmScheduler):
    seen(slurm, Answer(1, 1000.0, OURS))
    found = slurm.find("train-1", 10.0)
    assert found is not None
    assert found.record["id"] == "7"
    assert slurm.find("another", 10.0) is None
    # A submitter that was killed may have left its sbatch behind.
    with pytest.raises(Uncertain, match="looking for its job by its name"):
        slurm.find("another", 990.0)
    seen(slurm, Silence("slurmctld is down"))
    with pytest.raises(Uncertain, match="slurmctld is down"):
        slurm.find("train-1", 10.0)


@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        (Silence("slurmctld is down"), JobPhase.UNKNOWN),
        (Answer(1, 60.0, OURS), JobPhase.RUNNING),
        # The answer is older than the job.
        (Answer(1, 40.0, {}), JobPhase.PENDING),
        (Answer(1, 40.0, OTHERS), JobPhase.PENDING),
        (Answer(1, 60.0, {}), JobPhase.SUCCEEDED),
        (Answer(1, 60.0, OTHERS), JobPhase.SUCCEEDED),
    ],
)
def test_where_a_job_is(
    slurm: SlurmScheduler,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer | Silence,
    phase: JobPhase,
):
    seen(slurm, answer)
    monkeypatch.setattr(
        SlurmScheduler, "verdict", lambda *_: JobState(JobPhase.SUCCEEDED)
    )
    assert slurm.state(JOB).phase is phase


def test_a_job_that_squeue_knows_no_more_is_asked_for_now_and_then(
    slurm: SlurmScheduler, monkeypatch: pytest.MonkeyPatch
):
    phases = [JobPhase.UNKNOWN, JobPhase.RUNNING, JobPhase.FAILED]
    times = [0.0]
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: times[0])
    monkeypatch.setattr(SlurmScheduler, "verdict", lambda *_: JobState(phases.pop(0)))
    seen(slurm, Answer(1, 60.0, {}))
    told = []
    for times[0] in (0.0, 5.0, 11.0, 12.0, 30.0, 100.0):
        told.append(slurm.state(JOB).phase.name)
    assert told == ["UNKNOWN", "UNKNOWN", "RUNNING", "RUNNING", "FAILED", "FAILED"]


SHOWN = "JobId=7 JobName=train-1 UserId=me JobState=COMPLETED ExitCode=0:0 NodeList=n1"


@pytest.mark.parametrize(
    ("scontrol", "phase"),
    [
        (said(SHOWN), JobPhase.SUCCEEDED),
        (said(SHOWN.replace("train-1", "another")), JobPhase.FORGOTTEN),
        (
            said("", "slurm_load_jobs error: Invalid job id specified", 1),
            JobPhase.FORGOTTEN,
        ),
        (said("", "scontrol: something new", 1), JobPhase.UNKNOWN),
        (NotAnswered("slurmctld is down"), JobPhase.UNKNOWN),
        (MllamError("no command scontrol on this host"), JobPhase.UNKNOWN),
    ],
)
def test_the_last_word_on_a_job(
    slurm: SlurmScheduler,
    answering: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    scontrol: Any,
    phase: JobPhase,
):
    answering(scontrol=scontrol)
    disabled = said("", "Slurm accounting storage is disabled", 1)
    monkeypatch.setattr(calls, "account", lambda _: disabled)
    assert slurm.verdict(JOB).phase is phase


@pytest.mark.parametrize(
    ("answer", "scancel", "kind"),
    [
        (Answer(1, 60.0, OURS), said(), None),
        (Answer(1, 60.0, OURS), said("", "Invalid job id specified", 1), None),
        (Answer(1, 60.0, OURS), said("", "Access/permission denied", 1), MllamError),
        (Answer(1, 60.0, OURS), NotAnswered("it is down"), SilentError),
        # Nobody knows it as ours: the id may be another job's by now.
        (Answer(1, 60.0, OTHERS), AssertionError("cancelled"), None),
        (Silence("it is down"), AssertionError("cancelled"), None),
    ],
)
def test_cancelling(
    slurm: SlurmScheduler,
    answering: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer | Silence,
    scancel: Any,
    kind: type[Exception] | None,
):
    seen(slurm, answer)
    monkeypatch.setattr(
        SlurmScheduler, "verdict", lambda *_: JobState(JobPhase.FORGOTTEN)
    )
    answering(scancel=scancel)
    if kind is None:
        slurm.cancel(JOB)
        return
    with pytest.raises(kind, match="could not cancel job 7") as caught:
        slurm.cancel(JOB)
    assert type(caught.value) is kind


NODE = said("NodeName=n1 Arch=x86_64 NodeAddr=10.0.0.1 NodeHostName=n1")


@pytest.mark.parametrize(
    ("environ", "resolved", "scontrol", "expected"),
    [
        ({"SLURM_JOB_NUM_NODES": "1"}, False, NODE, {}),
        ({"SLURM_JOB_NUM_NODES": "2"}, True, NODE, {}),
        ({"SLURM_JOB_NUM_NODES": "2"}, False, NODE, {"MASTER_ADDR": "10.0.0.1"}),
        ({"SLURM_JOB_NUM_NODES": "2", "MASTER_ADDR": "x"}, False, NODE, {}),
        ({"SLURM_JOB_NUM_NODES": "2"}, False, said("", "no such node", 1), {}),
        ({"SLURM_JOB_NUM_NODES": "2"}, False, NotAnswered("down"), {}),
    ],
)
def test_where_the_processes_of_several_nodes_meet(
    slurm: SlurmScheduler,
    answering: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    resolved: bool,
    scontrol: Any,
    expected: dict[str, str],
):
    def getaddrinfo(*_: Any) -> None:
        if not resolved:
            raise OSError

    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(scheduler.socket, "getaddrinfo", getaddrinfo)
    answering(scontrol=scontrol)
    assert slurm.inside() == expected


def test_what_a_job_knows_of_itself(
    slurm: SlurmScheduler, monkeypatch: pytest.MonkeyPatch
):
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    assert (slurm.job_id(), slurm.nodes(), slurm.cores()) == ("", None, None)
    with pytest.raises(MllamError, match="no job of Slurm's"):
        slurm.current()
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_JOB_NAME", "train-1")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert (slurm.job_id(), slurm.nodes(), slurm.cores()) == ("9", "n[1-2]", 4)
    assert slurm.current().record["name"] == "train-1"


PING_UP = said("Slurmctld(primary) at n0 is UP\n")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was started; nothing is known of Slurm's daemons."""
    monkeypatch.setattr(calls, "_controller", calls._Daemon())
    monkeypatch.setattr(calls, "_accounting", calls._Daemon())
    return []


def starting(
    monkeypatch: pytest.MonkeyPatch, started: list[str], *answers: Any
) -> None:
    """Let the programs that are started answer one after the other."""
    left = list(answers)

    def run(command: list[str], **_: Any) -> Any:
        started.append(command[0])
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(subprocess, "run", run)


LATE = subprocess.TimeoutExpired([], 1)
MUNGE = "squeue: error: Munge encode failed: Failed to access socket\nslurm_load_jobs error: Protocol"


@pytest.mark.parametrize(
    ("ping", "trouble"),
    [
        (PING_UP, ""),
        (said("Slurmctld(primary) at n0 is DOWN\nSlurmctld(backup) at n1 is UP"), ""),
        (
            said("Slurmctld(primary) at n0 is DOWN\n"),
            "slurmctld is down (scontrol ping)",
        ),
        (
            said("Slurmctld(primary) at n0 is DOWN\n", MUNGE),
            "munged does not answer on this host: Failed to access socket",
        ),
        (
            LATE,
            "slurmctld gave no answer within 3 s (it hangs, or munged on this host does)",
        ),
        (said("something of a site's own"), ""),
    ],
)
def test_whether_the_controller_answers(
    monkeypatch: pytest.MonkeyPatch, started: list[str], ping: Any, trouble: str
):
    starting(monkeypatch, started, ping)
    assert calls.outage() == trouble
    # That holds for some seconds.
    assert calls.outage() == trouble
    assert started == ["scontrol"]


@pytest.mark.parametrize(
    ("answers", "kind", "told"),
    [
        ([PING_UP, LATE], NotAnswered, "squeue gave no answer within 60 s"),
        ([PING_UP, said("", DOWN, 1)], NotAnswered, "Unable to contact"),
        ([said("Slurmctld(primary) at n0 is DOWN")], NotAsked, "slurmctld is down"),
        ([PING_UP, FileNotFoundError()], UsageError, "no command squeue on this host"),
        (
            [PING_UP, said("", "s_p_parse_file: cannot stat file", 1)],
            MllamError,
            "Slurm finds no configuration on this host",
        ),
    ],
)
def test_a_program_that_gets_no_answer(
    monkeypatch: pytest.MonkeyPatch,
    started: list[str],
    answers: list[Any],
    kind: type[Exception],
    told: str,
):
    starting(monkeypatch, started, *answers)
    with pytest.raises(kind, match=told) as caught:
        calls.call(["squeue"])
    assert type(caught.value) is kind


def test_a_program_that_is_refused_has_got_an_answer(
    monkeypatch: pytest.MonkeyPatch, started: list[str]
):
    full = said("", "Resource temporarily unavailable", 1)
    wrong = said("", "Invalid job id specified", 1)
    starting(monkeypatch, started, PING_UP, full, wrong)
    assert calls.call(["sbatch"]) is full
    assert calls.call(["scontrol"]) is wrong


def test_accounting_that_hangs_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, started: list[str]
):
    starting(monkeypatch, started, said("rows"), LATE)
    assert calls.account(["sacct"]).stdout == "rows"
    with pytest.raises(NotAnswered, match="sacct took longer than 4 s"):
        calls.account(["sacct"])
    with pytest.raises(NotAsked, match="sacct took longer than 4 s"):
        calls.account(["sacct"])
    assert started == ["sacct", "sacct"]


@pytest.mark.parametrize(
    ("success", "option"),
    [(True, "--dependency=afterok:7:8"), (False, "--dependency=afterany:7:8")],
)
def test_a_job_waits_for_others(request_: JobRequest, success: bool, option: str):
    others = (JOB, Job({"id": "8", "name": "x"}, "job 8"))
    waits = JobRequest(**{**vars(request_), "after": others, "after_success": success})
    options = list(batch_script.options(waits))
    assert option in options
    assert "--kill-on-invalid-dep=yes" in options
    assert not any("dependency" in one for one in batch_script.options(request_))


LIST = b"""Welcome
mllam|JOBID|STATE|REASON|TIME|NODELIST|NAME
mllam|7|RUNNING|None|0:10|n1|experiment/train|with a bar
mllam|8|PENDING|Resources|0:00||x
mllam|a name with
a line break|in it
mllam|9_1|PENDING|Resources|0:00||of an array
"""


def grow_old(queue: Queue) -> None:
    """Let what lies in a queue's folder be an hour old."""
    for path in queue.folder.iterdir():
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    queue._look_again = 0.0


def test_one_answer_is_shared_and_silence_is_told_once_it_lasts(
    monkeypatch: pytest.MonkeyPatch, started: list[str], tmp_path: Path
):
    queue, other = Queue(tmp_path / "queue"), Queue(tmp_path / "queue")
    late = subprocess.TimeoutExpired([], 1)
    answers = [said(LIST), said(b"", b"", 1), late, OSError(8, "Exec"), said(LIST)]
    starting(monkeypatch, started, *answers)
    found = queue.read()
    assert isinstance(found, Answer)
    assert {job.job_id: job.name for job in found.jobs.values()} == {
        "7": "experiment/train|with a bar",
        "8": "x",
    }
    assert other.read() == found
    assert len(started) == 1
    for why in (
        "squeue gave no list of jobs (exit code 1)",
        "squeue gave no answer within 30 s",
        "squeue cannot be started: Exec",
    ):
        grow_old(queue)
        silence = queue.read()
        assert isinstance(silence, Silence)
        assert silence.why == why
    grow_old(queue)
    assert isinstance(queue.read(), Answer)
    assert not (queue.folder / "failure.json").exists()


def test_who_decides_whether_to_submit_does_not_build_on_an_outage_that_is_over(
    monkeypatch: pytest.MonkeyPatch, started: list[str], tmp_path: Path
):
    # A job that ended within seconds of slurmctld's return left what waited to nobody.
    starting(monkeypatch, started, said(LIST))
    down = ["slurmctld is down"]
    slurm = SlurmScheduler(Queue(tmp_path / "queue", outage=lambda: "".join(down)))
    assert not slurm.answers()
    assert not slurm.answers(now=True)
    down.clear()
    assert not slurm.answers(), "it may lag"
    assert slurm.answers(now=True)
    assert len(started) == 1
    assert slurm.answers(), "others know it, too"
    assert isinstance(Queue(tmp_path / "queue").read(), Answer)
    assert len(started) == 1


def test_a_controller_that_is_down_is_not_asked_for_a_list(
    monkeypatch: pytest.MonkeyPatch, started: list[str], tmp_path: Path
):
    starting(monkeypatch, started)
    times = itertools.count()
    monkeypatch.setattr(
        shared_squeue.time, "strftime", lambda *_: f"12:00:{next(times):02}"
    )
    queue = Queue(tmp_path / "queue", outage=lambda: "slurmctld is down")
    first = queue.read()
    assert isinstance(first, Silence)
    assert first.why == "slurmctld is down"
    grow_old(queue)
    again = queue.read()
    assert isinstance(again, Silence)
    assert again.since == first.since
    assert started == []


@pytest.mark.parametrize(
    ("answer", "kind"), [(said(LIST), Answer), (said(b"", b"", 1), Silence)]
)
def test_where_nothing_can_be_written_one_asks_for_oneself(
    monkeypatch: pytest.MonkeyPatch,
    started: list[str],
    tmp_path: Path,
    answer: Any,
    kind: type,
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    starting(monkeypatch, started, answer)
    monkeypatch.setattr(shared_squeue.records, "now", full)
    assert isinstance(Queue(tmp_path / "queue").read(), kind)


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (said(), None, ""),
        (said("", "scontrol: error: Job is gone", 1), MllamError, "error: Job is gone"),
        (NotAnswered("slurmctld is down"), SilentError, "slurmctld is down"),
    ],
)
def test_what_slurm_does_or_refuses_at_once(
    slurm: SlurmScheduler,
    answering: Callable[..., None],
    answer: Any,
    kind: type[Exception] | None,
    told: str,
):
    answering(scancel=answer, scontrol=answer)
    if kind is None:
        assert slurm.signal_steps(10)
        slurm.put_behind(JOB, (JOB,))
        return
    for what, ask in (
        ("signal", lambda: slurm.signal_steps(10)),
        ("put job 7 behind another", lambda: slurm.put_behind(JOB, (JOB,))),
    ):
        with pytest.raises(kind, match=f"could not {what}: .*{told}") as caught:
            ask()
        assert type(caught.value) is kind
