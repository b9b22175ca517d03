"""What a sweep plans, and what it refuses: a real repository of git and DVC, in which nothing is ever run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError, Problems
from mllam_exps.dvc.parameters.overrides import Variant
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.content import describe, md5_of_file
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.preflight.here import Here
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.results import Result
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import entering, experiments
from mllam_exps.submission.entering import Plan
from mllam_exps.submission.planning import Planner, Typed

STAGES = """
stages:
  make:
    cmd: cp in.txt made.txt
    deps: [in.txt]
    params: [lr]
    outs: [made.txt]
  read:
    cmd: cp made.txt read.txt
    deps: [made.txt, table]
    outs: [read.txt]
  beside:
    cmd: cp in.txt beside.txt
    deps: [in.txt]
    outs: [beside.txt]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with stages of its user's own, which nobody has run yet."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(
        checks, "versions_text", lambda *_: ("python: '3.11'\n", ["an archive is slow"])
    )
    root = tmp_path / "here"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "params.yaml").write_text("lr: 1\nother: 1\n")
    (root / "in.txt").write_text("in")
    (root / "table").mkdir()
    (root / "table/a.txt").write_text("a")
    git(root, "init", "-q")
    git(root, "config", "user.name", "Anna")
    git(root, "config", "user.email", "anna@example.org")
    commit(root)
    return root


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "start")


def lr(value: float, name: str = "") -> Variant:
    return Variant({"params.yaml": [f"lr={value}"]}, name)


AS_IT_IS = Variant({}, "")


def store_of(root: Path) -> RunStore:
    return RunStore(root.parent / "store")


def planner(root: Path, *targets: str, **options: Any) -> Planner:
    """Return what plans in a repository."""
    machine = Machine(name="m", file=None, origins={}, scheduler="local")
    here = Workspace(root, root, "workspace", "")
    command = ["mllam-exps", "submit", *targets]
    repo = Repository.open(root)
    typed = Typed(targets, command, "why", **options)
    return Planner(Here(here, machine, repo, store_of(root)), typed)


def plan(root: Path, variants: Sequence[Variant], *targets: str, **options: Any):
    """Plan experiments, and have none of them submitted."""
    with planner(root, *targets, **options) as one:
        return one.plan(variants)


def keys(planned: Plan) -> dict[str, str]:
    return {step.stage: step.key for step in planned.experiment.steps}


def test_one_experiment_has_all_stages_each_behind_what_it_needs(root: Path):
    [one] = plan(root, [AS_IT_IS])
    steps = {step.stage: step for step in one.experiment.steps}
    assert list(one.experiment.stages) == [*steps]
    assert set(steps) == {"make", "read", "beside"}
    assert [*steps].index("make") < [*steps].index("read")
    assert steps["read"].needs == (steps["make"].key,)
    assert steps["make"].needs == steps["beside"].needs == ()
    assert one.definitions["read"].key == steps["read"].key
    assert one.experiment.sources["in.txt"]["digest"] == md5_of_file(root / "in.txt")
    assert "table" in one.experiment.sources
    assert one.experiment.command == ["mllam-exps", "submit"]
    assert one.experiment.uid == os.getuid()


def test_only_what_is_asked_for_and_needed_is_planned(root: Path):
    [one] = plan(root, [AS_IT_IS], "read")
    assert list(one.experiment.stages) == ["make", "read"]
    with pytest.raises(MllamError, match="nothing-such"):
        plan(root, [AS_IT_IS], "nothing-such")


def test_a_sweep_shares_what_its_parameters_leave_as_it_is(root: Path):
    one, two, other = plan(
        root,
        [lr(1), lr(2), Variant({"params.yaml": ["other=5"]}, "")],
    )
    assert keys(one)["make"] != keys(two)["make"]
    assert keys(one)["read"] != keys(two)["read"], "its input is another"
    assert keys(one)["beside"] == keys(two)["beside"]
    assert keys(other) == keys(one), "no stage reads that parameter"
    assert len({each.experiment.name for each in (one, two, other)}) == 3
    assert len({each.experiment.identity for each in (one, two, other)}) == 3


