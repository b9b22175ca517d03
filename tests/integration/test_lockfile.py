"""``dvc.lock`` as jobs write it, held against DVC's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.experiment import Experiment

from mllam_exps.attempts import workdir
from mllam_exps.attempts.work.worker import Worker
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.dvc import drafting, ignored, lockfile
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.lockfile import Draft
from mllam_exps.dvc.parameters import parameter_files
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.identity.content import describe
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.store import RunStore
from mllam_exps.submission.saving import commit, lock_entries

PIPELINE = """
stages:
  first:
    cmd: mkdir -p made/deep && echo 1 > made/deep/a.txt && echo 2 > "made/é b.txt" && echo {} > scores.json
    deps:
    - source.txt
    - folder
    params:
    - params.yaml:
      - lr
      - deep.key
    - all.yaml:
    - more.json:
      - "a"
    - more.toml:
      - at
    - more.py:
      - pair
    outs:
    - made
    metrics:
    - scores.json:
        cache: false
  second:
    wdir: sub
    cmd:
    - cp ../made/deep/a.txt out.txt
    - echo long long long long long long long long long long long long long long long long long long long >> out.txt
    deps:
    - ../made/deep
    - ../made/deep/a.txt
    params:
    - own.yaml:
      - x
    outs:
    - out.txt
  third:
    cmd: cat sub/out.txt > third.txt
    deps:
    - sub/out.txt
    params:
    - lr
    outs:
    - third.txt
"""
FILES = {
    "dvc.yaml": PIPELINE,
    "source.txt": "a source\n",
    "folder/one": "1\n",
    "folder/below/two": "2\n",
    "params.yaml": "lr: 1e-5\ndeep: {key: [1.0, 2, 'no', null]}\n",
    "all.yaml": """
levels: {5: five, 10: [ten]}
name: 'æ'
hex: '12e4'
same: [1, 2]
yes: on
empty: {}
""",
    "more.json": '{"a": {"b": 1.5e-7, "c": "2020-01-01"}}\n',
    "more.toml": 'at = [1.5, "x"]\n',
    "more.py": "pair = (1, 2)\n",
    "sub/own.yaml": "x: 3\n",
}


@pytest.fixture
def experiment(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Experiment:
    root = tmp_path / "repo"
    for file, text in FILES.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")
    experiment = Experiment(root, environ)
    experiment.ok("git", "init", "-q")
    experiment.ok("dvc", "init", "-q")
    for name in ("HOME", "DVC_SITE_CACHE_DIR"):
        monkeypatch.setenv(name, environ[name])
    return experiment


def repo_of(root: Path) -> Any:
    from dvc.repo import Repo

    return Repo(str(root))


def draft(root: Path) -> Draft:
    pipeline = Pipeline(Repository.open(root), dict, as_it_lies=False)
    found = drafting.draft(
        pipeline, pipeline.in_order(), {"source.txt": describe(root / "source.txt")}
    )
    found.write(root)
    return lockfile.read(root)


def test_a_lock_file_is_that_which_dvc_writes(experiment: Experiment):
    root = experiment.root
    before = draft(root)
    experiment.ok("dvc", "repro", "-q")
    lock, by_dvc = root / "dvc.lock", (root / "dvc.lock").read_text(encoding="utf-8")
    made = {
        path: describe(root / path)
        for stage in before.stages.values()
        for path in stage.made
    }
    # Of a folder that DVC knows there is the number of its files only.
    made["made"] |= {"files": 2}
    described = lock_entries.Made(root, before.cache, made).describe
    entries = {name: stage.complete(described) for name, stage in before.stages.items()}

    lockfile.write(root, entries)
    assert lock.read_text(encoding="utf-8") == by_dvc, "over what is there"
    lock.unlink()
    lockfile.write(root, entries)
    assert lock.read_text(encoding="utf-8") == by_dvc, "afresh"
    assert "up to date" in experiment.ok("dvc", "status")


def test_parameter_files_are_read_as_dvc_reads_them(experiment: Experiment):
    pipeline = Pipeline(Repository.open(experiment.root), dict, as_it_lies=False)
    values = pipeline.definition("first").values
    assert set(values) == {
        "params.yaml",
        "all.yaml",
        "more.json",
        "more.toml",
        "more.py",
    }
    assert values["params.yaml"]["lr"] == 1e-5
    assert values["all.yaml"]["yes"] == "on"
    for file, read in values.items():
        assert parameter_files.holds(experiment.root / file, read), file
        assert not parameter_files.holds(
            experiment.root / file, {**read, next(iter(read)): "other"}
        ), file
    (experiment.root / "more.toml").write_text("at = [1.5, 'y']\n")
    assert not parameter_files.holds(experiment.root / "more.toml", values["more.toml"])
    (experiment.root / "all.yaml").write_text("when: 2020-01-01\n")
    with pytest.raises(
        UsageError, match=r"all\.yaml: when: holds a date, which DVC cannot track"
    ):
        Pipeline(Repository.open(experiment.root), dict, as_it_lies=False).definition(
            "first"
        )


def test_entries_of_other_stages_stay(experiment: Experiment):
    (experiment.root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  other:\n    cmd: true\n", encoding="utf-8"
    )
    lockfile.write(experiment.root, {"mine": {"cmd": "false"}})
    text = (experiment.root / "dvc.lock").read_text(encoding="utf-8")
    assert (
        text
        == "schema: '2.0'\nstages:\n  other:\n    cmd: true\n  mine:\n    cmd: 'false'\n"
    )


def test_a_changed_clone_is_noticed(experiment: Experiment):
    found = draft(experiment.root)
    assert set(found.frozen) == {
        "dvc.yaml",
        "source.txt",
        "sub/own.yaml",
        "params.yaml",
        "all.yaml",
    } | {
        "more.json",
        "more.toml",
        "more.py",
    }
    assert not list(found.changed(experiment.root))
    (experiment.root / "sub/own.yaml").write_text("x: 4\n")
    (experiment.root / "more.json").unlink()
    assert sorted(found.changed(experiment.root)) == ["more.json", "sub/own.yaml"]


def test_a_draft_that_is_lost_says_what_to_do(experiment: Experiment):
    with pytest.raises(MllamError, match="submit the experiment again"):
        lockfile.read(experiment.root)


def test_outputs_are_ignored_as_dvc_does_it(experiment: Experiment):
    root = experiment.root
    stage = lockfile.StageDraft(
        ".", "", [], {}, {"odd [1]*.txt": True, "plain": True, "kept.json": False}
    )
    (root / ".gitignore").write_bytes(b"/plain")
    kept = commit._kept(root, Draft(Cache(""), {"s": stage}))
    assert kept == [".gitignore", "dvc.lock", "kept.json"]
    assert (root / ".gitignore").read_text() == "/plain\n/odd \\[1\\]\\*.txt\n"
    assert ignored.by_git(root, ["odd [1]*.txt", "odd 1.txt"]) == {"odd [1]*.txt"}


AROUND = """
stages:
  reads:
    cmd: find d > reads.txt
    deps: [d]
    outs: [reads.txt]
  last:
    cmd: cp d/first.txt "d/new/[last]"
    deps: [d/first.txt]
    outs: ["d/new/[last]"]
  first:
    cmd: mkdir d && echo 1 > d/first.txt
    outs: [d/first.txt]
