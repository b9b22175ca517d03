"""The run store: what a crash, a race and a zombie can do to it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest

from mllam_exps.attempts import workdir
from mllam_exps.attempts.launch import give_up
from mllam_exps.attempts.work.inputs import Inputs
from mllam_exps.base import records
from mllam_exps.base.errors import CheckFailed, MllamError, Problem, UsageError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.base.shapes import number
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.results import Result
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState, judge
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers.base import Job, JobPhase, JobState, NoRoom

KEY = "train-" + "a" * 32


class Scheduler:
    """A scheduler that answers what a test says: real ones can't be made to be in doubt on demand."""

    name = "double"

    def __init__(
        self, phase: JobPhase = JobPhase.RUNNING, reason: str = "", found: bool = False
    ) -> None:
        self.phase, self.reason, self.found = phase, reason, found

    def __call__(self, _name: str, _store: Path) -> Scheduler:
        return self

    def find(self, name: str, written: float) -> Job | None:
        return Job({"name": name}, name) if self.found else None

    def job(self, record: dict) -> Job:
        return Job(record, "job")

    def state(self, _job: Job) -> JobState:
        return JobState(self.phase, self.reason)

    verdict = state


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = RunStore(tmp_path).run(KEY)
    run.begin(RunDefinition("train", {}, (), ()))
    return run


def claim(run: Run, number: int = 1) -> Attempt | None:
    return run.claim(
        number,
        scheduler="double",
        experiment="e",
        workspace=run.directory,
        working_directory=None,
    )


def submitted(run: Run, number: int = 1) -> Attempt:
    attempt = claim(run, number)
    assert attempt is not None
    records.replace(
        attempt.directory / "job.json", {"id": number, "name": "", "submitted": 0.0}
    )
    return attempt


def dead_process() -> ProcessIdentity:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    process.start()
    identity = ProcessIdentity.of(process.pid)
    process.kill()
    process.join()
    return identity


@pytest.mark.parametrize("left", range(0, 40, 3))
def test_a_torn_record_is_none(tmp_path: Path, left: int):
    path = tmp_path / "end.json"
    records.replace(path, {"outcome": "succeeded", "reason": "", "time": 1.0})
    path.write_bytes(path.read_bytes()[:left])
    assert records.read(path) is None


def test_a_failed_write_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "end.json"
    records.replace(path, {"old": True})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        records.replace(path, {"new": True})
    assert records.read(path) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["end.json"]


def test_a_key_is_no_path(tmp_path: Path):
    store = RunStore(tmp_path)
    for key in (
        "../../etc",
        "train",
        "train-XYZ",
        "train-" + "a" * 31,
        "a/b-" + "a" * 32,
        "train-" + "a" * 32 + "\n",
    ):
        with pytest.raises(ValueError, match="not a run key"):
            store.run(key)


def test_an_attempt_is_claimed_once_and_lost_by_the_next_claim(run: Run):
    first = claim(run)
    assert first is not None
    assert claim(run) is None
    assert first.is_current
    second = claim(run, 2)
    assert second is not None
    assert not first.is_current
    assert [a.number for a in run.attempts()] == [1, 2]


def test_states_of_a_run(run: Run):
    scheduler = Scheduler()
    assert assess(run, scheduler).state is RunState.NEW
    attempt = claim(run)
    assert attempt is not None
    assert assess(run, scheduler).state is RunState.STARTING, "its claimer, we, lives"
    records.replace(
        attempt.directory / "job.json", {"id": 1, "name": "", "submitted": 0.0}
    )
    for phase, state in (
        (JobPhase.PENDING, RunState.PENDING),
        (JobPhase.RUNNING, RunState.RUNNING),
    ):
        assert assess(run, Scheduler(phase)).state is state
    for phase in (JobPhase.SUCCEEDED, JobPhase.GONE, JobPhase.FORGOTTEN):
        assert assess(run, Scheduler(phase)).state is RunState.LOST, (
            "without its own record nothing succeeded"
        )
    records.replace(
        attempt.directory / "end.json", {"outcome": Outcome.FAILED, "reason": "NaN"}
    )
    assert assess(run, scheduler).state is RunState.FAILED
    assert assess(run, scheduler).reason == "NaN"
    records.replace(attempt.directory / "manifest.json", {})
    records.replace(run.directory / "result.json", {"attempt": 1, "outputs": {}})
    assert assess(run, scheduler).state is RunState.DONE


def everything(run: Run) -> dict[Path, tuple[int, float]]:
    """Return inode and time of change of all that is kept of a run."""
    files = [path for path in run.directory.rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime) for path in files}