def test_each_clone_has_the_parameters_of_its_own_experiment(root: Path):
    with planner(root) as here:
        one, two, plain = here.plan([lr(1.5), lr(2.5), AS_IT_IS])
        texts = [each.root.joinpath("params.yaml").read_text() for each in (one, two)]
        assert ["1.5" in text for text in texts] == [True, False]
        assert ["2.5" in text for text in texts] == [False, True]
        same = (root / "params.yaml").read_text()
        assert (plain.root / "params.yaml").read_text() == same
        assert plain.versions_file.read_text() == "python: '3.11'\n"
        assert not (plain.root / "version.mllam.txt").exists(), "no stage names it"
    assert not one.site.exists(), "it was not taken"
    assert (root / "params.yaml").read_text() == "lr: 1\nother: 1\n"


def test_a_changed_input_shared_by_a_sweep_is_read_for_each_that_changes_it(root: Path):
    (root / "dvc.yaml").write_text(
        STAGES.replace(
            "deps: [in.txt]\n    outs: [beside", "deps: [x.yaml]\n    outs: [beside"
        )
    )
    (root / "x.yaml").write_text("a: 0\n")
    commit(root)
    first, second = (Variant({"x.yaml": [f"a={a}"]}, "") for a in (1, 2))
    one, plain, two, again = plan(root, [first, AS_IT_IS, second, first])
    found = [keys(each)["beside"] for each in (one, two, again, plain)]
    assert found[0] == found[2]
    assert len(set(found)) == 3
    assert len({keys(each)["make"] for each in (one, two, again)}) == 1


