"""``mllam-exps cancel``: stops experiments, and runs that nobody else wants."""

from __future__ import annotations

from mllam_exps.attempts.stopping import stop
from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.base.terminal import say, warn
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run
from mllam_exps.schedulers import SilentError
from mllam_exps.submission import backlog, standing
from mllam_exps.submission.cancelling import Cancellation
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.context import Context

NAMED = 3
"""Runs that a message names."""


def cancel(names: list[str], *, force: bool) -> None:
    """Cancel experiments; or the run of a stage, or of a key, of this workspace."""
    here = Context.open()
    submitted: list[Experiment] = []
    others: list[str] = []
    for name in dict.fromkeys(names):
        found = here.matching(name)
        submitted += found
        if not found:
            others.append(name)
    for name in others:
        _cancel_run(here, here.find(name), force=force)
    if submitted:
        _cancel_experiments(here, submitted, force=force)
    backlog.go_on(here.store)  # what was cancelled has made room


def _cancel_run(here: Context, run: Run, *, force: bool) -> None:
    """Ask the run's attempt to stop, and wait until it has."""
    now = assess(run)
    if now.attempt is None or not (now.state.living or now.another_follows):
        raise _nothing_to_cancel(here, run, now.state)
    me = ProcessIdentity.of()
    if not force:
        _refuse_what_is_waited_for(run, me)
    if now.another_follows:
        now.attempt.request_cancel(me)
    elif not stop(now.attempt, me):
        raise MllamError(
            "it has not stopped yet",
            where=run.key,
            next="mllam-exps status",
            exit=Exit.UNKNOWN,
        )
    state = assess(run).state
    late = "" if state is RunState.CANCELLED else " before it could be stopped"
    say(f"{run.key}: {state}{late}")


def _nothing_to_cancel(here: Context, run: Run, state: RunState) -> UsageError:
    """Say that a run is not at work, and which of the same stage are."""
    how = "has not been started" if state is RunState.NEW else f"is {state}"
    what = f"nothing to cancel: the run of stage {run.stage} for the files as they are here {how}"
    others = _at_work_of_stage(here, run.stage)
    if not others:
        return UsageError(what, next="mllam-exps status")
    wanted_by = [standing.names_of_waiting(other) for other in others[:NAMED]]
    told = []
    for other, names in zip(others, wanted_by, strict=False):
        told.append(f"for experiment {', '.join(names)}" if names else other.key)
    more = "; …" if len(others) > NAMED else ""
    # A run that an experiment waits for is not cancelled by its key.
    first = wanted_by[0][0] if wanted_by[0] else others[0].key
    why = f"at work of that stage: {'; '.join(told)}{more}"
    return UsageError(what, why=why, next=f"mllam-exps cancel {first}")


def _at_work_of_stage(here: Context, stage: str) -> list[Run]:
    same_stage = [run for run in here.store.runs() if run.stage == stage]
    return [run for run in same_stage if assess(run).state.living]


def _refuse_what_is_waited_for(run: Run, me: ProcessIdentity) -> None:
    """Refuse to stop what somebody waits for.

    Raises
    ------
    UsageError
        Naming who.
    """
    names = standing.names_of_waiting(run)
    who = [f"process {w.pid} on {w.host}" for w in run.other_waiters(me)]
    who += [f"experiment {name}" for name in names]
    if who:
        way_out = f"mllam-exps cancel {' '.join(names)}" if names else "Ctrl-C there"
        raise UsageError(
            f"{run.key} is waited for",
            why=", ".join(who),
            next=f"{way_out}, or mllam-exps cancel {run.key} --force",
        )


def _cancel_experiments(
    here: Context, wanted: list[Experiment], *, force: bool
) -> None:
    """Cancel experiments, and say what became of each.

    Raises
    ------
    MllamError
        If something has not stopped yet.
    """
    cancellation = Cancellation(here.store, wanted, force=force, tell=say)
    late = cancellation.stop()
    for experiment in cancellation.going_on:
        name = experiment.name
        what = f"{name} is being submitted by another command, and goes on"
        warn(f"{what}\n  → mllam-exps cancel {name}")
    for experiment in wanted:
        state = assess(experiment.saving).state
        told = str(state)
        if experiment.identity in cancellation.over:
            told = f"{state} already"
        elif state.living:
            told = "is being cancelled"
        say(f"{experiment.name}: {told}")
    if late:
        raise _not_stopped(late, cancellation.silence)


def _not_stopped(late: list[Attempt], silence: SilentError | None) -> MllamError:
    why, way_out = "", "mllam-exps status"
    if silence is not None:
        why = f"{silence.why}; a job that starts all the same ends at once"
        way_out = "mllam-exps cancel it again, once the scheduler answers"
    where = ", ".join(attempt.run.key for attempt in late)
    return MllamError("not stopped yet", where, why, way_out, Exit.UNKNOWN)