@pytest.mark.parametrize("phase", JobPhase)
@pytest.mark.parametrize("ended", [False, True])
def test_who_looks_changes_nothing_and_who_acts_remembers(
    run: Run, phase: JobPhase, ended: bool
):
    """Schedulers forget jobs: their last word is kept by whoever acts on it."""
    attempt, scheduler = submitted(run), Scheduler(phase, "a word")
    attempt.start(None)
    if ended:
        attempt.end(Outcome.FAILED, Problem("stopped by SIGTERM"))
    before = everything(run)
    seen = judge(observe(run, scheduler))
    assert everything(run) == before
    assert assess(run, scheduler) == seen
    assert (verdict.known(attempt) is not None) is phase.ended
    if phase.ended:
        forgotten = Scheduler(JobPhase.FORGOTTEN, "forgotten")
        assert assess(run, forgotten) == seen, "nobody is asked again"


def test_the_end_that_an_earlier_version_wrote_is_read(run: Run):
    attempt = submitted(run)
    path = attempt.directory / "end.json"
    reason = "x.yaml: lr is negative: -1\n  → edit x.yaml"
    records.replace(path, {"outcome": "failed", "reason": reason})
    problem = assess(run, Scheduler()).problem
    assert problem.line == "x.yaml: lr is negative: -1"
    assert problem.next == "edit x.yaml"
    assert str(problem) == reason
    # And an earlier version reads what is written now.
    error = UsageError("lr is negative", "x.yaml", "-1", "edit x.yaml")
    attempt.end(Outcome.FAILED, error.problem)
    assert json.loads(path.read_text())["reason"] == reason
    assert attempt.ended is not None
    assert attempt.ended.problem == error.problem


def test_an_outcome_of_a_newer_version_is_no_success(run: Run):
    attempt = submitted(run)
    end = {"outcome": "postponed", "reason": "until tomorrow"}
    records.replace(attempt.directory / "end.json", end)
    assert assess(run, Scheduler()).state is RunState.FAILED


def test_a_run_is_settled_once(run: Run):
    first, second = submitted(run), submitted(run, 2)
    for attempt in (first, second):
        records.replace(attempt.directory / "manifest.json", {})
    assert run.settle(Result(2))
    assert not run.settle(Result(1))
    assert run.result == Result(2)
    (run.directory / "result.json").write_text("{")
    assert run.settle(Result(1)), "one that cannot be read is none"
    assert run.result == Result(1)


def test_not_knowing_is_no_answer(run: Run):
    attempt = submitted(run)
    doubt = Scheduler(
        JobPhase.UNKNOWN, "it runs on n7, which cannot be asked from here"
    )
    assert assess(run, doubt).state is RunState.UNKNOWN
    assert "cannot be asked" in assess(run, doubt).reason
    attempt.heartbeat.touch()
    assert assess(run, doubt).state is RunState.RUNNING, "it gives signs of life"
    os.utime(attempt.heartbeat, (time.time() - 3600,) * 2)
    assert assess(run, doubt).state is RunState.UNKNOWN
    assert assess(run, doubt).state.living, "nothing is started beside it"


def test_a_claimer_that_died_before_submitting(run: Run):
    attempt = claim(run)
    assert attempt is not None
    path = run.directory / "attempts/1.json"
    record = json.loads(path.read_text()) | {"claimed_by": dead_process().to_record()}
    records.replace(path, record)
    assert assess(run, Scheduler(found=True)).state is RunState.RUNNING, (
        "it had submitted: the job is found by name"
    )
    lost = assess(run, Scheduler())
    assert lost.state is RunState.LOST
    assert "never started" in lost.reason


def test_a_claimer_elsewhere_gets_time(run: Run):
    claim(run)
    path = run.directory / "attempts/1.json"
    elsewhere = ProcessIdentity("n7", "boot", 1, 1.0).to_record()
    records.replace(path, json.loads(path.read_text()) | {"claimed_by": elsewhere})
    assert assess(run, Scheduler()).state is RunState.STARTING
    os.utime(path, (time.time() - 3600,) * 2)
    assert assess(run, Scheduler()).state is RunState.LOST


def test_waiters_that_died_do_not_count(run: Run):
    me = ProcessIdentity.of()
    with run.wait_here(me):
        assert run.other_waiters(me) == []
        dead = dead_process()
        records.replace(
            run.directory / "waiters/dead.json",
            dead.to_record() | {"seen": time.time()},
        )
        assert run.other_waiters(me) == []
        other = ProcessIdentity("n7", "boot", 1, 1.0)
        records.replace(
            run.directory / "waiters/n7.json", other.to_record() | {"seen": time.time()}
        )
        assert run.other_waiters(me) == [other]
        os.utime(run.directory / "waiters/n7.json", (time.time() - 3600,) * 2)
        assert run.other_waiters(me) == []
    assert not (
        run.directory / "waiters" / f"{socket.gethostname()}.{os.getpid()}.json"
    ).exists()


