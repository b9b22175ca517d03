"""The tracking of a run: all its attempts are one MLflow run, which stands as the run does.

An attempt's program writes its points beside the attempt (`stages.points`). The attempt
itself starts the process that sends them, and tells it the end. Where an attempt had no
time for that, or no server answered, `sync` does it later; a note in the run store says
for which runs something is left.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.attempts import unsent
from mllam_exps.base import ownership
from mllam_exps.base.endings.last_words import last_line
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.machines import environment
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.stages import tracking
from mllam_exps.stages.points import kept, offline_wandb

if TYPE_CHECKING:
    from mllam_exps.machines.machine_files import Machine

LAST_SECONDS = 45.0
"""How long an attempt that has ended waits for its last points to be sent."""
SYNC_SECONDS = 900.0
_NAME = re.compile(r"[0-9a-f]{32}")
_STATUS = {
    Outcome.SUCCEEDED: "FINISHED",
    Outcome.FAILED: "FAILED",
    Outcome.CANCELLED: "KILLED",
}
_STATUS_OF_RUN = {
    RunState.DONE: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.LOST: "FAILED",
    RunState.CANCELLED: "KILLED",
}
Start = Callable[[list[str]], list[str]]
"""Returns the command that runs a Python module, with its arguments, in the environment of the stages."""

log = logging.getLogger(__name__)


class Tracked:
    """What an attempt logs, and the process that sends it.

    Parameters
    ----------
    attempt : Attempt
        Whose points they are; its head is written here, with the name of the MLflow run
        that attempts before it have begun.
    logger : str
        ``mlflow`` or ``wandb``.
    definition : RunDefinition, optional
        What defines the run, which says whether it is a phase of a training.
    experiment : str
        The one that asks for the attempt, for names only.
    """

    def __init__(
        self,
        attempt: Attempt,
        logger: str = "mlflow",
        definition: RunDefinition | None = None,
        experiment: str = "",
    ) -> None:
        self.attempt = attempt
        self.folder = attempt.directory / layout.TRACKING
        self._sender: subprocess.Popen[str] | None = None
        before = _begun_before(attempt)
        tags = {"attempt": str(attempt.number)}
        name, after = uuid.uuid4().hex, {}
        if before and (head := _head(before)) and head.logger == logger:
            name, after = head.run, kept.reached(_folder(before))
            tags[f"attempt_{before.number}"] = _told_of(before)
        self.name = name
        self.family = kept.NO_FAMILY
        if definition is not None and definition.phase is not None:
            tags["phase"] = str(definition.phase)
            if definition.phase_before:
                tags["phase_before"] = definition.phase_before
            first = _first_phase(RunStore(attempt.run.store), definition)
            self.family = kept.Family(first, f"{attempt.run.stage}-{experiment}")
        begun = kept.Head(name, attempt.number, after, logger, self.family)
        kept.begin(self.folder, begun, tags)
        unsent.note(attempt.run)

    @property
    def variables(self) -> dict[str, str]:
        """What the program is told."""
        return {kept.VARIABLE: str(self.folder)}

    def wandb(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return what wandb is told in a program's environment, and say where that is to work offline."""
        given, why = offline_wandb.variables(self.name, environ, self.family.first)
        if why:
            print(f"warning: wandb works offline: {why}", flush=True)
            print("  → later: mllam-exps track sync", flush=True)
        return given

    def send(self, variables: Mapping[str, str]) -> None:
        """Start the process that sends; the attempt does not depend on it."""
        run = Run(self.attempt.run.directory)
        folders = [_folder(one) for one in _of_one_story(run, self.attempt)]
        spec = Spec.read(self.attempt)
        with contextlib.suppress(OSError):
            self._sender = subprocess.Popen(
                by_this_python(_module(spec, folders)),
                env=dict(variables),
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )

    def end(self, outcome: Outcome, problem: Problem) -> None:
        """Have the rest sent, and how the attempt ended; what is left then, `sync` sends."""
        sender = self._sender
        if sender is None:
            return
        status = _STATUS.get(outcome, "")
        told = {"status": status, "reason": problem.line}
        try:
            sender.communicate(json.dumps(told), timeout=LAST_SECONDS)
        except subprocess.TimeoutExpired:
            sender.kill()
            sender.wait()
        except OSError as error:  # it has died
            log.info("the sender of points is gone: %s", error)
        if sender.returncode == 0 and status:
            unsent.forget(self.attempt.run)


@dataclass(frozen=True)
class Synced:
    """What became of a run's points.

    Parameters
    ----------
    run : str
        The run key.
    sent : int
        How many values and files were sent now.
    left : str
        Why something is left; empty where nothing is.
    """

    run: str
    sent: int
    left: str


