"""A graph with any fault is refused, with the file or the parameter named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import synthetic
from support.checkpoints import Evil

from mllam_exps import stages
from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam.create_graph import check_graph

pytestmark = pytest.mark.models
FLAT = {"name": "g", "archetype": "keisler"}


def write_graph(directory: Path, levels: int = 1, nodes: int = 4) -> Path:
    """Write a graph as neural-lam reads it: single-level parts are lists too, those to and from the grid are not."""
    import torch

    def edges() -> tuple[Any, Any]:
        return torch.zeros(2, 5, dtype=torch.int64), torch.ones(5, 3)

    directory.mkdir(parents=True)
    parts = {"g2m": 0, "m2g": 0, "m2m": levels}
    if levels > 1:
        parts |= {"mesh_up": levels - 1, "mesh_down": levels - 1}
    for name, count in parts.items():
        made = [edges() for _ in range(count or 1)]
        for place, kind in enumerate(("edge_index", "features")):
            tensors = [pair[place] for pair in made]
            torch.save(
                tensors if count else tensors[0], directory / f"{name}_{kind}.pt"
            )
    torch.save(
        [torch.ones(nodes, 2) for _ in range(levels)], directory / "mesh_features.pt"
    )
    return directory


def test_good_graphs(tmp_path: Path) -> None:
    check_graph(write_graph(tmp_path / "flat"), FLAT)
    for asked in ({}, {"max_num_levels": 3}, {"max_num_levels": None}):
        directory = tmp_path / f"deep{len(asked)}{asked.get('max_num_levels')}"
        check_graph(
            write_graph(directory, levels=3), {"archetype": "hierarchical", **asked}
        )


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("g2m_edge_index.pt", None, "lacks a file"),
        ("m2g_features.pt", b"PK broken", "does not load"),
        ("m2m_features.pt", "[]", "holds no tensors"),
        (
            "mesh_features.pt",
            "[torch.full((4, 2), float('nan'))]",
            "level 0 of the mesh",
        ),
        (
            "m2g_features.pt",
            "torch.full((5, 3), float('inf'))",
            "features of an edge are not finite",
        ),
        ("g2m_edge_index.pt", "torch.zeros(2, 0, dtype=torch.int64)", "no edges"),
        ("g2m_features.pt", "torch.ones(4, 3)", "5 edges, but features of 4"),
        ("g2m_edge_index.pt", "torch.full((2, 5), -1)", "before the first"),
        ("mesh_features.pt", "[torch.ones(4, 2)] * 2", "nodes of 2 levels, edges of 1"),
    ],
)
def test_faults_are_refused(
    tmp_path: Path, file: str, content: Any, reason: str
) -> None:
    import torch

    directory = write_graph(tmp_path / "g")
    if content is None:
        (directory / file).unlink()
    elif isinstance(content, bytes):
        (directory / file).write_bytes(content)
    else:
        torch.save(eval(content, {"torch": torch}), directory / file)
    with pytest.raises(CheckFailed, match=reason):
        check_graph(directory, FLAT)


def test_other_levels_than_asked_for_are_refused(tmp_path: Path) -> None:
    deep = write_graph(tmp_path / "deep", levels=3)
    with pytest.raises(
        CheckFailed, match="the graph has 3 levels, 4 were asked for"
    ) as refused:
        check_graph(deep, {"archetype": "hierarchical", "max_num_levels": 4})
    assert "dvc exp run -S graph.max_num_levels=3" in str(refused.value)
    with pytest.raises(CheckFailed, match="hierarchical graph of one level"):
        check_graph(write_graph(tmp_path / "flat"), {"archetype": "hierarchical"})
    with pytest.raises(CheckFailed, match="3 levels in a graph that is not"):
        check_graph(deep, FLAT)
    (deep / "mesh_up_features.pt").unlink()
    with pytest.raises(CheckFailed, match="mesh_up_features"):
        check_graph(deep, {"archetype": "hierarchical"})


def test_code_in_a_graph_never_runs(tmp_path: Path) -> None:
    import torch

    directory = write_graph(tmp_path / "g")
    torch.save([Evil(tmp_path / "ran")], directory / "mesh_features.pt")
    with pytest.raises(CheckFailed, match="does not load"):
        check_graph(directory, FLAT)
    assert not (tmp_path / "ran").exists()


def test_command_and_inputs(tmp_path: Path) -> None:
    from mllam_exps.stages.neural_lam.parameters import params

    root = synthetic.make_experiment(tmp_path)
    context = StageContext(root, root / "scratch", params.load(root).files)
    stage = stages.get("create_graph")
    assert stage.command(context)[3:] == [
        "graph",
        "--config_path=data/config.yaml",
        "--name=tiny",
        "--archetype=keisler",
        "--mesh_node_distance=60000.0",
    ]
    with pytest.raises(
        CheckFailed, match=r"data/datastore\.zarr: the input is missing"
    ) as refused:
        stage.inputs(context)
    assert "dvc repro prepare_dataset" in str(refused.value)
    assert stage.carry(tmp_path, tmp_path) is None
