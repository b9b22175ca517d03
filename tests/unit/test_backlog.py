"""What waits in the run store, and whether anybody goes on with it by himself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.attempts.job_quota import Quota
from mllam_exps.base.errors import MllamError
from mllam_exps.commands.running import advance
from mllam_exps.runs.locks import is_held, lock
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.schedulers.local import NAME_VARIABLE
from mllam_exps.submission import backlog, experiments, job_chain, standing
from mllam_exps.submission.backlog import Advance


def experiment(name: str, state: RunState, *, submits: bool = False) -> Any:
    """Return an experiment whose saving is in a state, one of whose jobs submits what waits when it ends, or not."""
    attempt = SimpleNamespace(
        submits_what_waits=SimpleNamespace(exists=lambda: submits)
    )
    run = SimpleNamespace(
        state=RunState.RUNNING if submits else RunState.NEW,
        last_attempt=lambda: attempt,
    )
    return SimpleNamespace(
        name=name,
        is_mine=True,
        saving=SimpleNamespace(state=state),
        runs={"grow": run},
        waits="no room",
    )


@pytest.fixture
def in_store(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The unsaved experiments of every store; all their jobs can wait for one another."""
    found: list[Any] = []
    monkeypatch.setattr(standing.experiments, "unsaved", lambda _: iter(found))
    monkeypatch.setattr(standing, "observe", lambda run: run)
    monkeypatch.setattr(standing, "judge", lambda run: Assessment(run.state))
    monkeypatch.setattr(standing, "jobs_can_wait", lambda one: one.name != "local")
    return found


CASES = [
    ([], []),
    ([("a", RunState.NEW)], ["a"]),
    ([("a", RunState.LOST), ("b", RunState.FAILED)], ["a"]),
    ([("a", RunState.NEW), ("b", RunState.PENDING)], []),
    ([("a", RunState.NEW), ("b", RunState.UNKNOWN)], []),
]


@pytest.mark.parametrize(("there", "alone"), CASES)
def test_what_nobody_goes_on_with(
    in_store: list[Any],
    tmp_path: Path,
    there: list[tuple[str, RunState]],
    alone: list[str],
):
    in_store += [experiment(name, state) for name, state in there]
    assert [e.name for e in standing.left_alone(RunStore(tmp_path))] == alone


def test_a_job_that_was_told_to_goes_on(in_store: list[Any], tmp_path: Path):
    in_store.append(experiment("a", RunState.NEW, submits=True))
    assert standing.left_alone(RunStore(tmp_path)) == []


def test_the_process_that_watches_goes_on_with_what_cannot_wait_by_itself(
    in_store: list[Any], tmp_path: Path
):
    in_store += [experiment("local", RunState.NEW), experiment("a", RunState.NEW)]
    store = RunStore(tmp_path)
    assert [e.name for e in standing.left_alone(store)] == ["local", "a"]
    # Of another host, say.
    with lock(store, "watcher-elsewhere"):
        assert [e.name for e in standing.left_alone(store)] == ["a"]
    assert not is_held(store, standing.WATCHER)


def test_the_process_that_watches_holds_its_lock_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, started = RunStore(tmp_path), []

    def start(command: list[str], **options: Any) -> None:
        assert NAME_VARIABLE not in options["env"], "it would count as that job"
        [held] = options["pass_fds"]
        started.append((command[-1], os.dup(held)))

    monkeypatch.setattr(backlog.subprocess, "Popen", start)
    monkeypatch.setenv(NAME_VARIABLE, "a job that has just ended")
    backlog.ensure_watcher(store)
    backlog.ensure_watcher(store)
    [(told, inherited)] = started
    assert told.isdigit()
    assert is_held(store, standing.WATCHER)
    os.close(inherited)
    assert not is_held(store, standing.WATCHER)


def test_looking_for_a_lock_makes_nothing(tmp_path: Path):
    assert not is_held(RunStore(tmp_path / "store"), standing.WATCHER)
    assert not list(tmp_path.iterdir())


def end_of(done: Advance) -> int:
    """Return the exit code of `advance`."""
    try:
        advance._tell_end(done, quiet=True)
    except MllamError as error:
        return int(error.exit)
    except SystemExit as left:
        return int(str(left.code))
    return 0


