"""The arguments of the installed neural-lam, as data: nothing is checked against a list kept by hand.

They come from neural-lam's own parsers. Importing those costs ten seconds and 600 MB,
so it is done once for each version, in a process of its own, and remembered; for
released versions the result ships with us: ``python -m
mllam_exps.stages.neural_lam.parameters.arguments``, into
``known_arguments/neural-lam-VERSION.json``.
"""

from __future__ import annotations

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

from mllam_exps.base.endings.last_words import last_line
from mllam_exps.base.errors import UsageError, did_you_mean
from mllam_exps.stages import asking
from mllam_exps.stages.neural_lam.programs import tell_arguments

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_ARTICLE = {
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
}
_LOOK_SECONDS = 60
# A cold file system on a login node; it takes ten where torch is in the page cache.
_EXTRACTION_SECONDS = 300


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
    found = installed(python)
    name = f"neural-lam-{found.version}.json"
    shipped = _read(Path(__file__).with_name("known_arguments") / name)
    if shipped and found.sources in ("", shipped.sources):
        return shipped
    cache = _cache_file(found)
    told = _read(cache)
    if told is None:
        told = extract(python)
        _write(cache, told.to_json())
    return told


def installed(python: str | Path = sys.executable) -> Installed:
    """Return the version of neural-lam in an interpreter's environment, without importing it."""
    # An environment's `python`, `python3` and `python3.11` are one; its link to the
    # base's is what makes it one.
    is_ours = Path(python).absolute().parent == Path(sys.executable).absolute().parent
    found = (
        tell_arguments.installed()
        if is_ours
        else _ask(python, "installed", seconds=_LOOK_SECONDS)
    )
    if not found:
        raise UsageError(
            "neural-lam is not installed there",
            str(python),
            next="pip install 'mllam-exps[models]' in that environment",
        )
    return Installed(**found)


def extract(python: str | Path = sys.executable) -> Arguments:
    """Ask neural-lam's own code, in a process of its own, what it can be told (ten seconds, 600 MB)."""
    answer = _ask(python, "arguments", seconds=_EXTRACTION_SECONDS)
    return Arguments.from_json(json.dumps(answer))


def _cache_file(found: Installed) -> Path:
    """Return where the arguments of an installed neural-lam are remembered."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    tag = f"+{found.sources[:12]}" if found.sources else ""
    return cache / "mllam-exps" / f"neural-lam-{found.version}{tag}.json"


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


def _ask(python: str | Path, what: str, *, seconds: float) -> dict[str, Any]:
    """Run `tell_arguments` in an interpreter that may not have this package."""
    # As text: a container need not have this file. Not as input: it may have none.
    program = Path(tell_arguments.__file__).read_text(encoding="utf-8")
    try:
        answer = asking.ask([str(python), "-P", "-c", program, what], patience=seconds)
        if answer.code == 0:
            found: dict[str, Any] = answer.found
            return found
    except ValueError as error:
        raise UsageError("is no Python that answers", str(python)) from error
    except OSError as error:
        raise UsageError(
            "cannot be run", str(python), error.strerror or str(error)
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"did not tell neural-lam's arguments within {seconds:.0f} s", str(python)
        ) from error
    raise UsageError(
        "neural-lam's arguments could not be read",
        str(python),
        last_line(answer.err) or "no message",
        f"{python} -m neural_lam.train_model --help",
    )


if __name__ == "__main__":
    sys.stdout.write(
        extract(sys.argv[1] if len(sys.argv) > 1 else sys.executable).to_json()
    )
