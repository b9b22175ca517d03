"""What a run reads and makes is what its key says: nothing that was changed meanwhile is given to anybody."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from support.experiment import Experiment
from support.submissions import rows, settled, submit

from mllam_exps.attempts import workdir
from mllam_exps.attempts.work.inputs import Inputs
from mllam_exps.base import records
from mllam_exps.base.errors import CheckFailed, MllamError
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.lockfile import Draft, StageDraft
from mllam_exps.identity import content
from mllam_exps.identity.content import describe, differences, files_of
from mllam_exps.identity.definition import Input, Output, RunDefinition
from mllam_exps.runs import freezing, layout, outputs
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.results import Read, Result
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.damage import (
    IN_CACHE,
    IN_STORE,
    NOT_BELIEVED,
    FoundDamage,
    Verifier,
)
from mllam_exps.submission.experiment import Experiment as ExperimentRecord
from mllam_exps.submission.experiment import Step
from mllam_exps.submission.saving import commit

MADE = (Output("made", cached=True), Output("m.json", cached=False))
DEFINED = {
    one.key: one
    for one in (RunDefinition("make", {}, (), MADE), RunDefinition("use", {}, (), ()))
}
MAKE, USE = DEFINED


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "store")


def claimed(store: RunStore, key: str, number: int = 1) -> Attempt:
    run = store.run(key)
    run.begin(DEFINED[key])
    attempt = run.claim(
        number,
        scheduler="local",
        experiment="e",
        workspace=Path(),
        working_directory=None,
    )
    assert attempt is not None
    return attempt


def done(attempt: Attempt, inputs: Mapping[str, Read] | None = None) -> Run:
    """Finish an attempt with what lies in its work directory."""
    made = freezing.freeze(
        attempt, sorted(path.name for path in attempt.work.iterdir())
    )
    run = Run(attempt.run.directory)
    assert run.settle(Result(attempt.number, made, inputs or {}))
    attempt.end(Outcome.SUCCEEDED)
    return run


def make(store: RunStore, number: int = 1, text: str = "a\n") -> Run:
    """Return a finished run that made the folder ``made`` and the file ``m.json``."""
    attempt = claimed(store, MAKE, number)
    (attempt.work / "made/sub").mkdir(parents=True)
    (attempt.work / "made/sub/a.txt").write_text(text)
    (attempt.work / "made/b.txt").write_text("b\n")
    (attempt.work / "m.json").write_text('{"n": 1}')
    return done(attempt)


def flip(path: Path, *, keep_time: bool = True) -> None:
    """Flip a bit, as a bad disk does: size, times and mode stay."""
    before, mode = path.stat(), path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    path.chmod(mode)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def frozen(run: Run, path: str) -> Path:
    return outputs.result_attempt(run).outputs / path


# What files hold


def rewrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)
    path.chmod(0o444)


def replace(path: Path) -> None:
    path.unlink()
    other = path.with_name("new")
    other.write_text("b\n")
    other.chmod(0o444)
    other.rename(path)


def open_up(path: Path) -> None:
    flip(path)
    path.chmod(0o644)


CHANGES: dict[str, tuple[Callable[[Path], object], bool, str]] = {
    "a flipped bit": (flip, False, "holds something else"),
    "an edit": (lambda path: flip(path, keep_time=False), True, "holds something else"),
    "more": (lambda path: rewrite(path, "a\nb\n"), True, "has 4 bytes, and had 2"),
    "another in its place": (replace, True, "holds something else"),
    "made writable": (open_up, True, "holds something else"),
    "gone": (Path.unlink, True, "is gone"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    do, noticed_unread, what = CHANGES[change]
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    path.chmod(0o444)
    known = files_of(path, describe(path))
    assert not list(differences(known, frozen=True))
    do(path)
    [found] = differences(known, frozen=True)
    assert what in found.what
    assert list(differences(known, frozen=True, thorough=True)) == [found]
    monkeypatch.setattr(content, "QUICK_BYTES", 0)
    assert bool(list(differences(known, frozen=True))) is noticed_unread, (
        "by size, time, inode or mode alone"
    )


def test_what_cannot_be_read_is_not_called_damaged(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    run = make(store)

    def refused(_path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(content, "md5_of_file", refused)
    content._HASHES.clear()
    with pytest.raises(outputs.Damaged, match="Permission denied"):
        outputs.hold_to_what_was_made(run)
    assert run.result is not None


# Outputs


def link_to_folder(work: Path) -> None:
    (work / "real/sub").mkdir(parents=True)
    (work / "real/sub/t").write_text("t")
    (work / "real/in").symlink_to("sub/t")
    (work / "out").symlink_to("real")


def links_inside(work: Path) -> None:
    (work / "out/sub").mkdir(parents=True)
    (work / "out/sub/t").write_text("t")
    (work / "out/in").symlink_to("sub/t")
    (work / "beside").write_text("b")
    (work / "out/up").symlink_to("../beside")
    (work / "out/folder").symlink_to("sub")


def link(work: Path, target: str = "epoch3") -> None:
    (work / "epoch3").write_text("3")
    (work / "out").symlink_to(target)


OUTPUTS: dict[str, tuple[Callable[[Path], object], dict[str, str] | str]] = {
    "relative link": (link, {"": "3"}),
    "absolute link": (lambda work: link(work, str(work / "epoch3")), {"": "3"}),
    "link to a folder": (link_to_folder, {"sub/t": "t", "in": "t"}),
    "links inside": (links_inside, {"sub/t": "t", "in": "t", "up": "b"}),
    "link to nowhere": (lambda work: link(work, "nowhere"), "out is a link that leads nowhere: its target is nowhere"),
    "link to itself": (lambda work: link(work, "out"), "out is a link that leads nowhere"),
    "link to what holds it": (lambda work: link(work, ".."), "a link to a folder that it lies in"),
    "link to nowhere inside": (
        lambda work: ((work / "out").mkdir(), (work / "out/x").symlink_to("gone")), "x is a link that leads nowhere"
    ),
    "pipe": (lambda work: os.mkfifo(work / "out"), "out is a pipe"),
    "pipe inside": (lambda work: ((work / "out").mkdir(), os.mkfifo(work / "out/p")), "p is a pipe"),
    "pipe behind a link": (
        lambda work: ((work / "d").mkdir(), os.mkfifo(work / "d/p"), (work / "out").symlink_to("d")), "p is a pipe"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_is_its_content_or_refused(store: RunStore, kind: str):
    """As with `dvc repro` (3.67), which hashes what a link points to, and leaves links to folders in an output out."""
    do, expected = OUTPUTS[kind]
    attempt = claimed(store, MAKE)
    do(attempt.work)
    if isinstance(expected, str):
        with pytest.raises(CheckFailed, match=expected):
            freezing.check_made(attempt, ["out"])
            freezing.freeze(attempt, ["out"])
        return
    freezing.freeze(attempt, ["out"])
    out = attempt.outputs / "out"
    found = (
        [out]
        if out.is_file()
        else [path for path in out.rglob("*") if not path.is_dir()]
    )
    assert not any(path.is_symlink() for path in found)
    assert {
        "" if path == out else path.relative_to(out).as_posix(): path.read_text()
        for path in found
    } == expected


def test_a_socket_is_refused(store: RunStore, monkeypatch: pytest.MonkeyPatch):
    attempt = claimed(store, MAKE)
    monkeypatch.chdir(attempt.work)  # its name has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("out")
        with pytest.raises(CheckFailed, match="out is a socket"):
            freezing.freeze(attempt, ["out"])


def test_two_outputs_of_which_one_is_a_link_to_the_other(store: RunStore):
    attempt = claimed(store, MAKE)
    link(attempt.work)
    freezing.freeze(attempt, ["epoch3", "out"])
    assert [(attempt.outputs / name).read_text() for name in ("epoch3", "out")] == [
        "3",
        "3",
    ]


def test_dvcignore_does_not_reach_through_a_link(store: RunStore, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("a.tmp", "b"):
        (outside / name).write_text(name)
    attempt = claimed(store, MAKE)
    (attempt.work / "out").symlink_to(outside)
    (attempt.work / ".dvcignore").write_text("*.tmp\n")
    freezing.freeze(attempt, ["out"])
    assert sorted(path.name for path in outside.iterdir()) == ["a.tmp", "b"]
    assert [path.name for path in (attempt.outputs / "out").iterdir()] == ["b"]


def hard_links(work: Path) -> None:
    (work / "out/x").mkdir(parents=True)
    (work / "out/tool.sh").write_text("#!/bin/sh\n")
    (work / "out/tool.sh").chmod(0o755)
    (work / "out/data").write_text("1")
    (work / "out/x/same.sh").hardlink_to(work / "out/tool.sh")
    (work / "same.sh").hardlink_to(work / "out/tool.sh")


def test_what_has_a_name_elsewhere_is_copied(store: RunStore, tmp_path: Path):
    """`ln /scratch/big.nc out.nc`: the file there stays what it was, and writing to it changes no result."""
    outside = tmp_path / "big.nc"
    outside.write_text("1")
    attempt = claimed(store, MAKE)
    (attempt.work / "out/sub").mkdir(parents=True)
    for name in ("out/big.nc", "out/sub/again.nc", "one"):
        (attempt.work / name).hardlink_to(outside)
    run = done(attempt)
    assert outside.stat().st_mode & stat.S_IWUSR
    outside.write_text("2")
    found = [frozen(run, "out") / "big.nc", frozen(run, "out/sub/again.nc")]
    found.append(frozen(run, "one"))
    assert [path.read_text() for path in found] == ["1"] * 3
    assert len({path.stat().st_ino for path in found}) == 1, "copied once"
    assert list(outputs.damage(run, thorough=True)) == []


def test_what_has_names_in_outputs_and_scratch_alone_is_not_copied(store: RunStore):
    claimed(store, MAKE).scratch.mkdir(parents=True, exist_ok=True)
    attempt = claimed(store, MAKE, 2)
    first = Attempt(attempt.run, 1)
    (first.scratch / "best.ckpt").write_text("1")
    (attempt.work / "out").mkdir()
    (attempt.work / "out/best.ckpt").hardlink_to(first.scratch / "best.ckpt")
    (attempt.work / "copy.ckpt").hardlink_to(first.scratch / "best.ckpt")
    run = done(attempt)
    assert frozen(run, "copy.ckpt").samefile(first.scratch / "best.ckpt")
    assert frozen(run, "out/best.ckpt").samefile(first.scratch / "best.ckpt")


def executables(place: Path) -> set[str]:
    files = [file for file in place.rglob("*") if file.is_file()]
    return {
        file.relative_to(place).as_posix() for file in files if os.access(file, os.X_OK)
    }


@pytest.mark.parametrize("links", [["copy"], ["symlink"]])
def test_what_may_be_executed_may_be_by_who_reads_it(store: RunStore, links: list[str]):
    attempt = claimed(store, MAKE)
    hard_links(attempt.work)
    run = done(attempt)
    assert run.result is not None
    assert run.result.outputs["same.sh"].isexec
    target = attempt.directory / "target"
    outputs.spread(run, "out", target, links)
    assert executables(target) == {"tool.sh", "x/same.sh"}
    outputs.spread(run, "out/x/same.sh", target / "one", links)
    assert os.access(target / "one", os.X_OK)
    # `dvc repro` (3.67) notes it of an input that is a file in an output.
    assert outputs.description(run, "out/tool.sh")["isexec"]
    assert "isexec" not in outputs.description(run, "out/data")


def test_git_keeps_which_files_of_a_folder_may_be_executed(
    store: RunStore, tmp_path: Path
):
    attempt = claimed(store, MAKE)
    hard_links(attempt.work)
    cache = Cache(str(tmp_path / "cache"))
    outputs.hand_over(cache, done(attempt), tmp_path / "w", {"out": False})
    assert executables(tmp_path / "w/out") == {"tool.sh", "x/same.sh"}


def test_empty_folders_reach_who_reads_the_output(store: RunStore):
    attempt = claimed(store, MAKE)
    (attempt.work / "out/sub/empty").mkdir(parents=True)
    (attempt.work / "out/sub/nothing/in/it").mkdir(parents=True)
    (attempt.work / "out/a").write_text("a")
    run = done(attempt)
    for path, expected in (
        ("out", "sub/nothing/in/it"),
        ("out/sub", "empty"),
        ("out/sub/empty", ""),
    ):
        target = attempt.directory / path.replace("/", "-")
        outputs.spread(run, path, target, ["copy"])
        assert (target / expected).is_dir()
    assert outputs.known_digest(run, "out/sub/empty") == content.digest_of_folder([])[0]


def left_out(work: Path) -> None:
    (work / ".dvcignore").write_text("*.tmp\ncache/\n")
    for folder in ("out/rep/.git", "out/cache", "out/theirs/.dvc", "out/.hg"):
        (work / folder).mkdir(parents=True)
        (work / folder / "x").write_text("x")
    for file in (
        "out/rep/f",
        "out/theirs/f",
        "out/t.tmp",
        "out/sub/u.tmp",
        "out/sub/k",
    ):
        (work / file).parent.mkdir(exist_ok=True)
        (work / file).write_text("1")
    (work / "out/link").symlink_to("sub")


def test_what_dvc_does_not_count_is_no_output(store: RunStore):
    """As `dvc repro` (3.67) does it: the files and the reasons are those that it gives."""
    attempt = claimed(store, MAKE)
    left_out(attempt.work)
    made = freezing.freeze(attempt, ["out"])
    described = attempt.manifest.by_path["out"]
    assert sorted(file["relpath"] for file in described["files"]) == ["rep/f", "sub/k"]
    assert made["out"].files == 2
    why = described["left_out"]
    assert sorted(why) == [
        ".hg",
        "cache",
        "link",
        "rep/.git",
        "sub/u.tmp",
        "t.tmp",
        "theirs",
    ]
    assert why["t.tmp"] == ".dvcignore:1:*.tmp names it"
    assert why["cache"] == ".dvcignore:2:cache/ names it"
    assert "repository of DVC's own" in why["theirs"]
    assert ".git" in why["rep/.git"]
    names = sorted(path.name for path in (attempt.outputs / "out").iterdir())
    assert names == ["rep", "sub"]


def test_an_output_with_a_dvcignore_in_it_is_refused(store: RunStore):
    attempt = claimed(store, MAKE)
    (attempt.work / "out").mkdir()
    (attempt.work / "out/.dvcignore").write_text("*.x")
    with pytest.raises(CheckFailed, match="DVC hashes no such folder"):
        freezing.freeze(attempt, ["out"])


def test_a_command_is_not_run_without_what_lay_in_its_input(store: RunStore):
    attempt = claimed(store, MAKE)
    left_out(attempt.work)
    made = freezing.freeze(attempt, ["out"])
    assert attempt.run.settle(Result(1, made))
    wanted = {"out": ".hg", "out/sub": "u.tmp", "out/sub/k": "", "out/rep/f": ""}
    for number, (path, lacks) in enumerate(wanted.items(), 1):
        reader, commands = claimed(store, USE, number), {"commands": ["x"]}
        workdir.take(store, reader, commands, {path: MAKE}, ["copy"])
        read = Inputs(reader, commands | {"inputs": {path: {"run": MAKE}}}, "again")
        if lacks:
            with pytest.raises(CheckFailed, match=f"its input {path} lacks {lacks}"):
                read.check()
        else:
            read.check()
    # A program of ours reads files that it knows.
    reader = claimed(store, USE, len(wanted) + 1)
    workdir.take(store, reader, {"commands": []}, {"out": MAKE}, ["copy"])
    Inputs(reader, {"inputs": {"out": {"run": MAKE}}}, "again").check()


# Results


@pytest.mark.parametrize("path", ["m.json", "made/sub/a.txt"])
def test_a_damaged_result_is_set_aside_and_says_why(
    store: RunStore, tmp_path: Path, path: str
):
    run = make(store)
    cache = Cache(str(tmp_path / "cache"))
    outs = {"made": True, "m.json": False}
    outputs.hand_over(cache, run, tmp_path / "before", outs)
    flip(frozen(run, path))
    with pytest.raises(
        outputs.Damaged,
        match="the result of make holds something else than what was made",
    ):
        outputs.hand_over(cache, run, tmp_path / "after", outs)
    assert not (tmp_path / "after").exists(), "nothing of it was given out"
    assert run.result is None
    now = assess(run)
    assert now.state is RunState.FAILED
    assert path in now.reason


def test_a_file_that_was_put_into_a_result_is_given_to_nobody(
    store: RunStore, tmp_path: Path
):
    run, made = make(store), Input("made", MAKE, None, tracked=True)
    workdir._from_store(store, made, tmp_path / "one")
    assert (tmp_path / "one").is_symlink()
    (frozen(run, "made/sub/a.txt").parent / ".nfs0001").touch()
    (frozen(run, "made") / "new").mkdir()
    assert not outputs.holds_more(run, "made")
    (frozen(run, "made") / "new/c.txt").write_text("not made")
    workdir._from_store(store, made, tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "two").rglob("*.txt")) == [
        "a.txt",
        "b.txt",
    ]


def test_a_damaged_object_of_the_cache_is_replaced(store: RunStore, tmp_path: Path):
    run = make(store)
    cache = Cache(str(tmp_path / "cache"))
    digest = outputs.hand_over(cache, run, tmp_path / "w", {"made": True})["made"][
        "digest"
    ]
    [md5] = [
        file["md5"] for file in cache.folder(digest) or [] if file["relpath"] == "b.txt"
    ]
    for damaged in (md5, digest):
        content_before = cache.path(damaged).read_bytes()
        cache.path(damaged).unlink()  # one file with the store's
        cache.path(damaged).write_bytes(content_before[::-1])
        cache.path(damaged).chmod(0o444)
        outputs.hand_over(cache, run, tmp_path / "w", {"made": True})
        assert cache.path(damaged).read_bytes() == content_before


def test_what_dvc_s_cache_holds_wrongly_is_not_taken_from_it(
    store: RunStore, tmp_path: Path
):
    run = make(store)
    cache = Cache(str(tmp_path / "cache"))
    digest = outputs.hand_over(cache, run, tmp_path / "w", {"made": True})["made"][
        "digest"
    ]
    cache.hold_to_its_name(digest, "made")
    [md5, *_] = [file["md5"] for file in cache.folder(digest) or []]
    flip(cache.path(md5))
    with pytest.raises(MllamError, match="made is damaged in DVC's cache"):
        cache.hold_to_its_name(digest, "made")
    assert not cache.holds(md5)


def test_what_dvc_knows_may_be_executed_may_be(store: RunStore, tmp_path: Path):
    """A copy: a link would have the mode of what everybody shares."""
    cache, root = Cache(str(tmp_path / "cache")), tmp_path / "w"
    made = outputs.hand_over(cache, make(store), root, {"m.json": True})["m.json"]
    digest = str(made["digest"])
    assert cache.check_out(digest, root / "input", isexec=True)
    known = {"m.json": {"digest": digest, "isexec": True}}
    for _ in range(2):  # it is not there yet; it lies there with the wrong mode
        commit._from_cache(cache, root, {"m.json": False}, known)
        assert executables(root) == {"input", "m.json"}
        (root / "m.json").chmod(0o644)
    assert not content.executable(cache.path(digest))


def test_a_known_folder_of_which_a_file_is_gone_is_not_saved(
    store: RunStore, tmp_path: Path
):
    cache, root = Cache(str(tmp_path / "cache")), tmp_path / "w"
    made = outputs.hand_over(cache, make(store), root, {"made": True})
    [md5, *_] = [f["md5"] for f in cache.folder(made["made"]["digest"]) or []]
    commit._from_cache(cache, root, {"made": True}, made)
    cache.path(md5).unlink()
    with pytest.raises(MllamError, match="is gone from there"):
        commit._from_cache(cache, root, {"made": True}, made)


def test_a_result_is_not_used_with_another_input_than_it_was_made_from(store: RunStore):
    """Not every program gives the same twice: what was made again may be another."""
    first = make(store)
    attempt = claimed(store, USE)
    (attempt.work / "out").write_text("1")
    assert first.result is not None
    read = {"made": Read(first.result.outputs["made"].digest, MAKE)}
    use = done(attempt, inputs=read)
    outputs.hold_to_what_was_made(use)
    flip(frozen(first, "made/b.txt"))
    with pytest.raises(outputs.Damaged):
        outputs.hold_to_what_was_made(first)
    outputs.hold_to_what_was_made(use)
    make(store, 2, text="other\n")
    with pytest.raises(
        outputs.Damaged, match="made from another made than there is now"
    ):
        outputs.hold_to_what_was_made(use)


@pytest.mark.parametrize("known_to_dvc", [True, False])
def test_no_experiment_has_results_that_were_not_made_from_one_another(
    store: RunStore, tmp_path: Path, known_to_dvc: bool
):
    """Whether the run store has the second result, or DVC alone, which knew it at submission."""
    first, read = make(store), {"made": Read("1" * 32, MAKE)}
    digest = outputs.known_digest(first, "made")
    known = {"out": {"digest": "2" * 32, "size": 1, "files": None}}
    step = Step("use", USE, (MAKE,))
    if known_to_dvc:
        step = Step("use", USE, (MAKE,), known, {"made": "1" * 32})
    else:
        attempt = claimed(store, USE)
        (attempt.work / "out").write_text("1")
        done(attempt, inputs=read)
    place = store.directory / "experiments" / f"save-{'0' * 32}"
    command, steps = ["mllam-exps", "submit", "-n", "e"], (Step("make", MAKE), step)
    experiment = ExperimentRecord(
        place,
        "e",
        str(tmp_path),
        "",
        "b",
        {},
        command,
        "",
        "m",
        os.getuid(),
        0.0,
        steps,
    )
    assert experiment.holds("made") == digest
    with pytest.raises(
        MllamError, match="was made from another made than there is now"
    ) as told:
        commit._hold_together(experiment, lambda _path: digest)
    assert told.value.next == (
        experiment.submit_again if known_to_dvc else "mllam-exps retry e"
    )
    records.replace(records.folder(place) / "run.json", experiment.to_record())
    again = experiments.read(place)
    assert again is not None
    assert again.to_record() == experiment.to_record()


def test_what_dvc_s_cache_gave_counts_although_the_run_store_has_another_by_now(
    store: RunStore, tmp_path: Path
):
    """Else the attempt would fail for ever: whoever goes on with the experiment takes the same from the cache again."""
    run = make(store)
    attempt = claimed(store, USE)
    (attempt.work / "m.json").write_text("of DVC's cache")
    attempt.note_inputs(
        {"m.json": describe(attempt.work / "m.json") | {"cache": str(tmp_path)}}
    )
    read = Inputs(
        attempt,
        {"inputs": {"m.json": {"run": MAKE, "md5": None}}},
        "mllam-exps retry e",
    )
    read.check()
    read.check_again()
    (attempt.work / "out").write_text("1")
    use = done(attempt, inputs=read.as_read())
    outputs.hold_to_what_was_made(use)
    with pytest.raises(outputs.Damaged, match=r"made from another m.json"):
        outputs.hold_to_what_was_made(use, lambda path: outputs.known_digest(run, path))


def test_git_s_part_of_a_result_is_what_was_made_alone(store: RunStore, tmp_path: Path):
    run = make(store)
    (frozen(run, "made") / "beside.txt").write_text("not made")
    outputs.hand_over(
        Cache(str(tmp_path / "cache")), run, tmp_path / "w", {"made": False}
    )
    assert sorted(path.name for path in (tmp_path / "w/made").rglob("*.txt")) == [
        "a.txt",
        "b.txt",
    ]


# Inputs


def reading(store: RunStore, links: list[str] | None, path: str = "made") -> Inputs:
    """Return the inputs of an attempt that reads what `make` made."""
    run = store.run(MAKE)
    attempt = claimed(store, USE)
    place = attempt.work / path
    place.parent.mkdir(parents=True, exist_ok=True)
    found = outputs.description(run, path)
    assert found is not None
    if links is None:
        place.symlink_to(frozen(run, path))
    else:
        outputs.spread(run, path, place, links)
        found = content.marked(place, found)
    attempt.note_inputs({path: found})
    return Inputs(
        attempt, {"inputs": {path: {"run": MAKE, "md5": None}}}, "mllam-exps retry e"
    )


@pytest.mark.parametrize("quick", [True, False])
def test_a_program_that_writes_to_its_copy_of_an_input_has_failed(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, quick: bool
):
    run = make(store)
    read = reading(store, ["reflink", "copy"])
    if not quick:
        monkeypatch.setattr(content, "QUICK_BYTES", 0)
    read.check()
    (read.attempt.work / "made/__pycache__").mkdir()
    (read.attempt.work / "made/__pycache__/x.pyc").write_text("new")
    read.check_again()
    with (read.attempt.work / "made/b.txt").open("a") as file:
        file.write("more")
    with pytest.raises(
        CheckFailed,
        match=r"the program changed its own input made/b.txt: it has 6 bytes, and had 2",
    ):
        read.check_again()
    outputs.hold_to_what_was_made(run)


def test_a_command_that_puts_a_file_into_its_input_has_failed(store: RunStore):
    """With `dvc repro` the next command would find it."""
    make(store)
    read = reading(store, ["copy"])
    work = read.attempt.work
    (work / ".dvcignore").write_text("*.tmp\n")
    (work / "around").mkdir()
    (work / ".git").mkdir()
    stage = StageDraft("sub", "true", ["../around", "../made"], {}, {})
    Draft(Cache(""), {"use": stage}).write(work)
    by_ours = {**read.definition, "stage": "use", "outputs": {"around/out": {}}}
    read.definition = by_ours | {"commands": ["true"]}
    read.check()
    for path in ("made/some.tmp", "made/__pycache__/x.pyc", "around/out/new", "new"):
        (work / path).parent.mkdir(exist_ok=True)
        (work / path).write_text("new")
    read.check_again()
    for folder in ("around", "made"):
        new = work / folder / "new"
        new.write_text("new")
        with pytest.raises(
            CheckFailed, match=f"the program put {folder}/new into its own input"
        ) as told:
            read.check_again()
        assert "named in outs" in told.value.next
        new.unlink()
    (work / "made/new").write_text("new")
    read.definition = by_ours
    read.check()
    (work / "made/newer").write_text("new")
    read.check_again()


@pytest.mark.parametrize("links", [None, ["hardlink"], ["symlink"]])
def test_a_program_that_writes_through_a_link_damages_nobody_s_result(
    store: RunStore, links: list[str] | None
):
    run = make(store)
    read = reading(store, links)
    read.check()
    path = read.attempt.work / "made/b.txt"
    path.chmod(0o644)
    path.write_text("evil\n")
    with pytest.raises(
        CheckFailed, match=r"made/b.txt is damaged in the run store"
    ) as told:
        read.check_again()
    assert told.value.next == "mllam-exps retry e"
    assert run.result is None, "nobody gets it"


def test_an_input_that_was_damaged_before_the_start_is_refused(store: RunStore):
    run = make(store)
    read = reading(store, None)
    flip(frozen(run, "made/sub/a.txt"))
    with pytest.raises(
        CheckFailed, match=r"made/sub/a.txt is damaged in the run store"
    ):
        read.check()
    assert run.result is None


def test_inputs_are_laid_out_as_dvc_s_cache_type_says(store: RunStore, tmp_path: Path):
    run = make(store)
    own = frozen(run, "made/b.txt")
    kinds = (
        (["reflink", "copy"], False, False),
        (["hardlink"], True, False),
        (["symlink"], True, True),
        (["copy", "hardlink"], False, False),
        (["hardlink", "symlink", "copy"], True, False),
    )
    for links, same, is_link in kinds:
        place = tmp_path / ",".join(links)
        outputs.spread(run, "made", place, links)
        assert (place / "b.txt").samefile(own) is same
        assert (place / "b.txt").is_symlink() is is_link
        assert os.access(place / "b.txt", os.W_OK)
        assert (place / "sub/a.txt").read_text() == "a\n"


@pytest.mark.parametrize("commands", [[], ["true"]])
def test_a_folder_and_a_part_of_it_may_both_be_inputs(
    store: RunStore, commands: list[str]
):
    make(store)
    attempt = claimed(store, USE)
    workdir.take(
        store,
        attempt,
        {"commands": commands},
        {"made": MAKE, "made/sub/a.txt": MAKE},
        ["copy"],
    )
    read = Inputs(
        attempt,
        {"inputs": {path: {"run": MAKE} for path in ("made", "made/sub/a.txt")}},
        "again",
    )
    read.check()
    read.check_again()
    assert set(read.as_read()) == {"made", "made/sub/a.txt"}
    assert (attempt.work / "made/sub/a.txt").read_text() == "a\n"


def test_what_is_set_aside_by_nobody_is_told_to_its_owner(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    """As in a colleague's run, where the group may not write."""
    run = make(store)
    flip(frozen(run, "m.json"))

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(records, "replace", refused)
    with pytest.raises(outputs.Damaged, match="cannot be set aside") as told:
        outputs.hold_to_what_was_made(run)
    assert (
        f"have its owner, {run.directory.owner()}, type mllam-exps verify"
        in told.value.next
    )
    assert run.result is not None


