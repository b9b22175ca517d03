"""``data/verification_params.yaml``: each wrong key is one line, before anything starts."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from support.experiment import ROOT

from mllam_exps import stages
from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages import versions
from mllam_exps.stages.contract import Stage, StageContext
from mllam_exps.stages.neural_lam.file_names import DATASET, FORECASTS, VERIFICATION
from mllam_exps.stages.neural_lam.parameters import verification
from mllam_exps.stages.neural_lam.scoring.asked import METRICS, RESULTS
from mllam_exps.stages.neural_lam.verify import STAGE


def problems(**values) -> list[str]:
    return [str(one) for one in verification.check(values)]


def test_the_file_that_comes_with_it_is_right():
    values = verification.read(ROOT / "examples/options/verify")
    assert verification.check(values) == []
    assert set(values) == set(verification.DEFAULTS)
    assert verification.paths(values) == {"experiment": "forecasts/infer.zarr"}


def test_the_stage_is_known_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    value = project["entry-points"][stages.GROUP]["verify"]
    found = EntryPoint("verify", value, stages.GROUP).load()
    assert found is STAGE
    assert isinstance(found, Stage)
    assert found.preflight.files == (VERIFICATION,)
    assert "scores" in found.preflight.programs


def test_what_it_reads_and_makes_stands_in_its_lines_of_the_pipeline():
    lines = (ROOT / "examples/options/verify/stage.yaml").read_text()
    stage = yaml.safe_load(lines)["verify"]
    assert set(stage["deps"]) == {DATASET, FORECASTS}
    assert stage["outs"] == [RESULTS]
    assert list(stage["metrics"][0]) == [METRICS]
    assert list(stage["params"][0]) == [VERIFICATION]
    programs = stage["params"][1]["version.mllam.txt"]
    assert {*programs} - {"mllam-exps.verify"} <= {*versions.PROGRAMS}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"region": {}}, "region: unknown key; did you mean regions?"),
        ({"name": "persistence"}, "name: persistence is a name of ours"),
        ({"name": "a b"}, "name: a name has letters, digits"),
        ({"forecasts": 3}, "forecasts: must be the path of a zarr, not 3"),
        (
            {"forecasts": "../other/a.zarr"},
            "forecasts: ../other/a.zarr lies outside of the repository",
        ),
        (
            {"forecasts": "/data/a.zarr"},
            "forecasts: /data/a.zarr lies outside of the repository",
        ),
        (
            {"compare": {"ifs": "s3://bucket/a.zarr"}},
            "compare.ifs: s3://bucket/a.zarr lies outside of the repository",
        ),
        (
            {"compare": {"experiment": "a.zarr"}},
            "compare.experiment: is the name of the experiment's own forecasts",
        ),
        ({"compare": ["a.zarr"]}, "compare: must hold lines of `name: path`"),
        ({"cases": "all"}, "cases: must be common or pairwise, not 'all'"),
        ({"regions": {"north": [1, 2]}}, "regions.north: must hold latitude"),
        (
            {"regions": {"n": {"latitude": [60, 50], "longitude": [0, 9]}}},
            "regions.n.latitude: goes from south to north, not [60, 50]",
        ),
        (
            {"regions": {"n": {"latitude": [50, 60], "longitude": [0]}}},
            "regions.n.longitude: must be two numbers, not [0]",
        ),
        ({"regions": {"interior": {}}}, "regions.interior: interior is a name of ours"),
        ({"variables": "t2m"}, "variables: must be a list of names, not 't2m'"),
        ({"spectra_hours": [0]}, "spectra_hours: must be a list of hours, not [0]"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(values: dict, told: str):
    assert problems(**values)[0].startswith(f"{VERIFICATION}: {told}")


def test_null_is_the_default_and_no_other_result():
    values = {"variables": None, "regions": None, "spectra_hours": [24]}
    assert problems(**values) == []
    assert STAGE.counting(VERIFICATION, values) == {"spectra_hours": [24]}


def test_a_missing_file_is_one_problem(tmp_path: Path):
    found = list(STAGE.preflight.check_parameters(tmp_path, Path("python")))
    assert [VERIFICATION in str(one) for one in found] == [True]


def test_missing_forecasts_are_refused_with_what_makes_them(tmp_path: Path):
    (tmp_path / DATASET).mkdir(parents=True)
    (tmp_path / VERIFICATION).write_text(yaml.safe_dump({"name": "mine"}))
    context = StageContext(tmp_path, tmp_path, STAGE.parameters(tmp_path))
    with pytest.raises(CheckFailed, match="there are no forecasts") as told:
        STAGE.inputs(context)
    assert "dvc repro infer" in told.value.next


def test_forecasts_that_are_no_input_are_refused(tmp_path: Path):
    lines = (ROOT / "examples/options/verify/stage.yaml").read_text()
    (tmp_path / "dvc.yaml").write_text(f"stages:\n{lines}")
    (tmp_path / "data").mkdir()
    values = {"compare": {"ifs": "forecasts/ifs.zarr"}}
    (tmp_path / VERIFICATION).write_text(yaml.safe_dump(values))
    found = STAGE.preflight.check_parameters(tmp_path, Path("python"))
    assert [one.problem.line for one in found] == [
        f"{VERIFICATION}: compare.ifs: forecasts/ifs.zarr is none of the deps of verify in dvc.yaml"
    ]
    for dep in ("forecasts", "${vars.forecasts}"):
        with_dep = lines.replace("forecasts/infer.zarr", dep)
        (tmp_path / "dvc.yaml").write_text(f"stages:\n{with_dep}")
        assert not [*STAGE.preflight.check_parameters(tmp_path, Path("python"))]
