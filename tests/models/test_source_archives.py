"""Mistakes in what describes the data that the archives' metadata tell."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.parameter_files import MISSING, SPLITS, S, experiment, source

from mllam_exps.stages.neural_lam.data import (
    archive_opening,
    source_checks,
)
from mllam_exps.stages.neural_lam.file_names import DATASTORE
from mllam_exps.stages.neural_lam.parameters.datastore_file import Note

pytestmark = pytest.mark.models

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write archives of 61 × 62 and of 60 × 62 points, 2025-12-01 to 2025-12-08, six-hourly."""
    np = pytest.importorskip("numpy")
    xarray = pytest.importorskip("xarray")
    root = tmp_path_factory.mktemp("repository")
    (root / "examples").mkdir()
    (root / "data").mkdir()
    time = np.datetime64("2025-12-01T00", "ns") + np.arange(29) * np.timedelta64(6, "h")
    for name, width in {"tiny": 61, "small": 60}.items():
        field = np.zeros((29, width, 62), "float32")
        levels = np.zeros((29, 2, width, 62), "float32")
        dataset = xarray.Dataset(
            {
                "t2m": (("time", "x", "y"), field),
                "msl": (("time", "x", "y"), field),
                "z": (("time", "level", "x", "y"), levels),
                "lsm": (("x", "y"), field[0]),
            },
            coords={
                "time": time,
                "x": np.arange(width),
                "y": np.arange(62),
                "level": [500, 850],
            },
        )
        dataset.to_zarr(root / "examples" / f"{name}.zarr")
    (root / "examples" / "note.txt").write_text("no archive")
    return root


def looked_at(
    root: Path, changes: dict[str, Any], needed: dict[str, int] | None = None
) -> list[Any]:
    given = experiment(changes)
    (root / DATASTORE).write_text(
        yaml.safe_dump(dict(given.files[DATASTORE]), sort_keys=False)
    )
    return source_checks.check_sources(root, given, needed)


LAND = source("static", ["lsm"], ["x", "y"])
SURFACE = source("state", ["t2m", "msl"], ["time", "x", "y"])
SOURCES: list[tuple[dict[str, Any], str]] = [
    (
        {"inputs/surface/path": "examples/tyny.zarr"},
        "inputs.surface.path: there is no examples/tyny.zarr\n"
        "  → did you mean examples/tiny.zarr?",
    ),
    (
        {"inputs/surface/variables": ["t2m", "mls"]},
        "inputs.surface.variables: examples/tiny.zarr has no mls; did you mean msl?",
    ),
    (
        {"inputs/surface/dims": ["time", "x"], "inputs/surface/variables": ["t2m"]},
        "inputs.surface.dims: lacks y, which t2m has",
    ),
    (
        {
            "inputs/surface/variables": {"z": {"level": {"values": [500, 700]}}},
            "inputs/surface/dims": ["time", "level", "x", "y"],
        },
        "inputs.surface.variables.z.level: examples/tiny.zarr lacks 700",
    ),
    (
        {
            "inputs/surface/derived_variables": {
                "toa": {"function": "f", "kwargs": {"lat": "ds_input.lats"}}
            }
        },
        "inputs.surface.derived_variables.toa: examples/tiny.zarr has no lats",
    ),
    (
        {"inputs/surface/path": "examples/small.zarr"},
        "inputs.surface: its grid of 60 × 62 points lies within neural-lam's boundary of 30 points a side: "
        "no interior is left and training gives NaN",
    ),
    (
        {"inputs/surface/coord_ranges": {"y": {"start": 0, "end": 59}}},
        "inputs.surface: its grid of 61 × 60 points lies within neural-lam's boundary of 30 points a side: "
        "no interior is left and training gives NaN",
    ),
    (
        {"output/coord_ranges/time/start": "2025-11-30T00:00"},
        "output.coord_ranges.time: surface: "
        "Provided value for coordinate time (2025-11-30 00:00:00) is not in the data.",
    ),
    (
        {"output/coord_ranges/time/step": "PT3H"},
        "output.coord_ranges.time: surface: Step size for coordinate time is not the same as requested: "
        "6:00:00 != 0 days 03:00:00",
    ),
    (
        {"output/coord_ranges": MISSING, f"{S}/test/end": "2025-12-09T00:00"},
        f"{SPLITS}.test: 2025-12-06T00:00 to 2025-12-09T00:00 reaches beyond the times of surface, "
        "2025-12-01T00:00 to 2025-12-08T00:00",
    ),
    (
        {"inputs": {"land": LAND, "surface": SURFACE}},
        "inputs.surface: mllam-data-prep ignores output.coord_ranges.time after an input without time: "
        "put those without time last",
    ),
]