def outside(store: RunStore, tmp_path: Path) -> tuple[Inputs, Path]:
    """Return the inputs of an attempt that reads a file outside, through a link that git tracks."""
    target = tmp_path / "outside.txt"
    target.write_text("old\n")
    attempt = claimed(store, USE)
    (attempt.work / "data.txt").symlink_to(target)
    known = describe(target)
    attempt.note_inputs({"data.txt": known})
    return Inputs(
        attempt,
        {"inputs": {"data.txt": {"run": None, "md5": known["digest"]}}},
        "again",
    ), target


def test_a_file_outside_that_changes_is_no_longer_the_input(
    store: RunStore, tmp_path: Path
):
    read, target = outside(store, tmp_path)
    read.check()
    target.write_text("new\n")
    with pytest.raises(
        CheckFailed, match=r"its input data.txt changed while the program ran"
    ) as told:
        read.check_again()
    assert told.value.where == str(target)
    with pytest.raises(
        CheckFailed, match=r"its input data.txt changed between submission and start"
    ):
        read.check()
    target.write_text("old\n")
    read.check()
    read.check_again()


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ("res.csv", "res.csv, which is not among its outs, and which look reads"),
        ("params.yaml", "params.yaml, which is not among its outs, and which look"),
        ("tables/new.csv", "tables/new.csv, which is not among its outs"),
        ("tables/old.csv", "tables/old.csv, which is not among its outs"),
        ("notes.txt", ""),  # nobody reads it
        ("out.txt", ""),  # a stage makes it
    ],
)
def test_what_another_stage_reads_and_none_makes_is_not_written_to(
    store: RunStore, changed: str, refused: str
):
    attempt = claimed(store, USE)
    use = StageDraft(".", "x", [], {}, {"out.txt": True})
    reads = ["res.csv", "tables", "out.txt"]
    look = StageDraft(".", "y", reads, {"params.yaml": {"n": 1}}, {"seen": True})
    cache = str(store.directory / "cache")
    (attempt.top / ".git").mkdir()
    stages = {"use": use, "look": look}
    Draft(Cache(cache), stages, made=["out.txt", "seen"]).write(attempt.top)
    for file in ("res.csv", "params.yaml", "tables/old.csv"):
        (attempt.work / file).parent.mkdir(exist_ok=True)
        (attempt.work / file).write_text("1\n")
    read = Inputs(attempt, {"stage": "use", "commands": ["x"]}, "again")
    read.check()
    if changed == "tables/old.csv":
        (attempt.work / changed).unlink()
    else:
        (attempt.work / changed).write_text("2\n")
    if not refused:
        read.check_again()
        return
    with pytest.raises(CheckFailed, match=f"the program changed {refused}"):
        read.check_again()


