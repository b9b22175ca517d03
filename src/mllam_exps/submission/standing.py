"""How a submitted experiment stands: what is known of its runs, and what was just done about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from mllam_exps.runs.assess import assess
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.judge import Assessment, RunState
from mllam_exps.schedulers import Job
from mllam_exps.submission.experiments import Experiment


@dataclass
class Standing:
    """How an experiment stands.

    Parameters
    ----------
    states : dict
        What is known of each stage's run; none of a stage whose result DVC knows.
    jobs : dict
        The jobs of living runs, by key, as far as they are known.
    started : dict
        The attempts that were submitted just now, by stage.
    others : set of str
        The keys of runs that another process is about to submit.
    waits : str
        Why something that could be submitted was not.
    notes : list of str
        What is worth knowing, and stops nothing.
    """

    states: dict[str, Assessment] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    started: dict[str, Attempt] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    waits: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether all results are there."""
        return all(now.state is RunState.DONE for now in self.states.values())

    @property
    def living(self) -> bool:
        """Whether any of its runs may still be at work."""
        return any(now.state.living for now in self.states.values())

    @property
    def failure(self) -> tuple[str, Assessment] | None:
        """The stage that stopped it: the first that failed by itself, not because of another."""
        stopped = [
            (stage, now) for stage, now in self.states.items() if now.state.stopped
        ]
        return next(
            (one for one in stopped if not one[1].untried),
            stopped[0] if stopped else None,
        )


def look(experiment: Experiment) -> Standing:
    """Say how an experiment stands, and change nothing."""
    return Standing(
        {
            step.stage: assess(experiment.store.run(step.key))
            for step in experiment.steps
            if not step.known
        }
    )
