"""What follows from what was seen of a run: its state, and why. Pure: `observe` does all looking and asking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import Problem
from mllam_exps.base.records import Trouble
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import End, Outcome
from mllam_exps.runs.state.seen import AttemptSeen, Observation
from mllam_exps.schedulers import JobPhase, JobState

NOTHING_WRONG = Problem()
SILENCE_SECONDS = 120.0
"""Seconds without a heartbeat after which that is told of an attempt whose job runs; it touches it every five."""


class RunState(StrEnum):
    """The state of a run, in the words that `mllam-exps status` prints."""

    NEW = "new"
    """Nobody has begun it, or its result is to be made again: whoever wants it starts an attempt."""
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


def stated(state: object, told: str) -> str:
    """Return what is told of a state, with the state in front, unless it stands there already."""
    if told.startswith(str(state)):
        return told
    return f"{state}: {told}" if told else str(state)


@dataclass(frozen=True)
class Assessment:
    """A run's state, with the problem that explains it and the attempt that it is about.

    Parameters
    ----------
    problem : Problem
        Why it is so; empty where nothing has to be said.
    hopeless : bool
        It is pending, and will never run as it is.
    untried : bool
        Nothing was ever started: another attempt loses nothing, and is no second try.
    silent : bool
        It is said to be running, and gives no sign of life.
    cause : Cause, optional
        Why its newest attempt ended without a result, in one word.
    ended_well : bool
        Its program made a result, which is not believed, or was damaged since.
    another_follows : bool
        Another attempt follows by itself: whoever looks next starts it.
    as_left : Assessment, optional
        How the run stands if the attempt that is to follow never comes.
    """

    state: RunState
    problem: Problem = NOTHING_WRONG
    attempt: Attempt | None = None
    hopeless: bool = False
    untried: bool = False
    silent: bool = False
    cause: Cause | None = None
    ended_well: bool = False
    another_follows: bool = False
    as_left: Assessment | None = None

    @property
    def starts_unasked(self) -> bool:
        """Whether whoever wants the result starts an attempt, without being asked to try again."""
        return self.state is RunState.NEW or self.untried

    @property
    def may_start(self) -> bool:
        """Whether another attempt starts though nobody asks for one: it was not tried, or is to follow."""
        return self.untried or self.another_follows

    @property
    def is_its_program_s(self) -> bool:
        """Whether its program failed by itself: as it was, it would again. A full disk is not its fault."""
        if self.state is not RunState.FAILED or self.attempt is None or self.ended_well:
            return False
        by_itself = self.cause in {None, Cause.ERROR, Cause.NOT_FINITE}
        return by_itself and self.attempt.started is not None

    @property
    def reason(self) -> str:
        """The problem as a sentence, without the way out."""
        return self.problem.sentence


def judge(seen: Observation) -> Assessment:
    """Say in which state a run is."""
    attempt = seen.last.attempt if seen.last else None
    if seen.result is not None:
        return Assessment(RunState.DONE, attempt=attempt)
    if seen.damage is not None:
        return _damaged(seen.damage, attempt)
    if seen.last is None:
        return Assessment(RunState.NEW)
    return _gone_on_with(_of_attempt(seen.last), seen.last)


def _gone_on_with(now: Assessment, seen: AttemptSeen) -> Assessment:
    """Judge what follows an attempt that ended without a result: by the machine file's rules another one, perhaps."""
    if not now.state.stopped or now.untried or now.cause is None:
        return now
    if now.cause in seen.again:
        ended = f"attempt {seen.attempt.number} ended"
        if seen.cancel_requested:
            # Before it was asked to stop, or meanwhile.
            what = f"cancelled: {ended}, and no other one follows: {now.reason}"
            return _said(RunState.CANCELLED, what, seen.attempt)
        problem = Problem(f"{ended}, and another one is to follow: {now.reason}")
        return replace(
            now, state=RunState.NEW, problem=problem, another_follows=True, as_left=now
        )
    if why := seen.why_not_again.get(now.cause):
        problem = replace(now.problem, what=f"{now.problem.what}; {why}")
        return replace(now, problem=problem)
    return now


def _damaged(damage: Trouble, attempt: Attempt | None) -> Assessment:
    """Judge a run whose result is written down, and cannot be used: it is made again when somebody asks for it."""
    if damage.hidden:
        return _said(RunState.UNKNOWN, str(damage), attempt)
    what = f"its result is damaged: {damage.path.name} {damage.why}"
    return _said(RunState.LOST, what, attempt)