def test_an_archive_that_changes_is_no_longer_the_input(
    store: RunStore, tmp_path: Path
):
    from mllam_exps.stages.neural_lam.data import archives
    from mllam_exps.stages.neural_lam.preflight import PREFLIGHT

    archive = tmp_path / "era5.zarr"
    archive.mkdir()
    (archive / ".zmetadata").write_text("{}")
    attempt = claimed(store, USE)
    (attempt.work / "data").mkdir()
    for name in (
        "params",
        "data/config",
        "data/training_params",
        "data/evaluate_params",
    ):
        (attempt.work / f"{name}.yaml").write_text("{}")
    datastore = {"inputs": {"era5": {"path": str(archive)}}}
    (attempt.work / "data/datastore.yaml").write_text(json.dumps(datastore))
    known, _ = archives.identities(datastore, {})
    for tracked in ({"archives": known}, {"archives.era5": known["era5"]}):
        (archive / ".zmetadata").write_text("{}")
        read = Inputs(
            attempt,
            {"params": {"version.mllam.txt": tracked}},
            "again",
            lambda: PREFLIGHT.archives(attempt.work)[0],
        )
        read.check()
        (archive / ".zmetadata").write_text('{"more": 1}')
        with pytest.raises(
            CheckFailed, match="the archive era5 changed while the program ran"
        ):
            read.check_again()
        (archive / ".zmetadata").unlink()
        read.check_again()  # one that cannot be reached has not changed by that