def sync(run: Run, start: Start) -> Synced | None:
    """Send what this user's attempts at a run have kept; None where all was sent before.

    Parameters
    ----------
    run : Run
        The run; where it is over, its MLflow run ends as it did.
    start : callable
        Returns the command that runs a module of ours.
    """
    count, left, any_left = 0, "", False
    now = assess(run)
    for story in _stories(run):
        last = story[-1]
        spec = Spec.read(last)
        if (head := _head(last)) and head.logger == offline_wandb.LOGGER:
            if found := _sync_wandb(head.run, spec, start):
                any_left, count = True, count + found.sent
                left = left or found.left
            continue
        end = _end(run, last, now.state, now.problem)
        server = tracking.public(spec.environment[tracking.URI])
        folders = [_folder(one) for one in story]
        if not kept.is_any_left(folders, server, end["status"]):
            continue
        any_left = True
        done = _run_sender(start(_module(spec, folders)), spec, end, folders[-1])
        count += int(done["sent"])
        left = left or str(done["left"])
    if not left and not now.state.living:
        unsent.forget(run)
    return Synced(run.key, count, left) if any_left else None


def _sync_wandb(name: str, spec: Spec, start: Start) -> Synced | None:
    """Have wandb send the offline folders of a run; it does no harm to send one twice."""
    environ = {**os.environ, **spec.environment}
    place = Path(environ["WANDB_DIR"])
    found = offline_wandb.folders(place, name)
    if not found:
        return None
    if why := offline_wandb.unreachable(environ):
        return Synced(name, 0, why)
    said = "it takes too long"
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            start(["-P", "-m", "wandb", "sync", *map(str, found)]),
            env=environ,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SYNC_SECONDS,
            check=False,
        )
        said = last_line(done.stdout) or f"exit code {done.returncode}"
    rest = offline_wandb.folders(place, name)
    return Synced(name, len(found) - len(rest), f"wandb sync: {said}" if rest else "")


def is_in_mlflow(run: Run) -> bool:
    """Tell whether MLflow has got anything of a run, and so can be asked for its key."""
    return any(
        kept.was_sent(_folder(one)) and _head(one) is not None for one in run.attempts()
    )


def in_mlflow(runs: Iterable[Run]) -> Run | None:
    """Return the newest of some runs that attempts of this user's log to MLflow; None where there is none."""
    newest = {story[-1].started_at: run for run in runs for story in _in_mlflow(run)}
    return newest[max(newest)] if newest else None


def keep_file(run: Run, path: Path, name: str) -> None:
    """Keep a file for MLflow beside the newest attempt whose run that is: `sync` sends it, and removes it here.

    Parameters
    ----------
    run : Run
        One of `in_mlflow`.
    path : Path
        What is copied.
    name : str
        What it is called in MLflow; one of that name is written over.
    """
    place = _folder(_in_mlflow(run)[-1][-1]) / kept.ARTIFACTS
    place.mkdir(exist_ok=True)
    # Who sends passes over a name with a leading dot.
    half = place / f".{name}.{uuid.uuid4().hex}"
    shutil.copyfile(path, half)
    half.replace(place / name)
    unsent.note(run)


def end_what_is_over(runs: Iterable[Run], start: Start) -> None:
    """Send what is left of runs that are over: their own attempts could not.

    Nothing that goes wrong with it matters to whoever calls this.
    """
    for run in runs:
        try:
            if not unsent.has(run) or assess(run).state.living:
                continue
            done = sync(run, start)
        except (MllamError, OSError) as error:
            log.info("the points of %s cannot be sent: %s", run.key, error)
            continue
        if done and done.left:
            log.info("the points of %s are kept: %s", run.key, done.left)
            return


def by_this_python(words: list[str]) -> list[str]:
    """Return the command that runs a module of ours where this process is in the stages' environment itself."""
    return [sys.executable, *words]


def in_environment_of(machine: Machine, root: Path) -> Start:
    """Return what makes the command that runs a module of ours in the environment of the stages."""

    def start(words: list[str]) -> list[str]:
        return environment.wrap(
            machine, root, [str(environment.python(machine)), *words]
        )

    return start


