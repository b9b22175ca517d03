"""What is known of a run, and what follows from it. Pure, but for asking the store and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mllam_exps import schedulers
from mllam_exps.base import reasons, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.identity.run_keys import is_key
from mllam_exps.runs import verdicts
from mllam_exps.runs.attempts import Attempt, Outcome
from mllam_exps.runs.runs import Run
from mllam_exps.runs.store import RunStore
from mllam_exps.schedulers import JobPhase, JobState, Schedulers, Uncertain

HEARTBEAT_PATIENCE = 60.0
CLAIM_PATIENCE = 120.0
SILENCE_SECONDS = 120.0
"""Seconds without a heartbeat after which that is told of an attempt whose job runs; it touches it every five."""


class RunState(StrEnum):
    """The state of a run, in the words that `mllam-exps status` prints."""

    NEW = "new"
    STARTING = "starting"
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def stopped(self) -> bool:
        """Whether it ended without a result."""
        return self in {RunState.FAILED, RunState.CANCELLED, RunState.LOST}

    @property
    def settled(self) -> bool:
        """Whether nobody goes on with it by himself; what was lost is begun again."""
        return self in {RunState.DONE, RunState.FAILED, RunState.CANCELLED}

    @property
    def living(self) -> bool:
        """Whether an attempt may still write: a driver waits for it and starts none beside it."""
        return self in {
            RunState.STARTING,
            RunState.PENDING,
            RunState.RUNNING,
            RunState.UNKNOWN,
        }


@dataclass(frozen=True)
class Assessment:
    """A run's state, with the reason in one line and the attempt that it is about.

    Parameters
    ----------
    hopeless : bool
        It is pending, and will never run as it is.
    untried : bool
        Nothing was ever started: another attempt loses nothing, and is no second try.
    silent : bool
        It is said to be running, and gives no sign of life.
    """

    state: RunState
    reason: str = ""
    attempt: Attempt | None = None
    hopeless: bool = False
    untried: bool = False
    silent: bool = False


def assess(run: Run, scheduler: Schedulers = schedulers.get) -> Assessment:
    """Say in which state a run is."""
    last = run.last_attempt()
    if run.result is not None:
        return Assessment(RunState.DONE, attempt=last)
    if damage := run.damage:
        return _damaged(damage, last)
    if last is None:
        return Assessment(RunState.NEW)
    return _of_attempt(last, scheduler)


def _of_attempt(last: Attempt, scheduler: Schedulers) -> Assessment:
    """Judge a run without a result by its newest attempt."""
    if hidden := last.hidden:
        return Assessment(RunState.UNKNOWN, str(hidden), last)
    ended = _ended(last, scheduler)
    if ended is not None:
        return ended
    claim = last.claim
    if claim is None:
        return Assessment(
            RunState.LOST,
            "its claim cannot be read any more: nobody can tell who works on it",
            last,
        )
    if last.is_gone:
        why = f"the directory of attempt {last.number} is gone: it was deleted, or purged from its file system"
        return _being_started(last, claim) or Assessment(RunState.LOST, why, last)
    return _of_job(last, claim, scheduler)


def _of_job(last: Attempt, claim: dict[str, Any], scheduler: Schedulers) -> Assessment:
    """Judge an attempt that has not said how it ended by its job."""
    known = verdicts.known(last)
    if known is not None:
        return _ended_without_a_word(last, known)
    try:
        asked = scheduler(claim["scheduler"], last.run.store)
    except MllamError as error:
        return Assessment(RunState.UNKNOWN, str(error), last)
    try:
        job = verdicts.job_of(last, asked)
    except Uncertain as doubt:
        return _being_started(last, claim) or Assessment(
            RunState.UNKNOWN, _said(last, str(doubt)), last
        )
    if job is None and last.started is not None:
        return _ended_without_a_word(last, verdicts.NOBODY_KNOWS)
    if job is None:
        return _being_started(last, claim) or _never_started(last)
    state = asked.state(job)
    if state.phase.ended:
        # It may have written its end between our first look and the scheduler's answer.
        ended = _ended(last, scheduler)
        if ended is None:
            # squeue gives no exit code.
            exact = verdicts.ask(last, scheduler)
            ended = _ended_without_a_word(last, exact if exact.phase.ended else state)
        return ended
    return _living(last, state)


def _damaged(damage: records.Trouble, last: Attempt | None) -> Assessment:
    """Judge a run whose result is written down, and cannot be used: it is made again when somebody asks for it."""
    if damage.hidden:
        return Assessment(RunState.UNKNOWN, str(damage), last)
    return Assessment(
        RunState.LOST, f"its result is damaged: {damage.path.name} {damage.why}", last
    )


def _ended(attempt: Attempt, scheduler: Schedulers) -> Assessment | None:
    end = attempt.end
    if end is None:
        return None
    if end["outcome"] == Outcome.SUCCEEDED:
        return _ended_well(attempt)
    if end["outcome"] == Outcome.REFUSED:
        return Assessment(RunState.NEW, str(end["reason"]), attempt, untried=True)
    reason, state = str(end["reason"]), RunState.FAILED
    if end["outcome"] == Outcome.CANCELLED:
        state = RunState.CANCELLED
    elif attempt.started:
        # Slurm's time limit comes as a signal, its memory limit as a killed program,
        # and from a lost node (22.05) srun comes back with exit code 0 and nothing
        # made: the scheduler knows what was behind it.
        verdict = verdicts.ask(attempt, scheduler)
        if verdict.phase is JobPhase.CANCELLED:
            reason, state = with_evidence(verdict), RunState.CANCELLED
        elif verdict.phase is JobPhase.FAILED and not verdict.plain:
            reason = with_evidence(verdict)
        elif verdict.phase is JobPhase.FORGOTTEN and verdict.reason:
            reason = f"{reason} ({verdict.reason})"
    return Assessment(state, reason, attempt)


def _ended_well(attempt: Attempt) -> Assessment:
    """Judge an attempt that says it succeeded: the result is written before the end, unless it was set aside since."""
    # A network file system may remember from an earlier look that there is no result.
    records.look_afresh(attempt.run.directory)
    if attempt.run.result is not None:
        return Assessment(RunState.DONE, attempt=attempt)
    damaged = records.read(
        attempt.run.directory / f"damaged-{attempt.number}.json",
        shape={"why": records.text},
    )
    if damaged is not None:
        return Assessment(
            RunState.FAILED,
            f"its result was damaged, and set aside: {damaged['why']}",
            attempt,
        )
    verdict = verdicts.known(attempt)
    if verdict is not None and verdict.phase in {JobPhase.FAILED, JobPhase.CANCELLED}:
        return Assessment(RunState.FAILED, contradiction(verdict), attempt)
    return Assessment(RunState.NEW, attempt=attempt)


def contradiction(verdict: JobState) -> str:
    """Say that an attempt's success is not believed."""
    return f"it says that it succeeded, but its job did not: {with_evidence(verdict)}"


