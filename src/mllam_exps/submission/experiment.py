"""One submitted experiment, as the run store keeps it (`experiments`): its record, its stages, its clone."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.shapes import (
    Shape,
    count,
    dict_of,
    list_of,
    maybe,
    number,
    of_shape,
    text,
)
from mllam_exps.dvc.saved.experiment_refs import ref_of
from mllam_exps.dvc.stages.phases import is_before_the_last
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.identity.listings import is_digest
from mllam_exps.identity.run_keys import SAVE, is_key
from mllam_exps.runs import layout
from mllam_exps.runs.store import Run, RunStore

_DESCRIBED: Shape = {"digest": text, "size": maybe(number)}
_KNOWN: Shape = {"digest": is_digest, "size": maybe(number)}
_STEP: Shape = {
    "stage": text,
    "key": is_key,
    "needs": list_of(is_key),
    "known": maybe(dict_of(of_shape(_KNOWN))),
    "read": maybe(dict_of(text)),
}
SHAPE: Shape = {
    "name": text,
    "origin": text,
    "prefix": text,
    "baseline": text,
    "overrides": dict_of(list_of(text)),
    "command": list_of(text),
    "message": text,
    "machine": text,
    "uid": count,
    "created": number,
    "steps": list_of(of_shape(_STEP)),
    "sources": maybe(dict_of(of_shape(_DESCRIBED))),
    "stages": list_of(text),
    "edited": maybe(list_of(text)),
    "settings": maybe(dict_of(text)),
    "replaces": maybe(text),
}


def versions_file(clone: Path, root: Path) -> Path:
    """Return where the versions stand that an experiment was submitted with: not among the files of the repository.

    Where a stage of it writes or reads ``version.mllam.txt`` that lies there, too;
    where none does, a command that reads all files must not find one.

    Parameters
    ----------
    clone, root : Path
        The experiment's clone, and the DVC repository in it.
    """
    ours = clone / ".git" / VERSIONS_FILE
    # Experiments that were submitted before had it among their files, always.
    return ours if ours.is_file() else root / VERSIONS_FILE


def _is_forged(directory: Path, uid: int) -> bool:
    """Tell whether a colleague's directory says that it is another one's."""
    try:
        owner = directory.stat().st_uid
    except OSError:
        return False
    return owner not in {uid, os.getuid()}


@dataclass(frozen=True, eq=False)
class Step:
    """One stage of an experiment.

    Parameters
    ----------
    stage, key : str
        The stage and its run.
    needs : tuple of str
        The keys of the runs whose outputs it reads.
    known : dict
        Its outputs by path (digest, size, number of files), where DVC knows them and
        the run store does not.
    read : dict
        The digests of what these were made from, by path.
    """

    stage: str
    key: str
    needs: tuple[str, ...] = ()
    known: Mapping[str, Any] = field(default_factory=dict)
    read: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Step:
        """Return what an experiment's record says of a stage."""
        known, read = record.get("known") or {}, record.get("read") or {}
        return cls(record["stage"], record["key"], tuple(record["needs"]), known, read)


