"""Two Unix users of one run store, one of them hostile: no account runs code in another, and readers can read."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dvc_data.hashfile.db  # noqa: F401 - a user who may not read this Python can import no more of it
import pytest

from mllam_exps.attempts.launch import give_up
from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.dvc.cache import Cache
from mllam_exps.identity.definition import Output, RunDefinition
from mllam_exps.runs import giving
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import is_held, lock
from mllam_exps.runs.outputs import Damaged, hand_over
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.results import Output as ResultOutput
from mllam_exps.runs.results import Result
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers.base import JobPhase, JobState
from mllam_exps.schedulers.local import LocalScheduler
from mllam_exps.submission import cleaning, entering, experiments
from mllam_exps.submission.damage import Verifier
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.job_chain import Chain
from mllam_exps.views.looking import of_run

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
    store: RunStore,
    number: int = 1,
    definition: RunDefinition = DEFINITION,
    key: str = DEFINITION.key,
) -> Attempt:
    """Begin the run and claim an attempt, as `Starter.prepare` does."""
    run = store.run(key)
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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of one user, with a file that is nobody else's to see."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "key").write_text("secret")
    (home / "key").chmod(0o400)
    for path in (home, home / "key"):
        os.chown(path, ONE, GROUP)
    home.chmod(0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return home


def take_lock(store: RunStore) -> str:
    """Take a lock, and say whether it was free."""
    with lock(store, "dispatch") as mine:
        return "taken" if mine else "held"


@pytest.mark.parametrize(
    "what", ["link", "pipe", "folder", "file", "closed file", "closed"]
)
def test_what_lies_in_the_place_of_a_lock_keeps_nobody_waiting(
    store: RunStore, home: Path, capfd, what: str
):
    def plant() -> None:
        place = records.folder(store.directory / "locks") / f"dispatch.{ONE}"
        if what == "closed":
            place.parent.chmod(0o700)
        elif what == "link":
            place.symlink_to(home / "key")
        elif what == "pipe":
            os.mkfifo(place, 0o666)
        elif what == "folder":
            place.mkdir()
        else:
            place.touch(0o666 if what == "file" else 0o600)

    def take_two() -> tuple[str, bool, str]:
        with lock(store, "dispatch"):
            return take_lock(store), is_held(store, "dispatch"), ""

    as_user(OTHER, plant, 0)
    held = store.directory / "locks" / f"dispatch.{ONE}"
    with contextlib.ExitStack() as stack:
        if what == "file":
            fcntl.flock(stack.enter_context(held.open()), fcntl.LOCK_EX)
        assert as_user(ONE, lambda: take_lock(store)) == "taken"
        assert as_user(ONE, take_two)[:2] == ("held", True), "it is a lock all the same"
        assert not as_user(ONE, lambda: is_held(store, "dispatch"))
    assert "is no lock of yours" in capfd.readouterr().err
    assert (home / "key").read_text() == "secret"


def test_nobody_holds_the_lock_of_another(store: RunStore, home: Path):
    as_user(ONE, lambda: take_lock(store))
    mine = store.directory / "locks" / f"dispatch.{ONE}"
    mine.chmod(0o644)  # as earlier versions made it
    as_user(ONE, lambda: take_lock(store))

    def open_it() -> str:
        try:
            os.close(os.open(mine, os.O_RDONLY))
        except PermissionError:
            return "refused"
        return "opened"

    assert as_user(OTHER, open_it) == "refused"


@pytest.mark.parametrize("level", ["runs", "run", "attempts"])
def test_nothing_is_written_behind_a_colleague_s_link(
    store: RunStore, home: Path, capfd, level: str
):
    run = store.run(DEFINITION.key)
    place = {
        "runs": run.directory.parent,
        "run": run.directory,
        "attempts": run.directory / "attempts",
    }[level]
    before = snapshot(home)

    def plant() -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(home)

    def begin() -> str:
        run.want("save-" + 32 * "0")
        try:
            run.begin(DEFINITION)
        except (MllamError, OSError) as error:
            return str(error)
        return ""

    as_user(OTHER, plant)
    assert str(place) in as_user(ONE, begin)
    as_user(ONE, lambda: read_all(store))
    # What is listed is told: a run that has not begun is not.
    assert level != "runs" or "is a link" in capfd.readouterr().err
    assert snapshot(home) == before


def test_nothing_is_written_where_a_colleague_s_attempt_is_a_link(
    store: RunStore, home: Path
):
    def plant() -> Attempt:
        attempt = submit(store)
        shutil.rmtree(attempt.directory)
        attempt.directory.symlink_to(home)
        return attempt

    attempt = as_user(OTHER, plant)
    before = snapshot(home)

    def write() -> None:
        gone = JobState(JobPhase.FAILED, "no")
        verdict.remember(attempt, gone)
        for way in (
            lambda: attempt.end(Outcome.FAILED),
            attempt.have_it_submit_what_waits,
        ):
            with contextlib.suppress(PermissionError):
                way()

    as_user(ONE, write)
    assert snapshot(home) == before


def test_nothing_is_removed_in_a_home_that_was_put_there_after_the_look(
    store: RunStore, home: Path, monkeypatch: pytest.MonkeyPatch
):
    (home / "work").mkdir()
    (home / "work/thesis").touch()
    for path in (home / "work", home / "work/thesis"):
        os.chown(path, ONE, GROUP)
    as_user(OTHER, lambda: store.run(DEFINITION.key).begin(DEFINITION))
    attempt = as_user(ONE, lambda: submit(store))

    def replace_it() -> None:
        attempt.directory.rename(attempt.directory.with_name("was"))
        attempt.directory.symlink_to(home)

    as_user(OTHER, replace_it)
    monkeypatch.setattr(ownership, "objection", lambda path: "")
    as_user(ONE, attempt.tidy)
    assert (home / "work/thesis").exists()


@pytest.mark.parametrize("what", ["file", "link", "folder", "elsewhere", "directory"])
def test_no_checkpoint_is_taken_from_behind_a_colleague_s_link(
    store: RunStore, home: Path, tmp_path: Path, what: str
):
    disk = tmp_path / "disk"
    disk.mkdir()
    os.chown(disk, OTHER, GROUP)

    def plant() -> Attempt:
        attempt = submit(store)
        deep = attempt.scratch / "a/b"
        if what in {"file", "link"}:
            deep.mkdir(parents=True)
            (deep / "file").touch()
        if what == "link":
            (deep / "last.ckpt").symlink_to(home / "key")
        if what in {"folder", "elsewhere"}:
            attempt.scratch.rmdir()
            attempt.scratch.symlink_to(home if what == "folder" else disk)
        if what == "directory":
            shutil.rmtree(attempt.directory)
            attempt.directory.symlink_to(home)
        return attempt

    attempt = as_user(OTHER, plant)
    found = as_user(ONE, lambda: attempt.others_link)
    assert (found is None) is (what in {"file", "elsewhere"})
    assert as_user(OTHER, lambda: attempt.others_link) is None, "it is their own"


def make_result(store: RunStore, where: Path | None = None) -> str:
    """Make a run's result of what lies in a file, or of a link to it; return its hash."""
    attempt = submit(store)
    attempt.outputs.mkdir()
    made = attempt.outputs / "out.json"
    if where is None:
        made.write_text("made")
        made.chmod(0o444)
    else:
        made.symlink_to(where)
    digest = hashlib.md5(b"made" if where is None else b"secret").hexdigest()
    described = {"digest": digest, "size": None, "files": None}
    records.replace(attempt.directory / "manifest.json", {"out.json": described})
    attempt.run.settle(Result(1, {"out.json": ResultOutput(digest)}))
    return digest


