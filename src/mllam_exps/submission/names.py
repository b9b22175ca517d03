"""What experiments may not take: names that others have, results that others at work need, or make anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc import experiment_names
from mllam_exps.dvc.parameters.overrides import Variant
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.experiment import Experiment


class Names:
    """The names of the experiments of one baseline.

    Parameters
    ----------
    submitted : iterable of Experiment
        Those that were submitted.
    ask_git : callable
        Returns the commits of those that git has, submitted or not, by name.
    force : bool
        Whether names of other experiments are taken over.
    """

    def __init__(
        self,
        submitted: Iterable[Experiment],
        ask_git: Callable[[], Mapping[str, str]],
        *,
        force: bool,
    ) -> None:
        self._ask_git = ask_git
        self._in_git = ask_git()
        self._force = force
        self._taken: dict[str, Experiment | None] = dict.fromkeys(self._in_git)
        for experiment in submitted:
            self.take(experiment)

    def take(self, experiment: Experiment) -> None:
        """Let an experiment have its name."""
        self._taken[experiment.name] = experiment

    def name_again(self, known: Experiment) -> str:
        """Return the name of an experiment that was submitted before: it keeps it.

        Raises
        ------
        UsageError
            If it was saved, and removed or renamed since, and another one has its name
            now.
        """
        name, commit = known.name, known.commit
        if commit and not self._force and self._in_git.get(name, commit) != commit:
            why = "the one that was submitted with these values was removed or renamed since"
            raise _is_taken("another experiment now", name, why)
        return name

    def name(self, variant: Variant) -> str:
        """Return the name of a new experiment: the one that was given, else one that nobody has.

        Raises
        ------
        UsageError
            If another experiment has it, and does not give it away.
        """
        given = variant.name
        if not given:
            return experiment_names.new_name(self._taken)
        if given not in self._taken:
            return given
        if other := self._taken[given]:
            return self._of_submitted(other, variant)
        if self._force:
            return given
        raise _is_taken("an experiment that starts here", given)

    def _of_submitted(self, other: Experiment, variant: Variant) -> str:
        """Return a name that a submitted experiment has, if it gives it away."""
        given, why = variant.name, ""
        if other.overrides == variant.overrides:
            # Whoever repeats a command means the same; the workspace may have become
            # another since, or what its links lead to.
            why = "with the same parameters set, but files that it reads have changed since: "
            why += "git status shows those of the workspace"
        if not assess(other.saving).state.settled:
            what = "is the name of another experiment, which is at work"
            way_out = f"another name, or mllam-exps cancel {given} first"
            if not other.is_mine:
                way_out = f"another name, or have {other.user} cancel it"
            raise UsageError(what, f"-n {given}", why, way_out)
        # One that failed, or was cancelled, is in git under no name: the newer one is
        # shown under it. One that is saved may have been at work when git was asked.
        in_git = self._ask_git() if other.commit else self._in_git
        if self._force or given not in in_git:
            return given
        raise _is_taken("another experiment that was submitted", given, why)


def _is_taken(whose: str, name: str, why: str = "") -> UsageError:
    what = f"is the name of {whose}"
    way_out = (
        "another name, or --force: it takes its place, and every stage is made again"
    )
    return UsageError(what, f"-n {name}", why, way_out)


def refuse_what_was_taken(
    store: RunStore, planned: Collection[Experiment], *, force: bool
) -> None:
    """Refuse what another submission has taken meanwhile; to be called when no other can.

    Parameters
    ----------
    force : bool
        Whether results are made again.

    Raises
    ------
    UsageError
        If a name was taken, or a result that is to be made again is needed by an
        experiment that is at work, or one that was known is being made again.
    """
    planned_at = {experiment.unique_name: experiment for experiment in planned}
    made_again: set[str] = set()
    for experiment in planned if force else ():
        made_again |= {step.key for step in experiment.steps if not step.known}
    known = {step.key for one in planned for step in one.steps if step.known}
    for key in sorted(known):
        if is_being_made(store, key):
            what = f"{key} was known, and is being made again since a moment"
            raise UsageError(what, "submit", next="submit it again")
    for other in experiments.unsaved(store):
        needed = sorted(made_again & {step.key for step in other.steps})
        refusal = _refusal(
            other, planned_at.get(other.unique_name), needed, force=force
        )
        if refusal is not None and not assess(other.saving).state.settled:
            raise refusal


def is_being_made(store: RunStore, key: str) -> bool:
    """Tell whether somebody waits for a run that has no result yet, and one is to come.

    Not every program makes the same twice. The runs behind it are made of what will
    come: an experiment that took what DVC has, and shared these, would fit together
    with neither.
    """
    run = store.run(key)
    if run.result is not None:
        return False
    now = assess(run)
    if now.state in {RunState.PENDING, RunState.RUNNING}:
        return not now.hopeless
    if now.state.settled:
        return False
    wanted = run.wanted
    if not wanted:
        return now.state.living
    # Where a machine allows a number of jobs, nobody has begun it yet.
    for identity in wanted:
        experiment = experiments.read(experiments.folder(store) / identity)
        if experiment is None or assess(experiment.saving).state.settled:
            continue
        if not _lacks_an_input(experiment, key):
            return True
    return False


def _lacks_an_input(experiment: Experiment, key: str) -> bool:
    """Tell whether a run of an experiment waits for one that has failed, or was cancelled."""
    steps = {step.key: step for step in experiment.steps if not step.known}
    needed, looked_at = [key], {key}
    while needed:
        step = steps.get(needed.pop())
        others = {*step.needs} & steps.keys() - looked_at if step else set()
        looked_at |= others
        needed += others
    for other in looked_at - {key}:
        run = experiment.store.run(other)
        if run.result is None and assess(run).state.settled:
            return True
    return False


def _refusal(
    other: Experiment, rival: Experiment | None, needed: list[str], *, force: bool
) -> UsageError | None:
    """Say why nothing can be planned beside an experiment that is at work; None where it can.

    Parameters
    ----------
    rival : Experiment, optional
        The planned one that wants its name, or is the same.
    needed : list of str
        The keys of its runs that are to be made again.
    """
    if rival is not None and rival.identity == other.identity:
        if not force:
            return None
        what, why = (
            f"experiment {other.name} is at work",
            "it is about to read what would be made again",
        )
        return UsageError(what, "--force", why, f"mllam-exps cancel {other.name} first")
    if rival is not None:
        what = "was submitted a moment ago, with other parameters"
        return UsageError(what, f"-n {other.name}", next="another name")
    if not needed:
        return None
    why = f"experiment {other.name}, which is at work, needs {needed[0]}"
    way_out = f"wait, or mllam-exps cancel {other.name}"
    return UsageError("cannot be made again now", "--force", why, way_out)