def test_the_exit_code_says_whether_something_still_waits():
    waits = experiment("a", RunState.NEW)
    refused = {"its repository has moved": ["a", "b", "c", "d"]}
    assert end_of(Advance(submitted={"a": ["grow"]})) == 0
    assert end_of(Advance(left=[waits])) == 75
    assert end_of(Advance(left=[waits], unreachable={"Slurm is away": ["a"]})) == 3
    assert end_of(Advance(left=[waits], refused=refused)) == 1
    [warning] = Advance(refused=refused).warnings
    assert warning == (
        "a, b, c and 1 more cannot be gone on with: its repository has moved"
    )


def test_watching_ends_where_all_that_is_left_cannot_be_gone_on_with():
    left = [experiment("a", RunState.NEW), experiment("b", RunState.NEW)]
    assert advance._may_go_on(Advance(left=left, refused={"why": ["a"]}))
    assert not advance._may_go_on(Advance(left=left, refused={"why": ["a", "b"]}))
    assert not advance._may_go_on(Advance())


def test_a_job_does_without_what_reads_machine_files():
    """A tenth of a second of CPU in each job is a tenth of what saving an experiment takes."""
    code = "import sys, mllam_exps.attempt, mllam_exps.submission.backlog;"
    code += "print('pydantic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"


class Queue:
    """Experiments that wait, and what is submitted of them; each name says how many stages can go on by now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.free = free
        self.submitted: list[str] = []
        room = SimpleNamespace(look=lambda: self.free > 0, full="no room")
        place = SimpleNamespace(unreachable="", machine=None, room=room)
        monkeypatch.setattr(backlog._Place, "of", lambda _one, _quota: place)
        monkeypatch.setattr(backlog, "assess", lambda saving: Assessment(saving.state))
        monkeypatch.setattr(job_chain, "Chain", self.chain)

    def chain(self, one: Any, _machine: object, room: Any) -> Any:
        def advance(**_: object) -> Any:
            started = []
            while len(started) < one.ready and room.look():
                self.free -= 1
                started.append("grow")
            one.ready -= len(started)
            self.submitted += [one.name] * len(started)
            return SimpleNamespace(started=started)

        return SimpleNamespace(advance=advance, follow=lambda _: None)

    def add(self, name: str, ready: int) -> Any:
        run = SimpleNamespace(last_attempt=lambda: None)
        return SimpleNamespace(
            name=name,
            identity=name,
            origin="/here",
            machine="here",
            saving=SimpleNamespace(state=RunState.NEW),
            runs={"grow": run},
            ready=ready,
            note_waits=lambda _: None,
        )


def test_the_oldest_goes_first_and_no_place_stays_empty(
    monkeypatch: pytest.MonkeyPatch,
):
    queue = Queue(monkeypatch, free=3)
    found = [queue.add("old", 1), queue.add("behind its inputs", 0)]
    found += [queue.add("next", 1), queue.add("new", 2)]
    backlog._advance(found, Advance(), Quota())
    assert queue.submitted == ["old", "next", "new"]
    queue.free = 1
    found[0].ready = 1
    backlog._advance(found, Advance(), Quota())
    assert queue.submitted == ["old", "next", "new", "old"]


def test_what_waits_goes_before_what_is_submitted_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    queue = Queue(monkeypatch, free=1)
    found = [queue.add("again", 1), queue.add("old", 1)]
    monkeypatch.setattr(backlog, "waiting", lambda _: found)
    backlog.go_on_before(RunStore(tmp_path), Quota(), {"again"})
    assert queue.submitted == ["old"]


def test_experiments_are_read_oldest_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    ages = {"s-10": 3.0, "s-2": 2.0, "s-1": 1.0, "first": 0.5}
    there = lambda place: SimpleNamespace(name=place.name, created=ages[place.name])  # noqa: E731
    monkeypatch.setattr(experiments, "read", there)
    places = [tmp_path / name for name in sorted(ages)]
    found = [one.name for one in experiments._read_all(places)]
    assert found == ["first", "s-1", "s-2", "s-10"]
