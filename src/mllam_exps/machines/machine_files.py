"""Machine files: read, overridden, checked, and with the place that each value comes from.

A result never depends on them. `mllam_exps.machines.model` says what may stand in them.
"""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mllam_exps.base import unreadable
from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.machines.model import (
    Environment,
    Mail,
    Notify,
    Paths,
    Resources,
    Settings,
)

FOLDER = "machines"
STAGES = (
    "check_for_venv_path",
    "mllam_version",
    "prepare_dataset",
    "create_graph",
    "train",
    "evaluate",
    SAVE,
)
BUILT_IN = "local"
"""The machine that is there without a file: this host, as it is."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_PLAIN_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
}
_PLAIN_WORDS |= {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_DEEPEST = 12
_LISTS = {"hosts", "modules", "source", "types", "command", "on"}
_SECTIONS = (["resources"], ["environment"], ["paths"], ["notify"])


class Machine(Settings):
    """A machine as it will be used: its settings, its name, and where each value comes from."""

    name: str
    file: Path | None
    """Its file, if it has one."""
    origins: dict[str, str]
    """By dotted key: ``machines/x.yaml:12``, ``MLLAM_MACHINE_OPTIONS`` or ``MLLAM_VENV_PATH``."""

    @property
    def venv(self) -> Path:
        """The virtual environment of the stages' programs; without any setting the running one."""
        return self.environment.venv or Path(sys.prefix)

    def resources_for(self, stage: str) -> Resources:
        """Return what a stage's job asks for: the stage's own values on top of the default's.

        Parameters
        ----------
        stage : str
            A stage of dvc.yaml; ``train@a`` (of a ``foreach`` or ``matrix``) has the
            resources of ``train``.
        """
        stage = stage.partition("@")[0]
        default = self.resources.get("default", Resources())
        if stage == SAVE:
            default = default.for_keeping_books()
        return (
            self.resources[stage].over(default) if stage in self.resources else default
        )

    def origin(self, key: str) -> str:
        """Return where a value comes from, by its dotted key; ``default`` where nobody set it."""
        while key:
            if key in self.origins:
                return self.origins[key]
            key = key.rpartition(".")[0]
        return "default"

    def resource_origin(self, stage: str, key: str) -> str:
        """Return where a value of `resources_for` comes from; ``key`` may be ``sbatch.constraint``."""
        places = [
            f"resources.{place}.{key}" for place in (stage.partition("@")[0], "default")
        ]
        return next(
            (self.origins[place] for place in places if place in self.origins),
            "default",
        )


def names(root: Path) -> list[str]:
    """Return the names of the machines that a repository knows, sorted; ``local`` is always one."""
    return sorted({path.stem for path in (root / FOLDER).glob("*.yaml")} | {BUILT_IN})


def load(root: Path, name: str, environ: Mapping[str, str] | None = None) -> Machine:
    """Read and check a machine.

    Parameters
    ----------
    root : Path
        The repository.
    name : str
        ``machines/<name>.yaml``, or ``local``, which needs no file.
    environ : Mapping, optional
        Where MLLAM_MACHINE_OPTIONS and MLLAM_VENV_PATH are looked for; by default the
        file alone counts.

    Raises
    ------
    UsageError, Problems
        Everything that is wrong with the file or the options, a line each.
    """
    environ = environ or {}
    if not root.is_dir():
        raise gone(root)
    file = root / FOLDER / f"{name}.yaml"
    shown = f"{FOLDER}/{name}.yaml"
    if file.is_file() and re.fullmatch(r"[\w.-]+", name):
        data, lines = read_yaml(file, shown)
    elif name == BUILT_IN:
        data, lines = {"scheduler": "local"}, {}
    else:
        known = names(root)
        why = f"there is no such file; there are {', '.join(known)}{_nearest(name, known)}"
        raise UsageError(
            f"no machine named {name!r}",
            where=shown,
            why=why,
            next="mllam-exps machine list",
        )
    origins = {key: f"{shown}:{line}" for key, line in lines.items()}
    problems = _override(
        data, origins, environ.get("MLLAM_MACHINE_OPTIONS", ""), _stages(root)
    )
    if venv := environ.get("MLLAM_VENV_PATH"):
        problems += _put(
            data, origins, ["environment", "venv"], venv, "MLLAM_VENV_PATH"
        )
    settings, found = _check(data, origins, shown, root)
    if settings is None or problems or found:
        raise Problems(problems=problems + found)
    given = {key: getattr(settings, key) for key in settings.model_fields_set}
    return Machine(
        name=name, file=file if file.is_file() else None, origins=origins, **given
    )


