"""Run keys: what changes them, what does not, and that they are known before anything has run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.experiment import PARAMETER_FILES, ROOT, Experiment

from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.stages import sources
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.dvc.stages.results import KnownResults
from mllam_exps.identity.content import md5_of_file
from mllam_exps.preflight import not_in_clone, submittable

VERSIONS = {
    "archives": {},
    "mllam-data-prep": "0.7.0",
    "mllam-exps": {"prepare_dataset": 1, "create_graph": 1, "train": 1, "evaluate": 1},
    "neural-lam": "0.7.0",
    "numpy": "2.0",
    "pytorch-lightning": "2.6",
    "resume_from": {"train": None},
    "torch": "2.13",
    "torch-geometric": "2.3",
    "weather-model-graphs": "0.4",
    "xarray": "2026.1",
    "zarr": "3.1",
}
STAGES = ["prepare_dataset", "create_graph", "train", "evaluate"]


@pytest.fixture
def experiment(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Experiment:
    """The repository's own experiment, its source replaced by a small file; nothing has run."""
    root = tmp_path / "repo"
    source = root / "examples/north-atlantic-2025/north_atlantic_2025-12.zarr"
    source.mkdir(parents=True)
    (source / ".zmetadata").write_text("{}")
    (root / "data").mkdir()
    for file in (*PARAMETER_FILES, "dvc.yaml"):
        shutil.copy(ROOT / file, root / file)
    experiment = Experiment(root, environ)
    experiment.ok("git", "init", "-q")
    experiment.ok("dvc", "init", "-q")
    for name in ("HOME", "DVC_SITE_CACHE_DIR"):
        monkeypatch.setenv(name, environ[name])
    return experiment


def keys(
    experiment: Experiment, versions: dict = VERSIONS, **options
) -> dict[str, str]:
    pipeline = Pipeline(
        Repository.open(experiment.root), lambda: versions, as_it_lies=False, **options
    )
    return {stage: pipeline.definition(stage).key for stage in STAGES}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [stage for stage in STAGES if before[stage] != after[stage]]


def test_keys_name_their_stage_and_are_stable(experiment: Experiment):
    before = keys(experiment)
    assert before == keys(experiment)
    assert all(key.startswith(f"{stage}-") for stage, key in before.items())
    assert len(set(before.values())) == 4


@pytest.mark.parametrize(
    ("file", "values", "stale"),
    [
        ("params.yaml", {"seed": 43}, ["train", "evaluate"]),
        ("params.yaml", {"logger": "wandb", "logger_project": "other"}, []),
        (
            "params.yaml",
            {"graph__mesh_grid_distance_ratio": 4.0},
            ["create_graph", "train", "evaluate"],
        ),
        ("data/training_params.yaml", {"hidden_dim": 8}, ["train", "evaluate"]),
        ("data/training_params.yaml", {"num_workers": 7}, []),
        ("data/evaluate_params.yaml", {"eval": "val"}, ["evaluate"]),
        ("data/evaluate_params.yaml", {"num_workers": 7}, []),
        ("data/datastore.yaml", {"dataset_version": "v9.9.9"}, STAGES),
        ("data/datastore.yaml", {"output__chunking__time": 2}, STAGES),
        ("data/datastore.yaml", {"extra__missing_values": ["msl"]}, STAGES),
        (
            "data/datastore.yaml",
            {"extra__projection__class_name": "Mercator"},
            ["evaluate"],
        ),
        (
            "data/config.yaml",
            {"training": {"state_feature_weighting": None}},
            ["create_graph", "train", "evaluate"],
        ),
    ],
)
def test_what_makes_which_result_another_one(
    experiment: Experiment, file: str, values: dict, stale: list[str]
):
    before = keys(experiment)
    experiment.set(file, **values)
    assert changed(before, keys(experiment)) == stale


def test_a_number_is_a_number(experiment: Experiment):
    experiment.set("params.yaml", seed=42)
    before = keys(experiment)
    experiment.set("params.yaml", seed=42.0)
    assert changed(before, keys(experiment)) == []


