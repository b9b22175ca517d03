"""What the commit of an experiment holds: results that its own files give, and those left from before it.

And what the commands that read tell of such an experiment: the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dvc.scm import Git

from mllam_exps.base import records
from mllam_exps.base.errors import UsageError
from mllam_exps.commands.reading import compare, report, scores, show
from mllam_exps.dvc import repository as dvc
from mllam_exps.dvc.saved import holdings
from mllam_exps.dvc.saved.commits import Commit
from mllam_exps.dvc.saved.differences import Difference
from mllam_exps.dvc.saved.holdings import Holding
from mllam_exps.identity.definition import Input, Output, RunDefinition
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import parents
from mllam_exps.runs import askers, layout
from mllam_exps.runs.results import Output as Made
from mllam_exps.runs.results import Result
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.stages.neural_lam.evaluate import SCORES
from mllam_exps.views import gathering
from mllam_exps.views.context import Context

MADE, GROWN, TOLD = "1" * 32, "2" * 32 + ".dir", "3" * 32


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def listed(**files: str) -> str:
    """Return the digest of a folder with these Python files."""
    of_files = [{"md5": md5(text), "relpath": f"{n}.py"} for n, text in files.items()]
    return md5(json.dumps(of_files, sort_keys=True)) + ".dir"


def item(path: str, digest: str) -> dict[str, str]:
    return {"path": path, "hash": "md5", "md5": digest}


def dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False)


def pipeline() -> dict[str, Any]:
    return {
        "make": {
            "cmd": "python make.py",
            "deps": ["lib", "make.py", "outside"],
            "params": [{"p.yaml": ["make"]}],
            "outs": ["made"],
        },
        "grow": {
            "cmd": "python grow.py",
            "deps": ["made"],
            "params": [{"p.yaml": ["grow.rate"]}],
            "outs": ["grown"],
        },
        "tell": {"cmd": "tell", "deps": ["grown/a.txt"], "outs": ["told"]},
    }


def lock() -> dict[str, Any]:
    return {
        "make": {
            "cmd": "python make.py",
            "deps": [
                item("lib", listed(a="a\n", b="b\n")),
                item("make.py", md5("make\n")),
                item("outside", "9" * 32),
            ],
            "params": {"p.yaml": {"make": {"size": 3, "kind": {"of": "x"}}}},
            "outs": [item("made", MADE)],
        },
        "grow": {
            "cmd": "python grow.py",
            "deps": [item("made", MADE)],
            "params": {"p.yaml": {"grow.rate": 1}},
            "outs": [item("grown", GROWN)],
        },
        "tell": {
            "cmd": "tell",
            "deps": [item("grown/a.txt", "4" * 32)],
            "outs": [item("told", TOLD)],
        },
    }


class Repository:
    """A repository of git's, and of DVC's as far as DVC has to read it."""

    def __init__(self, top: Path, below: str) -> None:
        self.top, self.root = top, top / below
        (self.root / ".dvc").mkdir(parents=True)
        (self.root / ".dvc/config").write_text(
            "[core]\n    no_scm = false\n" if not below else ""
        )
        self.git("init", "-q")
        self.pipeline, self.lock = pipeline(), lock()
        self.write("lib/a.py", "a\n")
        self.write("lib/b.py", "b\n")
        self.write("make.py", "make\n")
        values = {"make": {"size": 3, "kind": {"of": "x"}}, "grow": {"rate": 1}}
        self.write("p.yaml", yaml.safe_dump(values))

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", "-C", str(self.top), *who, *words],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(text.encode())

    def commit(self) -> Commit:
        self.write("dvc.yaml", dump({"stages": self.pipeline}))
        self.write("dvc.lock", dump({"schema": "2.0", "stages": self.lock}))
        self.git("add", "-A")
        self.git("commit", "-qm", "An experiment")
        return Commit(self.root, self.git("rev-parse", "HEAD"))

    def save(self, name: str) -> None:
        """Commit it as DVC's experiment of that name."""
        self.git(
            "update-ref",
            f"refs/exps/{'0' * 2}/{'0' * 38}/{name}",
            self.commit().revision,
        )

    def holding(self) -> Holding:
        found = holdings.of(self.commit())
        assert found is not None
        return found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "here", "")