def gone(
    root: Path, what: str = "the repository has moved, or was deleted"
) -> UsageError:
    """Return the error for a repository that is no longer where an experiment of it was submitted from."""
    way_out = f'type where it is now: ln -s "$PWD" {shlex.quote(str(root))}, or submit its experiments again there'
    return UsageError(what, str(root), "there is no DVC repository", way_out)


def pick(root: Path, environ: Mapping[str, str], hostname: str) -> Machine:
    """Return the machine to use: MLLAM_MACHINE, else the first file whose ``hosts`` fit, else ``local``.

    Parameters
    ----------
    root : Path
        The repository.
    environ : Mapping
        The environment: MLLAM_MACHINE, MLLAM_MACHINE_OPTIONS, MLLAM_VENV_PATH.
    hostname : str
        This host's name, short or full.
    """
    return load(root, picked(root, environ, hostname), environ)


def picked(root: Path, environ: Mapping[str, str], hostname: str) -> str:
    """Return the name of the machine that `pick` returns; nothing says that there is one of that name."""
    if name := environ.get("MLLAM_MACHINE"):
        return name
    own = {hostname.lower(), hostname.lower().split(".")[0]}
    for file in sorted((root / FOLDER).glob("*.yaml")):
        data, _ = read_yaml(file, f"{FOLDER}/{file.name}")
        patterns = data.get("hosts")
        if isinstance(patterns, list) and any(
            fnmatch(host, str(p).lower()) for p in patterns for host in own
        ):
            return file.stem
    return BUILT_IN


