"""The team's catalogue: what is read of a store, what is remembered of it, and whose words stand on experiments."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError, Problem, UsageError
from mllam_exps.base.ownership import user_name
from mllam_exps.catalogue import gathering, in_git, marks, query, submitted
from mllam_exps.catalogue.entries import Catalogue, Entry
from mllam_exps.catalogue.facts import Facts
from mllam_exps.catalogue.index import Index
from mllam_exps.catalogue.marks import Marked
from mllam_exps.catalogue.search import Search
from mllam_exps.commands.team import listing
from mllam_exps.commands.team.marks import not_saved
from mllam_exps.identity.definition import Input, Output, RunDefinition
from mllam_exps.runs import askers
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.results import Output as Made
from mllam_exps.runs.results import Result
from mllam_exps.runs.store import Run, RunStore

FILE = "data/training_params.yaml"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """An empty store, and a home of one's own for what is remembered."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(in_git, "kept", lambda _: iter(()))
    return RunStore(tmp_path / "store")


def train(store: RunStore, **values: Any) -> RunDefinition:
    """Return what defines a training."""
    source = Input("era5.zarr", None, "5f1abd00e9611ad529de19c8a54490b2.dir", True)
    outputs = (Output("saved_models", True), Output("metrics.json", False))
    params = {FILE: values, "version.mllam.txt": {"torch": "2.13.0"}}
    return RunDefinition("train", params, (source,), outputs)


def made(store: RunStore, definition: RunDefinition, scores: Mapping[str, Any]) -> Run:
    """Let a run have a result, with these scores."""
    run = store.run(definition.key)
    run.begin(definition)
    attempt = claimed(run)
    content = json.dumps(scores).encode()
    attempt.outputs.mkdir()
    (attempt.outputs / "metrics.json").write_bytes(content)
    outputs = {
        "saved_models": Made(md5(b"model").hexdigest() + ".dir"),
        "metrics.json": Made(md5(content).hexdigest()),
    }
    records.replace(attempt.directory / "manifest.json", {})
    run.settle(Result(1, outputs))
    return run


def claimed(run: Run):
    attempt = run.claim(
        1,
        scheduler="local",
        experiment="x",
        workspace=run.store / "experiments/save-1",
        working_directory=None,
    )
    assert attempt is not None
    return attempt


def submit(
    store: RunStore, number: int, definition: RunDefinition, **fields: Any
) -> Path:
    """Write down a submitted experiment of one training; return its folder."""
    folder = store.folder("experiments") / f"save-{number:032x}"
    folder.mkdir()
    record = {
        "name": f"wide-{number}",
        "origin": "/home/lena/experiments",
        "prefix": "",
        "baseline": "a" * 40,
        "overrides": {FILE: []},
        "command": ["mllam-exps", "submit"],
        "message": "",
        "machine": "levante",
        "uid": os.getuid(),
        "created": 1.79e9 + number,
        "steps": [{"stage": "train", "key": definition.key, "needs": []}],
        "stages": ["train"],
    }
    records.replace(folder / "run.json", record | fields)
    return folder


def save(folder: Path, commit: str) -> None:
    """Let an experiment be saved."""
    Run(folder).settle(Result(1, commit=commit))


def look(store: RunStore, tmp_path: Path) -> Catalogue:
    return gathering._Gathering(tmp_path, store, None, lambda _: None).catalogue()


def found(catalogue: Catalogue, text: str) -> list[str]:
    """Return the names of the experiments that a query fits."""
    return sorted(
        one.facts.name for one in Search(catalogue).fitting(query.parse(text))
    )