"""


def test_a_command_reads_the_gitignore_that_dvc_writes_beside_outputs(
    experiment: Experiment, tmp_path: Path
):
    """Also before DVC has written it; stages that make the folder do not find it."""
    root = experiment.root
    (root / "dvc.yaml").write_text(AROUND)
    before = Pipeline(Repository.open(root), dict, as_it_lies=False)
    become = before.ignoring(["reads", "last"])
    found = drafting.draft(before, before.in_order(), {}, become)
    frozen = tmp_path / "frozen"
    shutil.copytree(root, frozen)
    ignored.write(frozen, become)
    found.write(frozen)
    with repo_of(root).scm_context as context:
        for out in ("d/first.txt", "d/new/[last]"):
            (root / out).parent.mkdir(exist_ok=True)
            context.ignore(str(root / out))
    for path in ("d/.gitignore", "d/new/.gitignore"):
        assert (frozen / path).read_bytes() == (root / path).read_bytes(), "as DVC's"
    definition = before.definition("reads")
    for place in (root, frozen):
        again = Pipeline(Repository.open(place), dict, as_it_lies=False)
        assert again.definition("reads").key == definition.key
        assert not again.ignoring(["reads", "last"])
    assert commit._kept(frozen, found).count("d/.gitignore") == 1
    assert (frozen / "d/.gitignore").read_bytes() == become["d/.gitignore"]

    run = RunStore(tmp_path / "store").run(f"s-{'0' * 32}")
    for number, name in enumerate(["first", "reads"], 1):
        attempt = Attempt(run, number)
        attempt.work.mkdir(parents=True)
        workdir._copy_repository(frozen, attempt, before.definition(name))
        assert not (attempt.work / "d").exists(), "a command makes its folders itself"
    for source in definition.inputs:
        if not source.run:
            store = RunStore(tmp_path / "store")
            workdir._from_workspace(store, frozen, attempt, source)
    assert (attempt.work / "d/.gitignore").read_text() == "/first.txt\n"

    (root / "d/.gitignore").write_text("/first.txt\n*.tmp\n")
    edited = Pipeline(Repository.open(root), dict, as_it_lies=False)
    assert edited.definition("reads").key != definition.key
    (root / ".dvcignore").write_text(".gitignore\n")
    left_out = Pipeline(Repository.open(root), dict, as_it_lies=False)
    (root / "d/.gitignore").unlink()
    inputs = left_out.definition("reads").inputs
    assert {source.path for source in inputs} == {"d/first.txt", "d/new/[last]"}


NAMED = """
stages:
  reads:
    cmd: cat .gitignore o.txt > m.txt
    deps: [.gitignore, o.txt]
    outs: [m.txt]
  first:
    cmd: cat source.txt > o.txt
    deps: [source.txt]
    outs: [o.txt]
