"""How submitted experiments stand: what is known of their runs, and which of them wait for somebody to go on."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps import schedulers
from mllam_exps.base import ownership
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.runs import askers
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import is_held
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import Assessment, RunState, judge, stated
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import Job
from mllam_exps.submission import experiments
from mllam_exps.submission.applying import name_in_git
from mllam_exps.submission.experiment import Experiment

WATCHER = "watcher-"
"""How the lock is called that the watching process of a host holds."""


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
    made : set of str
        The keys of runs whose results are there.
    to_come : set of str
        The keys of living runs that jobs can be put behind.
    claimed_by_others : set of str
        The keys of runs that another process is about to submit.
    waits : str
        Why something that could be submitted was not.
    notes : list of str
        What is worth knowing, and stops nothing.
    """

    states: dict[str, Assessment] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    started: dict[str, Attempt] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    to_come: set[str] = field(default_factory=set)
    claimed_by_others: set[str] = field(default_factory=set)
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
    def over(self) -> bool:
        """Whether nothing is left to do but to save it, or to say what stopped it."""
        return self.done or (self.failure is not None and not self.living)

    @property
    def failure(self) -> tuple[str, Assessment] | None:
        """The stage that stopped it: the first that failed by itself, not because of another."""
        behind_another = None
        for stage, now in self.states.items():
            if now.state.stopped and not now.untried:
                return stage, now
            if now.state.stopped and behind_another is None:
                behind_another = stage, now
        return behind_another


def look(experiment: Experiment) -> Standing:
    """Say how an experiment stands, and change nothing."""
    states = {stage: judge(observe(run)) for stage, run in experiment.runs.items()}
    return Standing(states)


def waiting(store: RunStore) -> list[Experiment]:
    """Return this user's experiments that nobody is at work to finish, oldest first."""

    def is_no_matter(saving: Run) -> bool:
        if not ownership.is_mine(saving.directory):
            return True
        state = assess(saving).state
        return state.settled or state.living

    found = experiments.unsaved(store, but=is_no_matter)
    return [experiment for experiment in found if experiment.is_mine]


def waiting_for(run: Run) -> list[Experiment]:
    """Return the experiments at work that need a run."""
    found = []
    for experiment in experiments.unsaved(RunStore(run.store)):
        if run.key not in [step.key for step in experiment.steps]:
            continue
        if not assess(experiment.saving).state.settled:
            found.append(experiment)
    return found


def names_of_waiting(run: Run) -> list[str]:
    """Return the names of the experiments at work that need a run."""
    return [experiment.name for experiment in waiting_for(run)]


def is_waited_for(run: Run) -> bool:
    """Tell whether a process, or an experiment at work, waits for a run; change nothing."""
    if run.other_waiters(ProcessIdentity.of()):
        return True
    for experiment in experiments.unsaved(RunStore(run.store)):
        if run.key not in [step.key for step in experiment.steps]:
            continue
        if not judge(observe(experiment.saving)).state.settled:
            return True
    return False


def left_alone(store: RunStore) -> list[Experiment]:
    """Return the experiments that wait, and that no job and no process will go on with by itself.

    The jobs that save experiments submit what waits when they end, and so does a
    stage's job that was told to (`Attempt.submits_what_waits`).
    """
    found = []
    for experiment in experiments.unsaved(store):
        if not experiment.is_mine:
            continue
        saving = judge(observe(experiment.saving)).state
        if saving.living or any(map(_submits_at_its_end, experiment.runs.values())):
            return []
        if not saving.settled:
            found.append(experiment)
    if found and is_held(store, WATCHER):
        return list(filter(jobs_can_wait, found))
    return found


def _submits_at_its_end(run: Run) -> bool:
    """Tell whether a run's job submits what waits when it ends."""
    attempt = run.last_attempt()
    if attempt is None or not attempt.submits_what_waits.exists():
        return False
    return judge(observe(run)).state.living


def jobs_can_wait(experiment: Experiment) -> bool:
    """Tell whether an experiment's jobs can wait for one another by themselves."""
    from mllam_exps.submission.opening import machine_of

    with contextlib.suppress(MllamError):
        name = machine_of(experiment).scheduler
        return schedulers.get(name, experiment.store.directory).chains
    # Its machine file is gone, or cannot be read: no process of ours waits for it.
    return True


def not_saved(store: RunStore, origin: Path, name: str) -> UsageError | None:
    """Return why there is no saved result of an experiment that git does not know; None where nobody has it.

    It is at work still, was stopped, or was renamed or removed since.
    """
    known = [one for one in experiments.of_store(store) if one.name == name]
    own = [one for one in known if one.origin == str(origin)]
    if own:
        return _not_saved(own[-1])
    at_work = []
    for run in store.runs():
        asked = {(one.name, one.origin) for one in askers.of(run)}
        if {(name, str(origin)), (name, "")} & asked and assess(run).state.living:
            at_work.append(run.stage)
    return _not_done(name, at_work) if at_work else None


def _not_saved(experiment: Experiment) -> UsageError:
    name, now = experiment.name, look(experiment)
    saving = assess(experiment.saving)
    if saving.state is RunState.DONE:
        other = name_in_git(experiment)
        way_out = f"it is called {other} now" if other else experiment.submit_again
        what = "was renamed since" if other else "was removed since"
        return UsageError(what, name, next=way_out)
    stopped = now.failure or (("saving it", saving) if saving.state.stopped else None)
    if stopped is not None and not now.living:
        stage, how = stopped
        why = f"{stage} {stated(how.state, how.problem.line)}"
        way_out = f"mllam-exps retry {shlex.quote(name)}"
        return UsageError("has no saved result", name, why, way_out)
    at_work = [stage for stage, one in now.states.items() if one.state.living]
    return _not_done(name, at_work)


def _not_done(name: str, at_work: list[str]) -> UsageError:
    why = f"{', '.join(at_work)} still at work" if at_work else "it waits, or is saved"
    way_out = f"mllam-exps status --watch {shlex.quote(name)} waits for it; then the same command again"
    return UsageError("is not saved yet", name, why, way_out)
