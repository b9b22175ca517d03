"""Faults of data and configuration that mllam-data-prep, or neural-lam, would find after hours, or never."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import synthetic

from mllam_exps.stages.neural_lam.data import (
    archive_opening,
    named_paths,
    source_checks,
)
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters import dataset_checks
from mllam_exps.stages.neural_lam.parameters.datastore_file import Note
from mllam_exps.stages.neural_lam.parameters.params import Parameters

pytestmark = pytest.mark.models
xr = pytest.importorskip("xarray")
np = pytest.importorskip("numpy")

Change = Callable[[dict[str, Any]], object]
Spoil = Callable[[Any], Any]
HOUR = "mllam_data_prep.ops.derive_variable.time_components.calculate_hour_of_day"
SPLITS = "output.splitting.splits"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = synthetic.make_source(tmp_path_factory.mktemp("source") / "tiny.zarr")
    return xr.open_zarr(path, chunks=None).load()


@pytest.fixture
def look(
    archive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Look at an experiment with changes in its configuration, and in its archive."""
    for name in (synthetic.SOURCE, "data"):
        (tmp_path / name).mkdir(parents=True)

    def look(
        change: Change | None = None, spoil: Spoil = lambda archive: archive, *deps: str
    ) -> list[str]:
        config = synthetic.datastore()
        if change:
            change(config)
        (tmp_path / DATASTORE).write_text(yaml.safe_dump(config, sort_keys=False))
        monkeypatch.setattr(
            archive_opening,
            "_open_dataset",
            lambda path: spoil(archive.copy(deep=False)),
        )
        given = Parameters({DATASTORE: config})
        found = dataset_checks.check(given) + named_paths.check(config)
        known = archive_opening.Known([DATASTORE, synthetic.SOURCE, *deps])
        found = found or source_checks.check_sources(tmp_path, given, {}, known)
        return [
            ("note: " if isinstance(f, Note) else "")
            + str(f).removeprefix(f"{DATASTORE}: ")
            for f in found
        ]

    return look


def test_what_is_good_is_good(look: Callable[..., list[str]]) -> None:
    assert look() == []
    assert look(None, lambda a: a.isel(y=slice(None, None, -1))) == []


def test_the_example_can_be_shortened(tmp_path: Path) -> None:
    config = yaml.safe_load((synthetic.REPOSITORY / DATASTORE).read_text())
    config["output"]["coord_ranges"]["time"]["end"] = "2025-12-20T00:00"
    config["output"]["splitting"]["splits"]["train"]["end"] = "2025-12-20T00:00"
    (tmp_path / "data").mkdir()
    (tmp_path / "examples").symlink_to(synthetic.REPOSITORY / "examples")
    (tmp_path / DATASTORE).write_text(yaml.safe_dump(config, sort_keys=False))
    assert source_checks.check_sources(tmp_path, Parameters({DATASTORE: config})) == []


