"""``mllam-exps logs``: what an attempt printed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import harmless, say, warn
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.state.judge import RunState, judge
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import Run
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.context import Context

POLL_SECONDS = 0.5
_WORTH_LOOKING_AT = (
    RunState.RUNNING,
    RunState.FAILED,
    RunState.LOST,
    RunState.CANCELLED,
)
"""Of the runs of an experiment the first that is in the first of these states."""


def show(
    name: str, stage: str | None, *, follow: bool, number: int | None, lines: int | None
) -> None:
    """Print a log, from its beginning or its last `lines`, and go on with it if asked to `follow`.

    Parameters
    ----------
    name : str
        A submitted experiment; or a stage of this workspace, or the beginning of a run
        key.
    stage : str, optional
        Which of the experiment's stages; else the one that is worth looking at.
    """
    here = Context.open()
    experiment = here.experiment(name)
    if experiment is not None and stage is None and follow:
        _follow_all(experiment, lines)
        return
    if experiment is not None:
        run = _run(experiment, stage)
    elif own := here.asked_for_by(name):
        run = _one_of(name, own, stage)
    else:
        if stage is not None:
            here.submitted(name)
        run = here.find(name)
    if experiment is not None and not any(map(_has_printed, run.attempts())):
        raise _nothing_yet(experiment, run)
    _show(run, follow=follow, number=number, lines=lines)


def _nothing_yet(experiment: Experiment, run: Run) -> UsageError:
    """Return what to say of a run of an experiment that has printed nothing: what it waits for, if it does."""
    now = judge(observe(run))
    if now.state not in {RunState.NEW, RunState.PENDING}:
        return _silence(run, str(now.state), now.reason)
    whys = []
    for stage, need in _needed_by(experiment, run).items():
        needed = judge(observe(need)).state
        if needed is not RunState.DONE:
            begun = "waits, too" if needed is RunState.NEW else f"is {needed}"
            whys.append(f"{stage}, which it needs, {begun}")
    if not whys and now.state is RunState.NEW:
        whys = [experiment.waits or "nobody has begun it"]
    return _silence(run, "waiting", "; ".join(whys) or now.reason)


def _needed_by(experiment: Experiment, run: Run) -> dict[str, Run]:
    """Return the runs whose results a run of an experiment needs, by stage; its saving needs all."""
    for step in experiment.steps:
        if step.key == run.key:
            return {
                stage: need
                for stage, need in experiment.runs.items()
                if need.key in step.needs
            }
    return experiment.runs


def _silence(run: Run, state: str, why: str) -> UsageError:
    what = f"nothing was printed: it is {state}"
    return UsageError(what, run.key, why, "mllam-exps status")


def _follow_all(experiment: Experiment, lines: int | None) -> None:
    """Follow whatever is at work, one stage after the other, until the experiment is over."""
    shown: set[Path] = set()
    while True:
        living = judge(observe(experiment.saving)).state.living
        run = _run(experiment, None)
        attempt = run.last_attempt()
        if (
            attempt is not None
            and _has_printed(attempt)
            and attempt.directory not in shown
        ):
            shown.add(attempt.directory)
            _show(run, follow=True, number=None, lines=lines)
        elif not living:
            return
        else:
            time.sleep(POLL_SECONDS)


def _show(run: Run, *, follow: bool, number: int | None, lines: int | None) -> None:
    attempt = _attempt(run, number)
    warn(f"==> {attempt.log} <==")
    position = 0
    if lines is not None:
        say("\n".join(reasons.tail(attempt.log, lines)))
        position = attempt.log.lstat().st_size
    while True:
        # Asked before reading: what is written between the two is read in the next
        # round, or was the last there is.
        living = follow and judge(observe(run)).state.living
        position = _print_from(attempt, position)
        if not living:
            return
        time.sleep(POLL_SECONDS)


def _run(experiment: Experiment, stage: str | None) -> Run:
    runs = experiment.runs | {SAVE: experiment.saving}
    return _one_of(experiment.name, runs, stage)


def _one_of(name: str, runs: dict[str, Run], stage: str | None) -> Run:
    """Return an experiment's run of a stage; if none is named, the run that is worth looking at."""
    if stage is None:
        return _worth_looking_at(runs)
    if stage not in runs:
        what = f"experiment {name} has no run of a stage {stage!r}"
        raise UsageError(what, next=f"its stages are: {', '.join(runs)}")
    return runs[stage]


def _worth_looking_at(runs: dict[str, Run]) -> Run:
    """Return the run that works, else the one that failed, else the last that printed anything."""
    states = {name: judge(observe(run)).state for name, run in runs.items()}
    for wanted in _WORTH_LOOKING_AT:
        for stage_or_saving, state in states.items():
            if state is wanted:
                return runs[stage_or_saving]
    stages = [run for run in runs.values() if run.stage != SAVE]
    printed = [run for run in stages if any(map(_has_printed, run.attempts()))]
    return printed[-1] if printed else next(iter(runs.values()))


def _attempt(run: Run, number: int | None) -> Attempt:
    attempts = {a.number: a for a in run.attempts() if _has_printed(a)}
    if not attempts:
        now = judge(observe(run))
        raise _silence(run, str(now.state), now.reason)
    if number is None:
        return attempts[max(attempts)]
    if number not in attempts:
        what = f"no attempt {number} at {run.key}"
        raise UsageError(what, next=f"there are: {', '.join(map(str, attempts))}")
    return attempts[number]


def _has_printed(attempt: Attempt) -> bool:
    return os.path.lexists(attempt.log)


def _print_from(attempt: Attempt, position: int) -> int:
    try:
        with os.fdopen(records.open_file(attempt.log), "rb") as file:
            file.seek(position)
            text = file.read()
    except OSError as error:
        why = str(error.strerror)
        if attempt.log.is_symlink():
            why = "it is a link, and may lead anywhere"
        raise MllamError("cannot be read", str(attempt.log), why) from error
    printed = text.decode("utf-8", "replace")
    sys.stdout.write(harmless(printed) if sys.stdout.isatty() else printed)
    sys.stdout.flush()
    return position + len(text)