def test_a_file_behind_a_colleague_s_link_is_no_output(
    store: RunStore, home: Path, tmp_path: Path
):
    digest = as_user(OTHER, lambda: make_result(store, home / "key"))
    run, cache = store.run(DEFINITION.key), Cache(str(store.directory.parent / "cache"))

    def collect() -> str:
        try:
            hand_over(cache, run, home, {"out.json": True})
        except Damaged as damaged:
            return str(damaged)
        return ""

    def look_too_early() -> str:
        """Do what comes behind the look: the link was put there since."""
        described = run.result and Attempt(run, 1).manifest.by_path
        try:
            giving.add_to_cache(cache, Attempt(run, 1).directory, described or {})
        except giving.Another as another:
            return str(another)
        return ""

    assert as_user(ONE, look_too_early) == "outputs/out.json"
    assert "is a link" in as_user(ONE, collect)
    assert not cache.holds(digest)
    found = (home / "key").lstat()
    assert (stat.S_IMODE(found.st_mode), found.st_nlink) == (0o400, 1)
    assert as_user(ONE, lambda: run.result) is None, "and it is made again"


def test_what_a_colleague_made_is_compared_while_it_is_copied(store: RunStore):
    digest = as_user(OTHER, lambda: make_result(store))
    cache, directory = (
        Cache(str(store.directory.parent / "cache")),
        Attempt(store.run(DEFINITION.key), 1).directory,
    )
    described = Attempt(store.run(DEFINITION.key), 1).manifest.by_path
    other = {"out.json": {**described["out.json"], "digest": "0" * 32}}

    def add(what: Any) -> str:
        try:
            giving.add_to_cache(cache, directory, what)
        except giving.Another as another:
            return str(another)
        return ""

    assert as_user(ONE, lambda: add(other)) == "outputs/out.json"
    assert not cache.holds("0" * 32)
    assert as_user(ONE, lambda: add(described)) == ""
    found = cache.path(digest).stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (ONE, 0o444)
    assert list(Path(cache.directory).glob(".new-*")) == []


