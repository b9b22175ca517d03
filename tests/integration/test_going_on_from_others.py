"""A training goes on from another experiment's: named, found by itself, fetched, adopted, or refused."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.experiment import TOY, Experiment, environment


@pytest.fixture(scope="module")
def grown_once(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy experiment with `first`, grown for three epochs, saved by DVC."""
    home = tmp_path_factory.mktemp("grown")
    root = shutil.copytree(made_once, home / "toy", symlinks=True)
    toy = Experiment(Path(root), environment(home / "h") | {"PYTHONPATH": str(TOY)})
    toy.ok("dvc", "exp", "run", "-q", "-n", "first")
    toy.ok("git", "checkout", "-q", ".")
    return toy.root


@pytest.fixture
def grown(grown_once: Path, tmp_path: Path, environ: dict[str, str]) -> Experiment:
    root = shutil.copytree(grown_once, tmp_path / "toy", symlinks=True)
    return Experiment(Path(root), environ)


def settings(**values: Any) -> list[str]:
    words = [f"toy.yaml:{key}={value}" for key, value in values.items()]
    return [word for each in words for word in ("-S", each)]


def submitted(toy: Experiment, name: str, *words: str) -> str:
    """Submit an experiment of the second stage, and wait for it."""
    said = toy.ok("mllam-exps", "submit", "-n", name, *words, "grow")
    toy.command("mllam-exps", "status", "--watch")
    return said


def saved(toy: Experiment, name: str, path: str) -> str:
    ref = toy.ok(
        "git", "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}"
    )
    return toy.ok("git", "show", f"{ref.strip()}:{path}")


def state(toy: Experiment, name: str) -> dict[str, Any]:
    """Return what `grow` left for a saved experiment."""
    lock = yaml.safe_load(saved(toy, name, "dvc.lock"))
    digest = lock["stages"]["grow"]["outs"][0]["md5"]
    cache = toy.root / ".dvc/cache/files/md5"
    listed = json.loads((cache / digest[:2] / digest[2:]).read_text())
    file = next(one["md5"] for one in listed if one["relpath"] == "state.json")
    return json.loads((cache / file[:2] / file[2:]).read_text())


def refused(toy: Experiment, *words: str) -> str:
    """Return what is said of a submission that is refused: nothing is submitted."""
    before = len(toy.runs("grow"))
    done = toy.command("mllam-exps", *words)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    assert len(toy.runs("grow")) == before
    return done.stdout


def test_it_goes_on_and_says_from_what(grown: Experiment):
    done = grown.ok(
        "mllam-exps", "resume", "first", "-n", "more", *settings(**{"grow.epochs": 5})
    )
    assert "$ dvc exp run -S" in done
    first, more = state(grown, "first"), state(grown, "more")
    assert more["epochs"] == 5
    assert more["starts"][:-1] == first["starts"]  # it began where that ended
    said = yaml.safe_load(saved(grown, "more", "version.mllam.txt"))
    assert list(said["resume_from"]["grow"]["files"]) == ["grown/state.json"]
    assert said["resume_from"]["grow"]["named"] == "first"
    drawn = grown.ok("mllam-exps", "show", "first", "--lineage")
    assert "grow of first: done" in drawn
    assert "── grow of more (grow.epochs: 5): done" in drawn
    # DVC sees it, too, and a name that is forgotten changes nothing.
    grown.ok("dvc", "exp", "rm", "first")
    told = grown.ok("dvc", "repro", "grow")
    assert "there is no first here; what was found there last counts" in told
    assert "Stage 'grow' didn't change" in told
    # But it counts for that name alone, and for what it was held to: a parameter of
    # `make`, too, which is the size of what `grow` goes on with.
    for changed in ({"source": "other"}, {"grow__epochs": 6}, {"make__size": 7}):
        grown.ok("git", "checkout", "-q", "HEAD", "--", "toy.yaml")
        grown.set("toy.yaml", **({"source": "first", "grow__epochs": 5} | changed))
        said = grown.command("dvc", "repro", "grow").stdout
        assert "there is no experiment, no revision and no checkpoint" in said


