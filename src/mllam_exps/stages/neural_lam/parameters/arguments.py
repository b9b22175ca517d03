"""The arguments of the installed neural-lam, as data: nothing is checked against a list kept by hand.

They come from neural-lam's own parsers. Importing those costs ten seconds and 600 MB,
so it is done once for each version, in a process of its own, and remembered; for
released versions the result ships with us: ``python -m
mllam_exps.stages.neural_lam.parameters.arguments``, into
``known_arguments/neural-lam-VERSION.json``.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import UsageError
from mllam_exps.base.spelling import did_you_mean

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_ARTICLE = {
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
}
_EXTRACTION_SECONDS = 300  # a cold file system on a login node; it takes ten where torch is in the page cache


@dataclass(frozen=True)
class Argument:
    """One argument of a neural-lam program.

    Parameters
    ----------
    name : str
        Its key in a parameter file: the parser's ``dest``.
    flag : str
        As typed, e.g. ``--logger-project``.
    type : str
        ``int``, ``float``, ``str`` or ``bool`` (a flag without a value).
    many : bool
        Takes a list.
    choices : tuple of str
        All allowed values as text; empty where any will do.
    default
        neural-lam's own.
    required : bool
    help : str
    """

    name: str
    flag: str
    type: str
    many: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None
    required: bool = False
    help: str = ""

    def problem(self, value: Any) -> str:
        """Say what is wrong with a parameter file's value; empty if nothing is."""
        if value is None:
            return ""
        if isinstance(value, list) and not self.many:
            return f"must be {_ARTICLE[self.type]}, not a list"
        if value == [] and self.default != []:
            return (
                "must not be an empty list: leave the key out for neural-lam's default"
            )
        for item in value if isinstance(value, list) else [value]:
            if problem := self._problem_of_one(item):
                return problem
        return ""

    def _problem_of_one(self, item: Any) -> str:
        if self.choices:
            # An integer may stand for its text (`precision: 32`), a boolean may not.
            if isinstance(item, bool) or str(item) not in self.choices:
                near = did_you_mean(item, self.choices)
                return f"must be one of {', '.join(self.choices)}, not {item!r}{near}"
            return ""
        if not _is_a(item, self.type):
            return f"must be {_ARTICLE[self.type]}, not {item!r}"
        if self.many and self.type == "str" and str(item).startswith("-"):
            return f"{item!r} would be taken for an option of neural-lam"
        return ""

    def argv(self, value: Any) -> list[str]:
        """Write a value, found good by `problem`, as neural-lam's parser expects it; None writes nothing."""
        if value is None or value is False or value == []:
            return []
        if self.type == "bool":
            return [self.flag]
        items = value if isinstance(value, list) else [value]
        words = [
            str(float(item)) if self.type == "float" else str(item) for item in items
        ]
        # `--key=value` because a value that begins with '-' would otherwise be read as
        # an option.
        return [self.flag, *words] if self.many else [f"{self.flag}={words[0]}"]


@dataclass(frozen=True)
class Arguments:
    """What one version of neural-lam can be told.

    Parameters
    ----------
    version : str
        neural-lam's.
    sources : str
        Digest of the source files that the rest was taken from.
    train, graph : Mapping
        Arguments of ``neural_lam.train_model`` and
        ``neural_lam.create_graph_with_wmg``, by name.
    hierarchical : tuple of str
        The models that need a hierarchical graph; all others need one that is not.
    config : Mapping
        Keys of each class of neural-lam's configuration file, by class.
    """

    version: str
    sources: str
    train: Mapping[str, Argument]
    graph: Mapping[str, Argument]
    hierarchical: tuple[str, ...]
    config: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_json(cls, text: str) -> Arguments:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        for program in ("train", "graph"):
            data[program] = {
                item["name"]: Argument(**{**item, "choices": tuple(item["choices"])})
                for item in data[program]
            }
        data["hierarchical"] = tuple(data["hierarchical"])
        data["config"] = {name: tuple(keys) for name, keys in data["config"].items()}
        return cls(**data)

    def to_json(self) -> str:
        """Write as JSON, one form for cache and package."""
        data = asdict(self)
        data |= {
            "train": list(data["train"].values()),
            "graph": list(data["graph"].values()),
        }
        return json.dumps(data, indent=1) + "\n"