def test_a_link_in_dvc_s_cache_is_no_object(
    tmp_path: Path, store: RunStore, home: Path
):
    cache = Cache(str(store.directory.parent / "cache"))
    digest = hashlib.md5(b"secret").hexdigest()
    listing = "1" * 32 + ".dir"

    def plant() -> None:
        for name in (digest, listing):
            cache.path(name).parent.mkdir(parents=True)
        cache.path(digest).symlink_to(home / "key")
        os.mkfifo(cache.path(listing), 0o666)

    as_user(OTHER, plant)
    assert as_user(ONE, lambda: len(cache.drop_damaged({digest: None}))) == 1
    assert not os.path.lexists(cache.path(digest))
    assert (home / "key").exists()
    assert as_user(ONE, lambda: cache.folder(listing)) is None, "nobody waits for it"


def test_who_replaces_the_directory_after_it_was_looked_at_gains_nothing(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    attempt = as_user(OTHER, lambda: submit(store))
    look = Attempt.check_ours

    def a_moment_before(self: Attempt, held: Path | None = None) -> None:
        if held is not None:
            look(self, held)

    monkeypatch.setattr(Attempt, "check_ours", a_moment_before)
    assert "belongs to 40002" in as_user(ONE, lambda: what_is_refused(attempt))


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
    here: Any = SimpleNamespace(
        room=SimpleNamespace(shut=""), scheduler=LocalScheduler()
    )
    assert not as_user(OTHER, lambda: Chain._is_claimed_by_another(here, now)), (
        "nobody waits for what will not be seen"
    )


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


def test_what_stands_in_a_colleague_s_directory_stops_no_process_of_ours(
    store: RunStore,
):
    from mllam_exps.attempts.stopping import stop

    sleeping = as_user(
        ONE, lambda: subprocess.Popen(["sleep", "60"], start_new_session=True).pid
    )

    def plant() -> Attempt:
        attempt = submit(store)
        identity = ProcessIdentity.of(sleeping)
        records.replace(attempt.directory / "job.json", identity.to_record())
        attempt.directory.chmod(0o777)
        return attempt

    attempt = as_user(OTHER, plant)

    def try_to() -> str:
        try:
            stop(attempt, ProcessIdentity.of())
        except MllamError as error:
            return str(error)
        return "stopped"

    try:
        assert "it is 40002's" in as_user(ONE, try_to)
        assert ProcessIdentity.of(sleeping).alive()
    finally:
        os.kill(sleeping, signal.SIGKILL)


def test_a_claim_with_any_number_is_in_nobody_s_way(store: RunStore):
    run = store.run(DEFINITION.key)

    def plant() -> None:
        run.begin(DEFINITION)
        for name in ("1" + 20 * "0", "9" * 200, "5000"):
            (run.directory / "attempts" / f"{name}.json").write_text("{}")

    as_user(OTHER, plant)
    assert as_user(ONE, lambda: run.next_number) == 1
    as_user(ONE, lambda: submit(store))
    assert [one.number for one in as_user(ONE, run.attempts)] == [1]


def test_nobody_puts_another_store_in_the_place_of_all(store: RunStore):
    as_user(ONE, lambda: (take_lock(store), store.run(DEFINITION.key).make()))

    def move() -> list[str]:
        moved = []
        for place in (store.directory / "runs", store.directory / "locks"):
            with contextlib.suppress(PermissionError):
                place.rename(place.with_name("was"))
                moved.append(place.name)
        return moved

    assert as_user(OTHER, move) == []


@pytest.mark.parametrize("how", ["closed", "link"])
def test_nothing_is_deleted_where_nobody_can_tell_what_is_needed(
    store: RunStore, home: Path, how: str
):
    as_user(ONE, lambda: give_up(submit(store), MllamError("no")))

    def plant() -> None:
        place = store.directory / "experiments"
        if how == "closed":
            place.mkdir(0o700)
        else:
            place.symlink_to(home)

    store.directory.chmod(0o777)
    as_user(OTHER, plant)

    def clean() -> str:
        try:
            found = list(cleaning.candidates(store, cleaning.Selection("/origin", [])))
        except MllamError as error:
            return str(error)
        return str(found)

    said = as_user(ONE, clean)
    assert "nobody can tell what is needed" in said
    assert "40002" in said


def test_who_made_a_result_is_told(store: RunStore):
    as_user(OTHER, lambda: make_result(store))
    cell = as_user(ONE, lambda: of_run(store.run(DEFINITION.key)).to_record())
    assert (cell["state"], cell["owner"]) == ("done", "40002")


EXPERIMENT = Experiment(
    Path(), "e", "/origin", "", "c" * 40, {}, ["x"], "", "m", ONE, 1.0, ()
)


def test_who_says_that_an_experiment_is_another_s_is_not_believed(
    store: RunStore, capfd
):
    def plant() -> None:
        place = store.folder("experiments")
        for number, uid in enumerate((ONE, OTHER)):
            site = records.folder(place / f"save-{number:032}")
            told = {**EXPERIMENT.to_record(), "uid": uid, "name": str(uid)}
            records.replace(site / "run.json", told)

    as_user(OTHER, plant)
    names = as_user(ONE, lambda: [one.name for one in experiments.of_store(store)])
    assert names == ["40002"]
    assert "says that the experiment is 40001's" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_lies_in_the_place_of_an_experiment_is_named(
    store: RunStore, home: Path, what: str
):
    experiment = dataclasses.replace(
        EXPERIMENT, directory=store.directory / f"experiments/save-{1:032}"
    )

    def plant() -> None:
        place = store.folder("experiments") / experiment.identity
        if what == "link":
            place.symlink_to(home)
        elif what == "file":
            place.touch()
        else:
            place.mkdir()

    def enter() -> str:
        try:
            entering._move_in(experiment, entering.building_site(store))
        except MllamError as error:
            return str(error)
        return ""

    as_user(OTHER, plant)
    said = as_user(ONE, enter)
    assert "what stands in the place of this experiment" in said
    assert "another name" in said


def test_what_a_colleague_has_closed_stops_no_verification(store: RunStore):
    cache = Cache(str(store.directory.parent / "cache"))
    other = RunDefinition("other", {}, (), DEFINITION.outputs, commands=("true",))

    def make_both() -> None:
        digest = make_result(store)
        attempt = submit(store, definition=other, key=other.key)
        shutil.copytree(Attempt(store.run(DEFINITION.key), 1).outputs, attempt.outputs)
        described = {"digest": digest, "size": 4, "files": None}
        records.replace(attempt.directory / "manifest.json", {"out.json": described})
        attempt.run.settle(Result(1, {"out.json": ResultOutput(digest)}))
        cache.path(digest).parent.mkdir(parents=True)
        cache.path(digest).parent.chmod(0)
        Attempt(store.run(DEFINITION.key), 1).outputs.chmod(0)

    as_user(OTHER, make_both)
    runs = [store.run(DEFINITION.key), store.run(other.key)]
    found = as_user(ONE, lambda: Verifier(store, cache).verify(runs))
    assert found.results == 2
    assert [one.run for one in found.damaged] == [DEFINITION.key]