def test_submitted_and_under_another_name_of_the_same(grown: Experiment):
    ref = grown.ok("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/first")
    grown.ok("git", "tag", "v1", ref.strip())
    more = settings(**{"grow.epochs": 4})
    submitted(grown, "a", *settings(source="first"), *more)
    said = submitted(grown, "b", *settings(source="v1"), *more)
    assert "known" in said  # what it goes on from counts, and not its name
    assert state(grown, "a")["epochs"] == 4
    assert len(state(grown, "b")["starts"]) == 2
    submitted(grown, "c", *settings(source="first", cold="true"))
    assert (state(grown, "c")["epochs"], len(state(grown, "c")["starts"])) == (3, 2)


def test_a_failed_one_goes_on_from_its_own_checkpoint(grown: Experiment):
    grown.set(
        "toy.yaml", grow__epochs=6, grow__at=4, grow__do="raise", grow__once=False
    )
    grown.ok("mllam-exps", "submit", "-n", "x", *settings(source="first"), "grow")
    grown.command("mllam-exps", "status", "--watch")
    run = max(grown.runs("grow"), key=lambda run: run.stat().st_mtime)
    spec = yaml.safe_load((run / "attempts/1/spec.json").read_text())
    assert spec["definition"]["params"]["version.mllam.txt"]["resume_from.grow"][
        "files"
    ]
    assert (
        json.loads((run / "attempts/1/scratch/state.json").read_text())["epochs"] == 4
    )
    (
        run / "attempts/1/parent/grown/state.json"
    ).unlink()  # it does not look there again
    grown.command("mllam-exps", "retry", "x")
    grown.command("mllam-exps", "status", "--watch")
    log = (run / "attempts/2/log.txt").read_text()
    assert "going on from carried.json of attempt 1" in log


def test_what_cannot_be_gone_on_from_is_refused(grown: Experiment):
    more = settings(**{"grow.epochs": 5})
    said = refused(grown, "submit", *settings(source="first"))
    assert "toy.yaml: grow.epochs: first has reached 3, and 3 are asked for" in said
    said = refused(
        grown, "submit", *settings(source="first", **{"make.size": 7}), *more
    )
    assert "toy.yaml: make.size: 7 here, 20 in first" in said
    said = refused(grown, "submit", *settings(source="nobody"), *more)
    assert "there is no experiment, no revision and no checkpoint nobody" in said
    head = grown.ok("git", "rev-parse", "HEAD").strip()
    said = refused(grown, "submit", *settings(source=f"'{head}'"), *more)
    assert f"{head} holds no result of stage grow" in said
    said = refused(grown, "submit", *settings(source="HEAD"), *more)
    assert "is another commit as soon as you commit the result" in said
    assert "nobody: there is no experiment" in refused(grown, "resume", "nobody")
    assert "is no checkpoint" in refused(
        grown, "submit", *settings(source="dvc.yaml"), *more
    )
    # DVC would not see from what it goes on.
    path = grown.root / "dvc.yaml"
    path.write_text(path.read_text().replace("      - resume_from.grow\n", ""))
    said = refused(grown, "submit", *settings(source="first"), *more)
    assert "add resume_from.grow to its params of version.mllam.txt" in said


def test_resume_refuses_before_anything_is_changed(grown: Experiment):
    grown.set("toy.yaml", make__size=7)
    before = grown.ok("git", "diff")
    longer = settings(**{"grow.epochs": 5})
    said = refused(grown, "resume", "first", "-n", "more", *longer)
    assert "toy.yaml: make.size: 7 here, 20 in first" in said
    way_out = said.partition("  → ")[2].strip()
    assert way_out.startswith("mllam-exps resume first -n more -S")
    assert way_out.endswith("-S toy.yaml:make.size=20")
    # Of a sweep each is looked at, and what reached its end already is no other network.
    sweep = settings(**{"make.size": 20, "grow.epochs": "5,2"})
    said = refused(grown, "resume", "first", "--queue", *sweep)
    assert "grow.epochs: first has reached 3, and 2 are asked for" in said
    assert "did you mean first?" in refused(grown, "resume", "fisrt", *longer)
    assert grown.ok("git", "diff") == before
    assert not grown.ok("git", "stash", "list")
    # What is proposed works.
    grown.ok(*shlex.split(way_out))
    assert state(grown, "more")["epochs"] == 5


