"""How a stage goes on from what it made for another experiment, or in the phase before: that part of its contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages.preflight import Ask


@dataclass(frozen=True)
class Wish:
    """What an experiment's parameters say of the training that a stage is to go on from.

    Parameters
    ----------
    source : str
        An experiment, a revision of git's, or the path of a checkpoint; empty where
        none is named.
    longest : bool
        Whether it goes on from the longest known one that is the same but for its
        length, where none is named.
    weights_only : bool
        Whether it takes nothing but the weights.
    """

    source: str = ""
    longest: bool = False
    weights_only: bool = False


@dataclass(frozen=True)
class Earlier:
    """Another training of the same stage, as one commit has it.

    Parameters
    ----------
    name : str
        As the user named it.
    root : Path
        A folder with those of the commit's files that `GoingOn.reads` names.
    """

    name: str
    root: Path


@dataclass(frozen=True)
class Taken:
    """What a phase takes of the one before.

    Parameters
    ----------
    weights_only : bool
        Nothing but the weights.
    best : bool
        Whether its best checkpoint goes on counting.
    """

    weights_only: bool = False
    best: bool = True


class Differs(UsageError):
    """A parameter by which the checkpoint would be of another network.

    Parameters
    ----------
    key : str
        As for ``-S``: ``data/training_params.yaml:hidden_dim``.
    here, there : object
        Its values.
    name : str
        The other training.
    """

    def __init__(self, key: str, here: Any, there: Any, name: str) -> None:
        super().__init__(
            f"{here} here, {there} in {name}",
            key.replace(":", ": ", 1),
            "its checkpoint is of another network",
            "take its value, or go on from another experiment",
        )
        self.key, self.there = key, there


class GoingOn:
    """How a stage goes on from what it made for another experiment; a stage that can has one as `Stage.goes_on`."""

    source_key: str
    """The parameter that names the other experiment, as for ``-S``: ``params.yaml:resume_from``."""
    weights_only_key: str
    """The one that says whether the weights alone are taken."""
    longest_key: str
    """The one that is `longest_value` where the longest known training is taken."""
    longest_value: str
    length_key: str
    """The one that says how long a training is."""
    reads: tuple[str, ...] = ()
    """The files that say of a commit what its training was: parameter files, metrics."""

    @property
    def where(self) -> str:
        """The parameter that names the other experiment, for messages."""
        return self.source_key.replace(":", ": ")

    def wish(self, root: Path) -> Wish:
        """Return what the parameter files below `root` say.

        Raises
        ------
        MllamError
            If that cannot be read.
        """
        raise NotImplementedError

    def refuse(
        self, wish: Wish, earlier: Earlier, root: Path, python: Path
    ) -> list[MllamError]:
        """Return why the experiment at `root` cannot go on from another one: each parameter, with both values."""
        raise NotImplementedError

    def refuse_file(
        self, wish: Wish, checkpoint: Path, root: Path, ask: Ask, python: Path
    ) -> list[MllamError]:
        """Return why it cannot go on from a checkpoint of which nothing is known but what it says itself."""
        raise NotImplementedError

    def takes(self, wish: Wish, earlier: Earlier | None, root: Path) -> tuple[str, ...]:
        """Return the files of the stage's outputs that it goes on from; the first is needed.

        Parameters
        ----------
        earlier : Earlier, optional
            None of one that is the same but for its length.
        """
        raise NotImplementedError

    def length(self, params: Mapping[str, Mapping[str, Any]]) -> int | None:
        """Return how long a run's training is, by what counts of its parameters; None where they do not say."""
        raise NotImplementedError

    def but_for_length(
        self, params: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return what counts of a run's parameters, less the length of its training."""
        raise NotImplementedError

    def begin(self, parent: Path, scratch: Path, taken: Taken) -> Path | None:
        """Copy from `parent` into `scratch` what is needed, and return what becomes ``context.resume_from``.

        Raises
        ------
        CheckFailed
            If there is nothing that can be gone on from.
        """
        raise NotImplementedError