def test_an_input_that_was_not_made_is_missed_before_the_program_starts(tmp_path: Path):
    """Slurm counts `afterok` on a job that it has forgotten as satisfied: that a job starts proves nothing."""
    store = RunStore(tmp_path)
    key = f"make-{'0' * 32}"
    run = store.run(f"grow-{'1' * 32}")
    run.begin(RunDefinition("grow", {}, (), ()))
    attempt = run.claim(
        1, scheduler="local", experiment="e", workspace=tmp_path, working_directory=None
    )
    assert attempt is not None
    with pytest.raises(CheckFailed, match=f"its input made was not made: run {key}"):
        workdir.take(store, attempt, {}, {"made": key}, [])


@pytest.mark.parametrize("damage", ['{"made": {"digest"', '{"made": {"size": 3}}'])
def test_an_attempt_whose_inputs_nobody_can_tell_does_not_start(
    tmp_path: Path, damage: str
):
    """Else its inputs would be looked at no more, and its result would name none."""
    run = RunStore(tmp_path).run(f"grow-{'1' * 32}")
    run.begin(RunDefinition("grow", {}, (), ()))
    attempt = run.claim(
        1, scheduler="local", experiment="e", workspace=tmp_path, working_directory=None
    )
    assert attempt is not None
    assert attempt.inputs.by_path == {}, "attempts without inputs have no such file"
    attempt.note_inputs({"made": {"digest": "0" * 32, "size": 3}})
    assert attempt.inputs.by_path["made"]["size"] == 3
    (attempt.directory / "inputs.json").write_text(damage)
    with pytest.raises(CheckFailed, match="nobody can tell what its inputs are"):
        Inputs(attempt, {}, "mllam-exps retry e")


def test_an_attempt_the_scheduler_had_no_room_for_is_no_try(tmp_path: Path):
    run = RunStore(tmp_path).run(f"grow-{'1' * 32}")
    run.begin(RunDefinition("grow", {}, (), ()))
    attempt = run.claim(
        1, scheduler="local", experiment="e", workspace=tmp_path, working_directory=None
    )
    assert attempt is not None
    give_up(
        attempt,
        NoRoom(
            "Slurm takes no more jobs of yours for now", why="AssocMaxSubmitJobLimit"
        ),
    )
    now = assess(run)
    assert (now.state, now.untried) == (RunState.NEW, True)
    assert "AssocMaxSubmitJobLimit" in now.reason


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_nothing_was_started_for_and_cannot_say_so_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The process that submits what waits lives on: as long as it did, it was taken for about to start it."""
    run = RunStore(tmp_path).run(f"grow-{'1' * 32}")
    run.begin(RunDefinition("grow", {}, (), ()))
    attempt = run.claim(
        1, scheduler="local", experiment="e", workspace=tmp_path, working_directory=None
    )
    assert attempt is not None
    (attempt.work / "laid out").touch()
    assert assess(run).state is RunState.STARTING
    with monkeypatch.context() as full:
        full.setattr(records, "replace", full_disk)
        with pytest.raises(MllamError, match="the disk is full"):
            give_up(attempt, OSError(errno.ENOSPC, "No space left on device"))
    now = assess(run)
    assert (now.state, now.untried) == (RunState.LOST, True)
    assert not attempt.work.exists()
    with monkeypatch.context() as full:
        full.setattr(Attempt, "make_directories", full_disk)
        with pytest.raises(OSError, match="No space left"):
            run.claim(
                2,
                scheduler="local",
                experiment="e",
                workspace=tmp_path,
                working_directory=None,
            )
    assert assess(run).state is RunState.LOST


def test_no_number_and_no_size_of_a_record_overwhelms_its_reader(tmp_path: Path):
    path = tmp_path / "run.json"
    path.write_text('{"time": 1' + 400 * "0" + "}")
    assert isinstance(records.look(path, shape={"time": number}), records.Trouble)
    with path.open("wb") as file:
        file.truncate(2**40)  # it takes no room
    assert "too large" in str(records.look(path))


@pytest.mark.parametrize("inside", [".", "attempts"])
def test_a_file_in_the_place_of_a_run_s_folder_is_named_with_a_way_out(
    tmp_path: Path, inside: str
):
    run = RunStore(tmp_path).run(KEY)
    place = run.directory / inside
    place.parent.mkdir(parents=True)
    place.touch()
    with pytest.raises(MllamError) as refused:
        run.make()
    problem = refused.value.problem
    assert (problem.what, problem.where) == ("is no folder", str(place))
    assert problem.next.startswith(f"rm {place}, or")
