"""What DVC was asked for, and inputs that nobody has."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.dvc.command_line import DvcCommand, asked
from mllam_exps.dvc.graph import Dep, Out, StageEntry, StageGraph
from mllam_exps.dvc.stages import sources
from mllam_exps.preflight.missing_inputs import missing_inputs

ASKED = {
    "/venv/bin/python /venv/bin/dvc exp run": DvcCommand(),
    "dvc repro": DvcCommand(),
    "python -m dvc exp run -n night -S grow.epochs=3 -j 2": DvcCommand(),
    "python -P /site-packages/dvc/__main__.py repro -f grow": DvcCommand(("grow",)),
    "dvc exp run --temp grow plot": DvcCommand(("grow", "plot")),
    "dvc repro --single-item grow": DvcCommand(("grow",), alone=True),
    "dvc repro --pull": DvcCommand(lacking=True),
    "dvc repro --downstream grow": None,
    "dvc exp queue-worker dvc-exp-1": None,
    "python -m pytest": None,
    "": None,
}


@pytest.mark.parametrize("line", ASKED)
def test_what_dvc_was_asked_for(line: str):
    assert asked(line.split()) == ASKED[line]


def graph(root: Path) -> StageGraph:
    """Return stages: `grow` reads what is there, `plot` what nobody has and what `grow` makes, `old` is frozen."""
    dep = lambda name: Dep(name, str(root / name))  # noqa: E731
    out = lambda name: Out(name, str(root / name), cached=True)  # noqa: E731
    there = StageEntry("grow", "true", ".", (dep("seed"),), outs=(out("grown"),))
    plot = StageEntry("plot@1", "true", ".", (dep("raw.txt"), dep("grown/state")))
    old = StageEntry("old", "true", ".", (dep("gone"),), frozen=True)
    added = StageEntry("data.dvc", "", ".", outs=(out("data"),), is_added=True)
    read = StageEntry("read", "true", ".", (dep("data"),))
    other = StageEntry("o/dvc.yaml:x", "", ".", (dep("no"),), is_elsewhere=True)
    return StageGraph((there, plot, old, added, read, other))


CASES: list[tuple[DvcCommand, list[tuple[str, str]]]] = [
    (DvcCommand(), [("plot@1", "raw.txt"), ("read", "data")]),
    (DvcCommand(("grow",)), []),
    (DvcCommand(("plot",)), [("plot@1", "raw.txt")]),
    (DvcCommand(("read",), alone=True), [("read", "data")]),
]


@pytest.mark.parametrize(("what", "missing"), CASES)
def test_what_nobody_has_is_named_with_its_stage(
    tmp_path: Path, what: DvcCommand, missing: list[tuple[str, str]]
):
    (tmp_path / "seed").touch()
    (tmp_path / "data.dvc").touch()
    repository: Any = SimpleNamespace(
        graph=graph(tmp_path),
        relative=lambda path: Path(path).relative_to(tmp_path).as_posix(),
    )
    found = {one.where: one for one in missing_inputs(repository, what)}
    assert [(where, one.what) for where, one in found.items()] == [
        (f"dvc.yaml: {stage}", f"the input {name} is missing")
        for stage, name in missing
    ]
    if "dvc.yaml: read" in found:
        assert found["dvc.yaml: read"].next == "dvc checkout data.dvc, or dvc pull"


def test_what_was_imported_without_its_content_is_fetched_by_an_update(tmp_path: Path):
    known = "outs: [{md5: d41d8cd98f00b204e9800998ecf8427e, path: a.txt}]"
    for text, was_never in (
        (known, False),
        ("outs: [{path: a.txt}]", True),
        ("", False),
    ):
        (tmp_path / "a.txt.dvc").write_text(text)
        assert sources.was_never_here(tmp_path / "a.txt") is was_never
