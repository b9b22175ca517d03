"""What is looked at of a stage before any job starts: this part of its contract stages may share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError

Ask = Callable[..., Any]
"""Runs a module, with words, by the Python of the environment in which the stages run, which the login node's may not
be. Returns the JSON of its last line; where there is none, what it said instead, as text."""


class Preflight:
    """What is looked at before any job starts. Stages that read the same files share one object, and one look.

    As it stands here there is nothing to look at.
    """

    files: tuple[str, ...] = ()
    """Parameter files, seen from the root, that the programs read beside those that ``dvc.yaml`` tracks for them."""
    programs: tuple[str, ...] = ()
    """What has to be installed where the stages run, by the names of `mllam_exps.stages.versions`."""
    names_archives: tuple[str, ...] = ()
    """Those of the files that say what `archives` and `modules` return."""

    def check_parameters(self, root: Path, python: Path) -> Iterable[MllamError]:
        """Return what is wrong with the parameter files below `root`; quick, as each experiment of a sweep is checked.

        Parameters
        ----------
        root : Path
            The experiment's repository.
        python : Path
            The Python of the environment in which the stages run.
        """
        return ()

    def check_in_environment(self, root: Path, ask: Ask) -> None:
        """Refuse what only the stages' environment can tell to be wrong.

        Raises
        ------
        MllamError
            Naming the key.
        """

    def modules(self, root: Path) -> list[str]:
        """Return the modules of other programs whose versions count as those of the archives do."""
        return []

    def archives(
        self, root: Path, *, remembered: bool = False
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return the identity of each data archive that lies outside of the repository, where nobody hashes it.

        Parameters
        ----------
        remembered : bool
            Whether one that cannot be reached now counts as what it was last.

        Returns
        -------
        dict
            ``{name: {"path", "metadata", "version"}}``.
        list of str
            A line for each archive that could not be read, with the reason.
        """
        return {}, []


NOTHING_TO_LOOK_AT = Preflight()