def test_the_versions_are_asked_for_once(root: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def versions(*_: object) -> tuple[str, list[str]]:
        asked.append(1)
        return "python: '3.11'\n", ["an archive is slow"]

    monkeypatch.setattr(checks, "versions_text", versions)
    with planner(root) as here:
        here.plan([lr(1), lr(2)])
        assert here.notes.count("an archive is slow") == 1
    assert asked == [1]


def test_files_of_ours_that_a_stage_names_lie_where_it_reads_them(root: Path):
    more = "  own:\n    cmd: cp version.mllam.txt own.txt\n"
    more += "    deps: [version.mllam.txt, logs/checked.txt]\n    outs: [own.txt]\n"
    (root / "dvc.yaml").write_text(STAGES + more)
    commit(root)
    with planner(root) as here:
        [one] = here.plan([AS_IT_IS])
        assert (one.root / "version.mllam.txt").read_text() == "python: '3.11'\n"
        assert (one.root / checks.CHECKED_FILE).read_text() == checks.CHECKED


def test_what_dvc_knows_is_not_made_again(root: Path):
    digest = md5_of_file(root / "in.txt")
    cached = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    cached.write_text("in")
    lock = f"""
schema: '2.0'
stages:
  beside:
    cmd: cp in.txt beside.txt
    deps:
    - {{path: in.txt, hash: md5, md5: {digest}, size: 2}}
    outs:
    - {{path: beside.txt, hash: md5, md5: {digest}, size: 2}}
"""
    (root / "dvc.lock").write_text(lock)
    commit(root)
    [one] = plan(root, [AS_IT_IS])
    known = {step.stage: dict(step.known) for step in one.experiment.steps}
    assert known["beside"]["beside.txt"]["digest"] == digest
    assert known["make"] == known["read"] == {}
    [forced] = plan(root, [AS_IT_IS], force=True)
    assert not any(step.known for step in forced.experiment.steps)


def enter(planned: Plan, root: Path) -> None:
    """Let a planned experiment be in the store."""
    entering._move_in(planned.experiment, planned.site)
    assert experiments.read(planned.experiment.directory) is not None
    assert list(experiments.of_store(store_of(root)))


def test_the_same_submitted_again_is_the_same_experiment(root: Path):
    with planner(root) as here:
        [one] = here.plan([lr(2)])
        enter(one, root)
    with planner(root) as here:
        same, other = here.plan([lr(2), lr(3)])
    assert same.experiment.identity == one.experiment.identity
    assert same.experiment.name == one.experiment.name
    assert same.experiment.created == one.experiment.created
    assert other.experiment.identity != one.experiment.identity
    (root / "in.txt").write_text("changed")
    [changed] = plan(root, [lr(2)])
    assert changed.experiment.identity != one.experiment.identity
    assert changed.experiment.edited == ("in.txt",)


def test_a_name_belongs_to_one_experiment_at_a_time(root: Path):
    with planner(root) as here:
        [one] = here.plan([lr(2, "mine")])
        assert one.experiment.name == "mine"
        enter(one, root)
    with pytest.raises(Problems, match="is the name of another experiment"):
        plan(root, [lr(3, "mine")])
    with pytest.raises(Problems, match="is the name of another experiment"):
        plan(root, [lr(4, "new"), lr(5, "new")])


def test_a_name_of_another_repository_or_commit_is_free(root: Path):
    with planner(root) as here:
        [one] = here.plan([lr(2, "mine")])
        enter(one, root)
    (root / "in.txt").write_text("later")
    commit(root)
    [later] = plan(root, [lr(3, "mine")])
    assert later.experiment.name == "mine"
    assert later.experiment.baseline != one.experiment.baseline


def test_all_that_is_wrong_with_a_sweep_is_told_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(root)
    (root / "new.yaml").write_text("a: 1\n")
    wrong = [
        Variant({"new.yaml": ["a=2"]}, ""),
        lr(2),
        Variant({"no.yaml": ["a=2"]}, ""),
    ]
    with pytest.raises(Problems) as caught:
        plan(root, wrong)
    first, second = caught.value.problems
    assert first.problem.sentence.startswith("-S new.yaml: git does not track it")
    assert first.problem.next == "git add new.yaml"
    assert "no.yaml" in str(second)
    assert not any(experiments.folder(store_of(root)).iterdir())


def test_the_way_out_is_meant_from_where_it_is_typed(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    (root / "sub").mkdir()
    monkeypatch.chdir(root / "sub")
    (root / "sub/new.yaml").write_text("a: 1\n")
    with pytest.raises(Problems) as caught:
        plan(root, [Variant({"sub/new.yaml": ["a=2"]}, "")], inside=Path("sub"))
    [problem] = caught.value.problems
    assert problem.problem.next == "git add new.yaml"


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("absent.txt", "absent.txt"),
        ("new.txt", "the input new.txt is not tracked"),
        (
            "link.txt",
            "the input link.txt is a link to new.txt, which git does not track",
        ),
    ],
)
def test_an_input_that_no_job_would_have_is_refused(root: Path, file: str, told: str):
    (root / "link.txt").symlink_to("new.txt")
    (root / "dvc.yaml").write_text(
        STAGES.replace("[made.txt, table]", f"[made.txt, {file}]")
    )
    git(root, "add", "dvc.yaml", "link.txt")
    git(root, "commit", "-q", "-m", "link")
    (root / "new.txt").write_text("new")
    with pytest.raises(Problems) as caught:
        plan(root, [AS_IT_IS])
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["in.txt", "beside.txt"])
def test_what_is_named_by_a_path_from_the_top_is_told_where_it_lies(
    root: Path, name: str
):
    stages = STAGES.replace(f"[{name}]", f"[{root / name}]")
    (root / "dvc.yaml").write_text(stages)
    commit(root)
    with pytest.raises(Problems, match=r"a path from `/`") as caught:
        plan(root, [AS_IT_IS])
    assert f"it is {name} in the repository" in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "file", "typed"),
    [
        (f"vars: [v.yaml]\n{STAGES}", "v.yaml", "git add v.yaml"),
        (f"{STAGES}    wdir: .\n    vars: ['v.yaml:v']\n", "v.yaml", "git add v.yaml"),
        (
            STAGES.replace("[lr]", "[own.yaml: [v]]"),
            "own.yaml",
            "git add --force own.yaml",
        ),
        (
            STAGES.replace("[lr]", "['${lr}']").replace("lr", "other"),
            "params.yaml",
            "git add --force params.yaml",
        ),
    ],
)
def test_values_that_git_does_not_track_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, stages: str, file: str, typed: str
):
    monkeypatch.chdir(root)
    (root / "dvc.yaml").write_text(stages)
    (root / ".gitignore").write_text("params.yaml\nown.yaml\n")
    if file == "params.yaml":
        git(root, "rm", "-q", "--cached", file)
    commit(root)
    (root / file).write_text("other: other\n" if file == "params.yaml" else "v: 1\n")
    with pytest.raises(Problems) as caught:
        plan(root, [AS_IT_IS])
    [problem] = caught.value.problems
    assert problem.problem.what == f"the parameter file {file} is not tracked"
    assert problem.problem.next == typed


