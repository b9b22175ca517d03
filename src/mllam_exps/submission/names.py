"""What experiments may not take: names that others have, and results that others at work need."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc import experiment_names
from mllam_exps.dvc.overrides import Variant
from mllam_exps.runs.assess import assess
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.experiments import Experiment


class Names:
    """The names of the experiments of one baseline.

    Parameters
    ----------
    submitted : iterable of Experiment
        Those that were submitted.
    in_git : collection of str
        The names of those that git has, submitted or not.
    force : bool
        Whether names of other experiments are taken over.
    """

    def __init__(
        self,
        submitted: Iterable[Experiment],
        in_git: Collection[str],
        *,
        force: bool,
    ) -> None:
        self._in_git = in_git
        self._force = force
        self._taken: dict[str, Experiment | None] = dict.fromkeys(in_git)
        for experiment in submitted:
            self.take(experiment)

    def take(self, experiment: Experiment) -> None:
        """Let an experiment have its name."""
        self._taken[experiment.name] = experiment

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
        other = self._taken[given]
        why = ""
        if other is not None and other.overrides == variant.overrides:
            # Whoever repeats a command means the same; the workspace may have become
            # another since.
            why = "with the same parameters set, but files of the workspace have changed since: git status"
        what = "an experiment that starts here"
        if other is not None:
            what = "another experiment that was submitted"
            if not assess(other.saving).state.settled:
                raise UsageError(
                    "is the name of another experiment, which is at work",
                    f"-n {given}",
                    why,
                    f"another name, or mllam-exps cancel {given} first",
                )
            if given not in self._in_git:
                # It failed, or was cancelled: the newer one is shown under the name.
                return given
        if self._force:
            return given
        way_out = "another name, or --force: it takes its place, and every stage is made again"
        raise UsageError(f"is the name of {what}", f"-n {given}", why, way_out)


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
        experiment that is at work.
    """
    places = {experiment.place: experiment for experiment in planned}
    made_again: set[str] = set()
    for experiment in planned if force else ():
        made_again |= {step.key for step in experiment.steps if not step.known}
    for other in experiments.unsaved(store):
        needed = sorted(made_again & {step.key for step in other.steps})
        rival = places.get(other.place)
        if rival is None and not needed:
            continue
        same = rival is not None and rival.identity == other.identity
        if same and not force:
            continue
        if not assess(other.saving).state.settled:
            raise _taken(other, needed, has_the_name=rival is not None, same=same)


def _taken(
    other: Experiment, needed: list[str], *, has_the_name: bool, same: bool
) -> UsageError:
    """Say what an experiment at work has, or needs."""
    if same:
        return UsageError(
            f"experiment {other.name} is at work",
            "--force",
            "it is about to read what would be made again",
            f"mllam-exps cancel {other.name} first",
        )
    if has_the_name:
        what = "was submitted a moment ago, with other parameters"
        return UsageError(what, f"-n {other.name}", next="another name")
    return UsageError(
        "cannot be made again now",
        "--force",
        f"experiment {other.name}, which is at work, needs {needed[0]}",
        f"wait, or mllam-exps cancel {other.name}",
    )
