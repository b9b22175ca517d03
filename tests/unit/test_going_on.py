"""What a training may go on from: each parameter by which it cannot is named, with both values."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mllam_exps.base.errors import UsageError
from mllam_exps.identity.definition import RunDefinition, without_names
from mllam_exps.stages import versions
from mllam_exps.stages.contract import Earlier, Wish
from mllam_exps.stages.neural_lam.going_on import GOES_ON
from mllam_exps.stages.neural_lam.parameters import arguments
from mllam_exps.stages.neural_lam.parameters.arguments import Arguments

ROOT = Path(__file__).parents[2]
KNOWN = Arguments.from_json(
    (
        Path(arguments.__file__).parent / "known_arguments/neural-lam-0.7.0.json"
    ).read_text()
)
WARM, COLD = Wish("first"), Wish("first", weights_only=True)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "known", lambda *_: KNOWN)


def experiment(place: Path, epochs: int = 8) -> Path:
    for file in GOES_ON.reads[:-1]:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, place / file)
    (place / "metrics").mkdir()
    (place / GOES_ON.reads[-1]).write_text(json.dumps({"epochs": epochs}))
    return place


def change(place: Path, file: str, path: str, value: Any) -> None:
    data = yaml.safe_load((place / file).read_text())
    inner = data
    *parents, last = path.split("/")
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    (place / file).write_text(yaml.safe_dump(data, sort_keys=False))


@pytest.fixture
def both(tmp_path: Path) -> tuple[Earlier, Path]:
    own = experiment(tmp_path / "own")
    change(own, "data/training_params.yaml", "epochs", 16)
    return Earlier("first", experiment(tmp_path / "other")), own


def refused(both: tuple[Earlier, Path], wish: Wish = WARM) -> list[str]:
    found = GOES_ON.refuse(wish, *both, Path(sys.executable))
    return [error.problem.sentence for error in found]


TRAINING, PARAMS, DATASTORE = (
    "data/training_params.yaml",
    "params.yaml",
    "data/datastore.yaml",
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0.1),
        ("loss", "mae"),
        ("ar_steps_train", 1),
        ("batch_size", 2),
        ("num_nodes", 2),
        ("precision", "bf16-mixed"),
        ("val_interval", 1),
    ],
)
def test_what_says_nothing_of_the_network_may_differ(both, key: str, value: Any):
    change(both[1], TRAINING, key, value)
    assert refused(both) == []


@pytest.mark.parametrize(
    ("file", "path", "value", "told"),
    [
        (TRAINING, "hidden_dim", 8, "hidden_dim: 8 here, 16 in first"),
        (TRAINING, "model", "hi_lam", "model: hi_lam here, graph_lam in first"),
        (TRAINING, "num_past_forcing_steps", 1, "steps: 1 here, 0 in first"),
        # null is neural-lam's own default
        (TRAINING, "hidden_dim", None, "hidden_dim: 64 here, 16 in first"),
        (PARAMS, "graph/archetype", "graphcast", "archetype: graphcast here, keisler"),
        (
            PARAMS,
            "graph/mesh_grid_distance_ratio",
            3.0,
            "ratio: 3.0 here, 5.0 in first",
        ),
    ],
)
def test_another_network_is_refused_with_both_values(
    both, file: str, path: str, value: Any, told: str
):
    change(both[1], file, path, value)
    [said] = refused(both)
    assert said.startswith(f"{file}: ")
    assert told in said


def test_weights_alone_fit_another_mesh_of_the_same_kind(both):
    change(both[1], PARAMS, "graph/mesh_grid_distance_ratio", 3.0)
    assert refused(both, COLD) == []
    change(both[1], PARAMS, "graph/archetype", "graphcast")
    assert "graph.archetype" in refused(both, COLD)[0]


def test_variables_and_their_order_are_held(both):
    data = yaml.safe_load((both[1] / DATASTORE).read_text())
    source = next(
        name
        for name, one in data["inputs"].items()
        if one["target_output_variable"] == "state" and len(one["variables"]) > 1
    )
    names = [*data["inputs"][source]["variables"]]
    variables = data["inputs"][source]["variables"]
    turned = names[::-1]
    if isinstance(variables, dict):
        change(
            both[1],
            DATASTORE,
            f"inputs/{source}/variables",
            {n: variables[n] for n in turned},
        )
    else:
        change(both[1], DATASTORE, f"inputs/{source}/variables", turned)
    [said] = refused(both)
    assert "state variable" in said
    assert turned[0] in said and names[0] in said


def test_epochs_are_absolute(both):
    change(both[1], TRAINING, "epochs", 8)
    [said] = refused(both)
    assert "first has reached 8 epochs, and 8 are asked for" in said
    assert refused(both, COLD) == []


def test_the_best_checkpoint_goes_along_where_the_losses_compare(both):
    last, losses, best = GOES_ON.takes(WARM, *both)
    assert (last, best) == ("saved_models/last.ckpt", "saved_models/min_val_loss.ckpt")
    assert GOES_ON.takes(COLD, *both) == (last,)
    change(both[1], TRAINING, "loss", "mae")
    assert GOES_ON.takes(WARM, *both) == (last, losses)


def test_what_is_wished_is_read(tmp_path: Path):
    (tmp_path / PARAMS).write_text("resume_from: '1234567'\ncold_start: true\n")
    assert GOES_ON.wish(tmp_path) == Wish("1234567", weights_only=True)
    (tmp_path / PARAMS).write_text("resume: auto\n")
    assert GOES_ON.wish(tmp_path) == Wish(longest=True)
    for written in ("1e10", "007", "[a]"):  # YAML reads 007 as 7
        (tmp_path / PARAMS).write_text(f"resume_from: {written}\n")
        with pytest.raises(UsageError, match="put the name in quotes"):
            GOES_ON.wish(tmp_path)


def test_the_first_phase_is_what_goes_on(both):
    change(both[1], TRAINING, "phases", [{"epochs": 1, "loss": "mae"}, {"epochs": 4}])
    assert refused(both) == []  # the epochs of a phase are its own
    _, losses = GOES_ON.takes(WARM, *both)
    assert losses == "plots/loss.csv"
    change(both[1], TRAINING, "phases", [{"epochs": 1}, {"epochs": 4, "loss": "mae"}])
    assert len(GOES_ON.takes(WARM, *both)) == 3


def test_a_training_without_a_best_checkpoint_is_refused(both):
    change(both[1], TRAINING, "loss", "mae")
    change(both[1], TRAINING, "epochs", 9)  # validated each second epoch
    [said] = refused(both)
    assert "no epoch from 9 to 9 is validated" in said
    change(both[1], "data/evaluate_params.yaml", "checkpoint", "last")
    assert refused(both) == []


def test_names_count_for_no_result():
    record = {"files": {"a": "0" * 32}, "weights_only": False}
    named = {"resume_from.train": record | {"named": "first"}, "numpy": "2"}
    assert without_names(named) == {"resume_from.train": record, "numpy": "2"}
    whole = {"resume_from": {"train": record | {"named": "first"}}}
    assert without_names(whole) == {"resume_from": {"train": record}}
    found = RunDefinition(
        "train@a", {"version.mllam.txt": without_names(whole)}, (), ()
    )
    assert found.parent == record
    assert RunDefinition("evaluate", found.params, (), ()).parent == {}


def test_what_is_gone_on_from_is_no_program():
    text = versions.content({"numpy": "2"}, {"train": 1}, {})
    written = versions.with_parents(text, {"train": None})
    assert yaml.safe_load(written)["resume_from"] == {"train": None}
    assert versions.without_parents(written) == text
    assert versions.with_parents(text, {}) == text == versions.without_parents(text)
