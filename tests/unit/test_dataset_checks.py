"""What describes the data: mistakes told from the files alone, and from the archives' metadata."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.parameter_files import GOOD, MISSING, SPLITS, S, changed, experiment

from mllam_exps.stages.neural_lam.data import (
    named_paths,
    source_checks,
)
from mllam_exps.stages.neural_lam.file_names import CONFIG, DATASTORE
from mllam_exps.stages.neural_lam.parameters import (
    config_checks,
    dataset_checks,
    datastore_file,
    params,
    split_checks,
)
from mllam_exps.stages.neural_lam.parameters.datastore_file import Note

ROOT = Path(__file__).parents[2]
CLASSES = {
    "NeuralLAMConfig": ("datastore", "training"),
    "DatastoreSelection": ("kind", "config_path"),
    "TrainingConfig": ("state_feature_weighting", "output_clamping"),
    "OutputClamping": ("lower", "upper"),
    "ManualStateFeatureWeighting": ("weights",),
    "UniformFeatureWeighting": (),
}


def told(changes: dict[str, Any]) -> list[str]:
    given = experiment(changes)
    found = dataset_checks.check(given) + named_paths.check(given.files[DATASTORE])
    return [str(problem).removeprefix(f"{DATASTORE}: ") for problem in found]


def test_good_files_are_good() -> None:
    assert told({}) == []
    assert dataset_checks.notes(experiment()) == []


def test_the_repository_s_own_dataset_is_good() -> None:
    given = params.load(ROOT)
    assert dataset_checks.check(given) + dataset_checks.notes(given) == []
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["prepare_dataset"][
        "deps"
    ]
    assert named_paths.check_dependencies(given.files[DATASTORE], deps) == []


MESSAGES: list[tuple[dict[str, Any], str]] = [
    (
        {f"{S}/val": MISSING},
        f"{SPLITS}.val: is missing: neural-lam needs train, val and test",
    ),
    (
        {f"{S}/val/start": "2025-12-05T18:00"},
        f"{SPLITS}.val: starts at 2025-12-05T18:00, which is not before its end, 2025-12-05T18:00",
    ),
    (
        {f"{S}/val/end": MISSING},
        f"{SPLITS}.val: must have a start and an end, such as 2025-12-01T00:00",
    ),
    (
        {f"{S}/val/end": "soon"},
        f"{SPLITS}.val: must have a start and an end, such as 2025-12-01T00:00",
    ),
    (
        {f"{S}/val/start": "2025-12-03T12:00"},
        f"{SPLITS}.val: starts at 2025-12-03T12:00, before train ends at 2025-12-03T18:00",
    ),
    (
        {f"{S}/train/end": "2025-12-04"},  # the whole day, as xarray slices
        f"{SPLITS}.val: starts at 2025-12-04T00:00, before train ends at 2025-12-04T23:59",
    ),
    (
        {f"{S}/test/end": "2025-12-09T00:00"},
        f"{SPLITS}.test: 2025-12-06T00:00 to 2025-12-09T00:00 reaches beyond output.coord_ranges.time, "
        "2025-12-02T00:00 to 2025-12-08T00:00",
    ),
    (
        {"output/splitting/dim": "x"},
        "output.splitting.dim: must be time: neural-lam splits nothing else",
    ),
    (
        {f"{S}/train/compute_statistics/ops": ["mean", "std"]},
        f"{SPLITS}.train.compute_statistics.ops: lacks diff_mean, diff_std: neural-lam normalises by them",
    ),
    (
        {f"{S}/train/compute_statistics/ops": ["diff_std", "diff_mean", "mean", "std"]},
        f"{SPLITS}.train.compute_statistics.ops: mean and std must stand before diff_…, "
        "or mllam-data-prep takes them of the differences",
    ),
    (
        {f"{S}/train/compute_statistics/dims": ["time"]},
        f"{SPLITS}.train.compute_statistics.dims: must be grid_index and time: neural-lam wants one number a variable",
    ),
    (
        {"inputs/surface/target_output_variable": "stat"},
        "inputs.surface.target_output_variable: output.variables has no stat; did you mean state?",
    ),
    (
        {"inputs/surface/dim_mapping/time": MISSING},
        "inputs.surface.dim_mapping: lacks time: state has that dimension",
    ),
    (
        {"inputs/surface/dim_mapping/grid_index/dims": ["lon", "lat"]},
        "inputs.surface.dim_mapping.grid_index.dims: "
        "must be [x, y], by which neural-lam knows a grid, not ['lon', 'lat']\n"
        "  → above grid_index write `x: {method: rename, dim: lon}` and `y: {method: rename, dim: lat}`, "
        "then dims: [x, y] in grid_index",
    ),
    (
        {"inputs/surface/path": "../era5.zarr"},
        "inputs.surface.path: ../era5.zarr lies outside the repository: link it into it, or write an absolute path",
    ),
    (
        {"output/variables/static": MISSING, "inputs/land": MISSING},
        "output.variables.static: neural-lam needs it, with the dimensions grid_index, static_feature",
    ),
    (
        {"output/coord_ranges/x": {"start": 0.0, "end": 390_000.0}},
        "output.coord_ranges.x: is ignored by mllam-data-prep, no output has that dimension: "
        "select in inputs.<name>.coord_ranges",
    ),
    ({"inputs": ["a"]}, "inputs: must name the archives to read"),
    (
        {"extra": MISSING},
        "extra.projection: neural-lam draws no map without its class_name and kwargs",
    ),
    (
        {"inputs/surface/dim_mapping/grid_index/dims": ["y", "x"]},
        "inputs.surface.dim_mapping.grid_index.dims: "
        "must be [x, y], by which neural-lam knows a grid, not ['y', 'x']",
    ),
    (
        {"inputs/surface/dim_mapping/grid_index/dims": ["y", "column"]},
        "inputs.surface.dim_mapping.grid_index.dims: "
        "must be [x, y], by which neural-lam knows a grid, not ['y', 'column']\n"
        "  → above grid_index write `x: {method: rename, dim: column}`, then dims: [x, y] in grid_index",
    ),
    (
        {"output/chunking": {"tim": 1}},
        "output.chunking.tim: is ignored by mllam-data-prep, no output has that dimension; did you mean time?",
    ),
    (
        {"output/chunking": {"time": 0, "grid_index": -1, "state_feature": 3}},
        "output.chunking.time: must be a whole number of 1 or more, or -1 for one chunk of all, not 0",
    ),
    (
        {"output/chunking": {"time": True}},
        "output.chunking.time: must be a whole number of 1 or more, or -1 for one chunk of all, not True",
    ),
    (
        {"extra/missing_values": "sst"},
        "extra.missing_values: must be a list of the variables that may hold missing values, such as [sst]",
    ),
    (
        {"extra/missing_values": [1]},
        "extra.missing_values: must be a list of the variables that may hold missing values, such as [sst]",
    ),
    (
        {f"{S}/val/start": "2025-12-04T02:00+02:00"},
        f"{SPLITS}.val.start: must have no time zone, as the archives' times have none: 2025-12-04T00:00, "
        "which is UTC, not 2025-12-04T02:00+02:00",
    ),
    (
        {"inputs/surface/coord_ranges": {"time": {"start": "2025-12-04T00:00Z"}}},
        "inputs.surface.coord_ranges.time.start: must have no time zone, as the archives' times have none: "
        "2025-12-04T00:00, which is UTC, not 2025-12-04T00:00Z",
    ),
]


@pytest.mark.parametrize(
    ("changes", "message"), MESSAGES, ids=[message[:60] for _, message in MESSAGES]
)
def test_a_mistake_is_one_line(changes: dict[str, Any], message: str) -> None:
    assert told(changes) == [message]


def test_a_time_that_yaml_reads_as_a_date_is_told() -> None:
    dated = yaml.safe_load("2025-12-02T00:00:00")
    assert told({"output/coord_ranges/time/start": dated}) == [
        "output.coord_ranges.time.start: must be text: write it in quotes"
    ]


@pytest.mark.parametrize("value", [None, 3, "text", [], {}])
@pytest.mark.parametrize(
    "key", ["output", "inputs", "extra", S, f"{S}/val", "inputs/surface"]
)
def test_a_file_of_any_shape_is_refused_and_breaks_nothing(
    key: str, value: object
) -> None:
    assert told({key: value})


def test_what_is_allowed_and_should_be_known_is_a_note() -> None:
    given = experiment({f"{S}/val/start": "2025-12-03T18:00"})
    assert dataset_checks.check(given) == []
    assert [str(note) for note in dataset_checks.notes(given)] == [
        f"{DATASTORE}: {SPLITS}.val: shares 2025-12-03T18:00 with train: that field is in both"
    ]
    given = experiment(
        {f"{S}/train/compute_statistics/ops": ["mean", "std", "diff_mean", "diff_std"]}
    )
    assert dataset_checks.check(given) == []
    assert "of the differences' differences; put it first" in str(
        dataset_checks.notes(given)[0]
    )


@pytest.mark.parametrize(
    ("span", "steps"),
    [
        (("2025-12-04T00:00", "2025-12-05T18:00"), 8),
        (("2025-12-04T01:00", "2025-12-05T17:59"), 6),
        (("2025-12-04", "2025-12-05"), 8),
    ],
)
def test_the_steps_of_a_split_are_counted_as_xarray_selects_them(
    span: tuple[str, str], steps: int
) -> None:
    given = experiment({f"{S}/val/start": span[0], f"{S}/val/end": span[1]}).files[
        DATASTORE
    ]
    assert split_checks.check_lengths(given, {"val": steps}) == []
    assert len(split_checks.check_lengths(given, {"val": steps + 1})) == 1


def test_dependencies() -> None:
    def dependencies(path: str, *deps: str) -> list[str]:
        given = experiment({"inputs/land": MISSING, "inputs/surface/path": path})
        return [
            str(problem)
            for problem in named_paths.check_dependencies(given.files[DATASTORE], deps)
        ]

    assert dependencies("./examples/tiny.zarr", "examples/tiny.zarr") == []
    assert dependencies("examples/tiny.zarr", "data/datastore.yaml", "examples/") == []
    assert dependencies("/archive/era5.zarr") == []
    assert dependencies("https://example.org/era5.zarr") == []
    assert dependencies("examples/tiny.zarr", "examples/tiny") == [
        f"{DATASTORE}: inputs.surface.path: examples/tiny.zarr is no dependency of prepare_dataset: its content would "
        "not count, and no run would find it\n"
        "  → add the line `- examples/tiny.zarr` to deps of prepare_dataset in dvc.yaml"
    ]


def test_names_of_state_variables() -> None:
    levels = {"inputs/surface/variables": {"z": {"level": {"values": [500, 850.0]}}}}
    mapping = {
        "method": "stack_variables_by_var_name",
        "dims": ["level"],
        "name_format": "{var_name}{level}hPa",
    }
    by_level = changed(
        GOOD, levels | {"inputs/surface/dim_mapping/state_feature": mapping}
    )
    assert datastore_file.state_features(GOOD) == [{"t2m"}, {"msl"}]
    assert datastore_file.state_features(by_level) == [
        {"z500hPa", "z500.0hPa"},
        {"z850hPa", "z850.0hPa"},
    ]
    ranged = changed(
        by_level,
        {"inputs/surface/variables/z/level/values": {"start": 500, "end": 850}},
    )
    assert datastore_file.state_features(ranged) is None
    state = "inputs/surface/dim_mapping/state_feature"
    for unknown in (
        {f"{state}/dims": ["level", "member"]},
        {f"{state}/name_format": MISSING},
        {f"{state}/name_format": "{var_name}{height}"},
        {"inputs/surface/derived_variables": {"wind": {"function": "a.b"}}},
    ):
        assert datastore_file.state_features(changed(by_level, unknown)) is None


@pytest.mark.parametrize(
    ("step", "hours"),
    [("PT6H", 6), ("P1DT30M", 24.5), ("PT0H", None), ("6 hours", None), (6, None)],
)
def test_durations(step: Any, hours: float | None) -> None:
    found = datastore_file.duration_of(step)
    assert (found and found.total_seconds() / 3600) == hours


def test_without_a_step_the_file_says_nothing_of_lengths() -> None:
    given = changed(GOOD, {"output/coord_ranges/time/step": MISSING})
    assert split_checks.check_lengths(given, {"val": 1000}) == []
    told = split_checks.check_lengths(GOOD, {"val": 9, "test": 10})
    ways_out = [problem.what.partition(": ")[2] for problem in told]
    assert ways_out == [
        "lengthen it, or lower ar_steps_eval, or num_future_forcing_steps",
        "lengthen it, or lower ar_steps_eval in data/evaluate_params.yaml, or num_future_forcing_steps",
    ]


W = "training.state_feature_weighting"
C = "training.output_clamping"
MANUAL = "ManualStateFeatureWeighting"


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {
                "state_feature_weighting": {
                    "__config_class__": "UniformFeatureWeighting"
                }
            },
            "",
        ),
        (
            {
                "state_feature_weighting": {
                    "__config_class__": MANUAL,
                    "weights": {"t2m": 1, "msl": 0.5},
                }
            },
            "",
        ),
        ({"output_clamping": {"lower": {"t2m": 0}, "upper": {}}}, ""),
        (
            {"state_feature_weights": {}},
            "training.state_feature_weights: unknown key; did you mean state_feature_weighting?",
        ),
        (
            {"state_feature_weighting": {"__config_class__": "ManualFeatureWeighting"}},
            f"{W}.__config_class__: must be one of ManualStateFeatureWeighting, UniformFeatureWeighting, "
            "not 'ManualFeatureWeighting'; did you mean ManualStateFeatureWeighting?",
        ),
        (
            {"state_feature_weighting": {"weights": {}}},
            f"{W}.__config_class__: must be one of ManualStateFeatureWeighting, UniformFeatureWeighting, not None",
        ),
        (
            {
                "state_feature_weighting": {
                    "__config_class__": "UniformFeatureWeighting",
                    "weights": {},
                }
            },
            f"{W}.weights: unknown key",
        ),
        (
            {
                "state_feature_weighting": {
                    "__config_class__": MANUAL,
                    "weights": {"t2m": 1, "msl": 1, "t2": 1},
                }
            },
            f"{W}.weights.t2: {DATASTORE} makes no such state variable; did you mean t2m?",
        ),
        (
            {
                "state_feature_weighting": {
                    "__config_class__": MANUAL,
                    "weights": {"t2m": 1},
                }
            },
            f"{W}.weights: must weigh every state variable, and lacks msl",
        ),
        (
            {
                "state_feature_weighting": {
                    "__config_class__": MANUAL,
                    "weights": {"t2m": 1, "msl": -1},
                }
            },
            f"{W}.weights.msl: must be 0 or more, not -1",
        ),
        (
            {"output_clamping": {"lower": {"t2m": "0 K"}}},
            f"{C}.lower.t2m: must be a number, not '0 K'",
        ),
        (
            {"output_clamping": {"low": {}}},
            f"{C}.low: unknown key; did you mean lower?",
        ),
        (
            {"output_clamping": {"lower": {"t2m": 400}, "upper": {"t2m": 100}}},
            f"{C}.lower.t2m: must be below upper: 100, not 400",
        ),
    ],
)
def test_neural_lam_s_configuration(training: dict[str, Any], message: str) -> None:
    config = {
        "datastore": {"kind": "mdp", "config_path": "datastore.yaml"},
        "training": training,
    }
    problems = [
        str(problem) for problem in config_checks.check_config(config, GOOD, CLASSES)
    ]
    assert problems == ([f"{CONFIG}: {message}"] if message else [])


def test_the_datastore_of_neural_lam_s_configuration() -> None:
    config = {
        "datastore": {
            "kind": "npyfilesmeps",
            "config_path": "meps.yaml",
            "config_pth": "x",
        }
    }
    assert [
        str(problem) for problem in config_checks.check_config(config, GOOD, CLASSES)
    ] == [
        f"{CONFIG}: datastore.config_pth: unknown key; did you mean config_path?",
        f"{CONFIG}: datastore.kind: must be mdp, not 'npyfilesmeps'",
        f"{CONFIG}: datastore.config_path: must be datastore.yaml, beside this file, not 'meps.yaml'",
    ]


def test_without_the_programs_the_archives_are_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mllam_data_prep", None)
    monkeypatch.setitem(sys.modules, "mllam_data_prep.config", None)
    (note,) = source_checks.check_sources(tmp_path, experiment())
    assert isinstance(note, Note)
    assert str(note).startswith(f"{DATASTORE}: the archives were not looked at")