def test_an_input_that_was_made_again_since_is_another(store: RunStore):
    run = make(store)
    read = reading(store, ["copy"])
    read.check()
    flip(frozen(run, "made/b.txt"))
    with pytest.raises(outputs.Damaged):
        outputs.hold_to_what_was_made(run)
    read.check_again()
    make(store, 2, text="other\n")
    with pytest.raises(
        CheckFailed,
        match="its input made was made again by make since, and is another now",
    ):
        read.check_again()


# mllam-exps verify


def test_verify_reads_all_and_sees_to_what_is_damaged(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make(store)
    cache = Cache(str(tmp_path / "cache"))
    digest = outputs.hand_over(cache, run, tmp_path / "w", {"made": True})["made"][
        "digest"
    ]
    monkeypatch.setattr(content, "QUICK_BYTES", 0)

    def verify() -> FoundDamage:
        return Verifier(store, cache).verify([run])

    fine = verify()
    assert (fine.results, fine.files, fine.damaged) == (1, 4, []), (
        "three files, and the list of those in the folder"
    )
    [md5] = [
        file["md5"] for file in cache.folder(digest) or [] if file["relpath"] == "b.txt"
    ]
    cache.path(md5).unlink()
    cache.path(md5).write_text("B\n")
    cache.path(md5).chmod(0o444)
    [one] = verify().damaged
    assert (one.place, one.done, one.experiments) == (
        IN_CACHE,
        "replaced from the run store",
        ["e"],
    )
    assert not verify().damaged
    flip(frozen(run, "made/b.txt"))  # one file with the cache's
    outputs.hold_to_what_was_made(
        run
    )  # a quick look sees nothing: its size, time and inode are the same
    found = verify().damaged
    assert [(one.place, one.done) for one in found] == [
        (IN_STORE, "set aside"),
        (IN_CACHE, "removed"),
    ]
    assert run.result is None
    assert not cache.holds(md5)
    assert [one.what for one in verify().damaged] == ["is gone"]
    outputs.hand_over(cache, make(store, 2), tmp_path / "w", {"made": True})
    assert not verify().damaged


def test_verify_notices_a_manifest_that_was_changed(store: RunStore, tmp_path: Path):
    run = make(store)
    manifest = outputs.result_attempt(run).directory / layout.MANIFEST
    manifest.write_text("{}")
    one, *missing = (
        Verifier(store, Cache(str(tmp_path / "cache"))).verify([run]).damaged
    )
    assert (one.file, one.done) == (str(manifest), "set aside")
    assert {other.what for other in missing} == {"is gone"}, (
        "it was never handed over to DVC's cache"
    )


def test_verify_names_a_damaged_record_of_a_result_and_its_owner(
    store: RunStore, tmp_path: Path
):
    """As where a colleague has put something else in its place: nothing was read of it, and all called fine."""
    run = make(store)
    record = run.directory / layout.RESULT
    record.unlink()
    record.write_text("{}")
    found = Verifier(store, Cache(str(tmp_path / "cache"))).verify([run])
    [one] = found.damaged
    assert (found.results, one.file, one.done) == (1, str(record), NOT_BELIEVED)
    assert one.what == "is damaged: it has no `attempt`"
    assert one.next == "dvc exp apply e; dvc repro makes again what is missing"


def test_a_damaged_result_is_made_again(made: Experiment):
    """As its user types it: what is found damaged, and what then leads out of it."""
    [run] = made.runs("make")
    assert "all is what was made" in made.ok("mllam-exps", "verify")
    flip(run / "attempts/1/outputs/made/sub/3.txt")
    found = made.command("mllam-exps", "verify", "--json", stderr=subprocess.DEVNULL)
    assert found.returncode == 1
    [one] = json.loads(found.stdout)["damaged"]
    assert (one["done"], one["place"]) == ("set aside", "the run store"), (
        "copied for this test, the cache has its own"
    )
    said = submit(made, "-n", "again", "grow")
    assert {stage["stage"]: stage["state"] for stage in said[0]["stages"]}[
        "make"
    ] == "known", "to DVC"
    assert settled(made, "again")["again"]["state"] == "done"
    made.ok("dvc", "repro", "--force", "--single-item", "make")
    flip(run / "attempts/2/outputs/made/sub/4.txt")
    said_by_dvc = made.ok("dvc", "repro", "--force", "--single-item", "make")
    assert (
        "the result of make holds something else than what was made; it is made again"
        in said_by_dvc
    )
    assert "all is what was made" in made.ok("mllam-exps", "verify")


def test_behind_an_input_that_became_another_all_is_made_again_by_itself(
    made: Experiment, tmp_path: Path
):
    """One `retry` is enough, whatever number of stages stand behind that input."""
    file, can_go_on = made.root / "dvc.yaml", tmp_path / "flag"
    pipeline = yaml.safe_load(file.read_text())
    pipeline["stages"]["last"] = {
        "cmd": f"test -e {can_go_on} && cp grown/state.json last.json",
        "deps": ["grown"],
        "outs": ["last.json"],
    }
    file.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    made.ok("git", "commit", "-qam", "A third stage")
    submit(made, "-n", "chain", "-S", "toy.yaml:+make.mark=pid")
    assert settled(made, "chain")["chain"]["state"] == "failed"
    made.ok("mllam-exps", "verify", "chain")
    [make_key] = [
        stage["key"]
        for stage in rows(made)["chain"]["stages"]
        if stage["stage"] == "make"
    ]
    flip(made.store / make_key / "attempts/1/outputs/made/sub/3.txt")
    assert made.command("mllam-exps", "verify", "chain").returncode == 1
    can_go_on.touch()
    made.ok("mllam-exps", "retry", "chain")
    found = settled(made, "chain")["chain"]
    assert found["state"] == "done", found
    assert {one["stage"]: one["tries"] for one in found["stages"]} == {
        "make": 2,
        "grow": 2,
        "last": 2,
    }


# What colleagues write into their own results


@pytest.mark.parametrize("name", ["../hook", "/tmp/hook", "sub/../../hook", ""])
def test_a_manifest_names_no_file_outside_of_its_output(
    store: RunStore, tmp_path: Path, name: str
):
    run = make(store)
    made = outputs.result_attempt(run).outputs / "made"
    (made.parent / "hook").write_text("#!/bin/sh\n")
    manifest = records.read(made.parents[1] / "manifest.json")
    result = records.read(run.directory / "result.json")
    assert manifest is not None
    assert result is not None
    files = manifest["made"]["files"]
    files.append(
        {
            "relpath": name,
            "md5": content.md5_of_file(made.parent / "hook"),
            "size": 10,
            "mark": None,
        }
    )
    manifest["made"]["digest"] = result["outputs"]["made"]["digest"] = (
        content.digest_of_folder(files)[0]
    )
    records.replace(made.parents[1] / "manifest.json", manifest)
    records.replace(run.directory / "result.json", result)
    (tmp_path / "w").mkdir()
    with pytest.raises(outputs.Damaged):
        outputs.hand_over(
            Cache(str(tmp_path / "cache")), run, tmp_path / "w", {"made": False}
        )
    assert not list((tmp_path / "w").iterdir())


def test_a_digest_names_no_file_outside_of_the_cache(store: RunStore, tmp_path: Path):
    run = make(store)
    result = records.read(run.directory / "result.json")
    assert result is not None
    mine = tmp_path / "mine"
    mine.write_text("mine")
    result["outputs"]["made"]["digest"] = (
        f"ab{mine}"  # its first two letters are a folder
    )
    records.replace(run.directory / "result.json", result)
    Verifier(store, Cache(str(tmp_path / "cache"))).verify([run])
    assert mine.exists()
    assert run.damage is not None
    (run.directory / "result.json").rename(run.directory / "damaged-1.json")
    Verifier(store, Cache(str(tmp_path / "cache"))).verify([run])
    assert mine.exists()


def test_a_list_in_the_cache_names_no_file_outside_of_it(tmp_path: Path):
    cache = Cache(str(tmp_path))
    digest = f"{'0' * 32}.dir"
    cache.path(digest).parent.mkdir(parents=True)
    for file in (
        {"relpath": "../x", "md5": "1" * 32},
        {"relpath": "x", "md5": "11/../../x"},
        "x",
    ):
        cache.path(digest).write_text(json.dumps([file]))
        assert cache.folder(digest) is None
    cache.path(digest).write_text(json.dumps([{"relpath": "a/x", "md5": "1" * 32}]))
    assert cache.folder(digest)


def test_a_result_that_was_made_again_while_the_first_was_read_stays(store: RunStore):
    run = make(store)
    flip(frozen(run, "made/b.txt"), keep_time=False)
    slow = list(outputs.damage(run, thorough=True))
    outputs.set_aside(run, slow)
    make(store, 2)
    told = outputs.set_aside(run, slow)
    assert run.result is not None
    assert run.result.attempt == 2
    assert "made again meanwhile" in told.next


def test_what_was_made_again_between_a_look_and_the_setting_aside_comes_back(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    run = make(store)
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        """Another process was quicker, and the run was made again."""
        if path.name == "result.json":
            monkeypatch.undo()
            # Renamed, not removed: the number of a removed file may be given to another.
            rename(path, path.with_name("aside by another.json"))
            make(store, 2, "again\n")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    outputs.set_aside(
        run,
        [
            content.Difference(
                run.directory, "was made from another x than there is now"
            )
        ],
    )
    assert run.result is not None
    assert run.result.attempt == 2


@pytest.mark.parametrize("point", [0, 1])
def test_who_is_killed_while_setting_aside_leaves_a_result_or_none(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, point: int
):
    run = make(store)
    flip(frozen(run, "m.json"))
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == "result.json":
            if point:
                rename(path, target)
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        outputs.hold_to_what_was_made(run)
    monkeypatch.undo()
    assert (run.result is None) is bool(point)
    if not point:
        with pytest.raises(outputs.Damaged):
            outputs.hold_to_what_was_made(run)
    assert assess(run).state is RunState.FAILED
    assert "m.json" in assess(run).reason


def test_a_baseline_that_git_has_collected_is_named(store: RunStore, tmp_path: Path):
    subprocess.run(["git", "init", "-q", str(tmp_path / "r")], check=True)
    place, command = (
        store.directory / "experiments" / f"save-{'0' * 32}",
        ["mllam-exps", "submit", "-n", "e"],
    )
    gone = ExperimentRecord(
        place,
        "e",
        str(tmp_path / "r"),
        "",
        "1" * 40,
        {},
        command,
        "",
        "m",
        os.getuid(),
        0.0,
        (),
    )
    with pytest.raises(
        MllamError, match="the commit that e starts from, 11111111, is gone"
    ) as told:
        commit.save(gone)
    assert told.value.next == f"{gone.submit_again}; what is done is known"


def test_a_claim_of_no_living_submitter_blocks_nobody(store: RunStore):
    """A colleague may write any record, with any time, and name a process that is somebody else's."""
    attempt = claimed(store, USE)
    now = assess(attempt.run)
    assert now.state is RunState.STARTING
    assert now.reason.startswith(
        f"being started by {attempt.directory.owner()}'s process {os.getpid()} on "
    )
    claim = attempt.claim
    assert claim is not None
    if os.getuid() == 0:
        os.chown(attempt.claim_file, 12345, -1)
        assert assess(attempt.run).state is RunState.LOST
    elsewhere = dataclasses.replace(claim.claimed_by, host="elsewhere")
    moved = dataclasses.replace(claim, claimed_by=elsewhere)
    records.replace(attempt.claim_file, moved.to_record())
    assert assess(attempt.run).state is RunState.STARTING
    os.utime(attempt.claim_file, (1e10, 1e10))
    assert assess(attempt.run).state is RunState.LOST


def test_what_dvc_pulled_again_is_not_called_failed(made: Experiment, tmp_path: Path):
    made.ok("dvc", "remote", "add", "-q", "-d", "far", str(tmp_path / "far"))
    made.ok("git", "commit", "-qam", "A remote")
    submit(made, "-n", "e")
    settled(made, "e")
    made.ok("dvc", "exp", "apply", "e")
    made.ok("dvc", "push", "-q")
    [run] = made.runs("grow")
    frozen = next(p for p in run.glob("attempts/*/outputs/grown/*") if p.is_file())
    frozen.chmod(0o644)
    frozen.write_bytes(frozen.read_bytes()[::-1])
    assert made.command("mllam-exps", "verify", "e").returncode == 1
    [row] = json.loads(made.ok("mllam-exps", "status", "--json", "e"))
    assert {cell["stage"]: cell["state"] for cell in row["stages"]}["grow"] == "failed"
    shutil.rmtree(made.root / "grown")
    made.ok("dvc", "pull", "-q")
    [row] = json.loads(made.ok("mllam-exps", "status", "--json", "e"))
    assert {cell["state"] for cell in row["stages"]} == {"done"}
    assert "set aside" not in made.ok("mllam-exps", "status")
    shown = json.loads(made.ok("mllam-exps", "show", "--json", "e"))
    assert {stage["state"] for stage in shown["stages"]} == {"done"}
