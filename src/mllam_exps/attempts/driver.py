"""The driver: what ``mllam-exps run STAGE`` does. It collects, attaches to, or starts a run, and waits for it.

A driver may die at any moment: the attempt goes on, and the next driver attaches to it.
It publishes only while whoever started it still waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from mllam_exps import schedulers, stages
from mllam_exps.attempts import tracked
from mllam_exps.attempts.interruption import Detached, Interrupted, as_exceptions
from mllam_exps.attempts.job_quota import Quota
from mllam_exps.attempts.launch import Starter
from mllam_exps.attempts.progress_line import Display, describe, duration
from mllam_exps.attempts.stopping import stop
from mllam_exps.base import records
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import CheckFailed, Exit, MllamError, Problem, UsageError
from mllam_exps.base.processes import ProcessIdentity, caller
from mllam_exps.base.terminal import warn
from mllam_exps.dvc.stages.pipeline import Pipeline
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace, exp_run
from mllam_exps.runs import askers, outputs
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import Assessment, RunState, contradiction
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import JobPhase, JobState, NoRoom
from mllam_exps.stages.contract import Stage

POLL_SECONDS = 0.3
ASSESS_SECONDS = 2.0
VERDICT_PATIENCE = 30.0
LOG_LINES = 20
ROOM_SECONDS = 15.0


@dataclass
class Driver:
    """Brings one run to its end and its outputs into the workspace.

    Parameters
    ----------
    workspace, machine, pipeline, store
        Where the experiment is, where its stages run, what they are, and what is known
        of them.
    publish : bool
        Whether outputs go into the workspace; `mllam-exps smoke` wants them in the
        store only.
    take_over : bool
        Start a new attempt although one may still live where we cannot see it; fencing
        stops that one.
    wanted_by : callable
        Names the submitted experiments that wait for a run: Ctrl-C does not stop what
        they need.
    """

    workspace: Workspace
    machine: Machine
    pipeline: Pipeline
    store: RunStore
    publish: bool = True
    take_over: bool = False
    wanted_by: Callable[[Run], Iterable[str]] = lambda _run: ()
    me: ProcessIdentity = field(default_factory=ProcessIdentity.of)
    parent: ProcessIdentity | None = field(default_factory=caller)
    _attached: int = 0

    def drive(self, stage: str) -> Run:
        """Have the run of `stage` done and published; of work in phases those before, too, where they are needed.

        Raises
        ------
        MllamError
            If it failed: with the reason, the log and the command that goes on from
            there.
        """
        run = self.store.run(self.pipeline.definition(stage).key)
        if run.result is None:
            for part in self.pipeline.parts(stage)[:-1]:
                self._have_done(part, publish=False)
        return self._have_done(stage, publish=self.publish)

    def _have_done(self, stage: str, *, publish: bool) -> Run:
        definition = self.pipeline.definition(stage)
        self._attached = 0
        run = self.store.run(definition.key)
        try:
            run.begin(definition)
        except OSError as error:
            why = reasons.of_os_error(error)
            raise UsageError(
                "the run store cannot be written", str(self.store.directory), why
            ) from error
        askers.note(run, self.workspace.experiment, self.workspace.origin)
        display = Display(stage)
        with as_exceptions(), run.wait_here(self.me) as waiter:
            try:
                while True:
                    waiter.refresh()
                    assessment = assess(run)
                    if assessment.state is not RunState.DONE:
                        self._step(run, definition, assessment, display)
                    elif self._is_as_it_was_made(run, definition, display):
                        break
                self._confirm(run, display)
                if publish:
                    self._publish(run, stage, display)
            except Interrupted:
                display.clear()
                self._interrupted(run, display)
            except Detached as detached:
                raise MllamError(
                    str(detached), where=stage, exit=Exit.DETACHED
                ) from None
            finally:
                display.clear()
        return run

    def _is_as_it_was_made(
        self, run: Run, definition: RunDefinition, display: Display
    ) -> bool:
        """Tell whether a result can be given to the workspace; one that is damaged is made again."""
        try:
            outputs.hold_to_what_was_made(
                run, {one.path: one.digest for one in definition.inputs}.get
            )
        except outputs.Damaged as damaged:
            if run.result is not None:
                raise
            display.line(f"{damaged.where}: {damaged.what}; it is made again")
            self._attached = 0
            return False
        return True

    def _step(
        self, run: Run, definition: RunDefinition, now: Assessment, display: Display
    ) -> None:
        number = now.attempt.number if now.attempt else 0
        may_take_over = now.state is RunState.UNKNOWN and self.take_over
        if now.state.living and not may_take_over:
            self._attend(now, display)
        elif now.attempt and number == self._attached and not now.may_start:
            self._verdict(now.attempt, display)
            if now.attempt.ended is None:
                start = tracked.in_environment_of(self.machine, self.workspace.root)
                tracked.end_what_is_over([run], start)
            # The scheduler may know better why it ended: then another one may follow.
            if not (now := assess(run)).another_follows:
                raise self._failure(now)
        else:
            self._start(run, definition, now, display)

    def _attend(self, now: Assessment, display: Display) -> None:
        """Wait a moment for an attempt that is at work."""
        assert now.attempt is not None
        if now.attempt.number != self._attached:
            self._attached = now.attempt.number
            self._say_attached(now, display)
        if now.hopeless:
            raise self._failure(self._withdraw(now))
        self._wait(now, display)

    def _start(
        self, run: Run, definition: RunDefinition, now: Assessment, display: Display
    ) -> None:
        """Start the next attempt, if there is room for one."""
        before = now.attempt.number if now.attempt else 0
        if now.another_follows or now.state.stopped:
            from_where = _goes_on_from(run, stages.of(definition))
            display.line(f"{_why_another(now, before)}{from_where}")
        repo = self.pipeline.repository
        starter = Starter(self.workspace, self.machine, repo, self.store)
        try:
            started = self._when_there_is_room(
                lambda: starter.start(run, definition, now)
            )
        except NoRoom as full:
            display.show(f"{full.what}: {full.why}")
            self._sleep(ROOM_SECONDS)
            return
        self._attached = before + 1 if started else 0
        self.take_over = False
        if started:
            log = starter.log_link(started)
            what = f"attempt {before + 1} started on {self.machine.name}"
            display.line(f"{what}, log {log}")

    def _when_there_is_room(
        self, start: Callable[[], Attempt | None]
    ) -> Attempt | None:
        """Start an attempt, if ``max_jobs`` allows one more job; where attempts are counted on their host, they wait.

        Raises
        ------
        NoRoom
            If it does not.
        """
        scheduler = schedulers.get(self.machine.scheduler, self.store.directory)
        if down := scheduler.outage():
            raise NoRoom("waits", why=down)
        if not scheduler.limits or not self.machine.max_jobs:
            return start()
        with lock(self.store, SUBMISSIONS, wait=True), Quota() as quota:
            room = quota.room(self.machine, scheduler, self.workspace.origin)
            if not room.look():
                raise NoRoom("waits", why=room.full)
            return start()

    def _say_attached(self, now: Assessment, display: Display) -> None:
        assert now.attempt is not None
        claim = now.attempt.claim
        whose = f" (asked for by experiment {claim.experiment})" if claim else ""
        display.line(
            f"attached to attempt {now.attempt.number}, already {now.state}{whose}"
        )

    def _withdraw(self, now: Assessment) -> Assessment:
        """Take back a job that will never run, and write down why, so that nobody waits for it."""
        assert now.attempt is not None
        # A colleague's job they alone can take back.
        with contextlib.suppress(PermissionError):
            now.attempt.end(Outcome.FAILED, now.problem)
            stop(now.attempt, self.me)
        return replace(now, state=RunState.FAILED)

    def _wait(self, now: Assessment, display: Display) -> None:
        """Look for the end record until it is time to ask the scheduler again."""
        assert now.attempt is not None
        records.look_afresh(now.attempt.directory)
        until = time.monotonic() + ASSESS_SECONDS
        while time.monotonic() < until and now.attempt.ended is None:
            self._leave_if_abandoned()
            display.show(describe(now))
            time.sleep(POLL_SECONDS)

    def _leave_if_abandoned(self) -> None:
        # DVC's death never kills the commands of its stages (3.67), and the next `dvc`
        # starts another one: what an orphan published then would come behind DVC's
        # back.
        if self.parent is not None and self.parent.alive() is False:
            raise Detached(
                "whoever started this command is gone; the run goes on, and the next `dvc exp run` finds it"
            )

    def _confirm(self, run: Run, display: Display) -> None:
        """Hold a result against the scheduler's word, asked once the attempt has ended.

        The attempt's record alone stands where the scheduler has forgotten the job, or
        never knew more (local). One that the scheduler contradicts is no result: it is
        set aside, and the next attempt may start.
        """
        attempt = outputs.result_attempt(run)
        word = self._verdict(attempt, display)
        if word.phase in {JobPhase.FAILED, JobPhase.CANCELLED}:
            outputs.reject(run, attempt)
            problem = Problem(contradiction(word))
            raise self._failure(Assessment(RunState.FAILED, problem, attempt))

    def _verdict(self, attempt: Attempt, display: Display) -> JobState:
        """Wait for the scheduler's word on an attempt that has ended.

        A job stays for a moment after its command's end, longer where the cluster's
        epilogue is slow: after `VERDICT_PATIENCE` what it says then has to do. A
        scheduler that does not answer is asked until it does.
        """
        known = verdict.known(attempt)
        if known is not None:
            return known
        pause = schedulers.get(attempt.scheduler, attempt.run.store).settles
        until = time.monotonic() + VERDICT_PATIENCE
        while True:
            self._sleep(pause)
            state = verdict.hear(attempt)
            in_doubt = state.phase is JobPhase.UNKNOWN
            if state.phase.ended or (time.monotonic() > until and not in_doubt):
                return state
            told = "its job is being completed"
            if in_doubt:
                told = f"waiting for the scheduler's word: {state.reason}"
            display.show(f"ended; {told}")
            pause = min(2 * pause, 10.0)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._leave_if_abandoned()
            time.sleep(min(left, POLL_SECONDS))

    def _publish(self, run: Run, stage: str, display: Display) -> None:
        """Publish under the workspace's own lock, having looked once more whether somebody still waits for it."""
        display.show("publishing its outputs")
        with self._workspace_lock():
            self._leave_if_abandoned()
            outputs.publish(self.pipeline.repository, run, self.pipeline.stage(stage))
        attempt = outputs.result_attempt(run)
        told = f"known: collected ({run.key})"
        if self._attached:
            told = f"done in attempt {attempt.number}, {_time_taken(attempt)}"
        display.line(told)
        self._wait_for_dvc_lock(display)

    @contextlib.contextmanager
    def _workspace_lock(self) -> Iterator[None]:
        path = self.pipeline.repository.temporary_directory / "mllam-exps.lock"
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _wait_for_dvc_lock(self, display: Display) -> None:
        """Wait while another DVC command holds the repository's lock.

        DVC 3.67 takes that lock again the moment a stage's command ends, waits for 3 s,
        and fails the stage if it can't have it. Nothing would be lost, the next `dvc
        exp run` collects; but here we have all the time of the world.
        """
        lock = self.pipeline.repository.temporary_directory / "lock"
        while lock.exists():
            with contextlib.suppress(OSError), lock.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._leave_if_abandoned()
                    display.show(
                        "done; waiting for another dvc command, which holds the repository's lock"
                    )
                    time.sleep(POLL_SECONDS)
                    continue
            return

    def _failure(self, now: Assessment) -> MllamError:
        attempt = now.attempt
        assert attempt is not None
        for line in reasons.tail(attempt.log, LOG_LINES):
            warn(f"  | {line}")
        stage, reason = attempt.run.stage, now.reason
        way_out = now.problem.next or self._to_go_on(now, attempt)
        word = f"attempt {attempt.number} {now.state}"
        if now.state is RunState.CANCELLED:
            word = "was cancelled"
            # "cancelled by somebody": the word stands before it already.
            reason = reason.removeprefix(str(now.state)).lstrip(", ")
        place = attempt.log if attempt.log.exists() else attempt.directory
        what = f"{stage} {word}"
        return CheckFailed(what, str(place), reason, way_out, Exit.FAILED)

    def _to_go_on(self, now: Assessment, attempt: Attempt) -> str:
        """Return the command that goes on after a failure."""
        stage = attempt.run.stage
        if now.hopeless:
            return f"change resources.{stage} in machines/{self.machine.name}.yaml, then dvc exp run"
        way_out = f"dvc exp run, or mllam-exps run {stage}"
        if attempt.started and self._has_checkpoints(stage):
            way_out += ": goes on from the newest checkpoint if there is one"
        return way_out

    def _has_checkpoints(self, stage: str) -> bool:
        return stages.of(self.pipeline.definition(stage)).has_checkpoints

    def _interrupted(self, run: Run, display: Display) -> None:
        """Decide what Ctrl-C means: stop the run, unless somebody else wants it."""
        now = assess(run)
        others = [f"process {w.pid} on {w.host}" for w in run.other_waiters(self.me)]
        others += [f"experiment {name}" for name in self.wanted_by(run)]
        if not now.state.living or now.attempt is None:
            raise MllamError("interrupted", exit=Exit.INTERRUPTED)
        if others:
            what = "interrupted; the run goes on: somebody else waits for it"
            raise MllamError(
                what,
                why=", ".join(others),
                next="mllam-exps status",
                exit=Exit.INTERRUPTED,
            )
        if self.machine.on_interrupt == "detach":
            raise MllamError(
                f"interrupted; the run goes on (machines/{self.machine.name}.yaml: on_interrupt: detach)",
                next=f"{exp_run(self.workspace.experiment)} finds it again",
                exit=Exit.INTERRUPTED,
            )
        display.line("interrupted: stopping the run")
        try:
            stopped = stop(now.attempt, self.me)
        except MllamError as error:
            error.exit = Exit.INTERRUPTED
            raise
        if not stopped:
            raise MllamError(
                "interrupted; the run was asked to stop, and has not yet",
                next="mllam-exps status",
                exit=Exit.INTERRUPTED,
            )
        raise MllamError(
            "interrupted; the run was stopped",
            next=f"{exp_run(self.workspace.experiment)} goes on from here",
            exit=Exit.INTERRUPTED,
        )


def _why_another(now: Assessment, number: int) -> str:
    """Say why another attempt is started, behind one that ended without a result."""
    said = now.problem.line
    if now.another_follows:
        return said
    why = "" if said == now.state else f": {said}"
    return f"attempt {number} {now.state}{why}; starting attempt {number + 1}"


def _time_taken(attempt: Attempt) -> str:
    """Return how long an attempt took, from its start to its end."""
    if not attempt.started or not attempt.ended:
        return ""
    return duration(attempt.ended_at - attempt.started_at)


def _goes_on_from(run: Run, program: Stage) -> str:
    """Name the checkpoint from which the next attempt at a run goes on; nothing where there is none."""
    for earlier in reversed(run.attempts()):
        if found := program.checkpoints(earlier.scratch):
            return f", which goes on from {found[0].name} of attempt {earlier.number}"
    return ""