def test_everybody_s_experiments_are_found_by_what_they_were_made_with_and_became(
    store: RunStore, tmp_path: Path
):
    for number, rmse in ((1, 1.5), (2, 0.5)):
        definition = train(store, hidden_dim=64 * number, lr=1e-3)
        made(store, definition, {"rmse": {"t2m": {"24h": rmse}}})
        save(submit(store, number, definition), f"{number:040x}")
    set_to = {FILE: ["hidden_dim=128", "+lr=2e-3", "loss=mae", "a=[1,2]"]}
    submit(store, 3, train(store, hidden_dim=128, lr=2e-3), overrides=set_to)
    catalogue = look(store, tmp_path)
    assert found(catalogue, "hidden_dim=128 and rmse.t2m.24h<1") == ["wide-2"]
    assert found(catalogue, "t2m.24h>0") == ["wide-1", "wide-2"]
    assert found(catalogue, "state=waits and lr=0.002 and loss=mae") == ["wide-3"], (
        "nothing has begun it: what was typed is known of it"
    )
    assert found(catalogue, "data~era5 and torch=2.13.0") == ["wide-1", "wide-2"]
    assert found(catalogue, "machine=levante and origin~lena and commit~0002") == [
        "wide-2"
    ]
    search = Search(catalogue)
    [wide2, wide1, wide3] = search.ordered(
        catalogue.entries, search.whole("24h"), turned=False
    )
    assert [one.facts.name for one in (wide2, wide1, wide3)] == [
        "wide-2",
        "wide-1",
        "wide-3",
    ]
    assert search.ordered(catalogue.entries, "date", turned=False)[0] is wide3


def test_columns_that_are_asked_for_come_first_and_what_waits_differs_in_none(
    store: RunStore, tmp_path: Path
):
    for number, rmse in ((1, 1.5), (2, 0.5)):
        definition = train(store, hidden_dim=64, loss="mae", lr=number, epochs=8)
        made(store, definition, {"rmse": {"t2m": {"24h": rmse}}, "epochs": 8})
        save(submit(store, number, definition), f"{number:040x}")
    waiting = train(store, hidden_dim=8, loss="mae", lr=1, epochs=8)
    submit(store, 3, waiting, overrides={FILE: ["hidden_dim=8"]})
    search = Search(look(store, tmp_path))

    def columns(width: int, *names: str) -> tuple[list[str], list[str]]:
        shown = search.catalogue.entries
        named = [search.whole(name) for name in names]
        drawn, left_out = listing._that_fit(search, shown, named, width)
        return [one.heading for one in drawn], left_out

    every = ["experiment", "person", "date", "state", "hidden_dim", "lr"]
    assert columns(200) == ([*every, "rmse.t2m.24h"], [])
    drawn, left_out = columns(60, "lr", "t2m.24h")
    assert drawn[:3] == ["experiment", "lr", "rmse.t2m.24h"]
    assert left_out[0] in {"person", "date"}
    assert left_out[-1] == "1 more column in which they differ"
    drawn, left_out = columns(20, "state", "lr")
    assert (drawn[0], left_out[0]) == ("experiment", "state")