@dataclass(frozen=True)
class Installed:
    """The neural-lam that an environment has; ``sources`` is empty for an ordinary installed release."""

    version: str
    sources: str = ""


def known(python: str | Path = sys.executable) -> Arguments:
    """Return the arguments of the neural-lam that ``python`` would run.

    Parameters
    ----------
    python : str or Path
        The interpreter in whose environment the stages run.

    Raises
    ------
    UsageError
        If that environment has no neural-lam, or one that could not be asked.
    """
    here = installed(python)
    name = f"neural-lam-{here.version}.json"
    shipped = _read(Path(__file__).with_name("known_arguments") / name)
    if shipped and here.sources in ("", shipped.sources):
        return shipped
    tag = f"+{here.sources[:12]}" if here.sources else ""
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mllam-exps"
    )
    path = cache / f"neural-lam-{here.version}{tag}.json"
    cached = _read(path)
    if cached:
        return cached
    found = extract(python)
    _write(path, found.to_json())
    return found


def installed(python: str | Path = sys.executable) -> Installed:
    """Return the version of neural-lam in an interpreter's environment, without importing it."""
    found: dict[str, str]
    # An environment's `python`, `python3` and `python3.11` are one; its link to the
    # base's is what makes it one.
    if Path(python).absolute().parent == Path(sys.executable).absolute().parent:
        found = _installed_here()
    else:
        found = _ask(python, _installed_here, seconds=60)
    if not found:
        raise UsageError(
            "neural-lam is not installed there",
            str(python),
            next="pip install 'mllam-exps[models]' in that environment",
        )
    return Installed(**found)


def extract(python: str | Path = sys.executable) -> Arguments:
    """Ask neural-lam's own code, in a process of its own, what it can be told (ten seconds, 600 MB)."""
    answer = _ask(
        python, _needs_hierarchical_graph, _extract_here, seconds=_EXTRACTION_SECONDS
    )
    return Arguments.from_json(json.dumps(answer))


def _is_a(item: Any, kind: str) -> bool:
    if kind == "bool" or isinstance(item, bool):
        return kind == "bool" and isinstance(item, bool)
    if kind == "int":
        return isinstance(item, int)
    if kind == "str":
        return isinstance(item, str)
    # PyYAML reads `1e-3` as text, because YAML 1.1 wants a dot in a number: it is one
    # all the same.
    if isinstance(item, str):
        return bool(_NUMBER.fullmatch(item))
    return isinstance(item, int | float) and math.isfinite(item)


def _read(path: Path) -> Arguments | None:
    """Read a file of arguments; None where there is none, or none that this version of us can use."""
    try:
        return Arguments.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, text: str) -> None:
    """Write in one step, so that no process reads half; a read-only home only costs ten seconds."""
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError:
        return


def _ask(python: str | Path, *functions: Any, seconds: float) -> dict[str, Any]:
    """Call the last of some functions of this module in an interpreter that may not have this package."""
    # The working directory must not be importable: a folder `neural_lam` in it would
    # stand first.
    code = "import json, sys\nfrom typing import Any\nsys.path[:] = [p for p in sys.path if p]\n"
    code += "\n".join(inspect.getsource(function) for function in functions)
    code += f"\nprint('\\n' + json.dumps({functions[-1].__name__}()))"
    try:
        done = subprocess.run(
            [str(python), "-c", code],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise UsageError("is no Python that answers", str(python)) from error
    except OSError as error:
        raise UsageError(
            "cannot be run", str(python), error.strerror or str(error)
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"did not tell neural-lam's arguments within {seconds:.0f} s", str(python)
        ) from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            "neural-lam's arguments could not be read",
            str(python),
            last,
            f"{python} -m neural_lam.train_model --help",
        ) from error
    return answer


