"""Starting a repository of one's own: complete, committed, and nothing lost when it can't be done."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.base.yaml_files import read
from mllam_exps.commands.housekeeping import init as module
from mllam_exps.commands.housekeeping.init import ROOT_EXAMPLE, examples, files, init
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.machines.machine_files import load
from mllam_exps.stages.neural_lam.file_names import FILES, INFERENCE
from mllam_exps.stages.neural_lam.parameters import arguments, inference
from mllam_exps.stages.neural_lam.parameters.params import Parameters
from mllam_exps.stages.neural_lam.reporting.evidence import NEEDED
from mllam_exps.stages.neural_lam.reporting.page import MAIN_PROGRAMS

ROOT = Path(__file__).parents[2]
FORCED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["wheel"].get("force-include", {})


@pytest.fixture(autouse=True)
def identity(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (home / ".gitconfig").write_text(
        "[user]\nname = Ada\nemail = ada@site.example\n[init]\ndefaultBranch = main\n"
    )
    return home / ".gitconfig"


def git(folder, *words):
    return subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_a_stage_more(tmp_path):
    new = init(tmp_path / "mine", ROOT_EXAMPLE, ["infer", "infer"])
    before = (ROOT / "dvc.yaml").read_text()
    text = (new / "dvc.yaml").read_text()
    plain, stages = yaml.safe_load(before), yaml.safe_load(text)
    added = stages["stages"].pop("infer")
    assert stages == plain
    assert set(before.splitlines()) <= set(text.splitlines())  # comments, too
    assert added["outs"] == ["forecasts/infer.zarr"]
    assert git(new, "status", "--porcelain") == ""
    assert "data/inference_params.yaml" in git(new, "ls-files")
    assert "stage.yaml" not in git(new, "ls-files")
    assert "/infer.zarr" in (new / "forecasts/.gitignore").read_text()
    others = Parameters({name: read(new / name) for name in FILES})
    values = read(new / INFERENCE)
    assert inference.check(values, others, arguments.known()) == []
    with pytest.raises(UsageError, match="no stage named 'infre' can be added"):
        init(tmp_path / "other", ROOT_EXAMPLE, ["infre"])


def test_a_stage_that_the_example_has_is_its_own(tmp_path):
    new = init(tmp_path / "new", ROOT_EXAMPLE, ["verify", "report"])
    text = (new / "dvc.yaml").read_text()
    added = yaml.safe_load(text)["stages"]["report"]
    before = (ROOT / "dvc.yaml").read_text()
    option = (module.options()["report"] / "stage.yaml").read_text()
    assert text.replace(f"\n{option}", "", 1) == before
    assert {*added["deps"]} == {*NEEDED}
    [programs] = added["params"]
    assert {*MAIN_PROGRAMS} < {*programs[VERSIONS_FILE]}
    assert not (new / "data/inference_params.yaml").exists()


def test_a_stage_brings_those_that_it_reads_of():
    known = module.options()
    for asked in (["verify"], ["verify", "infer"], ["infer", "verify", "infer"]):
        assert module.with_what_they_need(asked, known) == ["infer", "verify"]
    assert module.with_what_they_need(["infer"], known) == ["infer"]
    assert module.with_what_they_need(["report"], known) == ["infer", "verify", "report"]  # fmt: skip


@pytest.mark.parametrize("example", sorted(examples()))
def test_a_complete_repository(tmp_path, example, monkeypatch):
    # As inside a git hook, or a stage of another experiment.
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    monkeypatch.setenv("DVC_ROOT", str(ROOT))
    new = init(tmp_path / "deep" / "mine", example)
    monkeypatch.delenv("GIT_DIR")

    assert new == tmp_path / "deep" / "mine"
    assert git(new, "status", "--porcelain") == ""
    assert (
        git(new, "log", "--format=%an %s")
        == f"Ada Start from mllam-exps' example {example}\n"
    )
    tracked = set(git(new, "ls-files").split("\n"))
    assert {
        "dvc.yaml", "params.yaml", "README.md", ".gitignore", ".dvc/config", "logs/.gitkeep",
        "machines/schema.json", "data/config.yaml", "data/datastore.yaml", "data/training_params.yaml",
        "data/evaluate_params.yaml",
    } <= tracked  # fmt: skip
    for key, value in {
        "core.autostage": "true",
        "cache.type": "reflink,hardlink,symlink",
    }.items():
        command = [sys.executable, "-m", "dvc", "config", key]
        assert (
            subprocess.run(
                command, cwd=new, capture_output=True, text=True, check=True
            ).stdout.strip()
            == value
        )
    for stage in yaml.safe_load((new / "dvc.yaml").read_text())["stages"].values():
        for path in stage.get("deps", []):
            made = path.startswith(
                (
                    "logs/",
                    "data/datastore.zarr",
                    "data/graph",
                    "saved_models",
                    "forecasts/",
                )
            )
            assert made or (new / path).exists(), path
    # What DVC, MLflow and we write beside the outputs; here, where `make run` is, too.
    ours = {"dvc_plots/", "logs/x.log", "mlflow.db", "mlruns/", "wandb/"}
    ours |= {"report.html", "two.html", "e.crate/", "e.crate.zip"}
    for place in (new, ROOT):
        assert set(git(place, "check-ignore", *ours).split()) == ours
    for machine in (new / "machines").glob("*.yaml"):
        load(new, machine.stem)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status"],
        cwd=new,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "train" in done.stdout


def test_what_the_user_s_own_rules_ignore_belongs_to_it_all_the_same(
    tmp_path, identity
):
    # `*.yaml` for all that an example may hold: data of other kinds, say.
    (tmp_path / "rules").write_text("*.nc\n*.zarr\n*.yaml\n")
    (tmp_path / "template" / "info").mkdir(parents=True)
    (tmp_path / "template" / "info" / "exclude").write_text("README.md\n")
    rules = f"[core]\nexcludesFile = {tmp_path}/rules\n"
    identity.write_text(
        f"{identity.read_text()}templateDir = {tmp_path}/template\n{rules}"
    )
    new = init(tmp_path / "mine")
    tracked = set(git(new, "ls-files").split("\n"))
    assert {str(place) for place in files(ROOT_EXAMPLE)} | {
        ".dvc/config",
        "README.md",
        ".dvcignore",
    } <= tracked
    assert not any(name.startswith((".dvc/tmp", ".dvc/cache")) for name in tracked)


def test_one_copy_of_everything():
    placed = files(ROOT_EXAMPLE)
    assert placed[Path("dvc.yaml")] == ROOT / "dvc.yaml"
    assert all(path.is_file() for path in placed.values())
    tracked = set(git(ROOT, "ls-files").split("\n"))
    assert {str(place) for place in placed if place.parts[0] == "examples"} <= tracked


def test_an_empty_clone_is_fine(tmp_path):
    git(tmp_path, "init", "--quiet", "-b", "trunk", "mine")
    init(tmp_path / "mine")
    assert git(tmp_path / "mine", "branch", "--show-current") == "trunk\n"


def test_inside_another_repository(tmp_path):
    git(tmp_path, "init", "--quiet", ".")
    new = init(tmp_path / "mine")
    assert git(new, "rev-parse", "--show-toplevel").strip() == str(new)


def test_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"is not empty: it holds home, notes\.txt"):
        init(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "notes.txt"]
    with pytest.raises(UsageError, match="is a file"):
        init(tmp_path / "notes.txt")


def test_a_repository_with_commits(tmp_path):
    git(tmp_path, "init", "--quiet", "mine")
    git(tmp_path / "mine", "commit", "--quiet", "--allow-empty", "-m", "x")
    with pytest.raises(UsageError, match="has commits already"):
        init(tmp_path / "mine")


def test_no_such_example(tmp_path):
    with pytest.raises(
        UsageError, match=r"no example named 'danra': there are: north-atlantic-2025"
    ):
        init(tmp_path / "mine", "danra")
    assert not (tmp_path / "mine").exists()


def test_nobody_commits(tmp_path, identity):
    identity.write_text("")
    with pytest.raises(UsageError, match=r"git config --global user\.name") as caught:
        init(tmp_path / "mine")
    assert caught.value.exit == Exit.USAGE
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("before", ["absent", "empty", "clone"])
def test_a_failure_leaves_nothing_behind(tmp_path, identity, before):
    # A commit that fails, for whatever reason: here a key to sign with that isn't
    # there.
    identity.write_text(
        identity.read_text() + "[commit]\ngpgSign = true\n[gpg]\nprogram = /bin/false\n"
    )
    mine = tmp_path / "a" / "mine"
    if before != "absent":
        mine.mkdir(parents=True)
    if before == "clone":
        git(mine, "init", "--quiet", ".")
    with pytest.raises(MllamError, match="`git commit"):
        init(mine)
    if before == "absent":
        assert not mine.parent.exists()
    else:
        assert [path.name for path in mine.iterdir()] == (
            [".git"] if before == "clone" else []
        )
    if before == "clone":
        assert git(mine, "status", "--porcelain") == ""


def test_a_folder_that_is_read_only(tmp_path):
    # Root may write anywhere but where the kernel makes the files.
    mine = Path("/proc/mine") if os.geteuid() == 0 else tmp_path / "mine"
    if os.geteuid() != 0:
        mine.mkdir(mode=0o555)
    with pytest.raises(MllamError, match="can't be written"):
        init(mine)


@pytest.mark.skipif(not FORCED, reason="no examples are packaged")
def test_a_wheel_holds_the_same_examples(tmp_path, monkeypatch):
    # Laid out as hatchling does it, by pyproject.toml's own lines.
    here = {
        name: {place: path.read_bytes() for place, path in files(name).items()}
        for name in examples()
    }
    for source, target in FORCED.items():
        place = tmp_path / "wheel" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, dirs_exist_ok=True)
        else:
            shutil.copyfile(ROOT / source, place)
    monkeypatch.setattr(module, "_PACKAGED", tmp_path / "wheel/mllam_exps/_examples")
    monkeypatch.setattr(module, "_CHECKOUT", Path("/nowhere"))
    assert {
        name: {place: path.read_bytes() for place, path in files(name).items()}
        for name in examples()
    } == here