def test_what_failed_is_submitted_again_with_what_its_links_lead_to_now(root: Path):
    """Saving holds a result against the inputs in the record, and would make it again for ever."""
    outside = root.parent / "outside.txt"
    (root / "in.txt").unlink()
    (root / "in.txt").symlink_to(outside)
    commit(root)
    for content in ("one", "two"):
        outside.write_text(content)
        with planner(root) as here:
            [one] = here.plan([AS_IT_IS])
            entering.enter(one, force=False, replaces="")
        there = experiments.read(one.experiment.directory)
        assert there is not None
        assert there.sources["in.txt"]["digest"] == md5_of_file(outside)
        assert {step.key for step in there.steps} == {*keys(one).values()}
    assert len(list(experiments.of_store(store_of(root)))) == 1


def test_an_input_that_is_another_stage_s_output_by_another_name_is_refused(root: Path):
    stages = STAGES.replace("outs: [made.txt]", "outs: [made.txt: {cache: false}]")
    (root / "dvc.yaml").write_text(stages.replace("[made.txt, table]", "[link.txt]"))
    (root / "made.txt").write_text("in")
    (root / "link.txt").symlink_to("made.txt")
    commit(root)
    told = "the input link.txt leads through a link to made.txt, which stage make makes"
    with pytest.raises(Problems, match=told):
        plan(root, [AS_IT_IS])


def test_a_link_to_a_device_is_no_input(root: Path):
    (root / "table/b.txt").symlink_to("/dev/zero")
    commit(root)
    told = "table/b.txt: is a device, and no file, in the input table"
    with pytest.raises(Problems, match=told):
        plan(root, [AS_IT_IS])


def test_a_parameter_file_that_leads_nowhere_in_the_clone_is_refused(root: Path):
    (root / "real.yaml").write_text("lr: 1\nother: 1\n")
    (root / "params.yaml").unlink()
    (root / "params.yaml").symlink_to("real.yaml")
    git(root, "add", "params.yaml")
    git(root, "commit", "-q", "-m", "link")
    with pytest.raises(Problems, match=r"link to real.yaml, which git does not track"):
        plan(root, [AS_IT_IS])


def test_data_that_were_changed_since_dvc_add_are_refused(root: Path):
    (root / "data.txt").write_text("first")
    digest = md5_of_file(root / "data.txt")
    (root / "data.txt.dvc").write_text(
        f"outs:\n- {{md5: {digest}, size: 5, hash: md5, path: data.txt}}\n"
    )
    (root / ".gitignore").write_text("/data.txt\n")
    (root / "dvc.yaml").write_text(
        STAGES.replace("[made.txt, table]", "[made.txt, data.txt]")
    )
    commit(root)
    cached = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    cached.write_text("first")
    [one] = plan(root, [AS_IT_IS])
    assert one.experiment.sources["data.txt"]["digest"] == digest
    (root / "data.txt").write_text("second")
    with pytest.raises(Problems, match="was changed since `dvc add`"):
        plan(root, [AS_IT_IS])


