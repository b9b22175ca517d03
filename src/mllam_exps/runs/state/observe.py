"""Looks at a run once: its files, its scheduler, its processes and the clock. It writes nothing down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mllam_exps import schedulers
from mllam_exps.base import disks, records
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError
from mllam_exps.base.records import Trouble
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.continuation import Continuation, decide
from mllam_exps.runs.records import Claim, End, Outcome
from mllam_exps.runs.spec import rules_of, to_come
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.seen import AttemptSeen, Observation
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import JobPhase, JobState, Schedulers, Uncertain

CLAIM_PATIENCE = 120.0
"""Seconds for which a submitter counts as alive that cannot be seen from here."""

Words = list[tuple[Attempt, JobState]]
_Kind = TypeVar("_Kind")


def observe(run: Run, scheduler: Schedulers = schedulers.get) -> Observation:
    """Look at a run, and ask its scheduler where its files do not say how it is."""
    last = run.last_attempt()
    if (result := run.result) is not None:
        return Observation(result, last=AttemptSeen(last) if last else None)
    if damage := run.damage:
        return Observation(damage=damage, last=AttemptSeen(last) if last else None)
    if last is None:
        return Observation()
    words: Words = []
    seen = _with_continuation(_look(last, scheduler, words))
    if seen.end is not None and seen.end.outcome is Outcome.SUCCEEDED:
        # A network file system may remember from an earlier look that there is no
        # result.
        records.look_afresh(run.directory)
        return Observation(run.result, last=seen, words=words)
    return Observation(last=seen, words=words)


def _with_continuation(seen: AttemptSeen) -> AttemptSeen:
    """Look what is to follow an attempt that ended without a result."""
    failed = seen.end is not None and seen.end.outcome is Outcome.FAILED
    if not failed and (seen.end is not None or seen.word is None):
        return seen
    follows = _continuation_of(seen.attempt)
    return replace(
        seen,
        again=follows.causes,
        why_not_again=follows.why_not,
        cancel_requested=seen.attempt.cancel_requested,
    )


def _continuation_of(attempt: Attempt) -> Continuation:
    """Say what follows an attempt that has ended without a result."""
    rules = rules_of(attempt)
    if not rules.again:
        return Continuation()
    before = range(rules.since, attempt.number)
    attempts = [*(Attempt(attempt.run, number) for number in before), attempt]
    reached = [_reached(one) if rules.resumes else None for one in attempts]
    return decide(rules, reached)


def _reached(attempt: Attempt) -> float | None:
    """Return how far an attempt came, in epochs; None where it did not say."""
    progress = attempt.progress
    return progress.done if progress else None


def _look(attempt: Attempt, scheduler: Schedulers, words: Words) -> AttemptSeen:
    """Look at a run's newest attempt."""
    claim = Claim.look(attempt.claim_file)
    end = End.look(attempt.directory / layout.END)
    for found in (claim, end):
        if isinstance(found, Trouble) and found.hidden:
            return AttemptSeen(attempt, hidden=str(found))
    claim, end = _usable(claim), _usable(end)
    if end is not None:
        return _look_at_ended(attempt, end, scheduler, words)
    if claim is None:
        return AttemptSeen(attempt, is_claimed=False)
    if attempt.is_gone:
        submitter = _living_submitter(attempt, claim)
        return AttemptSeen(attempt, is_gone=True, submitter=submitter)
    return _ask(attempt, claim, scheduler, words)


def _usable(found: _Kind | Trouble | None) -> _Kind | None:
    """Return a record, or None where there is none that can be used, which is told."""
    if isinstance(found, Trouble):
        records.tell(found)
        return None
    return found


def _look_at_ended(
    attempt: Attempt, end: End, scheduler: Schedulers, words: Words
) -> AttemptSeen:
    """Look at an attempt whose end is written down."""
    seen = AttemptSeen(attempt, end=end)
    if end.outcome is Outcome.SUCCEEDED:
        aside, word = attempt.set_aside, verdict.known(attempt)
        return replace(seen, set_aside=aside, word=word)
    if end.outcome in {Outcome.REFUSED, Outcome.CANCELLED} or attempt.started is None:
        return seen
    return replace(seen, started=True, word=_last_word(attempt, scheduler, words))


def _last_word(attempt: Attempt, scheduler: Schedulers, words: Words) -> JobState:
    """Return the scheduler's word on a job that has ended, and note it where it is to be remembered."""
    known = verdict.known(attempt)
    if known is not None:
        return known
    word = verdict.ask(attempt, scheduler)
    if verdict.is_last(word):
        words.append((attempt, word))
    return word


def _ask(
    attempt: Attempt, claim: Claim, scheduler: Schedulers, words: Words
) -> AttemptSeen:
    """Look at an attempt that has not said how it ended, and ask its scheduler."""
    seen = AttemptSeen(attempt)
    known = verdict.known(attempt)
    if known is not None:
        return _without_a_word(seen, known, scheduler, words)
    try:
        asked = scheduler(claim.scheduler, attempt.run.store)
    except MllamError as error:
        # This version knows no such scheduler.
        return replace(seen, unasked=str(error))
    try:
        job = verdict.job_of(attempt, asked)
    except Uncertain as doubt:
        return _without_a_job(seen, claim, str(doubt))
    if job is None:
        if attempt.started is None:
            return _without_a_job(seen, claim)
        return _without_a_word(seen, verdict.NOBODY_KNOWS, scheduler, words)
    state = asked.state(job)
    if not state.phase.ended:
        return _with_a_living_job(seen, state)
    return _with_an_ended_job(seen, state, scheduler, words)


