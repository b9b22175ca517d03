"""A run's directory: what defines the run, its result, and who wants it. `store` adds its attempts."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import ownership, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.records import Trouble
from mllam_exps.identity.definition import KEY_FORMAT, RunDefinition
from mllam_exps.identity.run_keys import stage_of
from mllam_exps.runs import layout
from mllam_exps.runs.results import Result


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run in the run store.

    Parameters
    ----------
    directory : Path
        Its name is the run key.
    """

    directory: Path

    @property
    def key(self) -> str:
        """The run key."""
        return self.directory.name

    @property
    def stage(self) -> str:
        """The stage, as the key names it."""
        return stage_of(self.key)

    @property
    def store(self) -> Path:
        """The directory of the run store."""
        return self.directory.parents[1]

    @property
    def is_saving(self) -> bool:
        """Whether the run is the saving of a submitted experiment: its result is a commit."""
        return self.directory.parent.name != layout.RUNS

    def now(self) -> float:
        """Return the time by the file system's own clock: those of hosts differ by minutes."""
        return records.now(self.directory)

    @property
    def begun_at(self) -> float:
        """When it was defined, by the file system's clock."""
        return records.changed_at(self.directory / layout.DEFINITION)

    @property
    def led_away(self) -> Trouble | None:
        """Why nothing that stands in its place counts: a colleague's link may lead to a folder of this user's."""
        for place in (self.directory.parent, self.directory, self._attempts):
            if ownership.is_others_link(place):
                return Trouble(place, "is a link, and nothing behind it counts")
        return None

    @property
    def _attempts(self) -> Path:
        return self.directory / layout.ATTEMPTS

    @property
    def definition(self) -> RunDefinition | None:
        """What defines the run, or None where nobody has begun it; one that is another run's is told, and none.

        It is for readers, and not what is executed: anybody may have written it.
        """
        path = self.directory / layout.DEFINITION
        if self.is_saving or (record := records.read(path)) is None:
            return None
        try:
            return RunDefinition.from_record(record, self.key)
        except MllamError as error:
            # An earlier version made keys in another way: nobody can tell any more.
            if record.get("key_format") == KEY_FORMAT:
                why = f"{error.what}, and is not believed: {error.why}"
                records.tell(Trouble(path, why))
            return None

    @property
    def result(self) -> Result | None:
        """The proven result, or None; one without its files is none."""
        result = Result.read(self._result)
        if result is None:
            return None
        if lost := self._lost(result):
            records.tell(lost)
            return None
        return result

    @property
    def _result(self) -> Path:
        return self.directory / layout.RESULT

    def _lost(self, result: Result) -> Trouble | None:
        """Say what is missing of a result that is written down."""
        if self.is_saving:
            return None if result.commit else Trouble(self._result, "names no commit")
        attempt = self.directory / layout.ATTEMPTS / str(result.attempt)
        manifest = attempt / layout.MANIFEST
        if os.path.isfile(manifest):  # noqa: PTH113 - Path raises where it may not look
            return None
        records.look_afresh(attempt)
        found = records.look(manifest)
        if isinstance(found, dict):
            return None
        if isinstance(found, Trouble):
            return found
        is_gone = not os.path.lexists(attempt)
        what = "which is gone" if is_gone else f"whose {layout.MANIFEST} is gone"
        return Trouble(self._result, f"names attempt {result.attempt}, {what}")

    @property
    def damage(self) -> Trouble | None:
        """What is wrong with a result that is written down, and is none; None where there is a good one, or none."""
        if led := self.led_away:
            return led
        found = Result.look(self._result)
        return self._lost(found) if isinstance(found, Result) else found

    def begin(self, definition: RunDefinition) -> None:
        """Make the run's directory and write down what defines it, unless that is done.

        Raises
        ------
        MllamError
            If a colleague's link lies in its place.
        """
        self.make()
        records.folder(self.directory / layout.WAITERS)
        if self.definition is None:
            path = self.directory / layout.DEFINITION
            records.replace(path, definition.to_record(), flush=False)

    def make(self) -> None:
        """Make its directory; nothing is written through a link that a colleague has put in its place.

        Raises
        ------
        MllamError
            If there is one, or a file.
        """
        if led := self.led_away:
            raise _in_the_way(led.path, "is a link", ", and may lead anywhere")
        for place in (self.directory, self._attempts):
            if os.path.lexists(place) and not place.is_dir():
                raise _in_the_way(place, "is no folder")
        # Each removes and renames only what is theirs.
        records.folder(self.store, ownership.STICKY)
        records.folder(self.directory.parent, ownership.STICKY)
        records.folder(self.directory)
        records.folder(self._attempts, ownership.STICKY)

    def want(self, identity: str) -> None:
        """Note that an experiment waits for the result."""
        # Without the note it is saved by a job of its own, later.
        with contextlib.suppress(OSError, MllamError):
            self.make()
            records.touch(records.folder(self.directory / layout.WANTED) / identity)

    @property
    def wanted(self) -> list[str]:
        """The experiments that have waited for it, by identity; some may be gone."""
        return list(records.entries(self.directory / layout.WANTED))

    def settle(self, result: Result) -> bool:
        """Write down the result of the run, if there is none; False if somebody else was first."""
        if records.create(self._result, result.to_record()):
            return True
        if self.result is not None:
            return False
        # One that cannot be read any more is none.
        records.replace(self._result, result.to_record())
        return True

    def put_aside(self, name: str, is_meant: Callable[[], bool]) -> bool:
        """Rename the result's record, and return whether it was what is meant.

        Another may have put that aside since somebody looked, and the run was made
        again: that result comes back. A process that is killed here leaves the one file
        under the one name or the other, whole.

        Parameters
        ----------
        name : str
            Its new name.
        is_meant : callable
            Looks at the result once more, and tells whether that is it.
        """
        result, aside = self._result, self.directory / name
        before = os.lstat(result) if os.path.lexists(result) else None
        if before is None or self.led_away or not is_meant():
            return False
        result.rename(aside)
        now = os.lstat(aside)
        if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino):
            return True
        with contextlib.suppress(FileExistsError):
            os.link(aside, result, follow_symlinks=False)
        aside.unlink()
        return False

    def put_aside_result_of(self, number: int, name: str) -> bool:
        """Rename the result's record if it names attempt `number`, and return whether it did."""

        def is_meant() -> bool:
            result = self.result
            return result is not None and result.attempt == number

        return self.put_aside(name, is_meant)


def _in_the_way(place: Path, what: str, why: str = "") -> MllamError:
    """Say that something lies where a folder of a run is to be made."""
    way_out = f"rm {shlex.quote(str(place))}, or have its owner do so"
    owner = ownership.owner_of(place)
    return MllamError(what, str(place), f"it belongs to {owner}{why}", way_out)