def _run_sender(
    command: list[str], spec: Spec, end: Mapping[str, Any], folder: Path
) -> Mapping[str, Any]:
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **spec.environment},
            cwd=folder,
            input=json.dumps(end),
            capture_output=True,
            text=True,
            timeout=SYNC_SECONDS,
            check=False,
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return {"sent": int(found["sent"]), "left": str(found["left"])}
    except subprocess.TimeoutExpired:
        return {"sent": 0, "left": f"it takes longer than {SYNC_SECONDS:.0f} s"}
    except OSError as error:
        return {"sent": 0, "left": str(error)}
    except (IndexError, KeyError, TypeError, ValueError):
        said = last_line(done.stderr) or f"exit code {done.returncode}"
        return {"sent": 0, "left": tracking.public(said)}


def _module(spec: Spec, folders: list[Path]) -> list[str]:
    project = spec.environment.get("MLFLOW_EXPERIMENT_NAME") or tracking.PROJECT
    words = ["-P", "-m", "mllam_exps.stages.points.sender", project, spec.origin]
    return [*words, *map(str, folders)]


# Which attempts belong to one MLflow run, and which of these to one training.


def _first_phase(store: RunStore, definition: RunDefinition) -> str:
    """Return the key of a training's first phase; empty where a phase between is not known any more.

    A definition proves itself by its key, and names the key of the phase before. So the
    first is known as long as the second is.
    """
    key, found = definition.key, definition
    while before := found.phase_before:
        key = before
        if found.phase == 2:  # the one before is the first
            break
        earlier = store.run(before).definition
        if earlier is None:
            return ""
        found = earlier
    return key


def _folder(attempt: Attempt) -> Path:
    return attempt.directory / layout.TRACKING


def _head(attempt: Attempt) -> kept.Head | None:
    """Return the head of an attempt's points; whatever a colleague's file says, its name is one."""
    found = kept.head(_folder(attempt))
    return found if found and _NAME.fullmatch(found.run) else None


def _begun_before(attempt: Attempt) -> Attempt | None:
    """Return the attempt whose MLflow run this one goes on with.

    One that succeeded is no such: its result was put aside, and what is made again is
    another story.
    """
    for earlier in reversed(Run(attempt.run.directory).attempts()):
        if earlier.number >= attempt.number:
            continue
        end = earlier.ended
        if end is not None and end.outcome is Outcome.SUCCEEDED:
            return None
        if _head(earlier) is not None:
            return earlier
    return None


def _of_one_story(run: Run, attempt: Attempt) -> list[Attempt]:
    """Return this user's attempts with the same MLflow run, oldest first, that one the last."""
    mine = _head(attempt)
    return [
        one
        for one in run.attempts()
        if one.number <= attempt.number
        and mine is not None
        and (head := _head(one)) is not None
        and head.run == mine.run
        # Files below another user's folder may be links to anything.
        and ownership.is_ours_alone(one.directory)
    ]


def _stories(run: Run) -> list[list[Attempt]]:
    """Return this user's attempts that have points, those with the same MLflow run together."""
    stories: dict[str, list[Attempt]] = {}
    for one in run.attempts():
        if (head := _head(one)) and ownership.is_ours_alone(one.directory):
            stories.setdefault(head.run, []).append(one)
    return list(stories.values())


def _in_mlflow(run: Run) -> list[list[Attempt]]:
    """Return those of `_stories` that MLflow has, or is to have."""
    return [
        story
        for story in _stories(run)
        if (head := _head(story[-1])) and head.logger != offline_wandb.LOGGER
    ]


# How they stand.


def _told_of(attempt: Attempt) -> str:
    """Say in a line how an attempt ended."""
    end = attempt.ended
    if end is None:
        word = verdict.known(attempt)
        return (word and word.reason) or "it died, and could not say why"
    return (
        f"{end.outcome}: {end.problem.line}" if end.problem.line else str(end.outcome)
    )


def _end(
    run: Run, attempt: Attempt, state: RunState, problem: Problem
) -> dict[str, Any]:
    """Return what MLflow is told of an MLflow run's end; no status where it goes on."""
    end, newest = attempt.ended, run.last_attempt()
    seconds = attempt.ended_at or attempt.heard_of_at
    when = round(seconds * 1000) if seconds else None
    if newest is not None and newest.number != attempt.number:
        # Others go on with it, or what succeeded was made again.
        is_over = end is not None and end.outcome is Outcome.SUCCEEDED
        return {"status": "FINISHED" if is_over else "", "reason": "", "time": when}
    if state.living:
        return {"status": "", "reason": "", "time": None}
    # Another attempt may follow, or be asked for: none is at work now.
    before = _STATUS.get(end.outcome, "FAILED") if end else "FAILED"
    status = _STATUS_OF_RUN.get(state, before)
    reason = problem.line if status != "FINISHED" else ""
    return {"status": status, "reason": reason, "time": when}
