"""What DVC itself knows of a stage's result: by ``dvc.lock``, or by its run cache.

So a dataset that a colleague pushed, or that was made before there was a run store, is
not made again. It is decided from the entries as they are written, and from hashes of
what is there now. DVC's own objects are not asked: the hashes in them come from
``dvc.lock``, and are those of an earlier state of the files (dvc-data 3.18).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.content import describe
from mllam_exps.identity.definition import (
    flat,
    same,
)

log = logging.getLogger(__name__)

Known = dict[str, dict[str, Any]]
"""By output: its digest, size in bytes and number of files, as ``result.json`` has them."""

BLIND = {"size", "nfiles"}
"""Names that DVC's digest of an entry leaves out, wherever they stand (3.67, `dvc/stage/cache.py`: it means the sizes
of files)."""

Entry = Mapping[str, Any]
"""A stage's entry in ``dvc.lock``, or one of the run cache: they are written alike (DVC 3.67)."""


@dataclass(frozen=True)
class Question:
    """What a stage would do now: its command, on these inputs and parameters, for these outputs.

    Parameters
    ----------
    cmd : str or list of str
        The command.
    deps : dict of str
        MD5 of each input, by its path in ``dvc.yaml``.
    params : dict
        Values of the parameters, by file.
    outs : tuple of str
        Paths of the outputs in ``dvc.yaml``, sorted.
    counting : callable
        Returns what counts of the values of a parameter file.
    """

    cmd: str | list[str]
    deps: dict[str, str]
    params: dict[str, Any]
    outs: tuple[str, ...]
    counting: Any

    def is_answered_by(self, entry: Entry) -> bool:
        """Tell whether an entry is about the same command, inputs, parameters and outputs.

        One of DVC 2 is not: its hashes say nothing of line ends. DVC's own digest of an
        entry (3.67) leaves out whatever is called `size` or `nfiles`, parameters of
        that name included, and so is not enough.
        """
        return next(self.differences(entry), None) is None

    def differences(self, entry: Entry) -> Iterator[str]:
        """Yield what an entry is about that is another here: an input, a parameter, or what else there is."""
        deps, outs = entry.get("deps") or [], entry.get("outs") or []
        if not all(map(_has_md5, (*deps, *outs))):
            yield "hashes of DVC 2"
            return
        if entry.get("cmd") != self.cmd:
            yield "its command"
        inputs = {dep["path"]: dep["md5"] for dep in deps}
        for name in sorted({*inputs, *self.deps}):
            if inputs.get(name) != self.deps.get(name):
                yield name
        if tuple(sorted(out["path"] for out in outs)) != self.outs:
            yield "its list of outputs"
        params = entry.get("params") or {}
        for file in sorted({*params, *self.params}):
            yield from self._other_parameters(file, params.get(file))

    def _other_parameters(self, file: str, there: Any) -> Iterator[str]:
        """Yield the parameters of a file that have another value in an entry."""
        here = self.params.get(file)
        if here is None or there is None:
            yield file
            return
        try:
            there, here = self.counting(file, there), self.counting(file, here)
            for name in sorted({*there, *here}):
                both = name in there and name in here
                if not (both and same(there[name], here[name])):
                    for inside in _differing(there.get(name), here.get(name)):
                        yield f"{file}: {name}{inside}"
        except (UsageError, TypeError):
            yield file  # a value that DVC cannot track

    @property
    def confuses_dvc(self) -> bool:
        """Whether DVC may have taken another question's result for an answer to this one.

        The digest by which its run cache knows a question (3.67) leaves out what is
        called `size` or `nfiles`, however deep it lies, and 1 is "1" as a key. What it
        then restores, it writes into ``dvc.lock`` under the new values.
        """
        return any(_is_confusing(values) for values in self.params.values())

    def run_cache_key(self) -> str:
        """Return the name under which DVC's run cache keeps its answers (3.67)."""
        from dvc.stage.cache import _get_cache_hash

        deps = [
            {"path": path, "hash": "md5", "md5": digest}
            for path, digest in sorted(self.deps.items())
        ]
        entry: dict[str, Any] = {
            "cmd": self.cmd,
            "deps": deps,
            "outs": [{"path": path} for path in self.outs],
        }
        if self.params:
            entry["params"] = self.params
        return str(_get_cache_hash(entry, key=True))


def _differing(one: Any, other: Any) -> list[str]:
    """Return what differs of two values: nothing behind their name, or the dotted names in two sections."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return [""]
    of_one, of_other = dict(flat(one)), dict(flat(other))
    found = []
    for name in sorted({*of_one, *of_other}):
        both = name in of_one and name in of_other
        if not (both and same(of_one[name], of_other[name])):
            found.append(f".{name}")
    return found or [""]


def _has_md5(item: Mapping[str, Any]) -> bool:
    """Tell whether an input or output has a hash of DVC 3."""
    return item.get("hash") == "md5" and bool(item.get("md5"))


def overlooked_by_dvc(params: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the parameters, by dotted names, that make no difference to DVC's run cache.

    One whose dotted name stands among the stage's params has that whole name as its
    key, and is seen.

    Parameters
    ----------
    params : mapping
        The values of one file's parameters, by file and by the name in ``dvc.yaml``.
    """
    found: list[str] = []
    for file, values in params.items():
        for name, value in values.items():
            for inside in _overlooked(value, name, is_key=name in BLIND):
                if inside == name or inside not in values:
                    found.append(f"{file}: {inside}")
    return found