def _with_an_ended_job(
    seen: AttemptSeen, state: JobState, scheduler: Schedulers, words: Words
) -> AttemptSeen:
    """Look at an attempt whose job has ended; its own record of that may be newer than our first look."""
    attempt = seen.attempt
    if end := attempt.ended:
        return _look_at_ended(attempt, end, scheduler, words)
    # squeue gives no exit code.
    exact = verdict.ask(attempt, scheduler)
    word = exact if exact.phase.ended else state
    if exact.phase.ended or state.phase in {JobPhase.CANCELLED, JobPhase.FAILED}:
        words.append((attempt, word))
    return _without_a_word(seen, word, scheduler, words)


def _without_a_job(seen: AttemptSeen, claim: Claim, uncertain: str = "") -> AttemptSeen:
    """Look who submits an attempt that has no job, as far as can be told."""
    doubt = seen.attempt.doubt
    submitter = "" if doubt else _living_submitter(seen.attempt, claim)
    return replace(seen, uncertain=uncertain, doubt=doubt, submitter=submitter)


def _living_submitter(attempt: Attempt, claim: Claim) -> str:
    """Return who is about to submit an attempt; empty where whoever claimed it is gone."""
    if attempt.doubt or attempt.is_let_go:
        return ""
    process = claim.claimed_by
    alive = process.alive()
    if alive and not attempt.is_claimed_by_its_owner(process.pid):
        alive = False  # somebody else's process: whoever wrote the claim has named it
    if alive is None:
        # A time in the future, which anybody can give a file of theirs, is no sign of
        # life.
        age = attempt.run.now() - attempt.claimed_at
        alive = abs(age) < CLAIM_PATIENCE
    if not alive:
        return ""
    return f"{attempt.owner}'s process {process.pid} on {process.host}"


def _with_a_living_job(seen: AttemptSeen, state: JobState) -> AttemptSeen:
    """Look at an attempt whose job has not ended."""
    attempt = seen.attempt
    # Only now, as the scheduler's answer may be older than what the attempt wrote.
    started = attempt.started is not None
    silent = None
    if state.phase is not JobPhase.PENDING:
        silent = attempt.silent_seconds
    return replace(
        seen,
        state=state,
        started=started,
        cancel_requested=attempt.cancel_requested,
        silent=silent,
    )


def _without_a_word(
    seen: AttemptSeen, word: JobState, scheduler: Schedulers, words: Words
) -> AttemptSeen:
    """Look for what tells why an attempt ended that wrote no end."""
    attempt = seen.attempt
    started, cancelled = attempt.started is not None, attempt.cancel_requested
    seen = replace(seen, word=word, started=started, cancel_requested=cancelled)
    if word.phase is JobPhase.FORGOTTEN:
        seen = replace(seen, silent=attempt.silent_seconds)
    if word.phase in {JobPhase.CANCELLED, JobPhase.FAILED}:
        failure = reasons.of_store(word.reason, attempt.directory)
        seen = replace(seen, store_failure=failure)
    if started:
        return seen
    return _never_started(seen, word, scheduler, words)


def _never_started(
    seen: AttemptSeen, word: JobState, scheduler: Schedulers, words: Words
) -> AttemptSeen:
    """Look for what tells why an attempt's job ended before the attempt started."""
    attempt, cancelled = seen.attempt, seen.cancel_requested
    if word.phase in {JobPhase.CANCELLED, JobPhase.FORGOTTEN} and not cancelled:
        seen = replace(seen, not_made=not_made(attempt))
    if word.phase is JobPhase.CANCELLED:
        if cancelled or seen.not_made:
            return seen
        badly = _ended_badly(attempt, scheduler, words)
        return replace(seen, ended_badly=badly)
    environment = reasons.of_environment(attempt.log)
    if environment or word.phase is JobPhase.FAILED:
        return replace(seen, environment=environment)
    return replace(seen, full_disks=disks.full_disks([attempt.directory]))


def runs_to_come(attempt: Attempt) -> list[Run]:
    """Return the runs whose outputs an attempt was to wait for when it was submitted."""
    store = RunStore(attempt.run.store)
    return [store.run(key) for key in to_come(attempt)]


def not_made(attempt: Attempt) -> Sequence[str]:
    """Return the stages without a result that an attempt was to wait for.

    Where it never started and one of them failed, Slurm cancels its job at once
    (``--kill-on-invalid-dep``).
    """
    return tuple(run.stage for run in runs_to_come(attempt) if run.result is None)


def _ended_badly(attempt: Attempt, scheduler: Schedulers, words: Words) -> str:
    """Return a stage that an attempt was to wait for, and whose job the scheduler does not call a success."""
    for run in runs_to_come(attempt):
        last = run.last_attempt()
        if last is not None and _last_word(last, scheduler, words).phase in {
            JobPhase.FAILED,
            JobPhase.CANCELLED,
        }:
            return run.stage
    return ""
