"""``mllam-exps cancel``: stops experiments, and runs that nobody else wants."""

from __future__ import annotations

import time

from mllam_exps.attempts.stopping import (
    PATIENCE,
    SILENT_PATIENCE,
    ask_to_stop,
    stop,
    wait_for,
)
from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.base.terminal import say, warn
from mllam_exps.commands import advance
from mllam_exps.runs.assess import RunState, assess
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import lock
from mllam_exps.runs.runs import Run
from mllam_exps.schedulers import SilentError
from mllam_exps.submission import experiments
from mllam_exps.submission.experiments import Experiment
from mllam_exps.views.context import Here

TRIES, PAUSE = 20, 0.1
"""How often, and after how many seconds, it is looked again whether an experiment lets itself be called off."""


def cancel(names: list[str], *, force: bool) -> None:
    """Cancel experiments; or the run of a stage, or of a key, of this workspace."""
    here = Here.open()
    wanted = {name: here.matching(name) for name in names}
    submitted = [experiment for found in wanted.values() for experiment in found]
    for name, found in wanted.items():
        if not found:
            _cancel_run(here, here.find(name), force=force)
    if submitted:
        _cancel_experiments(here, submitted, force=force)
    advance.after(here.store)  # what was cancelled has made room


def _cancel_run(here: Here, run: Run, *, force: bool) -> None:
    """Ask the run's attempt to stop, and wait until it has."""
    now = assess(run)
    if not now.state.living or now.attempt is None:
        others = [
            r
            for r in here.store.runs()
            if r.stage == run.stage and assess(r).state.living
        ]
        whose = {
            other.key: [e.name for e in experiments.waiting_for(other)]
            for other in others[:3]
        }
        told = [
            f"for experiment {', '.join(names)}" if names else key
            for key, names in whose.items()
        ]
        why = (
            f"at work of that stage: {'; '.join(told)}{'; …' if len(others) > len(told) else ''}"
            if told
            else ""
        )
        # A run that an experiment waits for is not cancelled by its key.
        which = next((names[0] if names else key for key, names in whose.items()), "")
        how = "has not been started" if now.state is RunState.NEW else f"is {now.state}"
        what = f"nothing to cancel: the run of stage {run.stage} for the files as they are here {how}"
        raise UsageError(
            what,
            why=why,
            next=f"mllam-exps cancel {which}" if which else "mllam-exps status",
        )
    me = ProcessIdentity.of()
    waiters = [f"process {w.pid} on {w.host}" for w in run.other_waiters(me)]
    names = [e.name for e in experiments.waiting_for(run)]
    if (waiters or names) and not force:
        who = ", ".join([*waiters, *(f"experiment {name}" for name in names)])
        way_out = f"mllam-exps cancel {' '.join(names)}" if names else "Ctrl-C there"
        raise UsageError(
            f"{run.key} is waited for",
            why=who,
            next=f"{way_out}, or mllam-exps cancel {run.key} --force",
        )
    if not stop(now.attempt, me):
        raise MllamError(
            "it has not stopped yet",
            where=run.key,
            next="mllam-exps status",
            exit=Exit.UNKNOWN,
        )
    state = assess(run).state
    say(
        f"{run.key}: {state}"
        + ("" if state is RunState.CANCELLED else " before it could be stopped")
    )


def _cancel_experiments(here: Here, wanted: list[Experiment], *, force: bool) -> None:
    """Cancel the savings first, so that none wakes up and finds its stages cancelled, then the runs."""
    for experiment in wanted:
        if not experiment.is_mine:
            raise UsageError(
                "is not yours", experiment.name, f"{experiment.user} submitted it"
            )
    me = ProcessIdentity.of()
    over = [
        experiment for experiment in wanted if assess(experiment.saving).state.settled
    ]
    going_on = [
        e
        for e in experiments.of_store(here.store)
        if e.identity not in {w.identity for w in wanted}
        and not assess(e.saving).state.settled
    ]
    needed = {step.key: e.name for e in going_on for step in e.steps}
    silence: list[SilentError] = []
    asked: list[Attempt] = []
    kept: set[str] = set()
    for experiment in wanted:
        asked += _ask(experiment.saving, me, silence)
        for run in experiment.runs.values():
            if other := None if force else _wanted_by(run, needed, me):
                if run.key not in kept and assess(run).state.living:
                    say(f"{run.stage} goes on: {other} waits for it ({run.key})")
                kept.add(run.key)
            else:
                asked += _ask(run, me, silence)
    late = wait_for(asked, SILENT_PATIENCE if silence else PATIENCE)
    with lock(here.store, "dispatch", wait=True):
        # Whoever was submitting some of it has done so by now.
        again = [
            attempt
            for experiment in wanted
            for attempt in _ask(experiment.saving, me, silence)
        ]
        runs = {
            run.key: run
            for experiment in wanted
            for run in experiment.runs.values()
            if run.key not in kept
        }
        again += [
            attempt for run in runs.values() for attempt in _ask(run, me, silence)
        ]
        for experiment in wanted:
            _note_the_end(experiment)
    known = {attempt.directory for attempt in late}
    # What did not stop before will not do so now.
    late += wait_for(
        [attempt for attempt in again if attempt.directory not in known],
        0 if silence else PATIENCE,
    )
    for experiment in wanted:
        _note_the_end(experiment)
        state = assess(experiment.saving).state
        told = (
            f"{state} already"
            if experiment in over
            else "is being cancelled"
            if state.living
            else state
        )
        say(f"{experiment.name}: {told}")
    if late:
        where = ", ".join(attempt.run.key for attempt in late)
        why = (
            f"{silence[0].why}; a job that starts all the same ends at once"
            if silence
            else ""
        )
        way_out = (
            "mllam-exps cancel it again, once Slurm answers"
            if silence
            else "mllam-exps status"
        )
        raise MllamError("not stopped yet", where, why, way_out, Exit.UNKNOWN)


def _wanted_by(run: Run, needed: dict[str, str], me: ProcessIdentity) -> str:
    if run.key in needed:
        return f"experiment {needed[run.key]}"
    waiters = run.other_waiters(me)
    return f"process {waiters[0].pid} on {waiters[0].host}" if waiters else ""


def _ask(run: Run, me: ProcessIdentity, silence: list[SilentError]) -> list[Attempt]:
    """Ask the attempt at work to stop, and return it; add to `silence` where its scheduler does not answer."""
    now = assess(run)
    if not now.state.living or now.attempt is None:
        return []
    try:
        ask_to_stop(now.attempt, me)
    except SilentError as error:
        silence.append(error)
    except MllamError:
        pass  # the attempt itself may obey all the same
    return [now.attempt]


def _note_the_end(experiment: Experiment) -> None:
    """Write down that it was cancelled, where nothing of it was at work: else `advance` would submit it."""
    for _ in range(TRIES):
        now = assess(experiment.saving).state
        if now in {RunState.DONE, RunState.CANCELLED} or (
            now.living and now is not RunState.STARTING
        ):
            return
        # The process that submits what waits claims an attempt, too, to write down why
        # it can't go on yet.
        if now is not RunState.STARTING and experiments.call_off(
            experiment, "cancelled"
        ):
            return
        time.sleep(PAUSE)
    warn(
        f"{experiment.name} is being submitted by another command, and goes on\n  → mllam-exps cancel {experiment.name}"
    )