def with_evidence(state: JobState) -> str:
    """Return a reason with the scheduler's own words behind it."""
    return f"{state.reason} ({state.told})" if state.told else state.reason


def _being_started(attempt: Attempt, claim: dict[str, Any]) -> Assessment | None:
    """Judge an attempt that no job is known of: its submitter may be about to start it."""
    if attempt.uncertain:
        return None
    submitter = ProcessIdentity.from_record(claim["claimed_by"])
    alive = submitter.alive()
    if alive and not attempt.is_claimed_by_its_owner(submitter.pid):
        alive = False  # somebody else's process: whoever wrote the claim has named it
    if alive is None:
        # A time in the future, which anybody can give a file of theirs, is no sign of
        # life.
        alive = abs(attempt.run.now() - attempt.claimed_at) < CLAIM_PATIENCE
    if not alive:
        return None
    who = f"{attempt.owner}'s process {submitter.pid} on {submitter.host}"
    return Assessment(RunState.STARTING, f"being started by {who}", attempt)


def _never_started(attempt: Attempt) -> Assessment:
    why = "whoever was about to start it is gone"
    return Assessment(
        RunState.LOST,
        f"it was never started: {_said(attempt, why)}",
        attempt,
        untried=True,
    )


def _said(attempt: Attempt, otherwise: str) -> str:
    said = (attempt.uncertain or {}).get("why")
    return f"{said}; {otherwise}" if said else otherwise


