"""create_graph: ``data/graph/<name>/`` by neural-lam's own use of weather-model-graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, first_line
from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam.common import NeuralLamStage, need_dataset, parameters

GRAPHS = "data/graph"
EDGES = ("g2m", "m2g", "m2m")
EDGES_BETWEEN_LEVELS = ("mesh_up", "mesh_down")


def load_tensors(path: Path) -> list[Any]:
    """Load one file of the graph as a list of tensors, one a level; never running code from it.

    Raises
    ------
    CheckFailed
        If it is missing, does not load, or holds anything else.
    """
    import torch

    if not path.is_file():
        raise CheckFailed("the graph lacks a file", where=str(path))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = first_line(error)
        raise CheckFailed(
            "the file does not load", where=str(path), why=reason
        ) from error
    tensors = content if isinstance(content, list) else [content]
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise CheckFailed("the file holds no tensors", where=str(path))
    return tensors


def check_edges(directory: Path, name: str) -> int:
    """Check edges and their features; return the number of levels that they have.

    Raises
    ------
    CheckFailed
        Naming the file and the level.
    """
    index, features = (
        load_tensors(directory / f"{name}_{kind}.pt")
        for kind in ("edge_index", "features")
    )
    if len(index) != len(features):
        raise CheckFailed(
            f"{name}: edges of {len(index)} levels, features of {len(features)}",
            where=str(directory),
        )
    for level, (edges, values) in enumerate(zip(index, features, strict=True)):
        of_level = f", level {level}" if len(index) > 1 else ""
        check_level(edges, values, f"{directory / name}{of_level}")
    return len(index)


def check_level(edges: Any, values: Any, where: str) -> None:
    """Check the edges of one level, and their features.

    Raises
    ------
    CheckFailed
        With the first fault found.
    """
    import torch

    if edges.ndim != 2 or edges.shape[0] != 2 or not edges.shape[1]:
        raise CheckFailed(
            f"no edges: their index has the shape {tuple(edges.shape)}", where=where
        )
    if int(edges.min()) < 0:
        raise CheckFailed(
            "an edge begins or ends at a node before the first", where=where
        )
    if len(values) != edges.shape[1]:
        raise CheckFailed(
            f"{edges.shape[1]} edges, but features of {len(values)}", where=where
        )
    if not bool(torch.isfinite(values).all()):
        raise CheckFailed("the features of an edge are not finite", where=where)


def check_graph(directory: Path, graph: Mapping[str, Any]) -> None:
    """Prove a graph: every file that neural-lam 0.7.0 reads (``utils/graph.py``) loads, and all fit together.

    Parameters
    ----------
    directory : Path
        ``data/graph/<name>``.
    graph : Mapping
        ``graph`` of ``params.yaml``.

    Raises
    ------
    CheckFailed
        With the first fault found.
    """
    import torch

    if not directory.is_dir():
        raise CheckFailed("there is no graph", where=str(directory))
    mesh = load_tensors(directory / "mesh_features.pt")
    for level, nodes in enumerate(mesh):
        if not len(nodes) or not bool(torch.isfinite(nodes).all()):
            raise CheckFailed(
                f"level {level} of the mesh is empty or not finite",
                where=str(directory),
            )
    levels = {name: check_edges(directory, name) for name in EDGES}
    check_levels(directory, graph, len(mesh), levels["m2m"])


def check_levels(
    directory: Path, graph: Mapping[str, Any], nodes: int, edges: int
) -> None:
    """Refuse another number of levels than asked for; the edges between them are checked as well.

    Raises
    ------
    CheckFailed
        With the number to ask for instead.
    """
    if nodes != edges:
        raise CheckFailed(
            f"nodes of {nodes} levels, edges of {edges}", where=str(directory)
        )
    if graph.get("archetype") != "hierarchical":
        if edges != 1:
            raise CheckFailed(
                f"{edges} levels in a graph that is not hierarchical",
                where=str(directory),
            )
        return
    asked = graph.get("max_num_levels")
    if edges < 2:
        why = "the grid is too small for the distance of the mesh's nodes"
        raise CheckFailed(
            "a hierarchical graph of one level",
            "params.yaml: graph",
            why,
            "lower graph.mesh_node_distance",
        )
    if asked is not None and edges != asked:
        # "max" is what weather-model-graphs calls it; a model of other depth than was
        # written down is a surprise.
        raise CheckFailed(
            f"the graph has {edges} levels, {asked} were asked for",
            where="params.yaml: graph.max_num_levels",
            why="the grid gives no more at this mesh_node_distance and level_refinement_factor",
            next=f"dvc exp run -S graph.max_num_levels={edges}",
        )
    for name in EDGES_BETWEEN_LEVELS:
        if check_edges(directory, name) != edges - 1:
            raise CheckFailed(
                f"{name}: not {edges - 1} sets of edges for {edges} levels",
                where=str(directory),
            )


class CreateGraph(NeuralLamStage):
    """Build the graph that the network works on."""

    name = "create_graph"
    recipe = 1

    def inputs(self, context: StageContext) -> None:
        """Refuse a missing dataset: the graph is laid over its grid."""
        need_dataset(context)

    def command(self, context: StageContext) -> list[str]:
        """Return neural-lam's ``create_graph_with_wmg``; it writes beside the dataset's configuration."""
        from mllam_exps.stages.neural_lam.parameters import arguments, params

        given = params.graph_argv(parameters(context), arguments.known())
        return [
            "python",
            "-m",
            "mllam_exps.stages.neural_lam.programs.neural_lam",
            "graph",
            "--config_path=data/config.yaml",
            *given,
        ]

    def check(self, context: StageContext) -> None:
        """Prove the graph."""
        graph = context.params["params.yaml"]["graph"]
        check_graph(context.work / GRAPHS / graph["name"], graph)


STAGE = CreateGraph()
