"""The stages of a repository as plain, frozen data: what is read of ``dvc.yaml`` and ``dvc.lock``, without DVC.

`Repository.graph` makes it. Whoever looks at stages looks at these types; DVC's own
objects stay in this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import UsageError, nearest
from mllam_exps.stages.command_words import calls_us, words_of

BOOKKEEPING = ("check_for_venv_path", "mllam_version")
"""Stages of ours that make no result: what they write is written when an experiment is planned."""


@dataclass(frozen=True)
class Dep:
    """An input of a stage, as its ``deps`` name it.

    Parameters
    ----------
    name : str
        As it is written: relative to the stage's folder.
    path : str
        Where it lies, as an absolute path.
    """

    name: str
    path: str


@dataclass(frozen=True)
class ParameterFile:
    """A parameter file that a stage tracks.

    Parameters
    ----------
    name, path
        As for `Dep`.
    keys : tuple of str
        The keys that are tracked; none means the whole file.
    locked : mapping
        Their values when the stage was last run, as ``dvc.lock`` has them.
    """

    name: str
    path: str
    keys: tuple[str, ...] = ()
    locked: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Out:
    """An output of a stage, or what was added with `dvc add`.

    Parameters
    ----------
    name, path
        As for `Dep`.
    cached : bool
        Whether DVC's cache holds it; else git does.
    persist : bool
        Whether DVC leaves it there when the stage runs.
    digest, size, files, isexec
        What the ``dvc.lock`` or ``.dvc`` file says of it, where that says anything.
    is_of_dvc_2 : bool
        Whether that hash leaves line ends out: no content is known by it.
    """

    name: str
    path: str
    cached: bool
    persist: bool = False
    digest: str | None = None
    size: int | None = None
    files: int | None = None
    isexec: bool = False
    is_of_dvc_2: bool = False


@dataclass(frozen=True)
class StageEntry:
    """A stage.

    Parameters
    ----------
    name : str
        Its name in ``dvc.yaml``; that of another file's stage begins with the file.
    cmd : str or list of str
        Its command; empty for what was added with `dvc add`.
    wdir : str
        The folder in which it runs, as an absolute path.
    deps, params, outs
        What it reads and makes.
    frozen, always_changed : bool
        As ``dvc.yaml`` says.
    is_added : bool
        Whether it is no stage, but data that were added with `dvc add` or imported.
    is_elsewhere : bool
        Whether it stands in another file than the repository's own ``dvc.yaml``.
    filled_from : tuple of str
        The files, as absolute paths, from which DVC has filled in its ``${…}``.
    """

    name: str
    cmd: str | list[str]
    wdir: str
    deps: tuple[Dep, ...] = ()
    params: tuple[ParameterFile, ...] = ()
    outs: tuple[Out, ...] = ()
    frozen: bool = False
    always_changed: bool = False
    is_added: bool = False
    is_elsewhere: bool = False
    filled_from: tuple[str, ...] = ()

    @property
    def own_name(self) -> str:
        """Its name in the file in which it stands."""
        return self.name.rpartition(":")[2] if self.is_elsewhere else self.name

    @property
    def commands(self) -> tuple[str, ...]:
        """Its commands, each of which DVC (3.67) gives to a shell of its own: a list's, or a line's."""
        return tuple(self.cmd.splitlines() if isinstance(self.cmd, str) else self.cmd)

    @property
    def is_plain(self) -> bool:
        """Whether its command is `mllam-exps run` of that stage, and nothing else."""
        words = words_of(self.cmd) if isinstance(self.cmd, str) else []
        return words[:3] == ["mllam-exps", "run", self.own_name] and all(
            re.fullmatch("--[a-z-]+", word) for word in words[3:]
        )

    @property
    def is_ours(self) -> bool:
        """Whether its command calls `mllam-exps run`, and so its work is a run of the store."""
        return calls_us(self.commands)

    @property
    def is_bookkeeping(self) -> bool:
        """Whether it is a stage of ours that makes no result."""
        return not self.is_added and self.own_name in BOOKKEEPING and self.is_plain

    @property
    def always_runs(self) -> bool:
        """Whether DVC runs it each time, or has nothing by which it could tell that it should."""
        return self.always_changed or not self.reads

    @property
    def reads(self) -> list[str]:
        """The paths of all that it reads: inputs and parameter files."""
        return [dep.path for dep in self.deps] + [file.path for file in self.params]


class StageGraph:
    """All stages of a repository, with what was added with `dvc add`.

    Parameters
    ----------
    entries : tuple of StageEntry
        In the order in which they are written.
    """

    def __init__(self, entries: tuple[StageEntry, ...]) -> None:
        self.entries = entries
        self._makers: dict[str, list[tuple[StageEntry, Out]]] = {}

    @cached_property
    def stages(self) -> dict[str, StageEntry]:
        """The stages by name, without what was added with `dvc add`."""
        return {entry.name: entry for entry in self.entries if not entry.is_added}

    def stage(self, name: str) -> StageEntry:
        """Return a stage.

        Raises
        ------
        UsageError
            If ``dvc.yaml`` has no such stage; the nearest one is named.
        """
        if name in self.stages:
            return self.stages[name]
        way_out = f"its stages are: {', '.join(self.stages)}"
        if near := nearest(name, self.stages):
            way_out = f"did you mean {near}?"
        raise UsageError(f"no stage {name!r} in dvc.yaml", next=way_out)

    def makers(self, path: str) -> list[tuple[StageEntry, Out]]:
        """Return the stages, with their outputs, that `path` is, lies in, or contains."""
        if path not in self._makers:
            wanted = _steps(path)
            self._makers[path] = [
                (entry, out)
                for made, entry, out in self._outputs
                if made[: len(wanted)] == wanted[: len(made)]
            ]
        return self._makers[path]

    @cached_property
    def _outputs(self) -> list[tuple[tuple[str, ...], StageEntry, Out]]:
        return [
            (_steps(out.path), entry, out)
            for entry in self.entries
            for out in entry.outs
        ]

    def tracked_keys(self, path: str) -> list[str]:
        """Return the keys of a parameter file that any stage tracks."""
        files = self._files_of_all()
        return sorted({key for file in files if file.path == path for key in file.keys})

    def _files_of_all(self) -> Iterator[ParameterFile]:
        for entry in self.entries:
            yield from entry.params


def _steps(path: str) -> tuple[str, ...]:
    """Return a path's parts from its beginning on: those of a folder begin those of what lies in it."""
    parts = Path(path).parts
    return parts if path.startswith("/") else ("", *parts)