def test_what_is_remembered_counts_only_as_long_as_nothing_has_changed(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mllam_exps.catalogue.entries.WORTH_WRITING", 1)
    odd = {"big": 10**400, "nan": float("nan"), "yes": True, "no": None, "s": "\1x"}
    definition = train(store, hidden_dim=8)
    made(store, definition, {"rmse": 1.5, **odd})
    folder = submit(store, 1, definition)
    save(folder, "1" * 40)
    first = look(store, tmp_path)
    assert [one.number for one in first.entries] == [None]
    values = first.values(first.entries)
    first.remember()

    def refuse(*_: object) -> None:
        raise AssertionError("it is remembered")

    with monkeypatch.context() as patched:
        patched.setattr(submitted, "read", refuse)
        again = look(store, tmp_path)
        assert found(again, "rmse=1.5 and hidden_dim=8 and yes=true and no=null") == [
            "wide-1"
        ]
        assert repr(again.values(again.entries)) == repr(values)
        assert replace(again.entries[0].facts, values={}) == replace(
            first.entries[0].facts, values={}
        )
    # In place, with its times put back: whoever owns it could do that.
    before = (folder / "run.json").stat()
    (folder / "run.json").write_text(
        (folder / "run.json").read_text().replace("wide-1", "deep-1")
    )
    os.utime(folder / "run.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(look(store, tmp_path), "rmse=1.5") == ["deep-1"]
    look(store, tmp_path).remember()
    halved = Index(store.directory).path
    opened = look(store, tmp_path)
    assert opened.entries[0].number is not None
    halved.write_bytes(halved.read_bytes()[: 4096 * 3])
    with pytest.raises(MllamError, match="damaged, and is removed"):
        (
            opened.names(),
            opened.column("metrics.json:rmse"),
            opened.values(opened.entries),
        )
    assert not halved.exists()
    halved.write_bytes(b"SQLite format 3\0 no more")
    assert found(look(store, tmp_path), "rmse=1.5") == ["deep-1"], "damage is nothing"


def test_what_failed_is_remembered_until_somebody_tries_it_again(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mllam_exps.catalogue.entries.WORTH_WRITING", 1)
    definition = train(store, hidden_dim=8)
    run = store.run(definition.key)
    run.begin(definition)
    claimed(run).end(Outcome.FAILED, Problem("loss is NaN"))
    submit(store, 1, definition)
    first = look(store, tmp_path)
    assert found(first, "state=failed and hidden_dim=8") == ["wide-1"]
    first.remember()
    assert look(store, tmp_path).entries[0].number is not None
    between = submitted._add_state

    def gone_on_with(*given: Any) -> bool:
        run.claim(
            2,
            scheduler="local",
            experiment="x",
            workspace=tmp_path,
            working_directory=None,
        )
        return between(*given)

    with monkeypatch.context() as patched:
        patched.setattr(submitted, "_add_state", gone_on_with)
        patched.setattr(Index, "entries", lambda _: {})
        assert look(store, tmp_path).fresh == {}, "it was looked at before that"
    made_again = run.claim(
        3, scheduler="local", experiment="x", workspace=tmp_path, working_directory=None
    )
    assert made_again is not None
    assert look(store, tmp_path).entries[0].number is None
    assert found(look(store, tmp_path), "state=failed") == []


def test_a_result_that_was_made_again_since_is_not_the_one_that_was_saved(
    store: RunStore, tmp_path: Path
):
    definition = train(store, hidden_dim=8)
    run = made(store, definition, {"rmse": 1.5})
    folder = submit(store, 1, definition)
    save(folder, "1" * 40)
    later = (folder / "result.json").stat().st_mtime + 10
    os.utime(run.directory / "result.json", (later, later))
    [entry] = look(store, tmp_path).entries
    assert "metrics.json:rmse" not in entry.facts.values
    assert entry.facts.values[f"{FILE}:hidden_dim"] == 8


def test_scores_that_are_not_what_was_made_are_none(store: RunStore, tmp_path: Path):
    definition = train(store, hidden_dim=8)
    run = made(store, definition, {"rmse": 1.5})
    submit(store, 1, definition)
    scores = run.directory / "attempts/1/outputs/metrics.json"
    scores.chmod(0o644)
    scores.write_text('{"rmse": 0.1}')
    [entry] = look(store, tmp_path).entries
    assert "metrics.json:rmse" not in entry.facts.values


@pytest.mark.parametrize(
    "broken",
    [
        {"steps": [{"stage": "train", "key": "no key", "needs": []}]},
        {"name": 3},
        {"overrides": {"a": [1]}},
        {"created": "soon"},
    ],
)
def test_a_broken_record_is_a_line_and_the_rest_goes_on(
    store: RunStore, tmp_path: Path, broken: dict[str, Any], capsys
):
    definition = train(store, hidden_dim=8)
    submit(store, 1, definition)
    submit(store, 2, definition, **broken)
    (store.directory / "experiments/save-nonsense").mkdir()
    assert [one.facts.name for one in look(store, tmp_path).entries] == ["wide-1"]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert f"save-{2:032x}" in told[0]


def test_a_definition_that_makes_no_sense_is_a_line(
    store: RunStore, tmp_path: Path, capsys
):
    nonsense = RunDefinition("train", {FILE: 3}, (), ())  # type: ignore[dict-item]
    store.run(nonsense.key).begin(nonsense)
    submit(store, 1, nonsense)
    submit(store, 2, train(store, hidden_dim=8))
    assert [one.facts.name for one in look(store, tmp_path).entries] == ["wide-2"]
    assert "makes no sense" in capsys.readouterr().err


def test_what_dvc_exp_run_ran_is_there_until_git_has_it(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = made(store, train(store, hidden_dim=8), {"rmse": 1.5})
    askers.note(run, "byhand", tmp_path)
    askers.note(run, "workspace", tmp_path)
    catalogue = look(store, tmp_path)
    assert found(catalogue, "hidden_dim=8 and state=done") == ["byhand"]
    assert not catalogue.entries[0].can_be_marked
    theirs = Facts("byhand", "A. Author", "done", 1.0, commit="c" * 40)
    theirs.outs = dict(catalogue.entries[0].facts.outs)
    kept = in_git.Kept(tmp_path, "byhand", "c" * 40)
    monkeypatch.setattr(in_git, "kept", lambda _: iter([kept]))
    monkeypatch.setattr(gathering, "_read_commits", lambda *_: {"c" * 40: theirs})
    [entry] = look(store, tmp_path).entries
    assert (entry.identity, entry.facts.person) == ("c" * 40, askers.owner_of(tmp_path))
    theirs.outs = {"metrics.json": "0" * 32}
    assert len(look(store, tmp_path).entries) == 2, "it is another one of that name"


def test_a_commit_is_not_a_colleague_s_whose_record_names_it(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    good, commit = train(store, hidden_dim=8), "c" * 40
    run = made(store, good, {"rmse": 1.5})
    result = run.result
    assert result is not None
    outs = {path: out.digest for path, out in result.outputs.items()}
    save(submit(store, 1, good), commit)
    better = train(store, hidden_dim=512)
    made(store, better, {"rmse": 0.1})
    save(submit(store, 2, better), commit)

    def owner(place: str) -> str:
        return "lena" if place.endswith("1") else "mallory"

    monkeypatch.setattr(submitted, "_owner", owner)
    [first, second] = look(store, tmp_path).entries
    assert (first.facts.commit, second.facts.commit) == (commit, "")
    assert f"says that it is saved as {commit[:7]}" in capsys.readouterr().err
    # Without Lena's record in the store, but with the commit that she has pushed.
    (store.directory / "experiments" / first.identity / "run.json").unlink()
    values = {f"{FILE}:hidden_dim": 8, "metrics.json:rmse": 1.5}
    theirs = Facts("wide-1", "Lena", "done", 1.0, commit, outs=outs, values=values)
    kept = in_git.Kept(tmp_path, "wide-1", commit)
    monkeypatch.setattr(in_git, "kept", lambda _: iter([kept]))
    monkeypatch.setattr(gathering, "_read_commits", lambda *_: {commit: theirs})
    assert found(look(store, tmp_path), f"commit={commit} and rmse=1.5") == ["wide-1"]
    assert found(look(store, tmp_path), f"commit={commit} and rmse<1") == []
    copied = submit(store, 3, better, name="wide-1")
    save(copied, commit)
    fake = store.run(better.key).directory / "result.json"
    record = json.loads(fake.read_text())
    record["outputs"] = {path: {"digest": digest} for path, digest in outs.items()}
    fake.write_text(json.dumps(record))
    assert found(look(store, tmp_path), f"commit={commit} and hidden_dim=512") == []


def test_tags_and_notes_are_everybody_s_to_see_and_one_s_own_to_change(
    store: RunStore, tmp_path: Path
):
    definition = train(store, hidden_dim=8)
    made(store, definition, {})
    folder = submit(store, 1, definition)
    one = look(store, tmp_path).entries[0].marked
    marks.add(store, [one], tags=["best", "best"], note="looks good")
    marks.add(store, [one], tags=["best"])
    [own] = (store.directory / "marks").iterdir()
    theirs = store.directory / "marks" / "1.json"
    forged = [{"experiment": one.experiment, "tag": "bad", "at": 1.0, "owner": "x"}]
    forged.append({"experiment": one.experiment, "tag": "\x1b[2J", "at": 1.0})
    records.replace(theirs, {"marks": forged})
    os.chown(theirs, 54321, -1) if os.geteuid() == 0 else None
    save(folder, "1" * 40)
    [entry] = look(store, tmp_path).entries
    me = askers.owner_of(own)
    assert [(mark.tag, mark.owner) for mark in entry.tags] == [
        ("bad", "54321" if os.geteuid() == 0 else me),
        ("best", me),
    ]
    assert [mark.note for mark in entry.notes] == ["looks good"]
    assert found(look(store, tmp_path), "tag=best and note~good") == ["wide-1"]
    assert marks.remove(store, [entry.marked], tags=["best", "bad"], notes=False) == 1
    assert [mark.tag for mark in look(store, tmp_path).entries[0].tags] == ["bad"]


def test_tags_that_cannot_be_read_are_not_replaced(store: RunStore, tmp_path: Path):
    one = Marked("1" * 40, "1" * 40, "wide")
    marks.add(store, [one], tags=["best"])
    [own] = (store.directory / "marks").iterdir()
    own.write_text("{")
    with pytest.raises(MllamError, match="cannot be read"):
        marks.add(store, [one], tags=["good"])
    assert own.read_text() == "{"
    for word in ("", "a b", "-x", "x\n", "\x1b"):
        with pytest.raises(UsageError):
            marks.check_tag(word)


def test_whose_folder_keeps_one_from_writing_tags_is_said(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: Path, _record: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(records, "replace", refuse)
    with pytest.raises(MllamError) as refused:
        marks.add(store, [Marked("one", "", "one")], tags=["best"])
    assert "it is" in refused.value.problem.why
    assert refused.value.problem.next.startswith("have its owner let you in")


def test_an_experiment_is_marked_by_its_commit_in_another_store(store: RunStore):
    before = Marked("save-1", "c" * 40, "wide")
    marks.add(store, [before], tags=["best"])
    [mark] = marks.all_marks(store)
    assert Marked("c" * 40, "c" * 40, "other name").is_meant_by(mark)
    assert not Marked("save-2", "", "wide").is_meant_by(mark)
    assert Entry("asked-1", Facts("wide", "me", "done", 1.0)).can_be_marked is False


def test_of_what_is_not_saved_it_is_said_who_types_what_and_where(
    tmp_path: Path,
):
    me = user_name(os.getuid())
    cases = {
        (me, str(tmp_path)): (
            "wide is not saved yet",
            "type the same again when dvc exp run has ended: it saves it then",
        ),
        (me, "/my/other clone"): (
            "wide is not saved, or not pushed",
            "type in '/my/other clone', once it is saved: mllam-exps push wide",
        ),
        ("anna", "/theirs"): (
            "wide is not saved, or not pushed",
            "ask anna to type in /theirs, once it is saved: mllam-exps push wide",
        ),
    }
    for (person, origin), told in cases.items():
        facts = Facts("wide", person, "running", 1.0, origin=origin)
        problem = not_saved(facts, tmp_path).problem
        assert (problem.what, problem.next) == told


@pytest.mark.parametrize("at_work", [True, False])
def test_between_two_stages_the_newest_of_a_clone_is_running(
    monkeypatch: pytest.MonkeyPatch, at_work: bool
):
    monkeypatch.setattr(gathering, "is_reproduced", lambda _: at_work)
    facts = {
        "old": Facts("old", "me", "done", 1.0, origin="/here"),
        "new": Facts("new", "me", "done", 2.0, origin="/here"),
        "his": Facts("his", "he", "done", 3.0, origin="/there"),
    }
    entries = [Entry(f"asked-{name}", one) for name, one in facts.items()]
    gathering._have_one_under_way(entries, Path("/here"))
    word = "running" if at_work else "done"
    assert [one.facts.state for one in entries] == ["done", word, "done"]
    assert facts["new"].state == "done", "what is remembered stays"
