"""What stays in a run store when it is cleaned, and why: `mllam-exps clean --dry-run` says it in a line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mllam_exps.base import ownership
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run
from mllam_exps.submission.experiment import Experiment


@dataclass
class Staying:
    """What stays, counted by the reason.

    Parameters
    ----------
    experiments, runs : Counter
        Of each reason, how many.
    """

    experiments: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Say it in a line; nothing where nothing stays."""
        parts = []
        for what, counts in (("experiment", self.experiments), ("run", self.runs)):
            number = counts.total()
            if number:
                whys = ", ".join(f"{n} {why}" for why, n in counts.most_common())
                parts.append(f"{number} {what}{'s' if number > 1 else ''} ({whys})")
        return " and ".join(parts)

    def note_not_meant(self, experiment: Experiment, origin: str) -> None:
        """Count an experiment that the command is not about, typed in the repository `origin`."""
        if not experiment.is_mine:
            self.experiments["of others"] += 1
        elif experiment.origin != origin:
            self.experiments["of other repositories"] += 1
        else:
            self.experiments["not named"] += 1

    def note(self, experiment: Experiment, *, is_young: bool) -> None:
        """Count an experiment that the command is about, and that stays."""
        if is_young:
            why = "younger"
        elif assess(experiment.saving).state is RunState.DONE:
            why = "saved and in use"
        elif any(assess(run).state.living for run in experiment.runs.values()):
            why = "at work"
        else:
            why = "to be gone on with"
        self.experiments[why] += 1

    def note_needed(self) -> None:
        """Count a run that something needs which stays."""
        self.runs["needed by what stays"] += 1

    def note_run(self, run: Run, *, is_young: bool, submitted: bool) -> None:
        """Count a run that nothing needs which stays.

        Parameters
        ----------
        submitted : bool
            Whether an experiment that goes has needed it.
        """
        if is_young:
            why = "younger"
        elif not ownership.is_mine(run.directory):
            why = "of others"
        elif assess(run).state is not RunState.DONE:
            why = "at work"
        else:
            why = "named by a dvc.lock" if submitted else "made by dvc exp run"
        self.runs[why] += 1