def _of_attempt(seen: AttemptSeen) -> Assessment:
    """Judge a run without a result by its newest attempt."""
    attempt = seen.attempt
    if seen.hidden:
        return _said(RunState.UNKNOWN, seen.hidden, attempt)
    if seen.end is not None:
        return _ended(seen, seen.end)
    return _without_an_end(seen)


def _without_an_end(seen: AttemptSeen) -> Assessment:
    """Judge an attempt that has not said how it ended."""
    attempt = seen.attempt
    if not seen.is_claimed:
        what = "its claim cannot be read any more: nobody can tell who works on it"
        return _said(RunState.LOST, what, attempt)
    if seen.is_gone:
        what = f"the directory of attempt {attempt.number} is gone: it was deleted, or purged from its file system"
        return _being_started(seen) or _said(RunState.LOST, what, attempt)
    if seen.word is not None:
        return _ended_without_a_word(seen, seen.word)
    if seen.unasked:
        return _said(RunState.UNKNOWN, seen.unasked, attempt)
    if seen.state is not None:
        return _living(seen, seen.state)
    if seen.uncertain:
        what = _with_doubt(seen, seen.uncertain)
        return _being_started(seen) or _said(RunState.UNKNOWN, what, attempt)
    return _being_started(seen) or _never_started(seen)


def _said(state: RunState, what: str, attempt: Attempt | None) -> Assessment:
    return Assessment(state, Problem(what), attempt)


def _ended(seen: AttemptSeen, end: End) -> Assessment:
    """Judge an attempt that wrote down how it ended, or was given up."""
    attempt = seen.attempt
    if end.outcome is Outcome.SUCCEEDED:
        return _ended_well(seen)
    if end.outcome is Outcome.REFUSED:
        return Assessment(RunState.NEW, end.problem, attempt, untried=True)
    if end.outcome is Outcome.CANCELLED:
        return Assessment(RunState.CANCELLED, end.problem, attempt)
    return _failed(seen, end)


def _failed(seen: AttemptSeen, end: End) -> Assessment:
    """Judge an attempt that wrote down that it failed."""
    # Slurm's time limit comes as a signal, its memory limit as a killed program, and
    # from a lost node (22.05) srun comes back with exit code 0 and nothing made: the
    # scheduler knows what was behind it.
    attempt, problem, word = seen.attempt, end.problem, seen.word
    if word is None or not seen.started:
        return Assessment(RunState.FAILED, problem, attempt, cause=end.cause)
    if word.phase is JobPhase.CANCELLED:
        return _said(RunState.CANCELLED, with_evidence(word), attempt)
    if word.phase is JobPhase.FAILED and not word.plain:
        failed = _said(RunState.FAILED, with_evidence(word), attempt)
        return replace(failed, cause=word.cause or end.cause)
    if word.phase is JobPhase.FORGOTTEN and word.reason:
        problem = Problem(f"{problem.sentence} ({word.reason})", next=problem.next)
    return Assessment(RunState.FAILED, problem, attempt, cause=end.cause)


def _ended_well(seen: AttemptSeen) -> Assessment:
    """Judge an attempt that succeeded, where there is no result: it was set aside, as it is written before the end."""
    attempt, aside = seen.attempt, seen.set_aside
    if aside is not None and aside.stale:
        what = f"its result is to be made again: {aside.why}"
        return _said(RunState.NEW, what, attempt)
    if aside is not None:
        what = f"its result was damaged, and set aside: {aside.why}"
        return replace(_said(RunState.FAILED, what, attempt), ended_well=True)
    if seen.word is not None and seen.word.phase in {
        JobPhase.FAILED,
        JobPhase.CANCELLED,
    }:
        failed = _said(RunState.FAILED, contradiction(seen.word), attempt)
        return replace(failed, ended_well=True)
    return Assessment(RunState.NEW, attempt=attempt)


def contradiction(word: JobState) -> str:
    """Say that an attempt's success is not believed."""
    return f"it says that it succeeded, but its job did not: {with_evidence(word)}"


def with_evidence(state: JobState) -> str:
    """Return a reason with the scheduler's own words behind it."""
    return f"{state.reason} ({state.told})" if state.told else state.reason


def _being_started(seen: AttemptSeen) -> Assessment | None:
    """Judge an attempt that no job is known of: its submitter may be about to start it."""
    if seen.doubt or not seen.submitter:
        return None
    what = f"being started by {seen.submitter}"
    return _said(RunState.STARTING, what, seen.attempt)


def _never_started(seen: AttemptSeen) -> Assessment:
    why = _with_doubt(seen, "whoever was about to start it is gone")
    problem = Problem(f"it was never started: {why}")
    return Assessment(RunState.LOST, problem, seen.attempt, untried=True)


