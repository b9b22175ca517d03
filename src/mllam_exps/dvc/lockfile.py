"""``dvc.lock`` of a submitted experiment: drafted when it is planned (`drafting`), completed by the job that saves it.

The draft holds what DVC alone can say: the stages as it reads them, and their
parameters. What lacks is the hashes of what is yet to be made, and these the run store
knows. So no job starts DVC.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.dvc.cache import Cache
from mllam_exps.identity.content import md5_of_file

FILE = "dvc.lock"
DRAFT = ".git/dvc-lock-draft.yaml"
"""In the clone: it is part of what was frozen, and goes with it."""

Described = Mapping[str, Any]
"""An input or an output: its digest, size, and its files, or their number, if it is a folder."""


@dataclass(frozen=True)
class StageDraft:
    """What ``dvc.lock`` will say of a stage.

    Parameters
    ----------
    folder : str
        Where its paths start, seen from the repository's root.
    cmd : str or list of str
        Its command.
    deps : list of str
        Its inputs, as ``dvc.yaml`` names them.
    params : dict
        Its parameters, by file.
    outs : dict
        Its outputs, as ``dvc.yaml`` names them: whether DVC's cache holds it, else git
        does.
    """

    folder: str
    cmd: str | list[str]
    deps: list[str]
    params: dict[str, dict[str, Any]]
    outs: dict[str, bool]

    def path(self, name: str) -> str:
        """Return where an input or an output is, seen from the repository's root."""
        return Path(os.path.normpath(Path(self.folder, name))).as_posix()

    @property
    def made(self) -> dict[str, bool]:
        """Its outputs, seen from the repository's root: whether DVC's cache holds it."""
        return {self.path(name): cached for name, cached in self.outs.items()}

    def complete(self, describe: Callable[[str], Described]) -> dict[str, Any]:
        """Return the entry of ``dvc.lock``, in DVC's order (3.67).

        Parameters
        ----------
        describe : callable
            Describes the input or output at a path, seen from the repository's root.
        """
        entry: dict[str, Any] = {"cmd": self.cmd}
        if self.deps:
            entry["deps"] = [
                _item(name, describe(self.path(name))) for name in sorted(self.deps)
            ]
        if self.params:
            # The default file is the first.
            files = sorted(self.params, key=lambda file: (file != "params.yaml", file))
            entry["params"] = {
                file: dict(sorted(self.params[file].items())) for file in files
            }
        if self.outs:
            entry["outs"] = [
                _item(name, describe(self.path(name))) for name in sorted(self.outs)
            ]
        return entry


@dataclass(frozen=True)
class Draft:
    """What was frozen of an experiment for its ``dvc.lock``.

    Parameters
    ----------
    cache : Cache
        Of DVC.
    stages : dict of StageDraft
        By name, each behind those that it needs.
    frozen : dict of str
        The hashes of the files that define the results: ``dvc.yaml``, parameter files,
        and inputs that git keeps.
    made : list of str
        What any stage of ``dvc.yaml`` makes, those that were not asked for included;
        and the ``.gitignore`` files that are new with it.
    """

    cache: Cache
    stages: dict[str, StageDraft]
    frozen: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def write(self, clone: Path) -> None:
        """Write it into a clone.

        Raises
        ------
        UsageError
            If a parameter is of a kind that DVC could not write down either.
        """
        record = {
            "cache": {"directory": self.cache.directory, "shared": self.cache.shared},
            "frozen": self.frozen,
            "made": self.made,
            "stages": {name: asdict(stage) for name, stage in self.stages.items()},
        }
        try:
            text = yaml.dump(record, None, _Dumper, sort_keys=False, allow_unicode=True)
        except yaml.YAMLError as error:
            why = " ".join(map(str, error.args))
            raise UsageError(
                "a parameter holds what dvc.lock cannot say",
                str(clone),
                why,
                "use plain values",
            ) from error
        (clone / DRAFT).write_text(text, encoding="utf-8")

    @property
    def read(self) -> set[str]:
        """The inputs of the stages asked for, seen from the repository's root."""
        return {
            stage.path(name) for stage in self.stages.values() for name in stage.deps
        }

    def changed(self, root: Path) -> Iterator[str]:
        """Yield the files that are not any more what they were."""
        for path, digest in self.frozen.items():
            if not (root / path).is_file() or md5_of_file(root / path) != digest:
                yield path


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_DUMPER):  # type: ignore[misc]
    """Writes what is there twice twice: a lock file has no anchors."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def read(clone: Path) -> Draft:
    """Return the draft in a clone.

    Raises
    ------
    MllamError
        If it cannot be read.
    """
    try:
        record = yaml.load((clone / DRAFT).read_bytes(), _LOADER)  # noqa: S506 - a safe one
        stages = {name: StageDraft(**stage) for name, stage in record["stages"].items()}
        return Draft(
            Cache(**record["cache"]), stages, record["frozen"], record.get("made") or []
        )
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        what = "what was frozen of this experiment cannot be read"
        raise MllamError(
            what, str(clone / DRAFT), str(error), "submit the experiment again"
        ) from error


def write(root: Path, entries: Mapping[str, Any]) -> None:
    """Put the entries of stages into ``dvc.lock``, as DVC does (3.67); those of other stages stay as they are."""
    from ruamel.yaml import YAML

    round_trip = YAML()
    round_trip.default_flow_style = False
    place = root / FILE
    content = round_trip.load(place.read_bytes()) if place.exists() else None
    content = content or {"schema": "2.0"}
    content["stages"] = content.get("stages") or {}
    content["stages"].update(entries)
    place.unlink(missing_ok=True)  # may be another clone's hard link
    with place.open("wb") as file:
        round_trip.dump(content, file)


def _item(name: str, described: Described) -> dict[str, Any]:
    digest, files = str(described["digest"]), described.get("files")
    item = {"path": name, "hash": "md5", "md5": digest, "size": described.get("size")}
    if digest.endswith(".dir"):
        item["nfiles"] = len(files) if isinstance(files, list) else files
    if described.get("isexec"):
        item["isexec"] = True
    return {key: value for key, value in item.items() if value is not None}
