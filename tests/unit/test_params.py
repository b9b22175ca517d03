"""Parameter files: every mistake told in one line before anything starts, good ones turned into arguments."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import Exit, Problems, UsageError
from mllam_exps.stages.contract import Size
from mllam_exps.stages.neural_lam.common import size_of
from mllam_exps.stages.neural_lam.file_names import (
    CONFIG,
    DATASTORE,
    EVALUATION,
    PARAMS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.parameters import param_checks, params
from mllam_exps.stages.neural_lam.parameters.arguments import Arguments
from mllam_exps.stages.neural_lam.parameters.params import Parameters

ROOT = Path(__file__).parents[2]
ARGUMENTS = Arguments.from_json(
    (
        ROOT
        / "src/mllam_exps/stages/neural_lam/parameters/known_arguments/neural-lam-0.7.0.json"
    ).read_text()
)

GOOD: dict[str, dict[str, Any]] = {
    PARAMS: {
        "logger": "mlflow",
        "logger_project": "a project",
        "seed": 42,
        "graph": {
            "name": "flat",
            "archetype": "keisler",
            "mesh_node_distance": None,
            "max_num_levels": None,
        },
        "archives": {"surface": "v0.5.0"},
    },
    TRAINING: {
        "model": "graph_lam",
        "hidden_dim": 8,
        "epochs": 4,
        "lr": 0.001,
        "ar_steps_train": 2,
        "ar_steps_eval": 4,
        "val_steps_to_log": [1, 4],
        "output_std": False,
        "devices": 1,
    },
    EVALUATION: {"eval": "val"},
    CONFIG: {"datastore": {"kind": "mdp", "config_path": "datastore.yaml"}},
    DATASTORE: {
        "inputs": {
            "surface": {
                "target_output_variable": "state",
                "variables": ["t2m", "msl"],
                "dim_mapping": {"state_feature": {"name_format": "{var_name}"}},
            }
        },
        "output": {
            "coord_ranges": {
                "time": {
                    "start": "2025-12-01T00:00",
                    "end": "2025-12-31T00:00",
                    "step": "PT6H",
                }
            },
            "splitting": {
                "splits": {
                    "train": {"start": "2025-12-01T00:00", "end": "2025-12-10T00:00"},
                    "val": {"start": "2025-12-11T00:00", "end": "2025-12-20T00:00"},
                    "test": {"start": "2025-12-21T00:00", "end": "2025-12-30T00:00"},
                }
            },
        },
    },
}


def experiment(**changes: Any) -> Parameters:
    """Return good parameters with some changed; a key such as ``graph.name`` reaches into a section."""
    files = copy.deepcopy(GOOD)
    names = {
        "params": PARAMS,
        "training": TRAINING,
        "evaluation": EVALUATION,
        "config": CONFIG,
        "data": DATASTORE,
    }
    for short, values in changes.items():
        for key, value in values.items():
            section = files[names[short]]
            *parents, last = key.split(".")
            for parent in parents:
                section = section[parent]
            section[last] = value
    return Parameters(files)


def told(**changes: Any) -> list[str]:
    return [
        str(problem)
        for problem in param_checks.check(ROOT, experiment(**changes), ARGUMENTS)
    ]


def test_good_files_are_good() -> None:
    assert told() == []


def test_the_repository_s_own_files_are_good() -> None:
    assert [
        str(problem)
        for problem in param_checks.check(ROOT, params.load(ROOT), ARGUMENTS)
    ] == []


T, E, P = TRAINING, EVALUATION, PARAMS
HIERARCHICAL = {"graph.archetype": "hierarchical"}
MESSAGES: list[tuple[dict[str, Any], str]] = [
    # unknown keys
    (
        {"training": {"hidden_dimm": 4}},
        f"{T}: hidden_dimm: unknown key; did you mean hidden_dim?",
    ),
    ({"training": {"zzz": 4}}, f"{T}: zzz: unknown key"),
    (
        {"evaluation": {"checkpont": "last"}},
        f"{E}: checkpont: unknown key; did you mean checkpoint?",
    ),
    ({"params": {"sed": 1}}, f"{P}: sed: unknown key; did you mean seed?"),
    (
        {"params": {"graph.mesh_node_distanse": 1}},
        f"{P}: graph.mesh_node_distanse: unknown key; did you mean mesh_node_distance?",
    ),
    ({"params": {"graph.config_path": "x"}}, f"{P}: graph.config_path: unknown key"),
    # keys that belong elsewhere, or to nobody
    (
        {"training": {"load": "a.ckpt"}},
        f"{T}: load: does not belong here: mllam-exps finds the checkpoint: say which one in {E}, as checkpoint; "
        f"{P}: resume_from names what training goes on from",
    ),
    (
        {"training": {"restore_opt": True}},
        f"{T}: restore_opt: does not belong here: mllam-exps sets it when a training goes on; "
        f"{P}: cold_start takes the weights alone",
    ),
    ({"training": {"seed": 1}}, f"{T}: seed: does not belong here: stands in {P}"),
    (
        {"training": {"logger_project": "x"}},
        f"{T}: logger_project: does not belong here: stands in {P}",
    ),
    (
        {"training": {"graph": "x"}},
        f"{T}: graph: does not belong here: stands in {P}, as graph.name",
    ),
    (
        {"training": {"eval": "val"}},
        f"{T}: eval: does not belong here: stands in {E}: training never evaluates",
    ),
    (
        {"training": {"config_path": "x"}},
        f"{T}: config_path: does not belong here: mllam-exps always passes {CONFIG}",
    ),
    (
        {"evaluation": {"runs_root": "x"}},
        f"{E}: runs_root: does not belong here: mllam-exps gives each attempt its own folder",
    ),
    (
        {"evaluation": {"logger": "wandb"}},
        f"{E}: logger: does not belong here: stands in {P}",
    ),
    (
        {"evaluation": {"hidden_dim": 8}},
        f"{E}: hidden_dim: describe the model once, in {T}",
    ),
    (
        {"evaluation": {"m2g_gnn_type": "x"}},
        f"{E}: m2g_gnn_type: describe the model once, in {T}",
    ),
    ({"evaluation": {"loss": "mse"}}, f"{E}: loss: describe the model once, in {T}"),
    (
        {"evaluation": {"num_past_forcing_steps": 1}},
        f"{E}: num_past_forcing_steps: describe the model once, in {T}",
    ),
    (
        {"evaluation": {"epochs": 3}},
        f"{E}: epochs: says nothing about an evaluation: it stands in {T}",
    ),
    # types, choices, limits
    ({"training": {"epochs": "4"}}, f"{T}: epochs: must be an integer, not '4'"),
    ({"training": {"epochs": 0}}, f"{T}: epochs: must be 1 or more, not 0"),
    ({"training": {"batch_size": -2}}, f"{T}: batch_size: must be 1 or more, not -2"),
    (
        {"training": {"hidden_dim": True}},
        f"{T}: hidden_dim: must be an integer, not True",
    ),
    ({"training": {"lr": 0}}, f"{T}: lr: must be greater than 0, not 0"),
    ({"training": {"lr": "-1e-3"}}, f"{T}: lr: must be greater than 0, not -1e-3"),
    (
        {"training": {"loss": "huber"}},
        f"{T}: loss: must be one of mse, mae, wmse, wmae, nll, crps_gauss, not 'huber'",
    ),
    (
        {"training": {"mesh_aggr": "max"}},
        f"{T}: mesh_aggr: must be one of sum, mean, not 'max'",
    ),
    (
        {"training": {"devices": [0, 1]}},
        f"{T}: devices: must be an integer, not a list",
    ),
    (
        {"training": {"devices": "auto"}},
        f"{T}: devices: must be an integer, not 'auto'",
    ),
    ({"training": {"devices": 0}}, f"{T}: devices: must be 1 or more, not 0"),
    (
        {"evaluation": {"eval": "train"}},
        f"{E}: eval: must be one of val, test, not 'train'",
    ),
    (
        {"evaluation": {"eval": None}},
        f"{E}: eval: is missing: say which split to evaluate, val or test",
    ),
    (
        {"evaluation": {"checkpoint": "best"}},
        f"{E}: checkpoint: must be one of min_val_loss, last, not 'best'",
    ),
    ({"params": {"seed": -1}}, f"{P}: seed: must be 0 or more, not -1"),
    (
        {"params": {"seed": 2**32}},
        f"{P}: seed: must be 4294967295 or less, not 4294967296",
    ),
    (
        {"params": {"logger": "csv"}},
        f"{P}: logger: must be one of wandb, mlflow, not 'csv'",
    ),
    ({"params": {"logger_project": ""}}, f"{P}: logger_project: is missing"),
    # steps to log
    (
        {"training": {"val_steps_to_log": [1, 5, 9]}},
        f"{T}: val_steps_to_log: 5, 9 must lie between 1 and ar_steps_eval: 4",
    ),
    (
        {"training": {"val_steps_to_log": None}},
        f"{T}: val_steps_to_log: not given, so neural-lam's [1, 2, 3, 5, 10]: "
        "5, 10 must lie between 1 and ar_steps_eval: 4",
    ),
    (
        {"training": {"train_steps_to_log": 3}},
        f"{T}: train_steps_to_log: 3 must lie between 1 and ar_steps_train: 2",
    ),
    (
        {"evaluation": {"ar_steps_eval": 2}},
        f"{E}: val_steps_to_log: [1, 4] as in {T}: 4 must lie between 1 and ar_steps_eval: 2",
    ),
    (
        {"evaluation": {"val_steps_to_log": [0]}},
        f"{E}: val_steps_to_log: 0 must lie between 1 and ar_steps_eval: 4",
    ),
    # metrics
    (
        {"training": {"metrics_watch": ["test_rmse"]}},
        f"{T}: metrics_watch: neural-lam would ignore test_rmse: it knows val_rmse here",
    ),
    (
        {"evaluation": {"metrics_watch": "val_rmse"}},
        f"{E}: metrics_watch: neural-lam would ignore val_rmse: it knows test_mae, test_rmse here",
    ),
    (
        {"evaluation": {"metrics_watch": ["test_output_std"]}},
        f"{E}: metrics_watch: neural-lam would ignore test_output_std: it knows test_mae, test_rmse here",
    ),
    (
        {"training": {"output_std": True}},
        f"{T}: output_std: needs loss: nll or crps_gauss, not wmse",
    ),
    (
        {
            "training": {
                "metrics_watch": ["val_rmse"],
                "var_leads_metrics_watch": {2: [1]},
            }
        },
        f"{T}: var_leads_metrics_watch: there is no state variable 2: {DATASTORE} makes 2, counted from 0",
    ),
    (
        {
            "training": {
                "metrics_watch": ["val_rmse"],
                "var_leads_metrics_watch": {"0": [1, 5]},
            }
        },
        f"{T}: var_leads_metrics_watch: 0: [1, 5] must lie between 1 and ar_steps_eval: 4",
    ),
    (
        {
            "training": {
                "metrics_watch": ["val_rmse"],
                "var_leads_metrics_watch": "{t2m: 1}",
            }
        },
        f"{T}: var_leads_metrics_watch: must be lines of `number of the state variable: [steps]`, such as 0: [1, 4]",
    ),
    (
        {"training": {"var_leads_metrics_watch": {0: [1]}}},
        f"{T}: var_leads_metrics_watch: nothing comes of it without metrics_watch, such as val_rmse",
    ),
    (
        {"training": {"wandb_id": "x"}},
        f"{T}: wandb_id: means nothing to {P}'s logger: mlflow",
    ),
    # the graph, and the model on it
    (
        {"params": {"graph.name": "a/b"}},
        f"{P}: graph.name: names a folder in data/graph: letters, digits, - _ and . only, not 'a/b'",
    ),
    (
        {"params": {"graph.name": ".."}},
        f"{P}: graph.name: names a folder in data/graph: letters, digits, - _ and . only, not '..'",
    ),
    ({"params": {"graph.name": None}}, f"{P}: graph.name: is missing"),
    (
        {"params": {"graph": "flat"}},
        f"{P}: graph: must hold name, archetype, mesh_node_distance, mesh_grid_distance_ratio, "
        "level_refinement_factor, max_num_levels",
    ),
    (
        {"params": {"graph.archetype": "keissler"}},
        f"{P}: graph.archetype: must be one of keisler, graphcast, hierarchical, not 'keissler'; did you mean keisler?",
    ),
    (
        {
            "params": {
                "graph.archetype": "graphcast",
                "graph.level_refinement_factor": 2,
            }
        },
        f"{P}: graph.level_refinement_factor: must be odd for a graphcast graph, not 2",
    ),
    (
        {"params": {"graph.mesh_node_distance": 0}},
        f"{P}: graph.mesh_node_distance: must be greater than 0, not 0",
    ),
    (
        {"training": {"model": "hi_lam"}},
        f"{T}: model: hi_lam needs a hierarchical graph, and {P} has graph.archetype: keisler",
    ),
    (
        {"params": HIERARCHICAL},
        f"{T}: model: graph_lam needs a graph that is not hierarchical, and {P} has graph.archetype: hierarchical",
    ),
    (
        {
            "params": HIERARCHICAL | {"graph.max_num_levels": 1},
            "training": {"model": "hi_lam_parallel"},
        },
        f"{P}: graph.max_num_levels: a hierarchical graph has two levels or more",
    ),
    # what training leaves for evaluation
    (
        {"training": {"val_interval": 5}},
        f"{T}: val_interval: 5 lies beyond epochs: 4, so training never writes the checkpoint min_val_loss "
        f"that {E} asks for: lower it, or set checkpoint: last there",
    ),
    # archives
    (
        {"params": {"archives.surfase": "v1"}},
        f"{P}: archives.surfase: {DATASTORE} has no such input; did you mean surface?",
    ),
    (
        {"params": {"archives.surface": 1.1}},
        f'{P}: archives.surface: must be text: write it in quotes, "1.1"',
    ),
    # across files
    (
        {"training": {"ar_steps_eval": 40}},
        f"{DATASTORE}: output.splitting.splits.val: has 37 time steps, and neural-lam needs 43 for one "
        "sample: lengthen it, or lower ar_steps_eval, or num_future_forcing_steps",
    ),
    (
        {"evaluation": {"eval": "test", "ar_steps_eval": 35}},
        f"{DATASTORE}: output.splitting.splits.test: has 37 time steps, and neural-lam needs 38 for one "
        "sample: lengthen it, or lower ar_steps_eval in data/evaluate_params.yaml, or num_future_forcing_steps",
    ),
    (
        {"config": {"datastore.kind": "npyfilesmeps"}},
        f"{CONFIG}: datastore.kind: must be mdp, not 'npyfilesmeps'",
    ),
]


@pytest.mark.parametrize(
    ("changes", "message"),
    MESSAGES,
    ids=[message.split(": ", 1)[1][:60] for _, message in MESSAGES],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], message: str) -> None:
    assert told(**changes) == [message]


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"lr": "1e-3"}},
        {"training": {"lr": 1}},
        {"training": {"precision": 32}},
        {"training": {"precision": "bf16-mixed"}},
        {
            "training": {
                "metrics_watch": ["val_rmse"],
                "var_leads_metrics_watch": {0: [1, 4], "1": [2]},
            }
        },
        {"training": {"var_leads_metrics_watch": "{}"}},
        {
            "training": {
                "num_sanity_val_steps": -1,
                "num_workers": 0,
                "train_steps_to_log": [],
            }
        },
        {"training": {"val_interval": 5}, "evaluation": {"checkpoint": "last"}},
        {
            "training": {"output_std": True, "loss": "nll"},
            "evaluation": {"metrics_watch": ["test_output_std"]},
        },
        {"params": HIERARCHICAL, "training": {"model": "hi_lam"}},
        {
            "params": {
                "graph.archetype": "graphcast",
                "graph.level_refinement_factor": 3,
            }
        },
        {"params": {"logger": "wandb"}, "training": {"wandb_id": "abc"}},
        {
            "evaluation": {
                "ar_steps_eval": 12,
                "val_steps_to_log": [12],
                "batch_size": 2,
                "precision": 64,
            }
        },
    ],
)
def test_what_is_allowed_is_not_refused(changes: dict[str, Any]) -> None:
    assert told(**changes) == []


def test_a_wrong_value_is_not_told_again_by_the_checks_that_use_it() -> None:
    found = told(
        training={"ar_steps_eval": "four", "model": "lam"}, params=HIERARCHICAL
    )
    assert [line.split(": ")[1] for line in found] == ["model", "ar_steps_eval"]


def test_all_mistakes_are_told_at_once_and_nothing_starts() -> None:
    problems = param_checks.check(
        ROOT,
        experiment(training={"epochs": 0, "x": 1}, params={"seed": "s"}),
        ARGUMENTS,
    )
    assert len(problems) == 3
    assert {problem.exit for problem in problems} == {Exit.USAGE}


def test_training_s_arguments() -> None:
    changes = {
        "create_gif": True,
        "mesh_aggr": None,
        "num_nodes": 2,
        "devices": 8,
        "lr": "1e-3",
    }
    leads = {"metrics_watch": ["val_rmse"], "var_leads_metrics_watch": {0: [1, 4]}}
    given = experiment(training=changes | leads, params={"logger_project": "-p"})
    assert params.training_argv(given, ARGUMENTS) == [
        *(
            "--seed=42",
            "--logger=mlflow",
            "--logger-project=-p",
            "--graph=flat",
            "--model=graph_lam",
        ),
        *(
            "--hidden_dim=8",
            "--epochs=4",
            "--lr=0.001",
            "--ar_steps_train=2",
            "--ar_steps_eval=4",
        ),
        *(
            "--val_steps_to_log",
            "1",
            "4",
            "--create_gif",
            "--num_nodes=2",
            "--metrics_watch",
            "val_rmse",
        ),
        '--var_leads_metrics_watch={"0": [1, 4]}',
    ]
    assert size_of(given.training) == Size(2, 8)


def test_lead_times_are_the_same_as_a_mapping_and_as_json() -> None:
    as_mapping, as_json = (
        params.training_argv(
            experiment(training={"var_leads_metrics_watch": leads}), ARGUMENTS
        )
        for leads in ({0: [1]}, '{"0": [1]}')
    )
    assert as_mapping == as_json
    assert as_json[-1] == '--var_leads_metrics_watch={"0": [1]}'


def test_evaluation_is_told_of_the_same_model_and_its_own_differences() -> None:
    given = experiment(
        training={
            "hidden_dim": 32,
            "batch_size": 8,
            "num_nodes": 2,
            "devices": 8,
            "metrics_watch": ["val_rmse"],
        },
        evaluation={
            "eval": "test",
            "batch_size": 1,
            "num_nodes": 1,
            "precision": None,
            "checkpoint": "last",
        },
    )
    argv = params.evaluation_argv(given, ARGUMENTS)
    assert {
        "--hidden_dim=32",
        "--batch_size=1",
        "--num_nodes=1",
        "--eval=test",
        "--graph=flat",
    } <= set(argv)
    # val_rmse is a name that evaluation does not know; checkpoint and devices are none
    # of neural-lam's.
    assert not [
        word
        for word in argv
        if word.startswith(("--metrics", "--checkpoint", "--devices", "--precision"))
    ]
    assert given.checkpoint == "last"
    assert size_of(given.evaluation) == Size(1, 8)


def test_the_graph_s_arguments() -> None:
    given = experiment(params={"graph.mesh_node_distance": 3e5})
    assert params.graph_argv(given, ARGUMENTS) == [
        "--name=flat",
        "--archetype=keisler",
        "--mesh_node_distance=300000.0",
    ]


def test_steps_needed_counts_as_neural_lam_does() -> None:
    given = experiment(
        training={"num_past_forcing_steps": 3, "num_future_forcing_steps": 2},
        evaluation={"eval": "test", "ar_steps_eval": 10},
    )
    assert params.steps_needed(given, ARGUMENTS) == {
        "train": 3 + 2 + 2,
        "val": 3 + 4 + 2,
        "test": 3 + 10 + 2,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, values in GOOD.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(values))
    return tmp_path


def test_files_are_read_as_they_stand(root: Path) -> None:
    assert params.load(root).files == GOOD


def test_an_empty_file_says_nothing(root: Path) -> None:
    (root / EVALUATION).write_text("# nothing\n")
    assert params.load(root).files[EVALUATION] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "epochs: 3\nlr: 1\nepochs: 4\n",
            ":3:1: epochs stands twice: the line is `epochs: 4`",
        ),
        ("a:\n  b: 1\n  b: 2\n", ":3:3: b stands twice: the line is `b: 2`"),
        ("epochs: 3\n  lr: 4\n", ":2:5: mapping values are not allowed"),
        ("epochs: [1\nlr: 2\n", ":2:3: "),
        ("\tepochs: 3\n", ":1:1: found character"),
        ("- epochs\n", ":1: must be `key: value` lines"),
        ("epochs: 1\n---\nepochs: 2\n", ":2:1: but found another document"),
        ("name: \x00\n", ": cannot be read: unacceptable character #x0000"),
        ("b: &b {lr: 1}\nc: {<<: *b, lr: 2}\n", ""),
    ],
)
def test_what_is_not_yaml_is_told_by_line(root: Path, text: str, message: str) -> None:
    (root / TRAINING).write_text(text)
    if not message:
        params.load(root)
        return
    with pytest.raises(Problems) as caught:
        params.load(root)
    assert str(caught.value).startswith(TRAINING + message)
    assert "\n" not in str(caught.value)


def test_every_missing_file_is_named(root: Path) -> None:
    (root / TRAINING).unlink()
    (root / CONFIG).unlink()
    with pytest.raises(Problems) as caught:
        params.load(root)
    assert str(caught.value).splitlines() == [
        f"{TRAINING}: there is no such file",
        f"{CONFIG}: there is no such file",
    ]


def test_a_file_that_is_not_utf_8_is_told(root: Path) -> None:
    (root / PARAMS).write_bytes(b"logger: \xff\n")
    with pytest.raises(UsageError, match=r"params.yaml: cannot be read: 'utf-8' codec"):
        yaml_files.read(root / PARAMS, PARAMS)