def _ended_without_a_word(attempt: Attempt, state: JobState) -> Assessment:
    """Judge an attempt whose job the scheduler calls ended, and that wrote no end."""
    silent = silent_seconds(attempt)
    lives = silent is not None and silent < HEARTBEAT_PATIENCE
    if state.phase is JobPhase.FORGOTTEN and lives:
        return Assessment(
            RunState.RUNNING, f"{state.reason}, but it gives signs of life", attempt
        )
    if state.phase in {JobPhase.CANCELLED, JobPhase.FAILED}:
        if verdicts.known(attempt) is None:
            verdicts.keep(attempt, state)
        when = "" if attempt.started else ", before it started"
        kind = (
            RunState.CANCELLED if state.phase is JobPhase.CANCELLED else RunState.FAILED
        )
        if (
            kind is RunState.CANCELLED
            and not attempt.cancel_requested
            and not attempt.started
        ):
            if runs := unmade(attempt):
                return Assessment(kind, _not_made(runs[0]), attempt, untried=True)
            if run := _badly_ended(attempt):
                # Its result was there; what came after that in its job, the saving of
                # an experiment say, went wrong.
                why = f"not started: the job of {run.stage}, which it needs, did not end well, though it was made"
                return Assessment(kind, why, attempt, untried=True)
        why = (
            ""
            if attempt.started or kind is RunState.CANCELLED
            else reasons.of_environment(attempt.log)
        )
        if full := reasons.of_store(state.reason, attempt.directory):
            why = f"{full} ({state.told})"
        return Assessment(kind, why or f"{state.reason}{when} ({state.told})", attempt)
    never = (
        state.phase is JobPhase.FORGOTTEN
        and not attempt.started
        and not attempt.cancel_requested
    )
    if never and (runs := unmade(attempt)):
        return Assessment(RunState.CANCELLED, _not_made(runs[0]), attempt, untried=True)
    said = f": {with_evidence(state)}" if state.reason or state.told else ""
    what = (
        "ended without a word of its own (killed, or its host went down)"
        if attempt.started
        else "never started"
    )
    why = "" if attempt.started else reasons.of_environment(attempt.log)
    # A process on this host leaves no exit code.
    if (
        not attempt.started
        and not why
        and (full := reasons.full_disks([attempt.directory]))
    ):
        said = f"{said}: the disk of the run store is full ({full})"
    return Assessment(RunState.LOST, why or f"the attempt {what}{said}", attempt)


def _not_made(run: Run) -> str:
    return f"not started: {run.stage}, which it needs, was not made"


def unmade(attempt: Attempt) -> list[Run]:
    """Return the runs without a result whose outputs an attempt was to wait for when it was submitted.

    Where it never started and one of them failed, Slurm cancels its job at once
    (``--kill-on-invalid-dep``).
    """
    return [run for run in _to_come(attempt) if run.result is None]


def _to_come(attempt: Attempt) -> list[Run]:
    record = records.read(
        attempt.directory / "spec.json", shape={"to_come": records.dict_of(is_key)}
    )
    return [
        RunStore(attempt.run.store).run(key)
        for key in (record or {"to_come": {}})["to_come"].values()
    ]


def _badly_ended(attempt: Attempt) -> Run | None:
    """Return a run that an attempt was to wait for whose job Slurm does not call a success."""
    for run in _to_come(attempt):
        last = run.last_attempt()
        if last is not None and verdicts.ask(last).phase in {
            JobPhase.FAILED,
            JobPhase.CANCELLED,
        }:
            return run
    return None


def _living(attempt: Attempt, state: JobState) -> Assessment:
    # squeue's answer may be older than the attempt's own record of its start.
    if state.phase is JobPhase.PENDING and attempt.started is None:
        reason = (
            f"asked to stop; {state.reason}"
            if attempt.cancel_requested
            else state.reason
        )
        return Assessment(RunState.PENDING, reason, attempt, hopeless=state.hopeless)
    if state.phase is JobPhase.PENDING:
        return Assessment(RunState.RUNNING, "", attempt)
    if state.phase is JobPhase.RUNNING:
        # Slurm 22.05 says so until the time limit of a job whose slurmstepd and
        # processes were killed.
        silent = (
            silent_seconds(attempt)
            if attempt.started and state.reason != "suspended"
            else None
        )
        if silent is None or silent < SILENCE_SECONDS:
            return Assessment(RunState.RUNNING, state.reason, attempt)
        why = f"it is said to run, but nothing has been heard of it for {silent / 60:.0f} min"
        return Assessment(RunState.RUNNING, why, attempt, silent=True)
    silent = silent_seconds(attempt)
    if silent is not None and silent < HEARTBEAT_PATIENCE:
        return Assessment(RunState.RUNNING, "", attempt)
    since = "ever" if silent is None else f"for {silent:.0f} s"
    return Assessment(
        RunState.UNKNOWN, f"{state.reason}; no sign of life {since}", attempt
    )


def silent_seconds(attempt: Attempt) -> float | None:
    """Return how long ago the attempt's heartbeat was, by the file system's own clock; None without one."""
    try:
        return max(0.0, attempt.run.now() - attempt.heartbeat.stat().st_mtime)
    except OSError:
        return None