def test_other_programs_give_other_results_where_they_are_used(experiment: Experiment):
    before = keys(experiment)
    assert (
        changed(before, keys(experiment, VERSIONS | {"mllam-data-prep": "0.8.0"}))
        == STAGES
    )
    assert changed(
        before, keys(experiment, VERSIONS | {"pytorch-lightning": "2.7"})
    ) == ["train", "evaluate"]
    recipes = VERSIONS["mllam-exps"] | {"evaluate": 2}
    assert changed(before, keys(experiment, VERSIONS | {"mllam-exps": recipes})) == [
        "evaluate"
    ]
    archive = {
        "danra": {
            "path": "/data/danra.zarr",
            "metadata": "sha256:0",
            "version": "v0.5.0",
        }
    }
    assert changed(before, keys(experiment, VERSIONS | {"archives": archive})) == STAGES


def test_the_machine_changes_nothing(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
):
    before = keys(experiment)
    monkeypatch.setenv("MLLAM_MACHINE_OPTIONS", "train.time=2:00:00")
    (experiment.root / "machines").mkdir()
    (experiment.root / "machines/other.yaml").write_text("scheduler: local\n")
    assert keys(experiment) == before


def test_smoke_shortens_training_and_evaluation_alone(experiment: Experiment):
    assert changed(keys(experiment), keys(experiment, smoke=True)) == [
        "train",
        "evaluate",
    ]


def test_stages_come_in_order_however_they_are_written(experiment: Experiment):
    assert [
        s
        for s in Pipeline(Repository.open(experiment.root), dict).in_order()
        if s in STAGES
    ] == STAGES