def weather(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["inputs"]["weather"]
    return found


def derived(function: str, **kwargs: str) -> Change:
    given = {
        "function": function,
        "kwargs": kwargs or {"time": "ds_input.time", "component": "sin"},
    }
    return lambda config: weather(config).update(derived_variables={"hour": given})


def at(place: str, /, **values: Any) -> Change:
    def change(config: dict[str, Any]) -> None:
        for key in place.split("/"):
            config = config[key]
        config.update(values)

    return change


def pick(**places: Any) -> Spoil:
    return lambda archive: archive.isel(**places)


def calendar(name: str) -> Spoil:
    dates = {
        "periods": synthetic.TIMES,
        "freq": "6h",
        "calendar": name,
        "use_cftime": True,
    }
    return lambda archive: archive.assign_coords(
        time=xr.date_range("2025-12-01", **dates)
    )


GAP = [place for place in range(synthetic.TIMES) if place != 7]
DATES = "→ write the archive with times such as `hours since 2025-12-01`, calendar `standard`"
ARCHIVES: list[tuple[Spoil, str]] = [
    (
        pick(time=GAP),
        "its times are 6 h apart, with another step from 2025-12-02T12:00 to 2025-12-03T00:00: choose a ",
    ),
    (
        pick(time=[*range(7), *range(6, 40)]),
        "it has a time twice, 2025-12-02T12:00: leave one of the two out of the ",
    ),
    (
        pick(time=[1, 0, *range(2, 40)]),
        "its times run backwards after 2025-12-01T06:00: sort the archive by time",
    ),
    (
        calendar("noleap"),
        f"its time holds DatetimeNoLeap such as 2025-12-01 00:00:00, and no dates of the standard calendar\n  {DATES}",
    ),
    (calendar("360_day"), "its time holds Datetime360Day such as"),
    (
        lambda a: a.assign_coords(time=np.arange(synthetic.TIMES)),
        "its time holds int64 such as 0, and no dates",
    ),
    (
        lambda a: a.assign_coords(time=[f"{t}Z" for t in a.time.values]),
        "its time holds str_ such as 2025-12-01T",
    ),
    (
        lambda a: a.assign_coords(time=a.time.where(a.time != a.time[5])),
        "1 of its 40 times are missing (NaT)",
    ),
    (
        pick(x=[1, 0, *range(2, 64)]),
        "its x turns back after 0: it must rise, or fall, all along",
    ),
    (
        pick(x=[0, 0, *range(2, 64)]),
        "its x has 0 twice: it must rise, or fall, all along",
    ),
    (
        lambda a: a.assign_coords(x=a.x.where(a.x > 0)),
        "1 of the 64 values of its x are missing or infinite",
    ),
    (
        lambda a: a.drop_vars("y"),
        "its dimension y has no coordinates, or none that are numbers",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "message"), ARCHIVES, ids=[message[:40] for _, message in ARCHIVES]
)
def test_what_is_wrong_with_an_archive_is_one_line(
    look: Callable[..., list[str]], spoil: Spoil, message: str
) -> None:
    assert look(None, spoil)[0].startswith(f"inputs.weather: {message}")


def join_another_grid(config: dict[str, Any]) -> None:
    other = copy.deepcopy(weather(config)) | {
        "variables": ["t2m"],
        "coord_ranges": {"x": {"start": 0, "end": 615e3}},
    }
    weather(config)["variables"] = ["msl"]
    config["inputs"] = {
        "weather": weather(config),
        "other": other,
        "ground": config["inputs"]["ground"],
    }


def take_a_part(config: dict[str, Any]) -> None:
    config["inputs"] = dict(reversed(config["inputs"].items()))
    config["output"]["coord_ranges"]["time"]["end"] = "2025-12-10T12:00"
    config["output"]["splitting"]["splits"]["test"]["end"] = "2025-12-10T12:00"


STATISTICS = "output/splitting/splits/train/compute_statistics"
HOUR_KEY = "inputs.weather.derived_variables.hour"
WAY_OUT = "  → above grid_index write `x: {method: rename, dim: longitude}` and `y: {method: rename, dim: latitude}`"
CONFIGS: list[tuple[Change, str]] = [
    (lambda c: c.update(schema_version="v9"), "schema_version: Unsupported schema version v9. Only schema versions v0"),
    (derived(HOUR[:-1]), f"{HOUR_KEY}: module 'mllam_data_prep.ops.derive_variable.time_components' has no attribute "
    "'calculate_hour_of_da'; did you mean calculate_hour_of_day?"),
    (derived("metpi.calc.wind_speed"), f"{HOUR_KEY}: there is no module metpi"),
    (derived("wind_speed"), f"{HOUR_KEY}: its function must be written as module.function"),
    (derived(HOUR, time="ds_input.time", part="sin"), f"{HOUR_KEY}: calculate_hour_of_day() got an unexpected keyword "
    "argument 'part'"),
    (derived(HOUR, time="ds_input.time"), f"{HOUR_KEY}: calculate_hour_of_day() missing 1 required positional"),
    (derived(HOUR, time="ds_input.time", component="tan"), f"{HOUR_KEY}: Invalid value of `component`: 'tan'"),
    (at("output", chunking={"time": 0}), "output.chunking.time: must be a whole number of 1 or more, or -1"),
    (at("output", chunking={"time": "auto"}), "output.chunking.time: must be a whole number of 1 or more, or -1"),
    (at("output", chunking={"tim": 4}), "output.chunking.tim: is ignored by mllam-data-prep, no output has that dim"),
    (at("output/coord_ranges/time", start="2025-12-01T00:00Z"), "output.coord_ranges.time.start: must have no time "
    "zone, as the archives' times have none: 2025-12-01T00:00, which is UTC, not 2025-12-01T00:00Z"),
    (at("output/splitting/splits/val", start="2025-12-06T01:00+01:00"), f"{SPLITS}.val.start: must have no time zone, "
    "as the archives' times have none: 2025-12-06T00:00, which is UTC"),
    (at("inputs/weather", coord_ranges={"time": {"start": "2025-12-01T00Z", "end": "2025-12-10T18"}}),
    "inputs.weather.coord_ranges.time.start: must have no time zone"),
    (at("inputs/weather/dim_mapping/grid_index", dims=["longitude", "latitude"]), "inputs.weather.dim_mapping.grid_"
    f"index.dims: must be [x, y], by which neural-lam knows a grid, not ['longitude', 'latitude']\n{WAY_OUT}"),
    (at("inputs/weather/dim_mapping/grid_index", dims=["y", "x"]), "inputs.weather.dim_mapping.grid_index.dims: must "
    "be [x, y], by which neural-lam knows a grid, not ['y', 'x']"),
    (at("inputs/weather/dim_mapping/time", method="renam"), "inputs.weather.dim_mapping: mllam-data-prep knows no re"),
    (at("inputs/weather", attributes={"source": "era5"}), "inputs.weather.attributes: Dataset weather is missing the"),
    (at("output/splitting/splits/val", start="2025-12-06T01:00", end="2025-12-06T05:00"), f"{SPLITS}.val: has 0 time "
    "steps, and neural-lam needs 1 for one sample"),
    (at(STATISTICS, ops=["mean", "std", "diff_std", "diff_mean", "midian"]), f"{SPLITS}.train.compute_statistics: "
    "'Dataset' object has no attribute 'midian'; did you mean median?"),
    (lambda c: c["inputs"].update(again=weather(c)), "inputs: state gets two variables called msl, from weather and "
    "again\n  → give each input another name_format"),
    (join_another_grid, "inputs: other has another grid_index than weather, with which it is joined: mllam-data-prep "),
    (take_a_part, "inputs.weather: mllam-data-prep ignores output.coord_ranges.time after an input without time: put "),
    (at("inputs/weather", path="~/era5.zarr"), "inputs.weather.path: ~/era5.zarr is another place for everybody\n"),
    (at("inputs/weather", path="$HOME/a.zarr"), "inputs.weather.path: $HOME/a.zarr is another place for everybody\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"), CONFIGS, ids=[message[:40] for _, message in CONFIGS]
)
def test_what_is_wrong_with_the_file_is_one_line(
    look: Callable[..., list[str]], change: Change, message: str
) -> None:
    assert look(change)[0].startswith(message)


def test_a_grid_of_other_names_is_renamed_as_the_message_says(
    look: Callable[..., list[str]],
) -> None:
    def rename(config: dict[str, Any]) -> None:
        names = {"x": "longitude", "y": "latitude"}
        for source in config["inputs"].values():
            source["dims"] = [names.get(dim, dim) for dim in source["dims"]]
            renamed = {
                new: {"method": "rename", "dim": old} for new, old in names.items()
            }
            source["dim_mapping"] = renamed | source["dim_mapping"]

    assert (
        look(rename, lambda archive: archive.rename(x="longitude", y="latitude")) == []
    )


def test_variables_at_other_levels_are_refused(look: Callable[..., list[str]]) -> None:
    def levels(config: dict[str, Any]) -> None:
        chosen = {
            name: {"level": {"values": [level]}}
            for name, level in {"z": 500, "r": 700}.items()
        }
        features = {
            "method": "stack_variables_by_var_name",
            "dims": ["level"],
            "name_format": "{var_name}{level}",
        }
        weather(config).update(dims=["time", "x", "y", "level"], variables=chosen)
        weather(config)["dim_mapping"]["state_feature"] = features

    def spoil(archive: Any) -> Any:
        field = archive["msl"].expand_dims(level=[500, 700])
        return archive.assign(z=field, r=field)

    (problem,) = look(levels, spoil)
    assert problem.startswith(
        "inputs.weather.variables.r.level: is taken at another level than z, and mllam-data-prep"
    )


def test_modules_of_the_repository_are_dependencies(
    look: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    text = "import mllam_helper\ndef f(a):\n    a = a * 2\n    a.attrs.update(units='1', long_name='a')\n    return a\n"
    (tmp_path / "mllam_mine.py").write_text(text)
    (tmp_path / "mllam_helper.py").touch()
    change = derived("mllam_mine.f", a="ds_input.msl")
    (problem,) = look(change, lambda archive: archive, "mllam_mine.py")
    assert problem.endswith(
        "→ add the line `- mllam_helper.py` to deps of prepare_dataset in dvc.yaml"
    )
    assert not (tmp_path / "__pycache__").exists()


def test_a_function_that_computes_at_once_is_not_tried_on_large_fields(
    look: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mllam_eager.py").write_text(
        "def f(a):\n    a.values.sum()\n    return a\n"
    )
    change = derived("mllam_eager.f", a="ds_input.msl")
    assert look(change, lambda archive: archive, "mllam_eager.py") == []
    monkeypatch.setattr("mllam_exps.stages.neural_lam.data.rehearsal._LARGE", 10)
    (note,) = look(change, lambda archive: archive, "mllam_eager.py")
    assert note.startswith(f"note: {HOUR_KEY}: its function computes when it is called")


def test_what_crops_a_dataset_counts(
    look: Callable[..., list[str]], tmp_path: Path
) -> None:
    cropping = {
        "margin_width_degrees": 1.0,
        "interior_dataset_config_path": "data/interior.yaml",
    }
    change = at("output", domain_cropping=cropping)
    (tmp_path / "data/interior.yaml").write_text(
        yaml.safe_dump(synthetic.datastore("raw/inner.zarr"))
    )
    found = look(change, lambda archive: archive, "data/interior.yaml")
    assert {line.split(" ", 1)[0] for line in found} == {"data/interior.yaml:"}
    assert "there is no raw/inner.zarr" in found[0], "to declare it would not help"
    (tmp_path / "raw/inner.zarr").mkdir(parents=True)
    told = "\n".join(look(change, lambda archive: archive, "data/interior.yaml"))
    assert "raw/inner.zarr is no dependency of prepare_dataset" in told
    assert look(change, lambda archive: archive, "data/interior.yaml", "raw") == []
    (tmp_path / "data/interior.yaml").unlink()
    key = "output.domain_cropping.interior_dataset_config_path"
    [gone] = look(change, lambda archive: archive, "data/interior.yaml")
    assert gone == f"{key}: there is no file data/interior.yaml"
    cropping["interior_dataset_config_path"] = "/elsewhere/interior.yaml"
    assert (
        "lies outside the repository, and its content would not count"
        in look(change)[0]
    )


def test_absent_archives_are_told_by_who_should_bring_them(tmp_path: Path) -> None:
    known = archive_opening.Known(made=["made.zarr"], added=["raw"])
    assert "a stage makes it" in str(
        archive_opening.absent(tmp_path, "w", "made.zarr", known)
    )
    assert "→ dvc checkout raw.dvc" in str(
        archive_opening.absent(tmp_path, "w", "raw/a.zarr", known)
    )
    told = str(archive_opening.absent(tmp_path, "w", "gone.zarr", known))
    assert (
        told
        == "w: there is no gone.zarr\n  → correct that path, or put the archive there"
    )


def test_an_archive_that_git_does_not_track_is_no_missing_one(tmp_path: Path) -> None:
    clone, origin = tmp_path / "clone", tmp_path / "origin"
    (origin / "data/era5.zarr").mkdir(parents=True)
    known = archive_opening.Known(origin=str(origin))
    assert "git does not track data/era5.zarr" in str(
        archive_opening.absent(clone, "w", "data/era5.zarr", known)
    )
    assert "did you mean data/era5.zarr?" in str(
        archive_opening.absent(clone, "w", "data/era.zarr", known)
    )


def test_a_missing_archive_is_not_to_be_declared() -> None:
    datastore = {"inputs": {"weather": {"path": "data/era.zarr"}}}
    assert named_paths.check_dependencies(datastore, ["data/era5.zarr"])
    assert not named_paths.check_dependencies(
        datastore, ["data/era5.zarr"], exists=lambda _path: False
    )
