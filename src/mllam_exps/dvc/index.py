"""DVC's own objects, as we read them: the repository, its stages, their outputs and parameters.

DVC asks anew for each question. A sweep asks the same ones for a hundred experiments,
and is told what is known.
"""

from __future__ import annotations

import copy
import functools
import itertools
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import unreadable
from mllam_exps.base.errors import UsageError

if TYPE_CHECKING:
    from dvc.output import Output as DvcOutput
    from dvc.repo import Repo
    from dvc.stage import Stage as DvcStage

_PARAMS: dict[tuple[bytes, str, tuple[str, ...]], dict[str, Any]] = {}
"""What DVC reads from a parameter file of that content: its parser takes 10 ms."""


def open_repo(root: Path, *, check: bool = True) -> Repo:
    """Open the DVC repository at `root`, with its errors told as a user's.

    Parameters
    ----------
    check : bool
        Whether its stages are looked at; a copy of a repository that was needs no more
        of that.

    Raises
    ------
    UsageError
        If there is no DVC repository, or ``dvc.yaml`` is not valid.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.utils.serialize import ParseError

    try:
        repo = Repo(str(root))
        if check:
            repo.index.check_graph()
    except NotDvcRepoError as error:
        raise UsageError(
            "this is no DVC repository", where=str(root), next="git init; dvc init"
        ) from error
    except ParseError as error:
        # DVC (3.67) names the file as it is seen from here.
        path = Path(error.path).resolve()
        name = (
            path.relative_to(root).as_posix()
            if path.is_relative_to(root)
            else str(path)
        )
        text = (
            path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        )
        raise unreadable.refusal(name, text, error) from error
    except Exception as error:
        # DVC (3.67) raises TypeError where params.yaml holds a date, say.
        raise UsageError(
            f"DVC cannot read this repository: {error}",
            where=str(root),
            next="dvc status",
        ) from error
    return repo


def is_elsewhere(stage: DvcStage) -> bool:
    """Tell whether a stage stands in another file than the repository's own ``dvc.yaml``."""
    return bool(stage.path_in_repo != "dvc.yaml")


BOOKKEEPING = ("check_for_venv_path", "mllam_version")
"""Stages of ours that make no result: what they write is written when an experiment is planned."""


def is_plain(stage: DvcStage) -> bool:
    """Tell whether a stage's command is `mllam-exps run` of that stage, and nothing else."""
    words = _words(stage.cmd) if isinstance(stage.cmd, str) else []
    return words[:3] == ["mllam-exps", "run", stage.name] and all(
        re.fullmatch("--[a-z-]+", word) for word in words[3:]
    )


def is_ours(stage: DvcStage) -> bool:
    """Tell whether a stage's command calls `mllam-exps run`, and so its work is a run of the store."""
    lines = [_words(line) for line in commands(stage)]
    return any(
        pair == ("mllam-exps", "run")
        for words in lines
        for pair in itertools.pairwise(words)
    )


def is_bookkeeping(stage: DvcStage) -> bool:
    """Tell whether a stage is one of ours that makes no result."""
    return not stage.is_data_source and stage.name in BOOKKEEPING and is_plain(stage)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quote that a later line ends, say
        return command.split()


def always_runs(stage: DvcStage) -> bool:
    """Tell whether DVC runs a stage each time, or has nothing by which it could tell that it should."""
    return bool(stage.always_changed) or not stage.deps


def commands(stage: DvcStage) -> tuple[str, ...]:
    """Return the commands of a stage, each of which DVC (3.67) gives to a shell of its own: a list's, or a line's."""
    cmd: str | list[str] = stage.cmd or []
    return tuple(cmd.splitlines() if isinstance(cmd, str) else cmd)


class Makers:
    """Which stages make what; asked for again and again while a sweep is planned."""

    def __init__(self, index: Any) -> None:
        self._outputs = [
            (Path(out.fs_path), stage, out)
            for stage in index.stages
            for out in stage.outs
        ]
        self._found: dict[str, list[tuple[DvcStage, DvcOutput]]] = {}

    def of(self, path: str) -> list[tuple[DvcStage, DvcOutput]]:
        """Return the stages, with their outputs, that `path` is, lies in, or contains."""
        if path not in self._found:
            wanted = Path(path)
            self._found[path] = [
                (stage, out)
                for made, stage, out in self._outputs
                if made == wanted or made in wanted.parents or wanted in made.parents
            ]
        return self._found[path]


@functools.lru_cache(maxsize=2)
def makers(index: Any) -> Makers:
    """Return which stages of an index make what."""
    return Makers(index)


@functools.lru_cache(maxsize=16)
def _asked_for(index: Any, path: str) -> list[str]:
    """Return the keys of a parameter file that any stage depends on."""
    deps = (
        dep
        for stage in index.stages
        for dep in stage.deps
        if dep.hash_name == "params" and dep.fs_path == path
    )
    return sorted({name for dep in deps for name in dep.params})


def parameters(index: Any, dep: Any, file: str) -> dict[str, Any]:
    """Return what DVC reads from a parameter file for a stage; each content of it is parsed once for all stages.

    Raises
    ------
    UsageError
        If DVC cannot read it.
    """
    try:
        with open(dep.fs_path, "rb") as content:  # noqa: PTH123 - a hundred experiments read it
            text = content.read()
    except OSError:
        text = b""
    everyone = copy.copy(dep)
    everyone.params = _asked_for(index, dep.fs_path) if dep.params else []
    known = (text, dep.fs_path, tuple(everyone.params))
    if known not in _PARAMS:
        try:
            _PARAMS[known] = everyone.read_params()
        except Exception as error:
            # Of a name that stands there twice, "a.b" beside "a: {b: …}", dpath (2.2)
            # says ValueError.
            raise unreadable.refusal(
                file, text.decode(errors="replace"), error
            ) from error
    return {
        name: value
        for name, value in _PARAMS[known].items()
        if not dep.params or name in dep.params
    }


def read_parameter_file(path: Path) -> dict[str, Any]:
    """Return all that stands in a parameter file, as DVC reads it: YAML 1.2, TOML, JSON, or Python.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import ParseError, load_path
    from dvc_objects.fs.local import localfs

    try:
        found: dict[str, Any] = load_path(str(path), localfs)
    except ParseError as error:
        raise unreadable.refusal(
            str(path), path.read_text(encoding="utf-8", errors="replace"), error
        ) from error
    except (DvcException, OSError) as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise UsageError("it cannot be read", where=str(path), why=why) from error
    return found


def stage_name(stage: DvcStage) -> str:
    """Return a stage's name in ``dvc.yaml``. DVC's own ``addressing`` (3.67) depends on the current directory."""
    return (
        f"{stage.path_in_repo}:{stage.name}" if is_elsewhere(stage) else str(stage.name)
    )