def _overlooked(value: Any, name: str, *, is_key: bool) -> Iterator[str]:
    if is_key:
        yield name
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _overlooked(each, f"{name}.{key}", is_key=key in BLIND)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _overlooked(each, f"{name}.{number}", is_key=False)


def _is_confusing(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_confusing, value))
    if not isinstance(value, Mapping):
        return False
    return any(
        key in BLIND or not _is_plain_name(key) or _is_confusing(each)
        for key, each in value.items()
    )


def _is_plain_name(key: Any) -> bool:
    """Tell whether no key of another type looks like this one in JSON."""
    if not isinstance(key, str):
        return False
    try:
        json.loads(key)
    except ValueError:
        return True
    return False


@dataclass(frozen=True)
class Answer:
    """A result that DVC has.

    Parameters
    ----------
    outputs : dict
        Its outputs, by path seen from the repository's root.
    inputs : dict of str
        MD5 of each input that it was made from, by such a path.
    """

    outputs: Known
    inputs: dict[str, str]


@dataclass(frozen=True)
class KnownResults:
    """What is known of stages' results before they run.

    Parameters
    ----------
    in_store : callable
        Given a run key and an output's path, the digest that the run store knows for
        it, or None.
    being_made : callable
        Given a run key, whether the run is being made: then what DVC knows of an
        earlier time does not count.
    by_dvc : mapping
        What DVC is known to have of stages, by name.
    ask_dvc : bool
        Whether DVC is asked for the other stages.
    """

    in_store: Callable[[str, str], str | None] = lambda _key, _path: None
    being_made: Callable[[str], bool] = lambda _key: False
    by_dvc: Mapping[str, Answer] = field(default_factory=dict)
    ask_dvc: bool = True


def refuse_what_dvc_cannot_hash(file: str, values: Mapping[str, Any]) -> None:
    """Refuse parameters that DVC cannot hash: `dvc repro` of a stage that tracks them fails as well.

    Raises
    ------
    UsageError
        Naming the file, and the parameter.
    """
    for name, value in {**values, "": values}.items():
        try:
            # As DVC (3.67) does: it sorts names, and JSON knows few kinds of them.
            json.dumps(value, sort_keys=True, default=str)
        except TypeError as error:
            what = "has names of several kinds in one section, such as 5 and six, which DVC cannot track"
            where = f"{file}: {name}" if name else file
            way_out = "put the names in quotes: they are text then"
            raise UsageError(what, where, str(error), way_out) from error


def may_be_known(stage: StageEntry) -> bool:
    """Tell whether DVC keeps results of a stage: it needs a command, something that it reads, and an output."""
    return bool(stage.cmd and stage.reads and stage.outs and not stage.always_changed)


def known(
    repository: Repository, stage: StageEntry, question: Question
) -> Answer | None:
    """Return the result that answers a question, if DVC has it; nothing is checked out."""
    for entry in _candidates(repository, stage, question):
        if question.is_answered_by(entry) and _is_there(repository, stage, entry):
            below = Path(repository.relative(stage.wdir))
            outputs = {
                (below / out["path"]).as_posix(): _described(out)
                for out in entry["outs"]
            }
            inputs = {
                repository.relative(dep.path): question.deps[dep.name]
                for dep in stage.deps
            }
            log.info("DVC has the result of %s", stage.name)
            return Answer(outputs, inputs)
    log.info("DVC has no result of %s for what it reads now", stage.name)
    return None


def _described(out: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "digest": out["md5"],
        "size": out.get("size"),
        "files": out.get("nfiles", 1),
    }
    return found | ({"isexec": True} if out.get("isexec") else {})


def _candidates(
    repository: Repository, stage: StageEntry, question: Question
) -> Iterator[Entry]:
    from dvc.utils.serialize import load_yaml

    if not question.confuses_dvc:
        # DVC has a class of its own for each way in which a file can be broken.
        with contextlib.suppress(Exception):
            yield load_yaml(str(repository.root / "dvc.lock"))["stages"][stage.name]
    # An entry here is written by who ran the command, and never again: it has the
    # values of that time.
    key = question.run_cache_key()
    folder = repository.run_cache_directory / key[:2] / key
    newest_first = sorted(
        folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for path in newest_first:
        with contextlib.suppress(Exception):
            yield load_yaml(str(path))


def _is_there(repository: Repository, stage: StageEntry, entry: Entry) -> bool:
    """Tell whether every output is in DVC's cache, or, where git keeps it, in the checkout."""
    kept_by_git = {out.name for out in stage.outs if not out.cached}
    for out in entry["outs"]:
        if repository.holds(out["md5"]):
            continue
        path = Path(stage.wdir) / out["path"]
        if (
            out["path"] not in kept_by_git
            or not path.exists()
            or describe(path)["digest"] != out["md5"]
        ):
            log.debug("%s: %s is not in DVC's cache", stage.name, out["path"])
            return False
    return True
