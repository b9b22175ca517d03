"""The contract of a stage: its command, its check, what it publishes.

A stage knows nothing of schedulers and nothing of DVC. It is handed a *work directory*
that looks like the experiment's repository (``params.yaml``, ``data/…``, upstream
outputs; all inputs read-only links or copies), runs its program there, and leaves its
declared outputs at the paths that ``dvc.yaml`` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


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
        "data/training_params.yaml": {...}}``.
    experiment : str
        Name of the DVC experiment, for labels only.
    resume_from : Path or None
        What `Stage.carry` returned: a checkpoint of an earlier attempt, copied into
        ``scratch``; beside it lies what belongs to it.
    smoke : bool
        One batch and one epoch: for `mllam-exps smoke`.
    nodes, devices : int
        Nodes, and tasks on each node, that the program is started with (from the
        parameters).
    environment : Mapping
        The environment variables that the program is started with, the tracking
        server's address among them.
    """

    work: Path
    scratch: Path
    params: Mapping[str, Mapping[str, Any]]
    experiment: str = "workspace"
    resume_from: Path | None = None
    smoke: bool = False
    nodes: int = 1
    devices: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


class Stage(Protocol):
    """One stage's work. Implementations live one to a module, `mllam_exps.stages.<name>`."""

    name: str
    recipe: int
    """Raised by us when what the stage makes of the same inputs changes; part of the run key."""

    def counting(self, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what counts for the result of the values that ``dvc.yaml`` tracks of a parameter file.

        Two sets of values that give the same here give the same result: one run serves
        both. A stage without this method takes each value as it is.
        """

    def inputs(self, context: StageContext) -> None:
        """Refuse missing or unusable inputs before the program starts.

        Raises
        ------
        CheckFailed
            With the missing input named.
        """

    def command(self, context: StageContext) -> list[str]:
        """Return the program's argument vector, run in ``context.work`` (first element ``python`` is ours)."""

    def finish(self, context: StageContext) -> None:
        """Turn what the program left in ``scratch`` into the declared outputs in ``work`` (metrics, plots …)."""

    def check(self, context: StageContext) -> None:
        """Prove the outputs.

        Raises
        ------
        CheckFailed
            With the reason in one line.
        """

    def carry(self, earlier: Path, scratch: Path) -> Path | None:
        """Copy from an earlier attempt's scratch into this one's what is needed to go on from its newest checkpoint.

        A copy: an earlier attempt may live on, unseen, and write there.

        Returns
        -------
        Path or None
            What becomes ``context.resume_from``; None where there is nothing to go on
            from.
        """