@pytest.mark.parametrize(
    ("changes", "message"), SOURCES, ids=[message[:60] for _, message in SOURCES]
)
def test_an_archive_that_does_not_fit_is_told(
    archives: Path, changes: dict[str, Any], message: str
) -> None:
    assert [str(problem) for problem in looked_at(archives, changes)] == [
        f"{DATASTORE}: {message}"
    ]


def test_archives_that_fit(archives: Path) -> None:
    assert looked_at(archives, {}) == []
    absolute = {"inputs/surface/path": str(archives / "examples/tiny.zarr")}
    assert looked_at(archives, absolute) == []
    whole = {
        "output/coord_ranges/time": {
            "start": "2025-12-01T00:00",
            "end": "2025-12-08T00:00",
        }
    }
    # Nothing is lost of a range that takes all there is, so the order of the inputs
    # does not matter.
    assert (
        looked_at(archives, whole | {"inputs": {"land": LAND, "surface": SURFACE}})
        == []
    )


def test_steps_are_counted_where_the_file_gives_none(archives: Path) -> None:
    changes = {"output/coord_ranges": MISSING}
    assert looked_at(archives, changes, {"val": 8}) == []
    (problem,) = looked_at(archives, changes, {"val": 9})
    assert str(problem).startswith(
        f"{DATASTORE}: {SPLITS}.val: has 8 time steps, and neural-lam needs 9"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs/surface/dimz": 3},
            "unknown key dimz in InputDataset; did you mean dims?",
        ),
        ({"inputs/surface/path": MISSING}, "InputDataset lacks path"),
        (
            {"inputs/surface/dims": 3},
            "Failure parsing field `dims` in class `InputDataset`. Expected a type list, got int.",
        ),
        (
            {"inputs/land/variables": MISSING},
            "Input dataset 'land' is missing the keys `variables` and/or",
        ),
    ],
)
def test_what_mllam_data_prep_refuses_is_one_line(
    archives: Path, changes: dict[str, Any], message: str
) -> None:
    (problem,) = looked_at(archives, changes)
    assert str(problem).startswith(f"{DATASTORE}: {message}")
    assert str(problem).endswith("mllam-data-prep refuses it")
    assert "\n" not in str(problem)


def test_what_is_no_archive_is_told(archives: Path) -> None:
    (problem,) = looked_at(archives, {"inputs/surface/path": "examples/note.txt"})
    start = f"{DATASTORE}: inputs.surface.path: examples/note.txt is no archive that xarray opens: "
    assert str(problem).startswith(start)
    assert not isinstance(problem, Note)


def test_a_remote_archive_out_of_reach_is_no_error_of_the_file(
    archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = {"inputs/surface/path": "http://127.0.0.1:9/tiny.zarr"}
    (note,) = looked_at(archives, remote)
    assert isinstance(note, Note)
    assert str(note).startswith(
        f"{DATASTORE}: inputs.surface.path: http://127.0.0.1:9/tiny.zarr was not looked at: "
    )
    monkeypatch.setattr(archive_opening, "_REMOTE_SECONDS", 0)
    # A server that takes the call and says nothing.
    look = archive_opening._open_dataset
    monkeypatch.setattr(
        archive_opening,
        "_open_dataset",
        lambda p: time.sleep(2) if "://" in p else look(p),
    )
    (note,) = looked_at(archives, remote)
    assert str(note).endswith("no answer within 0 s")


def test_a_remote_archive_is_looked_at_like_a_local_one(archives: Path) -> None:
    url = "file://" + str(archives / "examples/small.zarr")
    (problem,) = looked_at(archives, {"inputs/surface/path": url})
    assert "60 × 62" in str(problem)
    (problem,) = looked_at(
        archives, {"inputs/surface/path": url.replace("small", "absent")}
    )
    assert (
        str(problem)
        == f"{DATASTORE}: inputs.surface.path: there is no {url.replace('small', 'absent')}"
    )
    assert not isinstance(problem, Note)


def test_the_archives_are_looked_at_in_the_environment_of_the_programs() -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "mllam_exps.stages.neural_lam.data.source_checks",
        str(ROOT),
        '{"deps": ["data/datastore.yaml"]}',
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert {
        problem["what"].split(":")[0].split(" is ")[1] for problem in answer["problems"]
    } == {"no dependency of prepare_dataset"}
    assert answer["notes"] == []