def test_what_is_missing_is_named(experiment: Experiment):
    with pytest.raises(
        UsageError, match="the version of 'archives', which is not written down"
    ):
        keys(experiment, {})
    experiment.ok("git", "add", "-A")
    experiment.ok("git", "commit", "-qm", "All that is there")
    (experiment.root / "data/config.yaml").unlink()
    with pytest.raises(MllamError, match=r"the input data/config\.yaml is missing"):
        keys(experiment)
    stages = yaml.safe_load((experiment.root / "dvc.yaml").read_text())
    stages["stages"]["mine"] = {"cmd": "true", "deps": ["no.txt", "data/config.yaml"]}
    (experiment.root / "dvc.yaml").write_text(yaml.safe_dump(stages))
    with pytest.raises(Problems) as caught:
        Pipeline(Repository.open(experiment.root), dict).definition("mine")
    assert {problem.next for problem in caught.value.problems} == {
        "put it there and git add no.txt, or correct its name in dvc.yaml",
        "git restore data/config.yaml",
    }
    told = {(problem.where, problem.what) for problem in caught.value.problems}
    missing = {
        f"the input {name} is missing" for name in ("no.txt", "data/config.yaml")
    }
    assert told == {("dvc.yaml: mine", what) for what in missing}, (
        "all that is missing is told"
    )
    (experiment.root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(UsageError, match=r"dvc\.yaml:1:10: .*`stages: \[`"):
        keys(experiment)


def own(
    experiment: Experiment, stages: dict, files: dict[str, str] | None = None, **options
) -> Pipeline:
    """Return a pipeline of one's own stages."""
    (experiment.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for file, text in ({"a.txt": "1\n"} | (files or {})).items():
        (experiment.root / file).parent.mkdir(parents=True, exist_ok=True)
        (experiment.root / file).write_text(text)
    return Pipeline(
        Repository.open(experiment.root),
        lambda: VERSIONS,
        **{"as_it_lies": False} | options,
    )


def test_a_parameter_file_may_be_named_twice(experiment: Experiment):
    stages = {
        "use": {
            "cmd": "x",
            "params": [{"own.yaml": ["x"]}, {"./own.yaml": ["y"]}],
            "outs": ["o"],
        }
    }
    pipeline = own(experiment, stages, {"own.yaml": "x: 1\ny: 2\n"})
    assert pipeline.definition("use").params == {"own.yaml": {"x": 1, "y": 2}}
    assert pipeline.parameters_of("use") == {
        "own.yaml": {"x": 1},
        "./own.yaml": {"y": 2},
    }
    again = own(experiment, stages, {"own.yaml": "x: 3\ny: 2\n"})
    assert again.definition("use").key != pipeline.definition("use").key


def test_all_versions_count_where_none_is_named(experiment: Experiment):
    stages = {
        "use": {"cmd": "x", "params": [{"version.mllam.txt": None}], "outs": ["o"]}
    }
    assert own(experiment, stages).parameters_of("use") == {
        "version.mllam.txt": VERSIONS
    }


@pytest.mark.parametrize("cached", [True, False])
def test_parameters_that_a_stage_makes_are_not_known_beforehand(
    experiment: Experiment, cached: bool
):
    gen = {"cmd": "x", "deps": ["a.txt"], "outs": [{"gen.yaml": {"cache": cached}}]}
    use = {"cmd": "y", "params": [{"gen.yaml": ["k"]}], "outs": ["o"]}
    files = {"gen.yaml": "k: 1\n"}
    with pytest.raises(UsageError, match="which stage gen makes"):
        own(experiment, {"gen": gen, "use": use}, files).definition("use")
    # In the workspace they are what they are; and they may be what that stage makes of
    # the files as they are.
    for options in (
        {"as_it_lies": True},
        {
            "known": KnownResults(
                lambda _key, _path: md5_of_file(experiment.root / "gen.yaml")
            )
        },
    ):
        pipeline = own(experiment, {"gen": gen, "use": use}, files, **options)
        assert pipeline.definition("use").params == {"gen.yaml": {"k": 1}}


@pytest.mark.parametrize(
    "use",
    [
        {"vars": ["gen.yaml"], "cmd": "y ${k}", "outs": ["o"]},
        {"wdir": "in", "vars": ["../gen.yaml"], "cmd": "y ${k}", "outs": ["o"]},
    ],
)
def test_a_stage_is_not_filled_in_from_what_another_makes(
    experiment: Experiment, use: dict[str, object]
):
    gen = {"cmd": "x", "deps": ["a.txt"], "outs": [{"gen.yaml": {"cache": False}}]}
    files = {"gen.yaml": "k: 1\n"}
    (experiment.root / "in").mkdir()
    told = "is filled in from gen.yaml, which stage gen makes"
    with pytest.raises(UsageError, match=told):
        own(experiment, {"gen": gen, "use": use}, files).definition("use")

    def known(_key: str, _path: str) -> str:
        return md5_of_file(experiment.root / "gen.yaml")

    pipeline = own(
        experiment, {"gen": gen, "use": use}, files, known=KnownResults(known)
    )
    assert pipeline.definition("use").commands == ("y 1",)


def test_the_file_of_versions_may_be_an_input(experiment: Experiment):
    version = {
        "cmd": "mllam-exps run mllam_version",
        "outs": [{"version.mllam.txt": {"cache": False}}],
    }
    use = {"cmd": "x", "deps": ["version.mllam.txt"], "outs": ["o"]}
    files = {"version.mllam.txt": "numpy: 1\n"}
    [source] = (
        own(experiment, {"mllam_version": version, "use": use}, files)
        .definition("use")
        .inputs
    )
    assert (source.run, source.digest) == (
        None,
        md5_of_file(experiment.root / "version.mllam.txt"),
    )
    # One of that name that is not ours is a stage like others.
    version["cmd"] = "python version.py"
    [source] = (
        own(experiment, {"mllam_version": version, "use": use}, files)
        .definition("use")
        .inputs
    )
    assert source.run


@pytest.mark.parametrize(
    ("command", "ours", "plain"),
    [
        ("mllam-exps run train", True, True),
        ("mllam-exps run 'train'", True, True),
        ("mllam-exps run train --force", True, True),
        ("mllam-exps run evaluate", True, False),
        ("mllam-exps run train && python more.py", True, False),
        ("X=1 mllam-exps run train", True, False),
        (["mllam-exps run train", "python more.py"], True, False),
        ("echo 'mllam-exps run train'", False, False),
        ("python train.py", False, False),
    ],
)
def test_a_command_that_does_more_is_told_from_ours(
    command: str | list[str], ours: bool, plain: bool
):
    stage = StageEntry("train", command, "/")
    assert (stage.is_ours, stage.is_plain) == (ours, plain)


def test_an_input_that_leads_through_a_link_to_an_output_is_refused(
    experiment: Experiment,
):
    stages = {
        "make": {
            "cmd": "x",
            "deps": ["a.txt"],
            "outs": [{"real/o.txt": {"cache": False}}],
        }
    }
    root, pipeline = (
        experiment.root,
        own(experiment, stages, {"real/o.txt": "1\n", "real/own.txt": "2\n"}),
    )
    (root / "through").symlink_to("real")
    (root / "one.txt").symlink_to("real/own.txt")

    def look(path: str) -> None:
        files = sources.content_of(pipeline.repository, root / path).depends_on
        submittable.refuse_links_to_outputs(pipeline.repository, path, files, root)

    for path in ("a.txt", "one.txt", "through/own.txt"):
        look(path)
    with pytest.raises(
        UsageError, match=re.escape("through/o.txt leads through a link to real/o.txt")
    ):
        look("through/o.txt")


def test_a_dvcignore_in_an_input_is_refused_as_dvc_does(experiment: Experiment):
    files = {"in/a.txt": "1\n", "in/sub/.dvcignore": "*.tmp\n"}
    pipeline = own(
        experiment, {"use": {"cmd": "x", "deps": ["in"], "outs": ["o"]}}, files
    )
    with pytest.raises(UsageError, match=r"^in: contains sub/\.dvcignore"):
        pipeline.definition("use")


def test_a_parameter_file_that_is_not_there_is_named(experiment: Experiment):
    """DVC refuses it, too; all of no file is not nothing."""
    use = {"cmd": "x", "params": [{"none.yaml": None}], "outs": ["o"]}
    with pytest.raises(UsageError, match=re.escape("none.yaml: there is no such file")):
        own(experiment, {"use": use}).definition("use")


def test_a_link_to_what_git_does_not_track_says_what_to_name(tmp_path: Path):
    for folder in ("here/data", "clone"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here/data/big.bin").write_text("1")
    for folder in ("here", "clone"):
        (tmp_path / folder / "link").symlink_to("data/big.bin")
    told = str(not_in_clone.refusal(tmp_path / "clone", "link", tmp_path / "here"))
    assert "name data/big.bin in deps, instead of the link" in told


@pytest.mark.parametrize("damaged", [False, True])
def test_what_the_cache_has_no_more_is_not_known(made: Experiment, damaged: bool):
    """Nor what is damaged there: it would be found at the end alone, and by nobody mended."""

    def known() -> bool:
        pipeline = Pipeline(
            Repository.open(made.root), lambda: {"numpy": np.__version__}
        )
        return bool(pipeline.known_to_dvc("make"))

    assert known()
    for held in (made.root / ".dvc/cache/files/md5").glob("*/*"):
        content = held.read_bytes()
        if not damaged:
            held.unlink()
        elif held.suffix != ".dir":
            held.unlink()
            held.write_bytes(content[::-1] + b"\n")
            held.chmod(0o444)
    assert not known()


def test_dvc_knows_which_file_may_be_executed(experiment: Experiment):
    """It does of each that is an output by itself; a command that reads it runs it."""
    make = {
        "cmd": "cp a.txt tool; cp a.txt data; chmod +x tool",
        "deps": ["a.txt"],
        "outs": ["tool", "data"],
    }
    deps = ["tool", "data", "added"]
    use = {"cmd": "./tool > out", "deps": deps, "outs": ["out"]}
    own(experiment, {"make": make, "use": use}, {"added": "2\n"})
    (experiment.root / "added").chmod(0o755)
    experiment.ok("dvc", "add", "added")
    experiment.ok("dvc", "repro", "make")
    inputs = own(experiment, {"make": make, "use": use}).definition("use").inputs
    executable = {one.path for one in inputs if one.isexec}
    assert executable == {"tool", "added"}
