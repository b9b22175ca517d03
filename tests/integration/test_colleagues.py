"""Two Unix users of one run store, one of them hostile: no account runs code in another, and readers can read."""

from __future__ import annotations

import json
import os
import pickle
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.attempts.launch import give_up
from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.identity.definition import Output, RunDefinition
from mllam_exps.runs.assess import assess
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.judge import RunState
from mllam_exps.runs.locks import lock
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import cleaning, experiments

pytestmark = pytest.mark.skipif(
    os.getuid() != 0, reason="only root can be several users"
)

ONE, OTHER, GROUP = 40_001, 40_002, 40_000
"""Users and a group that nobody else is: neither needs a name."""

DEFINITION = RunDefinition(
    stage="bench",
    params={},
    inputs=(),
    outputs=(Output("out.json", cached=False),),
    commands=("python bench.py",),
)


def as_user(uid: int, do: Callable[[], Any], umask: int = 0o002) -> Any:
    """Do something as another user, in a process of its own, and return what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.umask(umask)
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(uid)
            found = pickle.dumps(do())
            with os.fdopen(writing, "wb") as file:
                file.write(found)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read()
    assert os.waitpid(child, 0)[1] == 0, "see its traceback"
    return pickle.loads(said)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A store in a folder of the team's, with the setgid bit."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, GROUP)
    shared.chmod(0o2775)
    return RunStore(shared / "store")


def submit(
    store: RunStore, number: int = 1, definition: RunDefinition = DEFINITION
) -> Attempt:
    """Begin the run and claim an attempt, as `Starter.prepare` does."""
    run = store.run(DEFINITION.key)
    run.begin(definition)
    attempt = run.claim(
        number,
        scheduler="local",
        experiment="e",
        workspace=store.directory,
        working_directory=None,
    )
    assert attempt is not None
    told = Spec(
        "m",
        "/origin",
        "e",
        "",
        versions={},
        environment={},
        definition=definition.to_record(),
    )
    told.write(attempt)
    return attempt


def test_an_attempt_is_its_submitter_s_alone_whatever_the_umask(store: RunStore):
    for number, umask in enumerate((0o000, 0o002, 0o077), 1):
        attempt = as_user(ONE, lambda number=number: submit(store, number), umask)
        for place in (
            attempt.directory,
            attempt.directory / "spec.json",
            attempt.work,
            attempt.scratch,
        ):
            found = place.stat()
            assert (found.st_uid, found.st_mode & ownership.OTHERS) == (ONE, 0), (
                place,
                oct(found.st_mode),
            )
    shared = store.run(DEFINITION.key).directory / "attempts"
    assert stat.S_IMODE(shared.stat().st_mode) & 0o1002 == 0o1002, (
        "the first umask was 000; each keeps what is theirs"
    )


def what_is_refused(attempt: Attempt) -> str:
    """Read what an attempt is to do, as its job does."""
    try:
        Spec.read(attempt).of_run(attempt.run.key)
    except MllamError as error:
        return str(error)
    return ""


def test_a_job_does_what_its_own_user_said(store: RunStore):
    attempt = as_user(ONE, lambda: submit(store))
    assert as_user(ONE, lambda: what_is_refused(attempt)) == ""
    assert "belongs to 40001" in as_user(OTHER, lambda: what_is_refused(attempt))

    def plant() -> bool:
        evil = json.loads((attempt.run.directory / "run.json").read_text()) | {
            "commands": ["touch /tmp/owned"]
        }
        records.replace(attempt.run.directory / "run.json", evil)
        try:
            attempt.directory.rename(attempt.directory.with_name("was"))
        except PermissionError:
            return False
        return True

    assert not as_user(OTHER, plant), "each removes only what is theirs"
    assert as_user(ONE, lambda: what_is_refused(attempt)) == "", (
        "what lies in run.json is executed by nobody"
    )
    assert as_user(ONE, lambda: attempt.run.definition) is None, "nor believed"
    # Begun again, it is as it should be.
    as_user(ONE, lambda: attempt.run.begin(DEFINITION))
    assert as_user(ONE, lambda: attempt.run.definition.commands) == ("python bench.py",)


def test_a_colleague_who_owns_the_folder_above_cannot_say_what_is_run(store: RunStore):
    as_user(OTHER, lambda: store.run(DEFINITION.key).begin(DEFINITION))
    attempt = as_user(ONE, lambda: submit(store))

    def replace_it() -> None:
        attempt.directory.rename(attempt.directory.with_name("was"))
        attempt.directory.mkdir()
        told = json.loads(
            (attempt.directory.with_name("was") / "spec.json").read_text()
        )
        records.replace(attempt.directory / "spec.json", told)

    as_user(OTHER, replace_it)
    assert "belongs to 40002" in as_user(ONE, lambda: what_is_refused(attempt))

    def link_to_mine() -> None:
        for name in ("spec.json",):
            (attempt.directory / name).unlink()
        attempt.directory.rmdir()
        attempt.directory.symlink_to("was")

    as_user(OTHER, link_to_mine)
    assert "is a link" in as_user(ONE, lambda: what_is_refused(attempt))


def test_what_defines_another_run_is_not_run(store: RunStore):
    other = RunDefinition(
        "bench", {}, (), DEFINITION.outputs, commands=("touch /tmp/owned",)
    )
    attempt = submit(store, definition=other)
    assert "is not the definition of this run" in what_is_refused(attempt)
    told = json.loads((attempt.directory / "spec.json").read_text()) | {"number": 2}
    records.replace(attempt.directory / "spec.json", told)
    assert "another attempt's" in what_is_refused(attempt)


def test_nothing_is_removed_through_a_planted_link(store: RunStore, tmp_path: Path):
    home = tmp_path / "home"
    (home / "scratch").mkdir(parents=True)
    (home / "scratch/thesis").touch()
    os.chown(home, ONE, GROUP)
    os.chown(home / "scratch", ONE, GROUP)

    def plant() -> None:
        attempt = submit(store)
        attempt.work.rmdir()
        attempt.work.symlink_to(home / "scratch")
        records.replace(
            attempt.directory / "end.json", {"outcome": Outcome.FAILED, "reason": "x"}
        )

    as_user(OTHER, plant)

    def tidy() -> None:

        attempt = submit(store, 2)
        for one in attempt.run.attempts():
            one.tidy()
            one.remove_elsewhere()
        attempt.run.set_aside()

    as_user(ONE, tidy)
    assert (home / "scratch/thesis").exists()


def test_no_lock_and_no_log_is_written_through_a_link(store: RunStore, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    os.chown(mine, ONE, GROUP)

    def plant() -> None:
        folder = records.folder(store.directory / "locks", 0o777)
        (folder / f"dispatch.{ONE}").symlink_to(mine)

    def take() -> str:
        try:
            with lock(store, "dispatch"):
                return "taken"
        except OSError as error:
            return str(error)

    as_user(OTHER, plant)
    assert "symbolic" in as_user(ONE, take)
    assert mine.read_text() == "precious"


def read_all(store: RunStore) -> list[str]:
    """Look at all runs and experiments."""
    list(experiments.of_store(store))
    return [f"{now.state}: {now.reason}" for now in map(assess, store.runs())]


def snapshot(place: Path) -> dict[str, tuple[int, int]]:
    """Return what is in a folder, with times."""
    return {
        str(p): (p.lstat().st_mtime_ns, p.lstat().st_mode)
        for p in (place, *place.rglob("*"))
    }


def test_who_may_only_read_can_read_and_writes_nothing(store: RunStore):
    def fill() -> None:
        attempt = submit(store)
        records.touch(attempt.heartbeat)
        records.replace(
            attempt.directory / "started.json", ProcessIdentity.of().to_record()
        )
        identity = ProcessIdentity("elsewhere", "boot", 1, 1.0)
        records.replace(attempt.directory / "job.json", identity.to_record())

    as_user(ONE, fill)
    for path in (store.directory, *store.directory.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    before = snapshot(store.directory)
    assert as_user(OTHER, lambda: read_all(store)) == ["running: "], (
        "judged by its heartbeat"
    )
    assert snapshot(store.directory) == before


def test_what_a_colleague_keeps_to_themselves_is_not_known_and_stops_nobody(
    store: RunStore, capfd
):
    other = RunDefinition("other", {}, (), (), commands=("true",))
    as_user(OTHER, lambda: store.run(other.key).begin(other))
    as_user(ONE, lambda: submit(store))
    run = Run(store.directory / "runs" / DEFINITION.key)
    for path in (run.directory, *run.directory.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o077)
    as_user(OTHER, lambda: read_all(store))
    told = capfd.readouterr().err
    assert "Permission denied" in told or "permission denied" in told
    assert "belongs to 40001" in told
    run.directory.chmod(0o755)
    (run.directory / "attempts").chmod(0o755)
    now = as_user(OTHER, lambda: assess(run))
    assert now.state is RunState.UNKNOWN, (
        "nothing is started beside what may be at work"
    )
    assert "permission denied" in now.reason


def test_each_removes_their_own_of_what_is_cleaned(store: RunStore):
    as_user(ONE, lambda: give_up(submit(store), MllamError("no")))
    as_user(OTHER, lambda: give_up(submit(store, 2), MllamError("no")))

    def clean(leftovers: bool) -> int:
        found = (
            cleaning.leftovers(store, 0.0)
            if leftovers
            else [cleaning.Candidate(r, "", "", 0.0, 0) for r in store.runs()]
        )
        return sum(cleaning.delete(one) for one in found)

    assert as_user(ONE, lambda: clean(False)) == 1
    assert list(store.runs()) == []
    assert as_user(OTHER, lambda: clean(True)) == 1
    as_user(ONE, lambda: clean(True))
    assert list((store.directory / "runs").iterdir()) == []


def test_a_colleague_s_attempt_is_not_stopped(store: RunStore):
    from mllam_exps.attempts.stopping import stop

    attempt = as_user(ONE, lambda: submit(store))

    def try_to() -> str:
        try:
            stop(attempt, ProcessIdentity.of())
        except MllamError as error:
            return str(error)
        return "stopped"

    assert "it is 40001's, and nobody else can stop it" in as_user(OTHER, try_to)
    assert not attempt.cancel_requested