def test_longer_ones_are_told_and_go_on_by_themselves(grown: Experiment):
    more = settings(**{"grow.epochs": 5})
    said = grown.ok("mllam-exps", "submit", "--dry-run", *more)
    assert "known with epochs: 3; mllam-exps resume first --epochs 5" in said
    assert "known with" not in grown.ok(
        "mllam-exps", "submit", "--dry-run", *more, *settings(**{"make.size": 7})
    )
    # A phase goes on from the one before, and of several the first begins.
    in_phases = settings(longest="auto", phases="[{epochs:2},{epochs:5}]")
    said = grown.ok("mllam-exps", "submit", "--dry-run", *in_phases, "grow")
    assert "1 × grow:1, 1 × grow;" in said
    submitted(grown, "auto", *more, *settings(longest="auto"))
    assert (state(grown, "auto")["epochs"], len(state(grown, "auto")["starts"])) == (
        5,
        2,
    )
    # What is known as it is, is taken as it is.
    assert "known" in grown.ok(
        "mllam-exps", "submit", "--dry-run", *settings(longest="auto"), "grow"
    )


def test_a_checkpoint_from_elsewhere_is_adopted(grown: Experiment, tmp_path: Path):
    found = tmp_path / "of a colleague.json"
    found.write_text(json.dumps({"epochs": 2, "starts": [0]}))
    submitted(grown, "own", "-S", f"toy.yaml:source='{found}'")
    found.unlink()
    drawn = grown.ok("mllam-exps", "show", "own", "--lineage")
    assert drawn.startswith("grown/state.json ")
    assert "made elsewhere" in drawn
    assert state(grown, "own")["starts"][0] == 0
    grown.ok("mllam-exps", "submit", "-n", "again", "--force", *settings(), "make")


def test_what_the_cache_lacks_is_pulled(grown: Experiment, tmp_path: Path):
    grown.ok("dvc", "remote", "add", "-d", "-f", "store", str(tmp_path / "remote"))
    grown.ok("git", "commit", "-qam", "A remote")
    grown.ok("dvc", "exp", "run", "-q", "-n", "second", *settings(**{"grow.epochs": 4}))
    grown.ok("dvc", "push", "-q")
    grown.ok("git", "checkout", "-q", ".")
    lock = yaml.safe_load(saved(grown, "second", "dvc.lock"))
    digest = lock["stages"]["grow"]["outs"][0]["md5"]
    place = grown.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    more = [*settings(source="second"), *settings(**{"grow.epochs": 5})]
    place.unlink()
    assert "1 × grow" in grown.ok("mllam-exps", "submit", "--dry-run", *more, "grow")
    assert place.is_file()
    [listed] = json.loads(place.read_text())
    state = place.parents[1] / listed["md5"][:2] / listed["md5"][2:]
    kept, mode = state.read_bytes(), state.stat().st_mode
    state.unlink()
    state.write_bytes(kept[::-1])
    state.chmod(mode)
    assert "1 × grow" in grown.ok("mllam-exps", "submit", "--dry-run", *more, "grow")
    assert state.read_bytes() == kept, "what was damaged is pulled, too"
    place.unlink()
    subprocess.run(["rm", "-r", str(tmp_path / "remote")], check=True)
    said = refused(grown, "submit", *more, "grow")
    assert "grown of stage grow at" in said
    assert "it is not in DVC's cache" in said
    assert re.search(r"dvc exp apply [0-9a-f]{10}; dvc exp run -n NEW", said)