def _installed_here() -> dict[str, str]:
    """Version, and for all but an ordinary release the digest of the sources; runs in any interpreter."""
    import hashlib
    import importlib.metadata
    import json
    import pathlib
    import urllib.parse

    try:
        distribution = importlib.metadata.distribution("neural-lam")
    except importlib.metadata.PackageNotFoundError:
        return {}
    # pip writes direct_url.json for what does not come from an index: checkouts, git
    # revisions, local files.
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin:
        return {"version": distribution.version, "sources": ""}
    folder = pathlib.Path(str(distribution.locate_file("neural_lam")))
    if origin.get("dir_info", {}).get("editable"):
        checkout = pathlib.Path(
            urllib.parse.unquote(urllib.parse.urlparse(origin["url"]).path)
        )
        folder = next(
            (
                f
                for f in (checkout / "neural_lam", checkout / "src" / "neural_lam")
                if f.is_dir()
            ),
            folder,
        )
    names = (
        "train_model",
        "create_graph_with_wmg",
        "config",
        "gnn_layers",
        "metrics",
        "models/__init__",
    )
    digest = hashlib.sha256()
    for path in (folder / f"{name}.py" for name in names):
        digest.update(path.read_bytes() if path.exists() else b"")
    return {"version": distribution.version, "sources": digest.hexdigest()}


def _needs_hierarchical_graph(model: Any) -> bool:
    """Tell what kind of graph a class of ``neural_lam.models`` works on; runs where neural-lam is."""
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


def _extract_here() -> dict[str, Any]:
    """Ask neural-lam's parsers and code; runs in an interpreter that has neural-lam."""
    import argparse
    import ast
    import dataclasses
    import hashlib
    import importlib.metadata
    import inspect
    import pathlib
    import textwrap
    import typing

    class Stop(BaseException):
        """Leaves the program at its parser; no Exception, because loguru's ``catch`` would swallow one."""

    parsers: list[Any] = []

    def stop(parser: Any, *_: Any, **__: Any) -> None:
        parsers.append(parser)
        raise Stop

    argparse.ArgumentParser.parse_args = stop  # type: ignore[method-assign,assignment]
    import neural_lam
    from lightning_fabric.plugins.precision import precision as lightning
    from neural_lam import (
        config,
        create_graph_with_wmg,
        gnn_layers,
        metrics,
        models,
        train_model,
    )

    for main in (train_model.main, create_graph_with_wmg.cli):
        try:
            getattr(main, "__wrapped__", main)([])
        except Stop:
            continue

    # Where the parser lists no choices, the code that uses the value has them.
    tree = ast.parse(
        textwrap.dedent(inspect.getsource(gnn_layers.InteractionNet.__init__))
    )
    refusals = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.NotIn)
    ]
    aggregations = [
        ast.literal_eval(node.comparators[0])
        for node in refusals
        if isinstance(node.left, ast.Name) and node.left.id == "aggr"
    ]
    kinds = (lightning._PRECISION_INPUT_STR, lightning._PRECISION_INPUT_STR_ALIAS)
    hidden = {
        "loss": list(metrics.DEFINED_METRICS),
        "precision": [choice for kind in kinds for choice in typing.get_args(kind)],
        "mesh_aggr": list(aggregations[0]) if aggregations else [],
    }

    def describe(action: Any) -> dict[str, Any]:
        flag = isinstance(
            action, argparse._StoreTrueAction | argparse._StoreFalseAction
        )
        return {
            "name": action.dest,
            "flag": action.option_strings[-1],
            "type": "bool" if flag else (action.type or str).__name__,
            "many": action.nargs in ("+", "*"),
            "choices": [
                str(choice) for choice in action.choices or hidden.get(action.dest, [])
            ],
            "default": action.default,
            "required": action.required,
            "help": " ".join((action.help or "").split()),
        }

    programs = [
        [describe(a) for a in parser._actions if a.dest != "help"] for parser in parsers
    ]
    names = (
        "train_model",
        "create_graph_with_wmg",
        "config",
        "gnn_layers",
        "metrics",
        "models/__init__",
    )
    folder = pathlib.Path(neural_lam.__file__).parent
    sources = b"".join(
        p.read_bytes() if p.exists() else b""
        for p in (folder / f"{name}.py" for name in names)
    )
    return {
        "version": importlib.metadata.version("neural-lam"),
        "sources": hashlib.sha256(sources).hexdigest(),
        "train": programs[0],
        "graph": programs[1],
        "hierarchical": [
            name
            for name, model in models.MODELS.items()
            if _needs_hierarchical_graph(model)
        ],
        "config": {
            name: [field.name for field in dataclasses.fields(thing)]
            for name, thing in vars(config).items()
            if dataclasses.is_dataclass(thing)
        },
    }


if __name__ == "__main__":
    sys.stdout.write(
        extract(sys.argv[1] if len(sys.argv) > 1 else sys.executable).to_json()
    )