def made_again(here: Repository) -> None:
    here.lock["make"]["outs"] = [item("made", "5" * 32)]


def rate(value: float) -> Callable[[Repository], None]:
    values = {"make": {"size": 3, "kind": {"of": "x"}}, "grow": {"rate": value}}
    return lambda here: here.write("p.yaml", yaml.safe_dump(values))


def size(here: Repository) -> None:
    values = {"make": {"size": 4, "kind": {"of": "y"}}, "grow": {"rate": 1}}
    here.write("p.yaml", yaml.safe_dump(values))


def other_command(here: Repository) -> None:
    here.pipeline["grow"]["cmd"] = "python other.py"


def never_run(here: Repository) -> None:
    del here.lock["make"]


ALL = ["make", "grow", "tell"]
CASES: dict[str, tuple[Callable[[Repository], None], dict[str, str]]] = {
    "nothing": (lambda _: None, {}),
    "a stage that nobody asked for": (lambda here: here.write("new.py", "new\n"), {}),
    "a file that git does not keep": (
        lambda here: (here.root / "p.yaml").unlink(),
        {},
    ),
    "a target": (made_again, {"grow": "made", "tell": "grown/a.txt"}),
    "a file": (
        lambda here: here.write("make.py", "other\n"),
        {"make": "make.py", "grow": "made", "tell": "grown/a.txt"},
    ),
    "a file in a folder": (
        lambda here: here.write("lib/b.py", "other\n"),
        {"make": "lib", "grow": "made", "tell": "grown/a.txt"},
    ),
    "a parameter": (rate(2), {"grow": "p.yaml: grow.rate", "tell": "grown/a.txt"}),
    "its type": (rate(1.0), {"grow": "p.yaml: grow.rate", "tell": "grown/a.txt"}),
    "two of a section": (
        size,
        {
            "make": "p.yaml: make.kind.of, p.yaml: make.size",
            "grow": "made",
            "tell": "grown/a.txt",
        },
    ),
    "a command": (other_command, {"grow": "its command", "tell": "grown/a.txt"}),
    "what it reads was never made": (
        never_run,
        {"grow": "made", "tell": "grown/a.txt"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_result_of_other_inputs_is_none_of_the_commit_s(
    repository: Repository, case: str
):
    change, left = CASES[case]
    change(repository)
    found = repository.holding()
    told = "its result in dvc.lock was made with other inputs"
    assert found.left == {stage: f"{told} ({why})" for stage, why in left.items()}
    assert [*found.own] == [
        stage for stage in ALL if stage in repository.lock and stage not in left
    ]


def test_what_is_found_is_remembered_with_the_parameters_that_count(
    repository: Repository,
):
    made_again(repository)
    commit = repository.commit()
    found = holdings.of(commit)
    assert found is not None
    make = {"p.yaml": {"make": {"size": 3, "kind": {"of": "x"}}}}
    assert found.own == {"make": make}
    # `tell` was not made anew, but it has all that it reads.
    assert found.behind == ["tell"]
    # The cache does not list the folder of which `tell` reads a part: another time it may.
    memory = repository.root / ".dvc/tmp" / holdings.FOLDER
    assert not memory.exists()
    repository.lock["tell"]["deps"] = [item("grown", GROWN)]
    repository.pipeline["tell"]["deps"] = ["grown"]
    commit = repository.commit()
    found = holdings.of(commit)
    [place] = memory.iterdir()
    assert place.stem == commit.revision
    assert Holding.remembered(place) == found


def test_a_checkout_may_hold_something_else_than_git_keeps(repository: Repository):
    """Line ends, here; git-lfs, elsewhere."""
    repository.write(".gitattributes", "*.py text eol=crlf\n")
    deps = repository.lock["make"]["deps"]
    deps[0] = item("lib", listed(a="a\r\n", b="b\r\n"))
    deps[1] = item("make.py", md5("make\r\n"))
    assert [*repository.holding().own] == ALL


def test_a_repository_of_dvc_s_may_be_a_part_of_git_s(tmp_path: Path):
    here = Repository(tmp_path / "here", "part")
    rate(2)(here)
    found = here.holding()
    assert [*found.own] == ["make"]
    assert found.own["make"]["p.yaml"]["make"]["size"] == 3


def test_nothing_goes_on_from_a_result_of_other_inputs(repository: Repository):
    repository.save("whole")
    rate(2)(repository)
    commit = repository.commit()
    refuse = parents._refuse_what_is_left
    refuse("p.yaml: source", "part", commit, "make")
    refuse(
        "p.yaml: source", "part", commit, "tell"
    )  # it may have run on what lay there
    with pytest.raises(UsageError) as caught:
        refuse("p.yaml: source", "part", commit, "grow")
    assert str(caught.value) == (
        "p.yaml: source: part holds no result of stage grow of its own:"
        " its result in dvc.lock was made with other inputs (p.yaml: grow.rate)\n"
        "  → the same result is in HEAD, whole; mllam-exps show EXP tells which of them made it"
    )


@pytest.fixture
def here(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Context, "store", RunStore(tmp_path / "store"))
    workspace = Workspace(repository.root, repository.root, "workspace", "")
    return Context(workspace, None)  # type: ignore[arg-type]


def run_of(
    here: Context,
    stage: str,
    made: str = "",
    size: int = 3,
    needs: Run | None = None,
    asked_by: str = "",
    at: float = 0.0,
) -> Run:
    """Return a run that is done, if it made something, asked for by an experiment of `dvc exp run`."""
    params = {"p.yaml": {"make": {"size": size, "kind": {"of": "x"}}}}
    definition = RunDefinition(
        stage=stage,
        params=params if stage == "make" else {"p.yaml": {"grow.rate": size}},
        inputs=(Input("made", needs.key, None, tracked=True),) if needs else (),
        outputs=(Output("made" if stage == "make" else "grown", cached=True),),
    )
    run = here.store.run(definition.key)
    run.begin(definition)
    if made:
        attempt = run.claim(
            1,
            scheduler="local",
            experiment="",
            workspace=here.workspace.root,
            working_directory=None,
        )
        assert attempt is not None
        records.replace(attempt.directory / layout.MANIFEST, {})
        [output] = definition.outputs
        assert run.settle(Result(1, {output.path: Made(made)}))
    if asked_by:
        ask(here, run, asked_by, at)
    return run


def ask(here: Context, run: Run, name: str, at: float) -> None:
    askers.note(run, name, here.workspace.origin)
    for path in (run.directory / layout.ASKED).iterdir():
        asked = records.read(path)
        if asked and asked["experiment"] == name:
            os.utime(path, (at, at))


def told(here: Context, name: str) -> dict[str, str]:
    """Return the word of each stage of an experiment, in which `status` and `show` agree."""
    [row] = [
        row for row in gathering.gather(here, [], everything=True) if row.name == name
    ]
    found = {stage: row.word(stage) for stage in [*row.cells, *row.left]}
    record, _ = show._look(here, name)
    assert record["state"] == row.to_record()["state"] != "done" or not row.left
    assert [one["key"] for one in record["stages"]] == [
        cell.run.key for cell in row.cells.values()
    ]
    assert record["left"] == row.to_record()["left"]
    return found


def test_what_an_experiment_did_not_run_is_not_told_as_its_own(
    repository: Repository, here: Context
):
    """`dvc exp run -n part make`, where `grow` was run before."""
    before = run_of(here, "make", "8" * 32, size=2, asked_by="whole")
    run_of(here, "grow", GROWN, needs=before, asked_by="whole")
    run_of(here, "make", MADE, asked_by="part")
    repository.lock["grow"]["deps"] = [item("made", "8" * 32)]
    repository.save("part")
    assert told(here, "part") == {"make": "done", "grow": "not run", "tell": "not run"}
    assert show._look(here, "part")[0]["state"] == "incomplete"
    [*_, last] = show._look(here, "part")[1]
    assert (
        last
        == "tell        not run: its result in dvc.lock was made with other inputs (grown/a.txt)"
    )
    assert [*here.asked_for_by("part")] == ["make"]


def test_a_name_that_is_used_again_keeps_nothing_of_the_first_time(
    repository: Repository, here: Context
):
    first = run_of(here, "make", "8" * 32, size=2, asked_by="exp", at=10.0)
    run_of(here, "grow", GROWN, needs=first, asked_by="exp", at=20.0)
    assert told(here, "exp") == {"make": "done", "grow": "done"}
    second = run_of(here, "make", MADE, asked_by="exp", at=30.0)
    assert told(here, "exp") == {"make": "done"}
    # As before it is saved, so afterwards; what it asks for then is told again.
    repository.lock["grow"]["deps"] = [item("made", "8" * 32)]
    repository.save("exp")
    assert told(here, "exp") == {
        "make": "done",
        "grow": "other inputs",
        "tell": "not run",
    }
    third = run_of(
        here, "grow", size=7, needs=second, asked_by="exp", at=time.time() + 60
    )
    now = here.not_submitted("exp")
    assert (now.runs["grow"], [*now.left]) == (third, ["tell"])


def test_what_dvc_knew_is_told_by_the_run_that_has_these_parameters(
    repository: Repository, here: Context
):
    """DVC's run cache (3.67) takes no notice of what is called ``size``."""
    run_of(here, "make", MADE, size=2)
    repository.save("exp")
    assert told(here, "exp") == {"make": "not run"}
    [*_, last] = show._look(here, "exp")[1]
    assert last.endswith(
        "was made with another p.yaml: make.size, which DVC's run cache overlooks"
    )
    run_of(here, "make", MADE, size=3)
    assert told(here, "exp") == {"make": "done"}


def test_what_an_experiment_has_not_made_is_neither_compared_nor_reported(
    repository: Repository, capsys: pytest.CaptureFixture[str]
):
    grown, scores = "grown.json", "verification"
    for stage, out in (("grow", grown), ("tell", scores)):
        repository.lock[stage]["outs"] = [item(out, TOLD)]
    del repository.pipeline["grow"]["outs"]
    repository.pipeline["grow"]["metrics"] = [{grown: {"cache": False}}]
    repository.pipeline["tell"] |= {"deps": [grown], "outs": [scores]}
    repository.lock["tell"]["deps"] = [item(grown, TOLD)]
    repository.write(grown, '{"rmse": {"t2m": 1.5}}')
    whole = repository.commit()
    rate(2)(repository)
    part = repository.commit()
    assert [*holdings.left_outputs(part)] == [grown, scores]
    opened = dvc.Repository.open(repository.root, check=False)
    sides = {whole.revision: whole, part.revision: part}
    found = list(compare._scores(opened, ("whole", "part"), sides))
    assert found == [Difference(grown, "rmse.t2m", 1.5, None)], "it is the same in both"
    why = "its result in dvc.lock was made with other inputs (p.yaml: grow.rate)"
    assert capsys.readouterr().err == f"note: part: {grown} is left out: grow: {why}\n"
    assert report._refuse_what_is_left("whole", whole) == {}
    with pytest.raises(UsageError, match="part has no scores of its own") as caught:
        report._refuse_what_is_left("part", part)
    assert caught.value.next == "dvc exp apply part, then dvc exp run"


def test_scores_of_other_parameters_than_lie_here_are_told_as_such(
    repository: Repository,
):
    """As after `dvc exp apply` of an experiment that evaluated nothing."""
    repository.pipeline["tell"]["outs"] = [SCORES]
    repository.lock["tell"]["outs"] = [item(SCORES, TOLD)]
    repository.commit()
    assert scores._of_others(repository.root) == ""
    rate(2)(repository)
    why = "its result in dvc.lock was made with other inputs (grown/a.txt)"
    assert scores._of_others(repository.root) == f"tell: {why}"


@pytest.mark.parametrize(
    "kind", ["update-index --split-index", "sparse-checkout set --cone --sparse-index"]
)
def test_a_commit_is_not_read_where_dvc_would_wait_for_ever(tmp_path: Path, kind: str):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").touch()
    commands = f"git init -q && git add a && git commit -qm A && git {kind}"
    subprocess.run(commands, shell=True, cwd=tmp_path, check=True)
    opened: Any = SimpleNamespace(root_dir=str(tmp_path), scm=Git(str(tmp_path)))
    with (
        pytest.raises(UsageError, match="cannot read git's index") as told,
        dvc.Repository(opened).at("HEAD"),
    ):
        pass
    assert told.value.next
    subprocess.run(told.value.next, shell=True, cwd=tmp_path, check=True)
    dvc.Repository(opened).refuse_unreadable_index()