def _with_doubt(seen: AttemptSeen, why: str) -> str:
    return f"{seen.doubt}; {why}" if seen.doubt else why


def _ended_without_a_word(seen: AttemptSeen, word: JobState) -> Assessment:
    """Judge an attempt whose job the scheduler calls ended, and that wrote no end."""
    if word.phase is JobPhase.FORGOTTEN and seen.gave_a_sign:
        what = f"{word.reason}, but it gives signs of life"
        return _said(RunState.RUNNING, what, seen.attempt)
    if word.phase is JobPhase.CANCELLED:
        return _job_cancelled(seen, word)
    if word.phase is JobPhase.FAILED:
        why = seen.environment or _evidence(seen, word)
        if seen.store_failure:
            why = f"{seen.store_failure} ({word.told})"
        return replace(_said(RunState.FAILED, why, seen.attempt), cause=word.cause)
    return _job_vanished(seen, word)


def _evidence(seen: AttemptSeen, word: JobState) -> str:
    when = "" if seen.started else ", before it started"
    return f"{word.reason}{when} ({word.told})"


def _job_cancelled(seen: AttemptSeen, word: JobState) -> Assessment:
    """Judge an attempt whose job was cancelled; by Slurm, perhaps, since what it needs was not made."""
    if seen.never_began:
        why = ""
        if seen.not_made:
            why = _not_made(seen.not_made[0])
        elif seen.ended_badly:
            # Its result was there; what came after that in its job, the saving of an
            # experiment say, went wrong.
            why = f"not started: the job of {seen.ended_badly}, which it needs, did not end well, though it was made"
        if why:
            problem = Problem(why)
            return Assessment(RunState.CANCELLED, problem, seen.attempt, untried=True)
    what = _evidence(seen, word)
    if seen.store_failure:
        what = f"{seen.store_failure} ({word.told})"
    return _said(RunState.CANCELLED, what, seen.attempt)


def _job_vanished(seen: AttemptSeen, word: JobState) -> Assessment:
    """Judge an attempt whose job has ended, nobody knows how."""
    is_forgotten = word.phase is JobPhase.FORGOTTEN
    if is_forgotten and seen.never_began and seen.not_made:
        problem = Problem(_not_made(seen.not_made[0]))
        return Assessment(RunState.CANCELLED, problem, seen.attempt, untried=True)
    if seen.environment:
        return _said(RunState.LOST, seen.environment, seen.attempt)
    told = f": {with_evidence(word)}" if word.reason or word.told else ""
    if seen.started:
        what = "the attempt ended without a word of its own (killed, or its host went down)"
        lost = _said(RunState.LOST, f"{what}{told}", seen.attempt)
        return replace(lost, cause=Cause.KILLED)
    what = f"the attempt never started{told}"
    # A process on this host leaves no exit code.
    if seen.full_disks:
        what = f"{what}: the disk of the run store is full ({seen.full_disks})"
    return _said(RunState.LOST, what, seen.attempt)


def _not_made(stage: str) -> str:
    return f"not started: {stage}, which it needs, was not made"


def _living(seen: AttemptSeen, state: JobState) -> Assessment:
    """Judge an attempt whose job is pending, is running, or cannot be asked for."""
    if state.phase is JobPhase.PENDING:
        return _pending(seen, state)
    if state.phase is JobPhase.RUNNING:
        return _running(seen, state)
    if seen.gave_a_sign:
        return Assessment(RunState.RUNNING, attempt=seen.attempt)
    since = "ever" if seen.silent is None else f"for {seen.silent:.0f} s"
    what = f"{state.reason}; no sign of life {since}"
    return _said(RunState.UNKNOWN, what, seen.attempt)


def _pending(seen: AttemptSeen, state: JobState) -> Assessment:
    if seen.started:
        # squeue's answer may be older than the attempt's own record of its start.
        return Assessment(RunState.RUNNING, attempt=seen.attempt)
    asked = "asked to stop; " if seen.cancel_requested else ""
    pending = _said(RunState.PENDING, f"{asked}{state.reason}", seen.attempt)
    return replace(pending, hopeless=state.hopeless)


def _running(seen: AttemptSeen, state: JobState) -> Assessment:
    # Slurm 22.05 says so until the time limit of a job whose slurmstepd and processes
    # were killed.
    running = _said(RunState.RUNNING, state.reason, seen.attempt)
    if not seen.started or state.reason == "suspended":
        return running
    if seen.silent is None or seen.silent < SILENCE_SECONDS:
        return running
    minutes = f"{seen.silent / 60:.0f} min"
    what = f"it is said to run, but nothing has been heard of it for {minutes}"
    return replace(running, problem=Problem(what), silent=True)
