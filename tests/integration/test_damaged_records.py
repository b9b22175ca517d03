"""Whatever becomes of a record, in whatever way: it is named once, and everything else is told as before."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.experiment import Experiment
from support.submissions import settled, submit

from mllam_exps import cli
from mllam_exps.base import records
from mllam_exps.base.processes import ProcessIdentity

SAMPLE = 12
"""Of so many damages the whole commands are tried here; `make test-long` tries all of them."""

SWEEP = ("-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=9,1")


class Commands:
    """The command line in this process: a command's start would take longer than the command."""

    def __init__(self, toy: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
        self.toy, self.monkeypatch = toy, monkeypatch
        for name in os.environ:
            if name not in toy.environ:
                monkeypatch.delenv(name)
        for name, value in toy.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(toy.root)

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        """Return the exit code, and what was printed on both ways; whatever else is raised is a failure."""
        records._told.clear()
        self.monkeypatch.setattr(sys, "argv", ["mllam-exps", *argv])
        out, error = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                cli.main()
            except SystemExit as end:
                code = int(end.code or 0)
        return code, out.getvalue(), error.getvalue()


@pytest.fixture(scope="module")
def kept(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A repository with an experiment that is done, one that failed and one at which somebody is."""
    from support.experiment import TOY, environment

    place = tmp_path_factory.mktemp("damaged")
    environ = environment(place / "home") | {"PYTHONPATH": str(TOY)}
    toy = Experiment(
        Path(shutil.copytree(made_once, place / "toy", symlinks=True)), environ
    )
    submit(toy, "-n", "e", *SWEEP)
    settled(toy, "e-1", "e-2")
    store = toy.store.parent
    [failed] = [
        p
        for p in store.glob("experiments/save-*")
        if json.loads((p / "run.json").read_text())["name"] == "e-2"
    ]
    pending = Path(
        shutil.copytree(failed, failed.with_name("save-" + "0" * 32), symlinks=True)
    )
    record = json.loads((pending / "run.json").read_text())
    for step in record["steps"]:
        step["key"] = (
            step["key"][:-32] + "0" * 32 if step["stage"] == "grow" else step["key"]
        )
    (pending / "run.json").write_text(json.dumps(record | {"name": "e-3"}))
    claim = json.loads((pending / "attempts/1.json").read_text()) | {
        "claimed_by": ProcessIdentity.of().to_record()
    }
    (pending / "attempts/1.json").write_text(json.dumps(claim))
    for name in ("end", "job", "started", "verdict"):
        (pending / f"attempts/1/{name}.json").unlink(missing_ok=True)
    return toy


def every_record(store: Path) -> list[Path]:
    """Return all records of a store, those of every kind."""
    found = [
        *store.glob("*/*/*.json"),
        *store.glob("*/*/attempts/*.json"),
        *store.glob("*/*/attempts/*/*.json"),
    ]
    assert len({path.name for path in found}) >= 9, found
    return sorted(found)


def damages(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield ways in which a record can be damaged, by name."""
    text = path.read_text()
    whole = json.loads(text)

    def write(what: str) -> Callable[[], None]:
        return functools.partial(_write, path, what.encode())

    for key in whole:
        yield (
            f"without {key}",
            write(json.dumps({k: v for k, v in whole.items() if k != key})),
        )
        for other in (None, [1], "x", -1, {"a": {"b": None}}, True, 1e300):
            yield f"{key} is {other!r}", write(json.dumps(whole | {key: other}))
    yield "torn", write(text[: len(text) // 2])
    yield "empty", write("")
    yield "a list", write("[]")
    yield "deep", write("[" * 100_000)
    yield "no text", functools.partial(_write, path, b"\xff\xfe\x00")
    yield "newer", write(json.dumps(whole | {"format": records.FORMAT + 1, "new": 1}))

    def instead(make: Callable[[], Any]) -> Callable[[], None]:
        def replaced() -> None:
            path.unlink()
            make()

        return replaced

    yield "gone", path.unlink
    yield "a folder", instead(path.mkdir)
    yield "a loop", instead(lambda: path.symlink_to(path))
    yield "a link", instead(lambda: path.symlink_to("/etc/hostname"))
    yield "a pipe", instead(lambda: os.mkfifo(path))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@contextlib.contextmanager
def damaged(path: Path, damage: Callable[[], None]) -> Iterator[None]:
    """Damage a record, and put it back as it was."""
    before = path.read_bytes()
    try:
        damage()
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(before)


def looked_at(commands: Commands) -> dict[str, Any]:
    """Return what can be told of the experiments and their runs, through all that looks at them."""
    from mllam_exps.base.terminal import console
    from mllam_exps.commands.reading import show, status
    from mllam_exps.submission import cleaning
    from mllam_exps.views.context import Context
    from mllam_exps.views.gathering import gather

    here = Context.open()
    rows = gather(here, [], everything=True)
    for part in status.render(rows, 100):
        console(file=io.StringIO()).print(part)
    found = {row.name: row.to_record() for row in rows}
    json.dumps(found)
    for row in rows:
        if row.experiment is not None:
            list(show._lines(row, show.to_record(row, "")))
    selection = cleaning.Selection(str(here.workspace.origin), [])
    list(cleaning.candidates(here.store, selection))
    return found


def test_no_damage_keeps_anybody_from_looking(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch, capsys
):
    commands = Commands(kept, monkeypatch)
    before = looked_at(commands)
    assert {"e-1": "done", "e-2": "failed", "e-3": "new"}.items() <= {
        n: r["state"] for n, r in before.items()
    }.items()
    assert capsys.readouterr().err == "", "nothing is wrong yet"
    store = kept.store.parent
    ways = [
        (path, name, damage)
        for path in every_record(store)
        for name, damage in damages(path)
    ]
    # A few of each kind of record: all of them take a minute (test_all_commands_…).
    for path, name, damage in random.sample(ways, 40):
        records._told.clear()
        with damaged(path, damage):
            now = looked_at(commands)
        owner = next(
            (n for n in before if f"experiments/{identity(store, n)}/" in str(path)), ""
        )
        concerned = {owner} if owner else set(before)
        for other in set(before) - concerned:
            assert now[other]["state"] == before[other]["state"], (path, name, other)
    capsys.readouterr()


def identity(store: Path, name: str) -> str:
    """Return the directory's name of an experiment."""
    for path in store.glob("experiments/save-*/run.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads(path.read_text())["name"] == name:
                return path.parent.name
    return "?"


def run_all(commands: Commands, where: object) -> None:
    """Run every command that looks, and those that would act."""
    for argv in (
        ("status",),
        ("status", "--all"),
        ("show", "e-1"),
        ("logs", "e-2"),
        ("submit", "--dry-run", "-n", "e", *SWEEP),
        ("clean", "--dry-run"),
    ):
        code, _, error = commands(*argv)
        assert code in {0, 2}, (where, argv, error)


def test_all_commands_go_on_beside_a_damaged_record(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch
):
    commands = Commands(kept, monkeypatch)
    store = kept.store.parent
    for path in random.sample(every_record(store), SAMPLE // 4):
        name, damage = random.choice(list(damages(path)))
        with damaged(path, damage):
            run_all(commands, (path, name))


@pytest.mark.long
def test_all_commands_go_on_beside_any_damaged_record(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch
):
    commands = Commands(kept, monkeypatch)
    for path in every_record(kept.store.parent):
        for name, damage in damages(path):
            with damaged(path, damage):
                looked_at(commands)
            if random.random() < 0.1:
                with damaged(path, damage):
                    run_all(commands, (path, name))


@pytest.mark.parametrize(
    "damage", ["without message", "a loop", "torn", "newer", "overrides is 'x'"]
)
def test_what_cannot_be_used_is_named_once_with_its_owner(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch, damage: str
):
    commands = Commands(kept, monkeypatch)
    path = (
        kept.store.parent
        / "experiments"
        / identity(kept.store.parent, "e-2")
        / "run.json"
    )
    with damaged(path, dict(damages(path))[damage]):
        code, out, error = commands("status", "--all")
    assert code == 0, error
    assert {"e-1", "e-3"} <= {*out.split()}, out
    told = [line for line in error.splitlines() if str(path) in line]
    assert len(told) == 1, error
    assert "belongs to root" in told[0]
    assert ("newer version of mllam-exps" in told[0]) == (damage == "newer")


def changed(path: Path, **fields: object) -> Callable[[], None]:
    """Return what changes fields of a record."""
    return functools.partial(
        _write, path, json.dumps(json.loads(path.read_text()) | fields).encode()
    )


def test_names_reach_a_terminal_without_control_characters(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch
):
    commands = Commands(kept, monkeypatch)
    path = (
        kept.store.parent
        / "experiments"
        / identity(kept.store.parent, "e-3")
        / "run.json"
    )
    with damaged(
        path,
        changed(path, name="e\x1b]0;x\x07[/b]", message="\x1b[2J", machine="m\x9b"),
    ):
        for argv in (
            ("status", "--all"),
            ("show", path.parent.name),
            ("clean", "--dry-run"),
            ("logs", path.parent.name),
        ):
            code, out, error = commands(*argv)
            assert code in {0, 2}, (argv, error)
            assert not {"\x1b", "\x07", "\x9b"} & {*out, *error}, argv
        assert "e\\x1b]0;x[/b]" in commands("show", path.parent.name)[1]


def test_an_experiment_of_a_deleted_repository_can_be_cleaned(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch
):
    commands = Commands(kept, monkeypatch)
    path = (
        kept.store.parent
        / "experiments"
        / identity(kept.store.parent, "e-1")
        / "run.json"
    )
    result = path.with_name("result.json")
    gone = kept.root.parent / "gone"

    def cleaned(*names: str) -> dict[str, str]:
        return {
            one["what"]: one["why"]
            for one in json.loads(commands("clean", "--dry-run", "--json", *names)[1])
        }

    with damaged(path, changed(path, origin=str(gone))):
        assert "experiment e-1" not in cleaned(), (
            "the repository has moved: here is its commit"
        )
        with damaged(result, changed(result, commit="1" * 40)):
            assert cleaned()["experiment e-1"] == f"its repository {gone} is gone"
    with (
        damaged(path, changed(path, origin="/not/mounted/here")),
        damaged(result, changed(result, commit="1" * 40)),
    ):
        assert "experiment e-1" not in cleaned(), "its file system may not be mounted"
        assert "experiment e-1" in cleaned("e-1"), "who names it knows"


def test_what_others_can_write_to_is_not_taken_at_its_word(
    kept: Experiment, monkeypatch: pytest.MonkeyPatch
):
    """Of an earlier version, with umask 002, say: git would run what the clone's configuration says."""
    commands = Commands(kept, monkeypatch)
    place = kept.store.parent / "experiments" / identity(kept.store.parent, "e-2")
    place.chmod(0o2775)
    try:
        code, _, error = commands("retry", "e-2")
        assert code != 0
        assert "can be written to by others" in error
        [way_out] = [
            line.removeprefix("  → ")
            for line in error.splitlines()
            if line.startswith("  → ")
        ]
        assert way_out.startswith(f"chmod -R go-w {place}")
    finally:
        place.chmod(0o755)


def test_what_is_damaged_is_made_again_by_what_is_proposed(made: Experiment):
    """A purge of old files, three ways; the clones are gone, too."""
    words = ("-n", "x", "-S", "toy.yaml:grow.seconds=0.01,0.02,0.03")
    names = ["x-1", "x-2", "x-3"]
    submit(made, *words)
    settled(made, *names)
    store = made.store.parent
    for name in names:
        place = store / "experiments" / identity(store, name)
        record = json.loads((place / "run.json").read_text())
        (place / "result.json").unlink()
        (place / "attempts/1/end.json").write_text(
            json.dumps({"outcome": "failed", "reason": "no"})
        )
        made.ok(
            "git",
            "update-ref",
            "-d",
            f"refs/exps/{record['baseline'][:2]}/{record['baseline'][2:]}/{name}",
        )
        [run] = [
            store / "runs" / step["key"]
            for step in record["steps"]
            if step["stage"] == "grow"
        ]
        if name == "x-1":
            (run / "attempts/1/manifest.json").unlink()
        elif name == "x-2":
            shutil.rmtree(run / "attempts/1")
        else:
            result = json.loads((run / "result.json").read_text())
            (run / "result.json").write_text(json.dumps(result | {"attempt": 7}))
    found = {
        row["name"]: row
        for row in json.loads(made.ok("mllam-exps", "status", "--json", stderr=None))
    }
    states = {
        name: {cell["stage"]: cell["state"] for cell in found[name]["stages"]}["grow"]
        for name in names
    }
    assert states == dict.fromkeys(names, "lost")
    done = made.command("mllam-exps", "retry", "--failed")
    assert done.returncode == 2
    assert "its clone is gone" in done.stdout
    [way_out] = [line for line in done.stdout.splitlines() if line.startswith("  → ")]
    assert "mllam-exps submit --json -n x -S" in way_out, way_out
    made.ok(*way_out.partition(": ")[2].split())
    after = settled(made, *names)
    assert {row["state"] for row in after.values() if row["name"] in names} == {"done"}
    assert made.starts() == 6