def read_yaml(file: Path, shown: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Read a YAML mapping, with the line of each dotted key.

    Stricter than YAML, and without its surprises: a key that stands twice is refused;
    ``1:30:00`` is no number of base 60; ``no`` and ``on`` are text, and so is every
    number that is no integer (``1.10``).

    Parameters
    ----------
    file : Path
        The file.
    shown : str
        Its name in messages.
    """
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise unreadable.refusal(
            shown, file.read_text(encoding="utf-8"), error
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            "can't be read as YAML", shown, " ".join(str(why).split())
        ) from None
    lines: dict[str, int] = {}
    if node is None:
        return {}, lines
    data = _construct(node, "", lines, shown)
    if not isinstance(data, dict):
        raise UsageError(
            "must be a mapping of keys to values",
            where=f"{shown}:{node.start_mark.line + 1}",
        )
    return data, lines


def _construct(node: Any, key: str, lines: dict[str, int], shown: str) -> Any:
    where = f"{shown}:{node.start_mark.line + 1}"
    if key.count(".") > _DEEPEST:
        raise UsageError("is nested too deeply", where=f"{where}: {key[:40]}…")
    if isinstance(node, yaml.ScalarNode):
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise UsageError(
                f"has a tag that nothing here reads: {node.tag}",
                where=f"{where}: {key}",
            )
        if node.style:
            return node.value
        return _PLAIN_WORDS.get(
            node.value, int(node.value) if _INT.fullmatch(node.value) else node.value
        )
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(child, f"{key}.{index}", lines, shown)
            for index, child in enumerate(node.value)
        ]
    data: dict[str, Any] = {}
    for name_node, child in node.value:
        line = name_node.start_mark.line + 1
        name = name_node.value
        if not isinstance(name, str):
            raise UsageError("a key must be a word", where=f"{shown}:{line}")
        dotted = f"{key}.{name}" if key else name
        if name in data:
            raise UsageError(
                f"stands twice, first in line {lines[dotted]}",
                where=f"{shown}:{line}: {dotted}",
            )
        lines[dotted] = line
        data[name] = _construct(child, dotted, lines, shown)
    return data


def _override(
    data: dict[str, Any], origins: dict[str, str], options: str, stages: set[str]
) -> list[MllamError]:
    """Put the values of MLLAM_MACHINE_OPTIONS into the data of a file."""
    source = "MLLAM_MACHINE_OPTIONS"
    try:
        words = shlex.split(options)
    except ValueError as error:
        return [UsageError("can't be split into words", where=source, why=str(error))]
    problems: list[MllamError] = []
    for word in words:
        dotted, equals, text = word.partition("=")
        if not equals or not dotted:
            problems.append(UsageError(f"{word!r} is not key=value", where=source))
            continue
        path = dotted.split(".")
        known = stages | {"default"}
        if path[0] not in Settings.model_fields:
            if path[0] not in known:
                near = _nearest(path[0], [*Settings.model_fields, *known])
                why = f"no key of a machine, and no stage{near}"
                problems.append(
                    UsageError("is unknown", where=f"{source}: {dotted}", why=why)
                )
                continue
            path = ["resources", *path]
        problems += _put(data, origins, path, _value(text, path[-1]), source)
    return problems


def _value(text: str, name: str) -> object:
    """Read an option's value: a YAML scalar; a list only where the file has one, else ``[a|b]`` is text."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
        if isinstance(node, yaml.ScalarNode) or (node and name in _LISTS):
            return _construct(node, "", {}, "")
    except (yaml.YAMLError, UsageError):
        pass
    return text if text else None


def _put(
    data: dict[str, Any],
    origins: dict[str, str],
    path: list[str],
    value: object,
    source: str,
) -> list[MllamError]:
    """Set one value, and note where it comes from."""
    dotted = ".".join(path)
    if (
        isinstance(value, dict)
        or path in _SECTIONS
        or (path[0] == "resources" and len(path) == 2)
    ):
        return [
            UsageError(
                "takes no single value",
                where=f"{source}: {dotted}",
                why="it has keys of its own",
            )
        ]
    inner = data
    for name in path[:-1]:
        if inner.get(name) is None:
            inner[name] = {}
        inner = inner[name]
        if not isinstance(inner, dict):
            return [
                UsageError(
                    "has no keys of its own",
                    where=f"{source}: {dotted}",
                    why=f"{name} is a value",
                )
            ]
    inner[path[-1]] = value
    origins[dotted] = source
    return []


def _stages(root: Path) -> set[str]:
    """Return the names of stages that resources may be given for."""
    try:
        data = yaml.load(
            (root / "dvc.yaml").read_text(encoding="utf-8"),
            Loader=_LOADER,  # noqa: S506
        )
        return {*STAGES, *map(str, data["stages"])}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        # A dvc.yaml that can't be read is told of by those who need it.
        return set(STAGES)


def _check(
    data: dict[str, Any], origins: Mapping[str, str], shown: str, root: Path
) -> tuple[Settings | None, list[MllamError]]:
    """Check the whole of a machine; return what is wrong, a problem a line."""
    problems: list[MllamError] = []
    known = {*_stages(root), "default"}
    # Other names are welcome, as the file may serve several repositories; one that is
    # nearly right is not.
    for stage in data["resources"] if isinstance(data.get("resources"), dict) else ():
        if stage not in known and (near := _nearest(stage, known)):
            where = _place(f"resources.{stage}", origins, shown)
            problems.append(
                UsageError("is no stage of dvc.yaml", where=where, why=near[2:])
            )
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        return None, problems + [
            _told(dict(one), origins, shown) for one in error.errors()
        ]
    for stage, resources in settings.resources.items():
        try:
            resources.over(settings.resources.get("default", Resources()))
        except ValidationError as error:
            where = _place(f"resources.{stage}", origins, shown)
            problems += [
                UsageError(_reason(dict(one)), where=where) for one in error.errors()
            ]
    return settings, problems


GONE = {
    "submit_for_others": "delete the line; who wants to go on with a colleague's experiment submits the same:"
    " what is done is shared",
}
"""Keys of before, and what to do instead."""


def _told(error: dict[str, Any], origins: Mapping[str, str], shown: str) -> UsageError:
    """Turn an error of pydantic into one of ours."""
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    where = _place(".".join(parts), origins, shown)
    if error["type"] == "extra_forbidden":
        if way_out := GONE.get(parts[-1]):
            return UsageError("is no key any more", where=where, next=way_out)
        model = _model(parts[:-1])
        near = _nearest(parts[-1], model.model_fields) if model else ""
        return UsageError("is unknown", where=where, why=f"no key of that name{near}")
    if error["type"] == "literal_error":
        near = _nearest(
            str(error["input"]), re.findall(r"'([^']+)'", error["ctx"]["expected"])
        )
        return UsageError(
            f"must be {error['ctx']['expected']}, not {error['input']!r}{near}",
            where=where,
        )
    if error["type"] == "missing":
        return UsageError(
            "is missing", where=where, why="every machine needs it: local or slurm"
        )
    return UsageError(_reason(error), where=where)


def _reason(error: dict[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    given = (
        "" if isinstance(error["input"], dict | list) else f", not {error['input']!r}"
    )
    return str(error["msg"]).replace("Input should be", "must be") + given


def _place(dotted: str, origins: Mapping[str, str], shown: str) -> str:
    key = dotted
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return f"{origins.get(key, shown)}: {dotted}" if dotted else shown


def _model(parts: list[str]) -> type[BaseModel] | None:
    """Return the model whose keys stand at a place."""
    match parts:
        case []:
            return Settings
        case ["resources", _]:
            return Resources
        case ["resources", _, "mail"]:
            return Mail
        case ["environment"]:
            return Environment
        case ["paths"]:
            return Paths
        case ["notify"]:
            return Notify
    return None


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