@pytest.mark.parametrize("dep", ["data", "data/a.txt"])
def test_data_that_the_cache_has_lost_are_refused_where_a_job_would_need_them(
    root: Path, monkeypatch: pytest.MonkeyPatch, dep: str
):
    monkeypatch.chdir(root)
    (root / "data").mkdir()
    (root / "data/a.txt").write_text("a")
    Repository.open(root).opened.add("data")
    (root / "dvc.yaml").write_text(STAGES.replace("[in.txt]", f"[{dep}]"))
    commit(root)
    [one] = plan(root, [AS_IT_IS], "beside")
    (root / ".dvc/cache").rename(root.parent / "lost")
    told = f"dvc.yaml: beside: DVC's cache lacks the input {dep}, or a part of it"
    for typed in ("dvc commit data.dvc", "put data back", "dvc pull data.dvc"):
        with pytest.raises(Problems, match=told) as caught:
            plan(root, [AS_IT_IS], "beside")
        [problem] = caught.value.problems
        assert str(problem.problem.next).startswith(typed)
        if typed == "put data back":
            (root / ".dvc/config").write_text("['remote \"r\"']\n    url = /r\n")
        elif (root / "data").exists():
            (root / "data").rename(root.parent / "data")
    (root.parent / "data").rename(root / "data")
    Repository.open(root).opened.commit("data.dvc")
    [again] = plan(root, [AS_IT_IS], "beside")
    assert keys(again) == keys(one)


def test_data_that_no_job_would_read_may_be_lost(root: Path):
    digest = md5_of_file(root / "in.txt")
    (root / "data.txt.dvc").write_text(
        f"outs:\n- {{md5: {digest}, size: 2, hash: md5, path: data.txt}}\n"
    )
    (root / ".gitignore").write_text("/data.txt\n")
    (root / "dvc.yaml").write_text(STAGES.replace("[in.txt]", "[data.txt]"))
    commit(root)
    cached = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    cached.write_text("in")
    [one] = plan(root, [AS_IT_IS], "beside")
    cached.unlink()
    run = store_of(root).run(keys(one)["beside"])
    attempt = Attempt(run, 1)
    attempt.directory.mkdir(parents=True)
    records.replace(attempt.directory / "manifest.json", {})
    assert run.settle(Result(1))
    [again] = plan(root, [AS_IT_IS], "beside")
    assert keys(again) == keys(one)
    with pytest.raises(Problems, match="lacks the input"):
        plan(root, [AS_IT_IS], "beside", force=True)


def test_a_known_result_of_an_input_with_another_mode_is_named(root: Path):
    """Neither DVC nor a run key counts it, and the commit has the new one."""
    (root / "in.txt").chmod(0o755)
    git(root, "update-index", "--chmod=+x", "in.txt")
    [one] = plan(root, [AS_IT_IS], "beside")
    run = store_of(root).run(keys(one)["beside"])
    attempt = Attempt(run, 1)
    attempt.directory.mkdir(parents=True)
    attempt.note_inputs({"in.txt": describe(root / "in.txt")})
    records.replace(attempt.directory / "manifest.json", {})
    assert run.settle(Result(1))
    for mode, notes in ((0o755, 0), (0o644, 1)):
        (root / "in.txt").chmod(mode)
        with planner(root, "beside") as here:
            here.plan([AS_IT_IS])
        found = [note for note in here.notes if "in.txt" in note]
        told = "beside has a result that was made when in.txt could be executed: "
        assert len(found) == notes
        assert all(note.startswith(told) for note in found)
    with planner(root, "beside", force=True) as here:
        here.plan([AS_IT_IS])
    assert not [note for note in here.notes if "in.txt" in note], "it is made again"
