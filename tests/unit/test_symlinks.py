"""Paths that go through links which git tracks: where they lead, and that nothing is written or removed behind them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.attempts import workdir
from mllam_exps.attempts.work.inputs import Inputs
from mllam_exps.base import symlinks
from mllam_exps.base.errors import CheckFailed, MllamError, Problems, UsageError
from mllam_exps.dvc import lockfile
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.graph import Out, StageEntry
from mllam_exps.identity.content import describe
from mllam_exps.identity.definition import Output, RunDefinition
from mllam_exps.preflight import lost_links, not_in_clone, submittable
from mllam_exps.repository.planning_clone import Base
from mllam_exps.runs import freezing, giving
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.results import Contents
from mllam_exps.runs.store import RunStore
from mllam_exps.submission.saving import commit


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A user's own folder, outside of the repository."""
    place = tmp_path / "scratch"
    (place / "res").mkdir(parents=True)
    (place / "res/r.txt").write_text("mine")
    return place


@pytest.fixture
def clone(tmp_path: Path, scratch: Path) -> Path:
    """A clone with links: to that folder, to another of its own, to its origin."""
    place = tmp_path / "clone"
    for folder in (".git", "real", "sub"):
        (place / folder).mkdir(parents=True)
    (place / "data").symlink_to(scratch)
    (place / "lnk").symlink_to("real")
    (place / "twice").symlink_to("lnk/../data")
    (place / "origin").symlink_to(tmp_path / "origin/real")
    return place


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    key = f"a-{'0' * 32}"
    run = RunStore(tmp_path / "store").run(key)
    run.directory.mkdir(parents=True)
    made = run.claim(
        1, scheduler="local", experiment="e", workspace=tmp_path, working_directory=None
    )
    assert made is not None
    return made


def untouched(scratch: Path) -> bool:
    found = {str(path.relative_to(scratch)) for path in scratch.rglob("*")}
    return (
        found == {"res", "res/r.txt"} and (scratch / "res/r.txt").read_text() == "mine"
    )


LEADS: dict[str, tuple[str, str, bool] | None] = {
    "real/out.txt": None,
    "nowhere/yet": None,
    "data/res": ("data", "{tmp}/scratch/res", True),
    "data": ("data", "{tmp}/scratch", True),
    "lnk/out.txt": ("lnk", "real/out.txt", False),
    "twice/x": ("twice", "{tmp}/scratch/x", True),
    "origin/x": ("origin", "{tmp}/origin/real/x", True),
}


@pytest.mark.parametrize("path", LEADS)
def test_where_a_path_leads(clone: Path, tmp_path: Path, path: str):
    led, expected = symlinks.led(clone, path), LEADS[path]
    found = led and (led.link, led.end, led.outside)
    known = expected and (expected[0], expected[1].format(tmp=tmp_path), expected[2])
    assert found == known


def test_a_link_to_another_folder_of_the_same_git_repository_stays_inside(clone: Path):
    (clone / "sub/up").symlink_to("../real")
    led = symlinks.led(clone / "sub", "up/x")
    assert led is not None
    assert (led.end, led.outside) == ("../real/x", False)


def test_a_relative_link_out_of_a_repository_is_told_as_its_user_sees_it(
    clone: Path, tmp_path: Path
):
    origin = tmp_path / "far/origin"
    (origin / ".git").mkdir(parents=True)
    for place in (clone, origin):
        (place / "away").symlink_to("../team")
        (place / "own").symlink_to(origin)
    led = symlinks.led_out(clone, origin, "away/p.yaml")
    assert led is not None
    assert led.end == f"{tmp_path}/far/team/p.yaml"
    led = symlinks.led_out(clone, origin, "own/x")
    assert led is not None
    assert led.end == f"{origin}/x"
    assert symlinks.led_out(clone, origin, "lnk/out.txt") is None