"""


def test_a_command_that_names_a_gitignore_reads_it_as_dvc_leaves_it(
    experiment: Experiment, tmp_path: Path
):
    """Lines of outputs behind it included: with DVC it would run until it has seen them."""
    root = experiment.root
    (root / "dvc.yaml").write_text(NAMED)
    (root / ".gitignore").write_text("*.log\n")
    before = Pipeline(Repository.open(root), dict, as_it_lies=False)
    become = before.ignoring(["first", "reads"])
    assert become == {".gitignore": b"*.log\n/o.txt\n/m.txt\n"}
    found = drafting.draft(before, before.in_order(), {}, become)
    frozen = tmp_path / "frozen"
    shutil.copytree(root, frozen)
    ignored.write(frozen, become)
    found.write(frozen)
    definition = before.definition("reads")
    # As jobs open it: they know the contents that were read when it was planned.
    content = {"source.txt": before.definition("first").inputs[0].digest}
    options: dict[str, Any] = {"as_it_lies": False, "content": content.__getitem__}
    again = Pipeline(Repository.open(frozen), dict, **options)
    assert again.definition("reads").key == definition.key
    assert not again.ignoring(["first", "reads"])
    commit._kept(frozen, found)
    made = lock_entries.Made(frozen, found.cache, {})
    digests = {source.path: source.digest for source in definition.inputs}
    assert made.digest(".gitignore") == digests[".gitignore"]

    (root / ".dvcignore").write_text(".gitignore\n")
    left_out = Pipeline(Repository.open(root), dict, as_it_lies=False)
    with pytest.raises(UsageError, match=r"\.gitignore is left out by \.dvcignore"):
        left_out.definition("reads")


def test_what_stages_make_or_read_is_never_the_users(
    experiment: Experiment, tmp_path: Path
):
    """A variable that names it leads into the attempt's copy: there it is, or it is found missing."""
    root = experiment.root
    (root / "dvc.yaml").write_text(NAMED)
    for name in ("o.txt", "m.txt", "source.txt", "other.txt"):
        (root / name).write_text("the user's\n")
    pipeline = Pipeline(Repository.open(root), dict, as_it_lies=False)
    definition = pipeline.definition("first")
    attempt = Attempt(RunStore(tmp_path / "store").run(definition.key), 1)
    (attempt.work / ".git").mkdir(parents=True)
    drafting.draft(pipeline, pipeline.in_order(), {}).write(attempt.work)
    told = definition.to_record()
    Spec("m", str(root), "exp", "b", {}, {}, definition=told).write(attempt)
    given = {"X": ":".join(f"{root}/{name}" for name in ("m.txt", "source.txt"))}
    expected = given["X"].replace(str(root), str(attempt.work.resolve()))
    worker = Worker(attempt)
    assert worker._redirected(given) == {"X": expected}
    stays = {"X": f"{root}/other.txt"}
    assert worker._redirected(stays) == stays


def test_a_folder_with_outputs_in_it_holds_what_dvc_counts(tmp_path: Path):
    """The job that saves describes it: files beside the outputs do not count where .dvcignore names them."""
    for file, text in {
        ".dvcignore": "*.log\n",
        "folder/kept.txt": "k\n",
        "folder/some.log": "s\n",
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    made = {"folder/made.txt": {"digest": "0" * 32, "size": 1}}
    found = lock_entries.Made(tmp_path, Cache(""), made)._around("folder")
    assert found is not None
    assert [file["relpath"] for file in found["files"]] == ["kept.txt", "made.txt"]


def test_a_part_of_a_folder_that_git_keeps_is_found_here(tmp_path: Path):
    """DVC knows the result by `dvc.lock`, which has the number of its files, and its cache has nothing of it."""
    (tmp_path / "kept/part").mkdir(parents=True)
    (tmp_path / "kept/part/a.txt").write_text("a\n")
    whole = describe(tmp_path / "kept")
    known = {"kept": {"digest": whole["digest"], "size": 2, "files": 1}}
    made = lock_entries.Made(tmp_path, Cache(str(tmp_path / "cache")), known)
    assert made.digest("kept/part") == describe(tmp_path / "kept/part")["digest"]
    (tmp_path / "kept/part/a.txt").write_text("another\n")
    with pytest.raises(MllamError, match="nobody has the list of the files of kept"):
        made.describe("kept/part")


def test_what_other_stages_make_is_not_taken_from_git(
    experiment: Experiment, tmp_path: Path
):
    root = experiment.root
    made = [path for stage in draft(root).stages.values() for path in stage.made]
    for path in made:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text("of the baseline\n")
    attempt = Attempt(RunStore(tmp_path / "store").run(f"s-{'0' * 32}"), 1)
    attempt.work.mkdir(parents=True)
    workdir._copy_repository(
        root, attempt, RunDefinition("s", {}, (), (), commands=("true",))
    )
    assert (attempt.work / "source.txt").exists()
    assert made and not any((attempt.work / path).exists() for path in made)
