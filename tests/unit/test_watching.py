"""Who goes on with what waits in a store, what keeps him from it, and when the process that watches ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps import schedulers
from mllam_exps.attempts.job_quota import Quota
from mllam_exps.base.errors import MllamError
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.machines import job_environment
from mllam_exps.runs.locks import lock
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import backlog, job_chain, opening
from mllam_exps.submission.backlog import Advance


class One:
    """An experiment that waits; `stages` says what is submitted when somebody goes on with it."""

    def __init__(self, name: str, *stages: str, chains: bool = True) -> None:
        self.name = self.identity = name
        self.origin, self.machine = "/here", "here"
        self.stages, self.chains, self.saves = stages, chains, True
        self.store = SimpleNamespace(directory=Path("/store"))
        self.saving = SimpleNamespace(state=RunState.NEW)
        self.last: Any = None
        run = SimpleNamespace(
            key="grow-1", next_number=1, result=None, last_attempt=lambda: self.last
        )
        self.runs = {"grow": run}
        self.noted: list[str] = []

    def note_waits(self, why: str) -> None:
        self.noted.append(why)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "store")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[One]:
    """What waits in each store; what is gone on with waits no more."""
    found: list[One] = []

    class Chain:
        def __init__(self, one: One, _machine: object, _room: object) -> None:
            self.one = one

        def advance(self, *, retry: bool) -> Any:
            assert not retry, "what failed is tried again when somebody asks"
            if self.one.stages and self.one in found:
                found.remove(self.one)
            return SimpleNamespace(started=list(self.one.stages))

        def submit_last_job(self, _: object) -> object:
            return object() if self.one.saves else None

    monkeypatch.setattr(job_chain, "Chain", Chain)
    monkeypatch.setattr(backlog, "waiting", lambda _: list(found))
    monkeypatch.setattr(backlog, "jobs_can_wait", lambda one: one.chains)
    monkeypatch.setattr(backlog, "assess", lambda saving: Assessment(saving.state))
    put(monkeypatch, Place())
    return found


class Place(SimpleNamespace):
    """A machine, as `backlog` looks at it."""

    def __init__(self, unreachable: str = "", full: str = "") -> None:
        room = SimpleNamespace(look=lambda: not full, full=full)
        super().__init__(machine=None, unreachable=unreachable, room=room)


def put(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    """Have all experiments run at a place."""
    monkeypatch.setattr(backlog._Place, "of", lambda _one, _quota: place)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[RunStore]:
    """The stores for which a process that watches was asked for."""
    asked: list[RunStore] = []
    monkeypatch.setattr(backlog, "ensure_watcher", asked.append)
    return asked


def test_what_waits_is_gone_on_with(
    store: RunStore, waits: list[One], watched: list[RunStore]
):
    waits += [One("a", "grow"), One("b")]
    done = backlog.dispatch(store)
    assert done.submitted == {"a": ["grow", SAVE], "b": [SAVE]}
    assert [one.name for one in done.left] == ["b"]
    assert watched == [], "its jobs wait for one another by themselves"


def test_where_nothing_waits_nothing_is_written(store: RunStore, waits: list[One]):
    assert backlog.dispatch(store) == Advance()
    assert not store.directory.exists()


def test_one_process_at_a_time_goes_on(
    store: RunStore, waits: list[One], watched: list[RunStore]
):
    waits.append(One("a", "grow"))
    with lock(store, "dispatch"):
        done = backlog.dispatch(store)
    assert not done.submitted
    assert [one.name for one in done.left] == ["a"]
    assert backlog.dispatch(store).submitted


def test_what_cannot_wait_by_itself_is_watched(
    store: RunStore, waits: list[One], watched: list[RunStore]
):
    waits += [One("a"), One("b", chains=False)]
    backlog.dispatch(store)
    assert watched == [store]


@pytest.mark.parametrize("error", [MllamError("the store is full"), OSError("full")])
def test_a_command_has_done_what_was_asked_though_nothing_else_goes_on(
    store: RunStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
):
    def fail(_store: RunStore) -> None:
        raise error

    monkeypatch.setattr(backlog, "dispatch", fail)
    backlog.go_on(store)
    told = capsys.readouterr().err
    assert "what waits in the run store cannot be gone on with" in told
    assert "full" in told


def test_a_command_warns_of_what_cannot_be_gone_on_with(
    store: RunStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    refused = Advance(refused={"it has moved": ["a"], "it is gone": ["b"]})
    monkeypatch.setattr(backlog, "dispatch", lambda _: refused)
    backlog.go_on(store)
    told = capsys.readouterr().err
    assert "a cannot be gone on with: it has moved" in told
    assert "b cannot be gone on with: it is gone" in told


def test_what_is_wrong_with_one_keeps_no_other_from_going_on(
    waits: list[One], monkeypatch: pytest.MonkeyPatch
):
    errors: dict[str, Exception] = {
        "moved": MllamError("it has moved"),
        "too": MllamError("it has moved"),
        "disk": OSError("the disk is full"),
        "fault": KeyError("x"),
    }

    def of(one: One, _quota: Quota) -> Place:
        if one.name in errors:
            raise errors[one.name]
        return Place()

    monkeypatch.setattr(backlog._Place, "of", of)
    found: Any = [*map(One, errors), One("a", "grow")]
    done = Advance()
    assert backlog._advance(found, done, Quota())
    assert done.refused == {
        "it has moved": ["moved", "too"],
        "the disk is full": ["disk"],
        "KeyError: 'x'": ["fault"],
    }
    assert list(done.submitted) == ["a"]
    assert not backlog._advance(found[:-1], Advance(), Quota()), "never will"


def test_machines_of_one_name_in_two_repositories_are_two(
    waits: list[One], monkeypatch: pytest.MonkeyPatch
):
    looked: list[tuple[str, str]] = []

    def of(one: One, _quota: Quota) -> Place:
        looked.append((one.origin, one.machine))
        return Place()

    monkeypatch.setattr(backlog._Place, "of", of)
    a, b, c, d = map(One, "abcd")
    b.origin, d.machine = "/there", "other"
    backlog._advance([a, b, c, d], Advance(), Quota())  # type: ignore[list-item]
    assert looked == [("/here", "here"), ("/there", "here"), ("/here", "other")]


def test_a_scheduler_that_is_away_is_told_once_and_asked_for_nothing(
    waits: list[One], monkeypatch: pytest.MonkeyPatch
):
    put(monkeypatch, Place(unreachable="Slurm is away"))
    done = Advance()
    found: Any = [One("a", "grow"), One("b", "grow")]
    assert not backlog._advance(found, done, Quota())
    assert done == Advance(unreachable={"Slurm is away": ["a", "b"]})


def test_one_that_can_be_gone_on_with_is_reason_enough_to_look_again(
    waits: list[One], monkeypatch: pytest.MonkeyPatch
):
    away, here = One("away"), One("here")
    away.machine = "cluster"

    def of(one: One, _quota: Quota) -> Place:
        return Place(unreachable="Slurm is away" if one is away else "")

    monkeypatch.setattr(backlog._Place, "of", of)
    for found in ([here, away], [away, here]):
        assert backlog._advance(found, Advance(), Quota())  # type: ignore[arg-type]


def test_without_room_only_what_was_begun_is_looked_at(
    waits: list[One], monkeypatch: pytest.MonkeyPatch
):
    put(monkeypatch, Place(full="no room"))
    new, begun = One("new"), One("begun")
    begun.last = object()
    done = Advance()
    found: Any = [new, begun]
    assert backlog._advance(found, done, Quota()), "there may be room later"
    assert new.noted == ["no room"]
    assert done.submitted == {"begun": [SAVE]}, "it may be ready to be saved"


@pytest.mark.parametrize(
    ("state", "goes_on"),
    [
        (RunState.NEW, True),
        (RunState.LOST, True),
        (RunState.CANCELLED, False),
        (RunState.DONE, False),
        (RunState.PENDING, False),
    ],
)
def test_what_was_cancelled_or_taken_over_meanwhile_is_left(
    waits: list[One], state: RunState, goes_on: bool
):
    one: Any = One("a", "grow")
    one.saving.state = state
    done = Advance()
    backlog._advance([one], done, Quota())
    assert bool(done.submitted) is goes_on


def test_what_could_not_be_submitted_is_not_told_as_submitted(waits: list[One]):
    one: Any = One("a")
    one.saves = False
    done = Advance()
    assert backlog._advance([one], done, Quota())
    assert done.submitted == {}


@pytest.mark.parametrize(
    ("missing", "answers", "outage", "why"),
    [
        ("", True, "", ""),
        ("no sbatch here", True, "", "no sbatch here: it is none of the cluster's"),
        ("", False, "its controller is down", "its controller is down"),
        ("", False, "", "the scheduler does not answer"),
    ],
)
def test_why_a_scheduler_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, missing: str, answers: bool, outage: str, why: str
):
    site = SimpleNamespace(
        missing=lambda: missing, answers=lambda *, now: answers, outage=lambda: outage
    )
    machine = SimpleNamespace(scheduler="slurm", max_jobs=3)
    monkeypatch.setattr(opening, "machine_of", lambda _: machine)
    monkeypatch.setattr(schedulers, "get", lambda *_: site)
    one: Any = One("a")
    place = backlog._Place.of(one, Quota())
    assert place.unreachable == why
    assert place.machine is machine


def test_one_experiment_s_variables_count_for_no_other(monkeypatch: pytest.MonkeyPatch):
    for name in job_environment.SETTINGS:
        monkeypatch.setenv(name, "of the first")
    monkeypatch.setenv("HOME", "/home/anna")
    backlog.forget_settings()
    assert not set(job_environment.SETTINGS) & set(os.environ)
    assert os.environ["HOME"] == "/home/anna"


def test_who_looks_for_a_moment_only_does_not_keep_the_watcher_from_starting(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    looks = contextlib.ExitStack()
    looks.enter_context(lock(store, backlog._watcher()))
    monkeypatch.setattr(backlog.time, "sleep", lambda _: looks.close())
    started: list[RunStore] = []
    monkeypatch.setattr(backlog, "_start_watcher", lambda one, _: started.append(one))
    backlog.ensure_watcher(store)
    assert started == [store]


class Watch:
    """The process that watches: what it does in the place of sleeping."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: RunStore) -> None:
        self.slept: list[float] = []
        self.then: Callable[[], None] = lambda: None
        self.now = 0.0
        self.store = store
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(backlog, "time", clock)
        monkeypatch.setattr(backlog.records, "keep_others_out", lambda: None)
        monkeypatch.setattr(backlog, "forget_settings", lambda: None)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.then()

    def end(self) -> int:
        """Watch, and return the exit code."""
        reading, writing = os.pipe()
        try:
            return backlog.main([str(self.store.directory), str(reading)])
        finally:
            os.close(reading)
            os.close(writing)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, store: RunStore) -> Iterator[Watch]:
    return Watch(monkeypatch, store)


