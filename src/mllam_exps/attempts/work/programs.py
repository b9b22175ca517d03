"""The programs of an attempt: what starts them, in which versions they are there, and with which packages.

They lie in the environment in which the attempt itself runs, or in a container of the
machine's. Commands of one's own run outside of that, as DVC would run them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.machines import container
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.spec import Spec


def words(spec: Spec, key: str, argv: Sequence[str]) -> list[str]:
    """Return a stage's command with the Python that runs it.

    Parameters
    ----------
    key : str
        The key of the run.
    argv : sequence of str
        As `Stage.command` says it: "python" is whichever has the programs.
    """
    if argv[0] != "python":
        return list(argv)
    is_own = bool(spec.of_run(key).commands)
    inside = [] if is_own else spec.python
    return [*(inside or [sys.executable]), "-P", *argv[1:]]


def check_versions(spec: Spec, work: Path) -> None:
    """Refuse to make numbers with other programs than the key says.

    Raises
    ------
    MllamError
        With those that differ.
    """
    from mllam_exps.stages import versions

    wrong = versions.differences(spec.versions, _installed(spec, work))
    if wrong:
        raise MllamError(
            "the installed programs are not those that this run is defined by",
            why="; ".join(wrong),
            next="dvc exp run again: it takes the versions as they are now",
        )


def _installed(spec: Spec, work: Path) -> Mapping[str, str]:
    """Return the versions of the programs, and of their container which image that is."""
    from mllam_exps.stages import versions

    if not spec.python:
        return versions.installed()
    found = versions.of_environment([*spec.python, "-P"], work)
    return {**found, versions.CONTAINER: container.digest(spec.image)}


class Image:
    """The image of a container as it is when the versions in it are looked at.

    Parameters
    ----------
    name : str
        As the machine file says; empty where there is no container.
    """

    def __init__(self, name: str) -> None:
        self.name, self._was = name, container.state(name)

    def refuse_another(self, again: str) -> None:
        """Refuse one that took its place, or that was written to, before the program starts.

        Raises
        ------
        MllamError
            With `again`, the command that tries it once more.
        """
        self._refuse(container.state(self.name) != self._was, again)

    def refuse_written(self, again: str) -> None:
        """Refuse one that was written to while the program was at work; one in its place leaves that as it was.

        Raises
        ------
        MllamError
            As above.
        """
        self._refuse(container.is_written(self._was, container.state(self.name)), again)

    def _refuse(self, is_another: bool, again: str) -> None:
        if is_another:
            what = "the image was replaced while this attempt was at work"
            raise MllamError(what, self.name, next=again)


def record(spec: Spec, attempt: Attempt) -> None:
    """Write down every package there is, for who wants the same environment; no number depends on that."""
    from mllam_exps.stages import packages

    passed_over = OSError, ValueError, MllamError, subprocess.TimeoutExpired
    with contextlib.suppress(*passed_over):
        if spec.python:
            image = container.digest(spec.image)
            found = packages.of_container([*spec.python, "-P"], image)
        else:
            found = packages.installed()
        place = attempt.directory / layout.ENVIRONMENT
        records.replace(place, found.to_record(), flush=False)
