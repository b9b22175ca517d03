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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError
from mllam_exps.identity.definition import Input

Ask = Callable[..., Any]
"""Runs a module, with words, by the Python of the environment in which the stages run, which the login node's may not
be. Returns the JSON of its last line; where there is none, what it said instead, as text."""


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
    phase: int | None = None
    smoke: bool = False
    nodes: int = 1
    devices: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


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

    @property
    def is_tracked(self) -> bool:
        """Whether it may log its numbers somewhere."""
        return type(self).tracking is not Stage.tracking
