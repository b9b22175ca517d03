"""Machine files: what is read, what is refused with which words, and where values come from."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.commands.housekeeping import machine as report
from mllam_exps.machines import environment, machine_show, strict_yaml
from mllam_exps.machines.machine_files import load, names, pick
from mllam_exps.machines.model import Resources, schema_text
from mllam_exps.machines.values import _SBATCH_OWNED, _SRUN_OWNED, OPTIONS, seconds
from mllam_exps.schedulers.slurm.batch_script import resource_options, srun_options

ROOT = Path(__file__).parents[2]
PIPELINE = "stages: {prepare_dataset: {}, create_graph: {}, train: {}, evaluate: {}}\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="x"):
        file = tmp_path / "machines" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        (tmp_path / "dvc.yaml").write_text(PIPELINE)
        return tmp_path

    return write


def refusal(root, name="x", **environ):
    with pytest.raises(MllamError) as caught:
        load(root, name, environ)
    assert caught.value.exit == Exit.USAGE
    lines = str(caught.value).splitlines()
    assert all(line.strip() for line in lines)
    return str(caught.value)


# The repository's own files.


def test_schema_is_in_step():
    # An older pydantic writes 1.0 where a newer one writes 1.
    found = (ROOT / "machines/schema.json").read_text()
    assert json.loads(found) == json.loads(schema_text()), (
        "python -m mllam_exps.machines.model > machines/schema.json"
    )


def test_editors_take_numbers_where_the_file_has_them():
    keys = json.loads(schema_text())["$defs"]["Resources"]["properties"]
    for key in ("time", "gpus", "memory", "cpus"):
        assert "integer" in json.dumps(keys[key]), key


def test_every_key_is_described():
    schema = json.loads(schema_text())
    for model in [schema, *schema["$defs"].values()]:
        for key, said in model["properties"].items():
            assert said.get("description"), key


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_our_files_load(name):
    text = (ROOT / "machines" / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert load(ROOT, name).scheduler == name


def test_the_template_names_every_key():
    _, lines = strict_yaml.read(ROOT / "machines/slurm.yaml", "machines/slurm.yaml")
    schema = json.loads(schema_text())
    expected = set(schema["properties"])
    for place, model in [
        ("environment", "Environment"),
        ("paths", "Paths"),
        ("resources.default", "Resources"),
    ]:
        expected |= {f"{place}.{key}" for key in schema["$defs"][model]["properties"]}
    assert expected <= set(lines)


# Values.


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("1-02:03:04", 93784),
        ("2:00:00", 7200),
        ("36:00:00", 129600),
        (90, 5400),
        ("90", 5400),
        ("0:00:01", 1),
    ],
)
def test_time(time, expected):
    assert seconds(time) == expected
    assert Resources(time=time).time_seconds == expected


@pytest.mark.parametrize(
    "time",
    [
        "1:30",
        "1-24:00:00",
        "1:60:00",
        "0",
        "0:00:00",
        "1d",
        "-5",
        "",
        "1-00",
        "UNLIMITED",
    ],
)
def test_time_refused(time):
    with pytest.raises(ValueError, match=r"."):
        seconds(time)


def test_time_is_not_of_base_60(write):
    # YAML 1.1 reads 2:00:00 as the number 7200, which sbatch would take for five days.
    root = write("scheduler: slurm\nresources:\n  train:\n    time: 2:00:00\n")
    assert resource_options(load(root, "x").resources_for("train")) == [
        "--time=2:00:00"
    ]


def test_arguments():
    resources = Resources(
        partition="gpu",
        account="cu_1",
        qos="normal",
        time="1-00:00:00",
        cpus=8,
        memory="64G",
        gpus=8,
        exclusive=True,
        mail={"user": "me@site.example", "types": ["END"]},
        sbatch={
            "constraint": "a100|v100",
            "no-kill": True,
            "contiguous": False,
            "comment": None,
        },
        srun={"unbuffered": True, "kill-on-bad-exit": 1},
    )
    assert resource_options(resources) == [
        "--partition=gpu", "--account=cu_1", "--qos=normal", "--time=1-00:00:00", "--cpus-per-task=8",
        "--mem=64G", "--gpus-per-node=8", "--exclusive", "--mail-user=me@site.example", "--mail-type=END",
        "--constraint=a100|v100", "--no-kill",
    ]  # fmt: skip
    assert srun_options(resources) == [
        "--cpus-per-task=8",
        "--unbuffered",
        "--kill-on-bad-exit=1",
    ]


def test_every_option_with_a_key_is_owned():
    assert set(OPTIONS.values()) <= set(_SBATCH_OWNED)
    assert set(OPTIONS) <= set(Resources.model_fields)
    assert all([*_SBATCH_OWNED.values(), *_SRUN_OWNED.values()])


@pytest.mark.parametrize("option", sorted(_SBATCH_OWNED))
def test_owned_options_are_refused_with_a_reason(write, option):
    root = write(
        f"scheduler: slurm\nresources:\n  train:\n    sbatch:\n      {option}: 1\n"
    )
    told = refusal(root)
    where = f"machines/x.yaml:5: resources.train.sbatch.{option}"
    assert told == f"{where}: is not for the file to set: {_SBATCH_OWNED[option]}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sbatch: {wra: x}", "would be read as `wrap`"),
        ("sbatch: {--constraint: x}", "without dashes"),
        ("sbatch: {comment: [1]}", "must be text, a number"),
        ('sbatch: {comment: "a\\nb"}', "line break"),
        ("sbatch: {comment: $(reboot)}", "'$'"),
        ("srun: {ntasks: 3}", "num_nodes"),
        ("srun: {time: 3}", "use the key `time`"),
        ("partition: a b", "holds a space"),
        ("partition: ''", "is empty"),
        ("partition: a;b", "';'"),
        ("cpus: many", "must be a valid integer, not 'many'"),
        ("cpus: true", "must be a valid integer"),
        ("cpus: 0", "greater than or equal to 1"),
        ("memory: 64GB", "64G"),
        ("gpus: all", "a100:8"),
        ("gpus: 0", "a100:8"),
        ("tiem: 1", "did you mean 'time'?"),
        ("nodes: 2", "is unknown"),
        ("exclusive: 1", "must be a valid boolean"),
        ("mail: {user: me, types: [ENDS]}", "did you mean 'END'?"),
        ("mail: {usr: me}", "did you mean 'user'?"),
        ("{gpus: 8, gres: gpu:8}", "both ask for GPUs"),
    ],
)
def test_resources_refused(write, line, words):
    body = line if line.startswith("{") else "{" + line + "}"
    assert words in refusal(write(f"scheduler: slurm\nresources:\n  train: {body}\n"))


def test_gpus_of_the_default_and_gres_of_a_stage(write):
    text = (
        "scheduler: slurm\nresources:\n  default: {gpus: 8}\n  train: {gres: gpu:8}\n"
    )
    assert "both ask for GPUs" in refusal(write(text))
    root = write(text.replace("gres: gpu:8", "gres: gpu:8, gpus: null"))
    assert resource_options(load(root, "x").resources_for("train")) == ["--gres=gpu:8"]


@pytest.mark.parametrize(
    "name",
    ["MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY", "my_token", "AWS_SECRET_ACCESS_KEY"],
)
def test_secrets_are_refused(write, name):
    told = refusal(
        write(f"scheduler: local\nenvironment:\n  variables:\n    {name}: hunter2\n")
    )
    assert "looks like a secret" in told
    assert "0600" in told
    assert "hunter2" not in told


def test_a_password_in_an_address_is_refused_and_not_repeated(write):
    text = "scheduler: local\nenvironment: {variables: {MLFLOW_TRACKING_URI: 'https://me:hunter2@x.example'}}\n"
    told = refusal(write(text))
    assert "holds a password" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("PATH: /x", "modules, source and venv"),
        ("SLURM_CONF: /x", "belongs to the program of that name"),
        ("A-B: 1", "no name of an environment variable"),
        ("A: true", '"true"'),
        ("A: [1]", "must be text or a number"),
        ("A: null", "must be text or a number"),
        ("A: $HOME/x", "`source`"),
        ('A: "a\\nb"', "line break"),
    ],
)
def test_variables_refused(write, line, words):
    assert words in refusal(
        write(f"scheduler: local\nenvironment:\n  variables:\n    {line}\n")
    )


def test_variables_keep_their_text(write):
    root = write(
        "scheduler: local\nenvironment:\n  variables:\n"
        "    A: 1.10\n    B: 8\n    C: no\n    D: 007\n    E: 'true'\n    TOKENIZERS_PARALLELISM: 1:2\n"
        "    AWS_SHARED_CREDENTIALS_FILE: /x\n    F: 1e3\n"
    )
    assert load(root, "x").environment.variables == {
        "A": "1.10", "B": "8", "C": "no", "D": "007", "E": "true", "TOKENIZERS_PARALLELISM": "1:2",
        "AWS_SHARED_CREDENTIALS_FILE": "/x", "F": "1e3",
    }  # fmt: skip


@pytest.mark.parametrize(
    "key",
    ["environment: {venv: %s}", "paths: {run_store: %s}", "working_directory: %s"],
)
def test_paths(write, key, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert "is relative" in refusal(write("scheduler: local\n" + key % ".venv"))
    assert "/home/me/x" in repr(load(write("scheduler: local\n" + key % "~/x"), "x"))


@pytest.mark.parametrize(
    "text",
    [
        "environment:\n",
        "resources:\n",
        "resources:\n  train:\n",
        "resources: {train: {sbatch: , srun: }}\n",
        "paths:\nhosts:\n",
        "environment:\n  modules:\n  source:\n  variables:\n",
    ],
)
def test_a_key_with_comments_only_is_empty(write, text):
    assert (
        load(write("scheduler: local\n" + text), "x").resources_for("train")
        == Resources()
    )


# Files.


def test_all_problems_are_told_at_once_with_their_lines(write):
    told = refusal(
        write(
            "scheduler: slrum\nresources:\n  trian: {}\n  train:\n    tiem: 3\npath:\n  logs: x\n"
        ),
        MLLAM_MACHINE_OPTIONS="trane.time=3 train.tme=3 nonsense on_interrupt=stop",
    )
    options = "MLLAM_MACHINE_OPTIONS"
    assert told.splitlines() == [
        f"{options}: trane.time: is unknown: no key of a machine, and no stage; did you mean 'train'?",
        "MLLAM_MACHINE_OPTIONS: 'nonsense' is not key=value",
        "machines/x.yaml:3: resources.trian: is no stage of dvc.yaml: did you mean 'train'?",
        "machines/x.yaml:1: scheduler: must be 'local' or 'slurm', not 'slrum'; did you mean 'slurm'?",
        "machines/x.yaml:5: resources.train.tiem: is unknown: no key of that name; did you mean 'time'?",
        "MLLAM_MACHINE_OPTIONS: resources.train.tme: is unknown: no key of that name; did you mean 'time'?",
        "MLLAM_MACHINE_OPTIONS: on_interrupt: must be 'cancel' or 'detach', not 'stop'",
        "machines/x.yaml:6: path: is unknown: no key of that name; did you mean 'paths'?",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "scheduler: local\nscheduler: slurm\n",
            "machines/x.yaml:2: scheduler: stands twice, first in line 1",
        ),
        ("scheduler: local\npaths: {logs: [\n", "machines/x.yaml:3:1: "),
        ("a: b\n c: d\n", "machines/x.yaml:2:3: mapping values are not allowed"),
        ("- a\n", "machines/x.yaml:1: must be a mapping"),
        ("just text\n", "machines/x.yaml:1: must be a mapping"),
        ("", "scheduler"),
        ("paths: &a\n  logs: *a\n", "nested too deeply"),
        ("scheduler: !!python/object/apply:os.system [reboot]\n", "scheduler"),
        ("scheduler: !x local\n", "tag"),
        ("? [a]\n: b\n", "a key must be a word"),
        ("name: y\nscheduler: local\n", "name: is unknown"),
        ("scheduler: local\nresources: {train: 3}\n", "resources.train"),
        ("scheduler: local\nresources: {'../x': {}}\n", "no name of a stage"),
        ("scheduler: local\npaths: {log: x}\n", "did you mean 'logs'?"),
        ("scheduler: local\nnotify: {comand: x}\n", "did you mean 'command'?"),
        ("scheduler: local\nenvironment: {module: x}\n", "did you mean 'modules'?"),
        (
            "scheduler: local\nresources: {train: {mail: {user: me, tipes: [END]}}}\n",
            "did you mean 'types'?",
        ),
        (
            "scheduler: local\nenvironment: {variables: {A: {b: c}}}\n",
            "must be text or a number",
        ),
        ("scheduler: local\nmax_jobs: many\n", "x.yaml:2: max_jobs: "),
    ],
)
def test_files_refused(write, text, words):
    told = refusal(write(text))
    assert words in told
    assert "Traceback" not in told


def test_bytes_that_are_no_text(write):
    root = write("")
    (root / "machines/x.yaml").write_bytes(b"scheduler: \xff\xfe")
    assert "can't be read as YAML" in refusal(root)


@pytest.mark.parametrize("name", ["slrum", "../slurm", "a/b", ""])
def test_no_such_machine(name):
    told = refusal(ROOT, name)
    assert "there are local, slurm" in told
    assert ("did you mean 'slurm'?" in told) == (name in {"slrum", "../slurm"})


def test_stages_of_the_users_own_pipeline(write):
    root = write("scheduler: local\nresources: {trains: {cpus: 3}}\n")
    assert "did you mean 'train'" in refusal(root)
    (root / "dvc.yaml").write_text("stages: {trains: {cmd: x}}\n")
    assert load(root, "x").resources_for("trains@a").cpus == 3
    assert (
        load(root, "x", {"MLLAM_MACHINE_OPTIONS": "trains.cpus=4"})
        .resources_for("trains")
        .cpus
        == 4
    )


# Which machine, and from where.


def test_pick(write, tmp_path):
    assert pick(tmp_path, {}, "n1").name == "local"
    write("scheduler: slurm\nhosts: [login*.big.example]\n", "big")
    write("scheduler: slurm\nhosts: [login*, N1]\n", "other")
    write("scheduler: slurm\n", "zero")
    assert pick(tmp_path, {}, "login3.big.example").name == "big"
    assert pick(tmp_path, {}, "login3").name == "other"
    assert pick(tmp_path, {}, "n1.cluster").name == "other"
    assert pick(tmp_path, {}, "laptop").name == "local"
    assert pick(tmp_path, {"MLLAM_MACHINE": "zero"}, "login3").name == "zero"
    assert pick(tmp_path, {"MLLAM_MACHINE": ""}, "login3").name == "other"
    assert names(tmp_path) == ["big", "local", "other", "zero"]


def test_local_needs_no_file(tmp_path):
    machine = load(tmp_path, "local")
    assert (machine.scheduler, machine.file, machine.venv) == (
        "local",
        None,
        Path(sys.prefix),
    )


def test_where_values_come_from(write):
    root = write(
        "scheduler: slurm\nresources:\n  default:\n    account: a\n    cpus: 2\n"
        "    sbatch: {comment: c, constraint: x}\n"
        "  train:\n    cpus: 4\n    sbatch:\n      constraint: y\nenvironment:\n  venv: /file\n"
    )
    environ = {
        "MLLAM_MACHINE_OPTIONS": "train.time=2:00:00 train.sbatch.reservation='the night' max_jobs=3 "
        "environment.modules=[GCC/12,CUDA] evaluate.sbatch.constraint=[a|b] environment.variables.A=007",
        "MLLAM_VENV_PATH": "/venv",
    }
    machine = load(root, "x", environ)
    train = machine.resources_for("train")
    assert (train.account, train.cpus, train.time) == ("a", 4, "2:00:00")
    assert train.sbatch == {
        "comment": "c",
        "constraint": "y",
        "reservation": "the night",
    }
    assert machine.resources_for("evaluate").sbatch == {
        "comment": "c",
        "constraint": "[a|b]",
    }
    assert (machine.max_jobs, machine.venv, machine.environment.modules) == (
        3,
        Path("/venv"),
        ("GCC/12", "CUDA"),
    )
    assert machine.environment.variables == {"A": "007"}
    assert load(root, "x").venv == Path("/file")

    shown = {
        row["field"]: (row["value"], row["from"])
        for row in machine_show.as_dict(machine)["values"]
    }
    options = "MLLAM_MACHINE_OPTIONS"
    assert shown["scheduler"] == ("slurm", "machines/x.yaml:1")
    assert shown["train.account"] == ("a", "machines/x.yaml:4")
    assert shown["train.cpus"] == (4, "machines/x.yaml:8")
    assert shown["train.sbatch.comment"] == ("c", "machines/x.yaml:6")
    assert shown["train.sbatch.constraint"] == ("y", "machines/x.yaml:10")
    assert shown["train.sbatch.reservation"] == ("the night", options)
    assert shown["train.time"] == ("2:00:00", options)
    assert shown["environment.venv"] == ("/venv", "MLLAM_VENV_PATH")
    assert shown["environment.modules"] == (["GCC/12", "CUDA"], options)
    assert shown["paths.logs"] == ("logs", "default")
    json.dumps(machine_show.as_dict(machine))

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(machine_show.as_table(machine))
    text = console.export_text()
    assert "[a|b]" in text
    assert "machines/x.yaml:10" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("paths=3", "it has keys of its own"),
        ("train=3", "it has keys of its own"),
        ("scheduler.x=3", "scheduler is a value"),
        ("train.sbatch.wrap=x", "mllam-exps writes the batch script"),
        ("train.time='1", "can't be split"),
        ("=3", "is not key=value"),
        ("train.time={a: 3}", "is not key=value"),
        ("'train.time={a: 3}'", "no time limit"),
        ("schduler=local", "did you mean 'scheduler'?"),
    ],
)
def test_options_refused(options, words):
    told = refusal(ROOT, "slurm", MLLAM_MACHINE_OPTIONS=options)
    assert words in told
    assert "MLLAM_MACHINE_OPTIONS" in told


def test_relative_venv_from_the_environment():
    assert "MLLAM_VENV_PATH: environment.venv: is relative" in refusal(
        ROOT, "local", MLLAM_VENV_PATH=".venv"
    )


def test_machines_are_listed_although_the_one_that_is_named_is_not_there(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines/x.yaml").write_text("scheduler: slrm\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLLAM_MACHINE", "y")
    report.show_all()
    told = capsys.readouterr()
    assert told.out == "  local\n  x\n"
    assert "MLLAM_MACHINE is y, which is none of them" in told.err
    monkeypatch.setenv("MLLAM_MACHINE", "x")
    report.show_all()
    assert capsys.readouterr() == ("  local\n* x\n", "")


def test_a_key_that_is_gone_is_refused_with_what_to_do_instead(write):
    told = refusal(write("scheduler: local\nsubmit_for_others: false\n"))
    assert (
        told.splitlines()[0]
        == "machines/x.yaml:2: submit_for_others: is no key any more"
    )
    assert told.splitlines()[1].startswith(
        "  → delete the line; who wants to go on with a colleague's experiment submits"
    )


@pytest.mark.parametrize(
    ("given", "books"),
    [
        ({}, {"cpus": 1}),
        ({"time": "00:10:00"}, {"cpus": 1, "time": "00:10:00"}),
        ({"time": "4:00:00"}, {"cpus": 1, "time": "30"}),
        ({"memory": "512M"}, {"cpus": 1, "memory": "512M"}),
        ({"memory": "0"}, {"cpus": 1, "memory": "1024M"}),
        ({"memory": "1T"}, {"cpus": 1, "memory": "1024M"}),
        (
            {"cpus": 64, "gpus": "8", "exclusive": True, "account": "a"},
            {"cpus": 1, "account": "a"},
        ),
    ],
)
def test_a_job_that_saves_asks_for_little(given, books):
    found = Resources(**given).for_keeping_books()
    assert found.model_dump(exclude_none=True, exclude_defaults=True) == books


def test_a_job_that_saves_has_the_resources_of_its_own_section(write):
    root = write(
        "scheduler: slurm\nresources: {default: {cpus: 8, account: a}, save: {account: b}}\n"
    )
    machine = load(root, "x")
    assert (
        machine.resources_for("train").cpus,
        machine.resources_for("save").cpus,
    ) == (8, 1)
    assert machine.resources_for("save").account == "b"


def test_a_repository_that_is_gone(tmp_path):
    assert "there is no DVC repository" in refusal(tmp_path / "moved")


def test_where_it_runs_is_made_ready(write):
    root = write(
        "scheduler: slurm\nenvironment:\n  venv: /venv\n  modules: [GCC/12]\n  source: [my env.sh]\n"
        "  variables: {A: a b}\npaths: {cartopy_data: /maps}\n"
    )
    machine = load(root, "x")
    lines = environment.prologue(machine, root)
    told = [
        "module load GCC/12 || exit",
        f". '{root}/machines/my env.sh' || exit",
        "unset PYTHONHOME",
        'export PATH=/venv/bin:"$PATH"',
        "export VIRTUAL_ENV=/venv",
        "export CARTOPY_DATA_DIR=/maps",
        "export A='a b'",
    ]
    assert [line for line in lines if line in told] == told
    bash, option, text, name, *words = environment.wrap(machine, root, ["a", "b c"])
    assert (bash, option, name, words) == ("bash", "-c", "mllam-exps", ["a", "b c"])
    assert all(line in text.splitlines() for line in told)
    assert environment.python(machine) == Path("/venv/bin/python")


def test_without_modules_no_shell_is_needed(write, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    root = write("scheduler: local\nenvironment: {venv: /venv, variables: {A: a b}}\n")
    wrapped = environment.wrap(load(root, "x"), root, ["a", "b c"])
    path = ["PATH=/venv/bin:/usr/bin", "VIRTUAL_ENV=/venv", "A=a b"]
    assert wrapped == ["env", "-u", "PYTHONHOME", *path, "a", "b c"]