def test_watching_ends_once_nothing_waits_that_cannot_by_itself(
    waits: list[One], watch: Watch
):
    one = One("a", chains=False)
    waits += [one, One("of a cluster", "grow")]
    watch.then = lambda: setattr(one, "stages", ("grow",))
    assert watch.end() == 0
    assert [one.name for one in waits] == ["of a cluster"]


def test_watching_ends_where_it_is_of_no_use(
    waits: list[One],
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def moved(*_: object) -> None:
        raise MllamError("it has moved")

    monkeypatch.setattr(backlog._Place, "of", moved)
    waits.append(One("a", chains=False))
    assert watch.end() == 1
    assert capsys.readouterr().out == "a cannot be gone on with: it has moved\n"
    # Not at once: a machine file may be bad for a moment, while somebody edits it.
    assert sum(watch.slept) > backlog.HOPELESS_PATIENCE


def test_what_takes_long_is_looked_at_seldom_and_what_changed_soon(
    waits: list[One], watch: Watch
):
    one = One("a", chains=False)
    one.saves = False
    waits.append(one)

    def then() -> None:
        if len(watch.slept) == 40:
            one.runs["grow"].next_number += 1
        if len(watch.slept) == 43:
            waits.clear()

    watch.then = then
    assert watch.end() == 0
    assert watch.slept[0] == backlog.PERIOD
    assert watch.slept[39] == backlog.LONGEST_PERIOD
    assert watch.slept[40] == backlog.PERIOD
    assert watch.slept == [*sorted(watch.slept[:40]), *sorted(watch.slept[40:])]