def test_a_link_that_leads_nowhere_from_a_clone_is_refused(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    origin = tmp_path / "far/origin"
    for folder in (origin, origin.parent / "team"):
        folder.mkdir(parents=True)
    (origin.parent / "team/p.yaml").touch()
    for place in (clone, origin):
        (place / "p.yaml").symlink_to("../team/p.yaml")
    monkeypatch.chdir(origin)
    with pytest.raises(UsageError, match="out of the repository by a relative") as told:
        not_in_clone.refuse_dangling(clone, "p.yaml", origin)
    assert told.value.next == f"ln -sfn {tmp_path}/far/team/p.yaml p.yaml"
    not_in_clone.refuse_dangling(clone, "real", origin)


def test_each_link_on_the_way_is_named(clone: Path, scratch: Path):
    (scratch / "now").symlink_to("res")
    found = list(symlinks.chain(clone / "data/now/r.txt"))
    assert found == [clone / "data", scratch / "now", scratch / "res/r.txt"]
    (clone / "loop").symlink_to("loop")
    assert next(symlinks.chain(clone / "loop")) == clone / "loop"


@pytest.mark.parametrize(
    ("path", "way_out"),
    [
        ("data/res", "write to a folder of the repository, and name that in outs"),
        ("data", "git rm data, and the stage makes data itself"),
        ("lnk/out.txt", "name real/out.txt in outs instead"),
        ("lnk", "name real in outs instead"),
    ],
)
def test_an_output_behind_a_link_is_refused(
    clone: Path, monkeypatch: pytest.MonkeyPatch, path: str, way_out: str
):
    monkeypatch.chdir(clone)
    outs = (Out(path, str(clone / path), cached=True), Out("x", str(clone / "x"), True))
    repo: Any = SimpleNamespace(
        root=clone, relative=lambda place: str(Path(place).relative_to(clone))
    )
    with pytest.raises(Problems) as told:
        submittable.refuse_outputs_behind_links(
            repo, StageEntry("a", "x", str(clone), outs=outs), clone
        )
    [problem] = told.value.problems
    assert problem.where == "dvc.yaml: a"
    assert way_out in problem.next
    plain = StageEntry("a", "x", str(clone), outs=outs[1:])
    submittable.refuse_outputs_behind_links(repo, plain, clone)


@pytest.mark.parametrize(
    ("wdir", "way_out"),
    [
        ("lnk", "wdir: real instead"),
        ("data", "name a folder of the repository in wdir; dvc cache dir FOLDER"),
    ],
)
def test_a_stage_whose_folder_is_a_link_is_told_to_name_another(
    clone: Path, wdir: str, way_out: str
):
    outs = (Out("x", str(clone / wdir / "x"), cached=True),)
    stage = StageEntry("a", "x", str(clone / wdir), outs=outs)
    repo: Any = SimpleNamespace(
        root=clone, relative=lambda place: str(Path(place).relative_to(clone))
    )
    with pytest.raises(Problems) as told:
        submittable.refuse_outputs_behind_links(repo, stage, clone)
    [problem] = told.value.problems
    assert str(problem.next).startswith(way_out)


@pytest.mark.parametrize(
    ("end", "way_out"),
    [
        ("real", "write real in wdir instead"),
        ("/", "name a folder of the repository in wdir"),
    ],
)
def test_a_stage_whose_folder_is_a_link_that_git_ignores_is_refused(
    clone: Path, tmp_path: Path, end: str, way_out: str
):
    origin = tmp_path / "origin"
    (origin / "real").mkdir(parents=True)
    (origin / "lost").symlink_to(end)
    repo: Any = SimpleNamespace(
        root=clone, relative=lambda place: str(Path(place).relative_to(clone))
    )
    stage = StageEntry("a", "x", str(clone / "lost"))
    with pytest.raises(UsageError) as told:
        lost_links.refuse_folder(repo, stage, origin)
    assert told.value.problem.next == way_out
    # What git tracks is there in the clone, too.
    (clone / "lost").symlink_to(end)
    lost_links.refuse_folder(repo, stage, origin)
    lost_links.refuse_folder(repo, StageEntry("a", "x", str(clone)), origin)


def test_parameters_are_not_set_in_a_file_outside(clone: Path, scratch: Path):
    (scratch / "p.yaml").write_text("x: 1\n")
    (clone / "params.yaml").symlink_to(scratch / "p.yaml")
    before = (scratch / "p.yaml").stat()
    base = Base(clone, clone, SimpleNamespace(), clone)  # type: ignore[arg-type]
    with (
        pytest.raises(Problems) as told,
        base.changed({"params.yaml": ["x=2"]}, {}, Path("sub")),
    ):
        pass
    text = str(told.value)
    assert "-S ../params.yaml: is a link that git tracks" in text
    assert f"cp --remove-destination {scratch}/p.yaml ../params.yaml" in text
    now = (scratch / "p.yaml").stat()
    assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_a_stage_that_was_not_asked_for_made_outside_stays(
    clone: Path, scratch: Path, attempt: Attempt
):
    (clone / "res").symlink_to(scratch / "res")
    (clone / "real/old").touch()
    (clone / lockfile.DRAFT).parent.mkdir(exist_ok=True)
    made = ["data/res", "res", "lnk/old"]
    lockfile.Draft(Cache("/nowhere"), {}, {"f": "0"}, made).write(clone)
    definition = RunDefinition("a", {}, (), (Output("a.txt", True),), commands=("x",))
    assert workdir._copy_repository(clone, attempt, definition) == {"f": "0"}
    assert untouched(scratch)
    assert not (attempt.work / "res").is_symlink()
    assert not (attempt.work / "real/old").exists()


def test_an_attempt_with_an_output_outside_is_not_laid_out(
    clone: Path, scratch: Path, attempt: Attempt
):
    out = Output("data/res", True)
    definition = RunDefinition("a", {}, (), (out,), commands=("x",))
    with pytest.raises(CheckFailed, match="data/res lies behind a link"):
        workdir._copy_repository(clone, attempt, definition)
    assert untouched(scratch)


def test_a_program_s_output_behind_a_link_of_its_own_is_not_taken_from_there(
    scratch: Path, attempt: Attempt
):
    (attempt.work / "data").symlink_to(scratch)
    with pytest.raises(CheckFailed, match="the output data/res lies behind a link"):
        freezing.check_made(attempt, ["data/res"])


@pytest.mark.parametrize("path", ["res", "data/res", "data/res/r.txt"])
def test_what_git_keeps_is_not_written_through_a_link(
    clone: Path, scratch: Path, attempt: Attempt, path: str
):
    (clone / "res").symlink_to(scratch / "res")
    made = attempt.outputs / path
    made.mkdir(parents=True)
    (made / "r.txt").write_text("made")
    (attempt.directory / "manifest.json").write_text("{}")
    described = describe(made)
    place = clone / path
    if path == "res":
        giving.copy(attempt.directory, path, described, symlinks.clear(clone, place))
        assert (place / "r.txt").read_text() == "made"
        assert not place.is_symlink()
    else:
        with pytest.raises(MllamError, match="nothing is written or removed there"):
            symlinks.clear(clone, place)
    assert untouched(scratch)


def test_what_dvc_has_is_not_written_through_a_link(clone: Path, scratch: Path):
    cache: Any = SimpleNamespace(
        hold_to_its_name=lambda *_: None, holds_all=lambda _: True
    )
    known = {"data/res/r.txt": {"digest": "0" * 32}}
    with pytest.raises(MllamError, match="lies behind a link"):
        commit._from_cache(cache, clone, {"data/res/r.txt": False}, known)
    assert untouched(scratch)


# Inputs


def reading(attempt: Attempt, scratch: Path) -> Inputs:
    """Return the inputs of an attempt that reads a folder and parameters outside."""
    (scratch / "p.yaml").write_text("x: 1\n")
    (attempt.work / "res").symlink_to(scratch / "now")
    (scratch / "now").symlink_to("res")
    (attempt.work / "p.yaml").symlink_to(scratch / "p.yaml")
    (attempt.work / "own.txt").write_text("own")
    laid = {path: describe(attempt.work / path) for path in ("res", "own.txt")}
    parameters = describe(attempt.work / "p.yaml") | {"parameters": True}
    attempt.note_inputs(laid | {"p.yaml": parameters})
    inputs = {
        path: {"run": None, "md5": known["digest"]} for path, known in laid.items()
    }
    return Inputs(attempt, {"inputs": inputs, "commands": ["x"]}, "again")


def put(place: Path, text: str) -> None:
    """Write a file, and have it look as it did."""
    before = place.stat()
    place.write_text(text)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def there_and_back(place: Path) -> None:
    text = place.read_text()
    put(place, "other")
    put(place, text)


def other_folder(scratch: Path) -> None:
    (scratch / "now").unlink()
    (scratch / "now").symlink_to("old")
    (scratch / "now").unlink()
    (scratch / "now").symlink_to("res")


CHANGED = {
    "a new file": (
        lambda scratch: (scratch / "res/new.txt").touch(),
        "res/new.txt was added to its input res while the program ran",
    ),
    "parameters": (
        lambda scratch: put(scratch / "p.yaml", "x: 2\n"),
        "its input p.yaml changed while the program ran",
    ),
    "parameters, and back": (
        lambda scratch: there_and_back(scratch / "p.yaml"),
        "its input p.yaml was touched while the program ran",
    ),
    "a file, and back": (
        lambda scratch: there_and_back(scratch / "res/r.txt"),
        "its input res was touched while the program ran",
    ),
    "a link on the way, and back": (
        other_folder,
        "its input res was touched while the program ran",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_an_input_outside_that_is_changed_while_it_is_read(
    attempt: Attempt, scratch: Path, case: str
):
    change, told = CHANGED[case]
    read = reading(attempt, scratch)
    read.check()
    read.check_again()
    assert set(read.as_read()) == {"res", "own.txt"}
    change(scratch)
    with pytest.raises(CheckFailed, match=told):
        read.check_again()


def test_a_file_that_was_added_outside_before_the_start(
    attempt: Attempt, scratch: Path
):
    read = reading(attempt, scratch)
    (scratch / "res/new.txt").touch()
    with pytest.raises(CheckFailed, match="was added to its input res between"):
        read.check()


def test_what_dvcignore_names_may_come_and_go_outside(attempt: Attempt, scratch: Path):
    (attempt.work / ".dvcignore").write_text("*.tmp\n__pycache__\n")
    read = reading(attempt, scratch)
    read.check()
    (scratch / "res/x.tmp").touch()
    (scratch / "res/__pycache__").mkdir()
    (attempt.work / "beside.txt").touch()
    read.check_again()


def test_parameters_outside_are_held_to_what_they_were_at_submission(
    attempt: Attempt, scratch: Path
):
    reading(attempt, scratch)
    (attempt.work / ".git").mkdir()
    definition = RunDefinition(
        "a", {"p.yaml": {"x": 1}}, (), (), commands=("cat p.yaml",)
    )
    digest = describe(scratch / "p.yaml")["digest"]
    found = workdir._parameters_outside(attempt, definition, {"p.yaml": digest})
    assert Contents(found).by_path["p.yaml"]["digest"] == digest
    # Of what the key does not count a command may read all the same.
    (scratch / "p.yaml").write_text("x: 1\ny: 2\n")
    with pytest.raises(MllamError, match="was changed since the experiment was submit"):
        workdir._parameters_outside(attempt, definition, {"p.yaml": digest})


def test_an_attempt_is_laid_out_with_the_parameters_outside_that_it_is_held_to(
    clone: Path, attempt: Attempt, scratch: Path
):
    (scratch / "p.yaml").write_text("x: 1\n")
    (clone / "p.yaml").symlink_to(scratch / "p.yaml")
    frozen = {"p.yaml": describe(clone / "p.yaml")["digest"]}
    lockfile.Draft(Cache("/nowhere"), {}, frozen, ["data/res"]).write(clone)
    params = {"p.yaml": {"x": 1}}
    definition = RunDefinition("a", params, (), (), commands=("cat p.yaml",))
    repo: Any = SimpleNamespace(cache_types=["copy"])
    store = RunStore(attempt.run.store)
    workdir.lay_out(repo, clone, store, attempt, definition, files=())
    assert set(attempt.inputs.by_path) == {"p.yaml"}
    read = Inputs(attempt, definition.to_record(), "again")
    read.check()
    (scratch / "p.yaml").write_text("x: 1\ny: 2\n")
    with pytest.raises(CheckFailed, match=r"its input p.yaml changed while"):
        read.check_again()