@dataclass(frozen=True)
class Experiment:
    """One submitted experiment.

    Parameters
    ----------
    directory : Path
        In the run store.
    name : str
        Of the DVC experiment that it becomes.
    origin : str
        The DVC repository that it was submitted from, and is saved to.
    prefix : str
        Where that lies in its git repository; empty at the top.
    baseline : str
        The commit that it starts from.
    overrides : dict
        Parameters that were set with ``-S``, by file.
    command : list of str
        What was typed.
    message : str
        For its commit.
    machine : str
        Where its stages run.
    uid : int
        Whose it is.
    created : float
        When it was submitted.
    steps : tuple of Step
        Its stages, each behind those that it needs.
    sources : dict
        Digest, size and number of files of the inputs that no stage makes.
    stages : tuple of str
        All stages that were asked for, in order: those of `steps`, and those that only
        check and write down versions.
    edited : tuple of str
        Tracked files with changes that were not committed.
    settings : dict
        Variables of the submitter's that count for the machine, and for tracking.
    replaces : str
        The commit of the experiment whose name it takes over (``--force``).
    """

    directory: Path
    name: str
    origin: str
    prefix: str
    baseline: str
    overrides: dict[str, list[str]]
    command: list[str]
    message: str
    machine: str
    uid: int
    created: float
    steps: tuple[Step, ...]
    sources: dict[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    replaces: str = ""

    @property
    def clone(self) -> Path:
        """The git repository in which it was frozen."""
        return self.directory / layout.CLONE

    @property
    def root(self) -> Path:
        """The DVC repository in the clone."""
        return self.clone / self.prefix

    @property
    def versions_file(self) -> Path:
        """The versions of the programs that it was submitted with."""
        return versions_file(self.clone, self.root)

    @property
    def unique_name(self) -> tuple[str, str, str]:
        """What only one experiment can have at a time: `--force` takes another's."""
        return self.origin, self.baseline, self.name

    @property
    def repository(self) -> str:
        """The git repository that it was submitted from; the DVC repository may be a folder in it."""
        origin = Path(self.origin)
        depth = len(Path(self.prefix).parts)
        return str(origin.parents[depth - 1] if depth else origin)

    @property
    def submit_again(self) -> str:
        """The command that submits it again, from where it was typed."""
        return f"submit it again: {shlex.join(self.command)}"

    @property
    def origin_is_there(self) -> bool:
        """Whether the DVC repository that it was submitted from is still where it was."""
        # An attempt that began before the repository was moved may have made folders of
        # it again, but no such file.
        return (Path(self.origin) / ".dvc" / "config").is_file()

    @property
    def saving(self) -> Run:
        """Its saving, as a run."""
        return Run(self.directory)

    @property
    def commit(self) -> str:
        """The commit that holds it; empty while it is not saved."""
        result = self.saving.result
        return result.commit if result else ""

    @property
    def store(self) -> RunStore:
        """The run store that it lies in."""
        return RunStore(self.directory.parents[1])

    @property
    def identity(self) -> str:
        """What tells it from all others of the store."""
        return self.directory.name

    @property
    def user(self) -> str:
        """The name of its owner."""
        return ownership.user_name(self.uid)

    @property
    def is_mine(self) -> bool:
        """Whether it is this user's: by its directory's owner, as others of a team may write records."""
        try:
            return self.uid == os.getuid() == self.directory.stat().st_uid
        except FileNotFoundError:
            return self.uid == os.getuid()  # it is about to be made
        except OSError:
            return False

    def check_ours(self) -> None:
        """Refuse to do what others may have written into its record or its clone: they are executed as this user.

        Raises
        ------
        MllamError
            If they are another user's, or others may write to them.
        """
        if not self.is_mine:
            what = f"is {self.user}'s: nobody goes on for another"
            raise MllamError(
                what,
                self.name,
                next="mllam-exps submit the same: what is done is shared",
            )
        way_out = f"chmod -R go-w {shlex.quote(str(self.directory))} if nobody else has written there; "
        way_out += f"or mllam-exps clean {self.identity}, and submit it again"
        definition = self.directory / layout.DEFINITION
        git = self.clone / ".git"
        for place in (self.directory, definition, self.clone, git, self.root):
            if os.path.lexists(place):
                ownership.check(place, way_out)

    @property
    def changed(self) -> tuple[str, ...]:
        """The parameters that were set, as people say them."""
        return tuple(word for words in self.overrides.values() for word in words)

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Its runs by stage, those that are in the run store's hands."""
        steps = [step for step in self.steps if not step.known]
        return {step.stage: self.store.run(step.key) for step in steps}

    def key_of(self, stage: str) -> str:
        """Return the run key of a stage."""
        return next(step.key for step in self.steps if step.stage == stage)

    def holds(self, path: str) -> str | None:
        """Return the digest of an output that DVC knew when it was submitted, or that the run store has now."""
        for step in self.steps:
            if path in step.known:
                return str(step.known[path]["digest"])
        for name, run in self.runs.items():
            # What an earlier phase made is the last one's input, and nobody else's.
            result = None if is_before_the_last(name) else run.result
            if result is not None and path in result.outputs:
                return result.outputs[path].digest
        return None

    def is_known(self, key: str) -> bool:
        """Tell whether DVC knew the result of a run when it was submitted."""
        return any(step.key == key and step.known for step in self.steps)

    @property
    def git_ref(self) -> str:
        """Where git keeps it, as DVC (3.67) names its experiments."""
        return ref_of(self.baseline, self.name)

    @property
    def waits(self) -> str:
        """Why something of it that could be submitted was not, when that was tried last."""
        path = self.directory / layout.WAITS
        record = records.read(path, shape={"why": text})
        return str(record["why"]) if record else ""

    def note_waits(self, why: str) -> None:
        """Write that down, for whoever asks; nothing is decided by it."""
        if why and why != self.waits:
            records.replace(
                self.directory / layout.WAITS,
                {"why": why, "time": time.time()},
                flush=False,
            )
        elif not why:
            (self.directory / layout.WAITS).unlink(missing_ok=True)

    def to_record(self) -> dict[str, Any]:
        """Return the JSON-able record that the store keeps."""
        return (
            {"key": self.identity, "stage": SAVE} | asdict(self) | {"directory": None}
        )

    @classmethod
    def read(cls, directory: Path) -> Experiment | None:
        """Return the experiment of a directory, or None where there is none that can be believed, which is told."""
        place = directory / layout.DEFINITION
        record = records.read(place, shape=SHAPE)
        if record is None:
            return None
        if _is_forged(directory, record["uid"]):
            whose = ownership.user_name(record["uid"])
            why = f"says that the experiment is {whose}'s, and does not count"
            records.tell(records.Trouble(place, why))
            return None
        known = {}
        for name in cls.__dataclass_fields__:
            if record.get(name) is not None:
                known[name] = record[name]
        for name in ("stages", "edited"):
            known[name] = tuple(record.get(name) or ())
        steps = tuple(map(Step.from_record, record["steps"]))
        return cls(**known | {"directory": directory, "steps": steps})
