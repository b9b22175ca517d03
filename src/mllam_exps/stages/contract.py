"""The contract of a stage: all that the rest of the house knows of it, the stage says itself.

A stage knows nothing of schedulers and nothing of DVC. It is handed a *work directory*
that looks like the experiment's repository (``params.yaml``, ``data/…``, upstream
outputs; all inputs read-only links or copies), runs its program there, and leaves its
declared outputs at the paths that ``dvc.yaml`` gives them.

A package adds a stage by a subclass of `Stage`, and names an object of it under the
entry-point group ``mllam_exps.stages``. Its name and its command are all that it
has to say; for everything else there is an answer that is right for a simple program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.identity.definition import Input
from mllam_exps.stages.going_on import Differs, Earlier, GoingOn, Taken, Wish
from mllam_exps.stages.preflight import NOTHING_TO_LOOK_AT, Ask, Preflight

__all__ = [
    "ENDED_IN_TIME",
    "NOTHING_TO_LOOK_AT",
    "SAVE_AND_END",
    "Ask",
    "Differs",
    "Earlier",
    "GoingOn",
    "Preflight",
    "Size",
    "Stage",
    "StageContext",
    "Taken",
    "Tracking",
    "Wish",
]
"""Who adds a stage finds all of it here, also what `going_on` and `preflight` hold."""

SAVE_AND_END = "save-and-end"
"""The file in a program's scratch folder that appears when its time limit is near."""
ENDED_IN_TIME = 75
"""Exit code (EX_TEMPFAIL) of a program that has seen it, saved a checkpoint, and ended: the next attempt goes on."""


@dataclass(frozen=True)
class Size:
    """How many nodes a program is started on, and how many tasks on each, with a device for each task."""

    nodes: int = 1
    devices: int = 1


@dataclass(frozen=True)
class Tracking:
    """Where a program logs its numbers.

    Parameters
    ----------
    logger : str
        ``mlflow``, whose database is made ready before the program starts; or another.
    project : str
        What its runs are listed under.
    needed : bool
        Whether the program fails without it.
    kept : bool
        Whether the program calls `points.keep_points.use_where_told`: what it logs to
        MLflow is then kept beside its attempt, and sent from there.
    """

    logger: str
    project: str
    needed: bool = True
    kept: bool = False


@dataclass(frozen=True)
class StageContext:
    """What one attempt hands to its stage.

    Parameters
    ----------
    work : Path
        The attempt's own directory, laid out as the repository; the program's working
        directory.
    scratch : Path
        Beside ``work``, the attempt's own as well: what the program writes that is no
        output (neural-lam's run directory, progress, temporary files). The newest
        checkpoints are looked for here.
    params : Mapping
        The parameter files of the experiment, ``{"params.yaml": {...},
        "data/training_params.yaml": {...}}``: those that `Stage.parameters` reads, and
        those that ``dvc.yaml`` tracks for the stage.
    experiment : str
        Name of the DVC experiment, for labels only.
    resume_from : Path or None
        What `Stage.carry` or `GoingOn.begin` returned: a checkpoint of an earlier
        attempt, or of another training, copied into ``scratch``; beside it lies what
        belongs to it.
    parent : Path or None
        The folder with what another training left that this one goes on from, laid out
        as that one's repository; None of one that begins.
    weights_only : bool
        Whether it takes nothing but the weights of that one.
    of_other_runs : Mapping
        From the key of another run that made other parts of the same
        (`Stage.but_for_parts`) to the folder with its outputs, laid out as the
        repository. They are not the attempt's own: whoever cleans the run store may
        take them away.
    phase : int or None
        Which phase of the stage's work it is, counted from 1, where that has phases.
    smoke : bool
        One batch and one epoch: for `mllam-exps smoke`.
    nodes, devices : int
        Nodes, and tasks on each node, that the program is started with (from
        `Stage.size`).
    environment : Mapping
        The environment variables that the program is started with, the tracking
        server's address among them.
    """

    work: Path
    scratch: Path
    params: Mapping[str, Mapping[str, Any]]
    experiment: str = "workspace"
    resume_from: Path | None = None
    parent: Path | None = None
    weights_only: bool = False
    of_other_runs: Mapping[str, Path] = field(default_factory=dict)
    phase: int | None = None
    smoke: bool = False
    nodes: int = 1
    devices: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


