"""``python -P -c TEXT installed|arguments``: which neural-lam a Python has, or what that can be told, as JSON.

Its text is started, with a Python that may not have this package, so it imports
nothing of ours. What `arguments` returns is made into
`mllam_exps.stages.neural_lam.parameters.arguments.Arguments`.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import hashlib
import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

# The modules of neural-lam that its arguments are read from.
_SOURCES = (
    "train_model",
    "create_graph_with_wmg",
    "config",
    "gnn_layers",
    "metrics",
    "models/__init__",
)


def installed() -> dict[str, str]:
    """Return neural-lam's version, and the digest of its sources where that does not say all; nothing without one."""
    try:
        distribution = metadata.distribution("neural-lam")
    except metadata.PackageNotFoundError:
        return {}
    # pip writes direct_url.json for what does not come from an index: checkouts, git
    # revisions, local files.
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    sources = _digest(_folder(distribution, origin)) if origin else ""
    return {"version": distribution.version, "sources": sources}


def _folder(distribution: metadata.Distribution, origin: Mapping[str, Any]) -> Path:
    """Return the folder of neural-lam's modules; nothing is imported for that."""
    folder = Path(str(distribution.locate_file("neural_lam")))
    if not origin.get("dir_info", {}).get("editable"):
        return folder
    checkout = Path(unquote(urlparse(origin["url"]).path))
    for candidate in (checkout / "neural_lam", checkout / "src" / "neural_lam"):
        if candidate.is_dir():
            return candidate
    return folder


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        path = folder / f"{name}.py"
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def arguments() -> dict[str, Any]:
    """Return what neural-lam's parsers and code say of its arguments: ten seconds, and 600 MB."""
    import neural_lam
    from neural_lam import config, create_graph_with_wmg, models, train_model

    train = _parser_of(train_model.main)
    graph = _parser_of(create_graph_with_wmg.cli)
    choices = _choices_in_the_code()
    hierarchical = [n for n, m in models.MODELS.items() if needs_hierarchical_graph(m)]
    return {
        "version": metadata.version("neural-lam"),
        "sources": _digest(Path(str(neural_lam.__file__)).parent),
        "train": _described(train, choices),
        "graph": _described(graph, choices),
        "hierarchical": hierarchical,
        "config": {
            name: [field.name for field in dataclasses.fields(thing)]
            for name, thing in vars(config).items()
            if dataclasses.is_dataclass(thing)
        },
    }


class _AtParser(BaseException):
    """Leaves a program at its parser; no Exception, because loguru's ``catch`` would swallow one."""


def _parser_of(program: Callable[[list[str]], Any]) -> argparse.ArgumentParser:
    """Return the parser of one of neural-lam's programs, which makes it inside: it is run up to there."""
    from unittest import mock

    parsers = []

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parsers.append(parser)
        raise _AtParser

    # `__wrapped__`: the function without loguru's ``catch``.
    unguarded = getattr(program, "__wrapped__", program)
    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            unguarded([])
        except _AtParser:
            return parsers[0]
    raise RuntimeError(f"{program.__module__} has no parser")


def _choices_in_the_code() -> dict[str, list[str]]:
    """Return the choices of arguments for which the parser lists none: the code that uses the value has them."""
    from lightning_fabric.plugins.precision import precision as lightning
    from neural_lam import metrics

    return {
        "loss": list(metrics.DEFINED_METRICS),
        "precision": [
            *typing.get_args(lightning._PRECISION_INPUT_STR),
            *typing.get_args(lightning._PRECISION_INPUT_STR_ALIAS),
        ],
        "mesh_aggr": _aggregations(),
    }


def _aggregations() -> list[str]:
    """Return the list in ``if aggr not in [...]``, by which a layer of neural-lam refuses all others."""
    from neural_lam.gnn_layers import InteractionNet

    source = textwrap.dedent(inspect.getsource(InteractionNet.__init__))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Compare(ast.Name("aggr"), [ast.NotIn()], [allowed]):
                return list(ast.literal_eval(allowed))
    return []


def _described(
    parser: argparse.ArgumentParser, choices: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    """Return each argument of a parser as data."""
    actions = [action for action in parser._actions if action.dest != "help"]
    return [_describe(a, a.choices or choices.get(a.dest, [])) for a in actions]


def _describe(action: argparse.Action, choices: typing.Iterable[Any]) -> dict[str, Any]:
    flags = (argparse._StoreTrueAction, argparse._StoreFalseAction)
    kind = bool if isinstance(action, flags) else action.type or str
    return {
        "name": action.dest,
        "flag": action.option_strings[-1],
        "type": getattr(kind, "__name__", str(kind)),
        "many": action.nargs in ("+", "*"),
        "choices": [str(choice) for choice in choices],
        "default": action.default,
        "required": action.required,
        "help": " ".join((action.help or "").split()),
    }


def needs_hierarchical_graph(model: Any) -> bool:
    """Tell what kind of graph a class of ``neural_lam.models`` works on."""
    from neural_lam.models import BaseHiGraphModel

    if issubclass(model, BaseHiGraphModel):
        return True
    if not hasattr(model, "check_graph_type"):
        return False
    # The probabilistic models have another base class: they refuse a wrong graph in
    # this method.
    blank = model.__new__(model)
    blank.__dict__["hierarchical"] = False
    try:
        blank.check_graph_type("a graph")
    except ValueError:
        return True
    return False


def main(what: str) -> None:
    """Print an answer as the last line: neural-lam, or a library below it, may print others."""
    answer = {"installed": installed, "arguments": arguments}[what]()
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