class Stage:
    """One stage's work. What a subclass does not say has the answer that is given here."""

    name: str
    """As in ``dvc.yaml``."""
    recipe: int = 1
    """Raised by us when what the stage makes of the same inputs changes; part of the run key."""
    preflight: Preflight = NOTHING_TO_LOOK_AT
    goes_on: GoingOn | None = None
    """How it goes on from what it made for another experiment, where it can."""
    shortened_by_smoke: bool = False
    """Whether `mllam-exps smoke` runs less of it (`StageContext.smoke`); its result is then another run's."""

    def command(self, context: StageContext) -> list[str]:
        """Return the program's argument vector, run in ``context.work`` (first element ``python`` is ours)."""
        raise NotImplementedError

    def inputs(self, context: StageContext) -> None:
        """Refuse missing or unusable inputs before the program starts.

        Raises
        ------
        CheckFailed
            With the missing input named.
        """

    def finish(self, context: StageContext) -> None:
        """Turn what the program left in ``scratch`` into the declared outputs in ``work`` (metrics, plots …)."""

    def check(self, context: StageContext) -> None:
        """Prove the outputs.

        Raises
        ------
        CheckFailed
            With the reason in one line.
        """

    def counting(self, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what counts for the result of the values that ``dvc.yaml`` tracks of a parameter file.

        Two sets of values that give the same here give the same result: one run serves
        both. By itself, each value counts as it is.
        """
        return values

    def phases(
        self, params: Mapping[str, Mapping[str, Any]]
    ) -> Sequence[Mapping[str, Mapping[str, Any]]]:
        """Return what counts of its parameters for each phase of its work; nothing where that has no phases.

        Each phase is a run of its own, with the outputs of the stage, and goes on from
        what the one before has made (`StageContext.parent`).

        Parameters
        ----------
        params : mapping
            What counts of the parameters as they stand in the files.
        """
        return ()

    def in_phase(
        self, files: Mapping[str, Mapping[str, Any]], phase: int
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameter files as they are read in a phase of its work."""
        return files

    def of_phase_before(
        self, files: Mapping[str, Mapping[str, Any]], phase: int
    ) -> Taken:
        """Return what a phase takes of the one before, by the parameter files as they stand."""
        return Taken()

    def parameters(self, root: Path) -> Mapping[str, Mapping[str, Any]]:
        """Return the files of its `Preflight.files` as its program reads them, by path.

        Raises
        ------
        MllamError
            With each that is missing, or cannot be read.
        """
        return {}

    def size(self, root: Path, phase: int | None = None) -> Size:
        """Return how many nodes and devices it, or a phase of it, takes, as the parameter files below `root` say."""
        return Size()

    def tracking(self, root: Path) -> Tracking | None:
        """Return where it logs its numbers, as the parameter files below `root` say; None if nowhere."""
        return None

    def check_sources(
        self, root: Path, origin: Path, inputs: Iterable[Input], ask: Ask
    ) -> list[str]:
        """Look into the data that it reads, before it is run, where that takes longer than a look at parameters.

        Parameters
        ----------
        root : Path
            The experiment's repository.
        origin : Path
            The repository that the user works in.
        inputs : iterable of Input
            Its inputs, as ``dvc.yaml`` has them.

        Returns
        -------
        list of str
            What could not be looked at, said aloud, and no error.

        Raises
        ------
        MllamError
            With what is wrong.
        """
        return []

    def but_for_parts(
        self, params: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]] | None:
        """Return what counts of its parameters, less what says which parts it makes; None where it makes no parts.

        Each part is the same, whichever others are asked for beside it: what other runs
        made is then found in `StageContext.of_other_runs`.
        """
        return None

    def carry(self, earlier: Path, scratch: Path) -> Path | None:
        """Copy from an earlier attempt's scratch into this one's what is needed to go on from its newest checkpoint.

        A copy: an earlier attempt may live on, unseen, and write there.

        Returns
        -------
        Path or None
            What becomes ``context.resume_from``; None where there is nothing to go on
            from.
        """
        return None

    def checkpoints(self, scratch: Path) -> list[Path]:
        """Return the checkpoints in an attempt's scratch from which the next one could go on, newest first."""
        return []

    @property
    def has_checkpoints(self) -> bool:
        """Whether its next attempt may go on from a checkpoint.

        Its program is then told when its time limit is near (`SAVE_AND_END`).
        """
        return type(self).carry is not Stage.carry
