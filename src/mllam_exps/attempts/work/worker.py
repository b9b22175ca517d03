"""The work of an attempt at a stage: it takes its inputs, runs its program, and keeps what that made.

It proves what came out, freezes it and settles the run with it. What is not written
down there did not happen.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mllam_exps.attempts import workdir
from mllam_exps.attempts.tracked import Tracked
from mllam_exps.attempts.work import other_parts, programs, variables
from mllam_exps.attempts.work.inputs import Inputs
from mllam_exps.attempts.work.supervisor import (
    HEARTBEAT_SECONDS,
    OURSELVES,
    WATCH_SECONDS,
    Stopped,
    Supervisor,
)
from mllam_exps.base import disks, ownership, processes, records, user_state
from mllam_exps.base.endings import reasons
from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.dvc import lockfile
from mllam_exps.dvc.parameters import parameter_files
from mllam_exps.identity.definition import (
    PHASE_BEFORE,
    VERSIONS_FILE,
    RunDefinition,
)
from mllam_exps.machines.workspace import exp_run
from mllam_exps.runs import freezing
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.outputs import Damaged
from mllam_exps.runs.records import Outcome, Started
from mllam_exps.runs.results import Output, Read, Result
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers.local import ATTEMPT_VARIABLE, NAME_VARIABLE
from mllam_exps.stages.contract import ENDED_IN_TIME, Stage, StageContext, Tracking
from mllam_exps.stages.going_on import Taken

SILENCE = 3 * HEARTBEAT_SECONDS
"""Seconds without a heartbeat after which an attempt that lost its run is taken to have stopped."""
PREDECESSOR_PATIENCE = 180.0
INPUT_PATIENCE = 5.0
"""Seconds until a network file system tells of a result that was there when this job was let go."""
PR_SET_PDEATHSIG = 1

MADE_BY_ANOTHER = Problem("another attempt has made the result")


def _before_the_program() -> None:
    """Have the kernel kill the program when this process dies, and start it in no folder that others may write to."""
    here = Path().stat()
    if here.st_uid != os.getuid() or here.st_mode & ownership.OTHERS:
        raise PermissionError
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


log = logging.getLogger(__name__)


class Worker(Supervisor):
    """One attempt at a stage.

    Parameters
    ----------
    attempt : Attempt
        Claimed, its work directory laid out, and told what to do by its submitter.
    """

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._run = Run(attempt.run.directory)
        self._slot: IO[str] | None = None
        self._tracked: Tracked | None = None

    def _work(self) -> None:
        from mllam_exps import stages

        self._take_slot()
        self._await_predecessor()
        if self._run.result is not None:
            raise Stopped(Outcome.SUPERSEDED, MADE_BY_ANOTHER)
        definition = self.spec.of_run(self.attempt.run.key)
        with records.for_nobody_else_to_write():
            made, read = self._make(stages.of(definition), definition)
        # A result must not outlive the outputs that it names when the power fails.
        os.sync()
        result = Result(self.attempt.number, made, read, time=time.time())
        if not self._run.settle(result):
            raise Stopped(Outcome.SUPERSEDED, MADE_BY_ANOTHER)
        self._tidy()

    def _take_slot(self) -> None:
        """Wait until fewer than ``max_jobs`` attempts of this user's run here; the kernel gives a dead one's slot back.

        Those of all repositories count.
        """
        number = self.spec.slots
        if not number:
            return
        directory = records.folder(user_state.folder() / "slots")
        while True:
            for slot in range(number):
                path = directory / f"{socket.gethostname()}.{slot}"
                file = os.fdopen(records.open_file(path, os.O_RDWR | os.O_CREAT), "r+")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                else:
                    self._slot = file
                    return
            self._progress(
                f"waiting: {number} at once on this host (max_jobs in the machine file)"
            )
            self._raise_if_stopped()
            time.sleep(WATCH_SECONDS)

    def _make(
        self, stage: Stage, definition: RunDefinition
    ) -> tuple[dict[str, Output], dict[str, Read]]:
        """Run the program, prove what it made, and freeze that; return what is known of outputs and inputs."""
        image = programs.Image(self.spec.image)
        programs.check_versions(self.spec, self.attempt.work)
        if not definition.commands:
            programs.record(self.spec, self.attempt)
        try:
            self._take_inputs(definition)
            read = Inputs(
                self.attempt,
                definition.to_record(),
                self._again(),
                lambda: self._archives(stage),
            )
            self._progress("checking its inputs")
            read.check()
        except MllamError:
            self.cause = Cause.INPUT
            raise
        context = self._context(stage, definition)
        stage.inputs(context)
        context = self._prepare_tracking(stage.tracking(context.work), context)
        try:
            command = stage.command(context)
            self._progress("starting its program")
            image.refuse_another(self._again())
            self._run_program(command, context)
            image.refuse_written(self._again())
        except MllamError:
            # Its own reason counts; but what it did to its inputs must not be
            # anybody's.
            with contextlib.suppress(MllamError, OSError):
                read.check_again()
            raise
        self._progress("checking its inputs and the outputs")
        read.check_again()
        stage.finish(context)
        paths = [output.path for output in definition.outputs]
        freezing.check_made(self.attempt, paths)
        stage.check(context)
        self._raise_if_stopped()
        self._progress("hashing the outputs")
        made = freezing.freeze(self.attempt, paths)
        self._raise_if_stopped()
        return made, read.as_read()

    def _again(self) -> str:
        """Return the command that makes what it needs again, for whoever asked for this attempt."""
        name = self.spec.experiment
        submitted = self.attempt.run.wanted
        return f"mllam-exps retry {name}" if submitted else exp_run(name)

    def write_end(self, outcome: Outcome, problem: Problem) -> None:
        """Write down the end of the attempt, and that of its run in MLflow."""
        super().write_end(outcome, problem)
        if self._tracked is not None:
            self._tracked.end(outcome, problem)

    def _tidy(self) -> None:
        """Remove what a finished run needs no more; its outputs, logs and records stay."""
        for attempt in self._run.attempts():
            attempt.tidy()

    def _await_predecessor(self) -> None:
        """Wait until the attempt before this one has stopped, where it may live on.

        A node that its cluster has lost may go on computing. That attempt finds out by
        itself that the run was taken from it; two never write at once.
        """
        before = Attempt(self.attempt.run, self.attempt.number - 1)
        started = before.started if before.number else None
        if started is None:
            return
        log.info("attempt %d may live on: waiting until it has stopped", before.number)
        self._wait_for(before, started)
        processes.end_those_with(f"{ATTEMPT_VARIABLE}={before.directory}")

    def _wait_for(self, before: Attempt, started: Started) -> None:
        until = time.monotonic() + PREDECESSOR_PATIENCE
        while started.process.alive() is not False:
            if (end := before.ended) is not None and end.by == OURSELVES:
                return
            silent = before.silent_seconds
            if silent is None or silent > SILENCE:
                return
            if time.monotonic() > until:
                raise MllamError(
                    f"attempt {before.number} does not stop, and its run was taken from it"
                )
            self._progress(
                f"waiting until attempt {before.number}, which gives signs of life, has stopped"
            )
            self._raise_if_stopped()
            time.sleep(WATCH_SECONDS)

    def _take_inputs(self, definition: RunDefinition) -> None:
        """Take the inputs that other runs were to make, looking afresh where the file system is slow to tell."""
        store = RunStore(self.attempt.run.store)
        until = time.monotonic() + INPUT_PATIENCE
        while (
            any(store.run(key).result is None for key in self.spec.to_come.values())
            and time.monotonic() < until
        ):
            for key in self.spec.to_come.values():
                records.look_afresh(store.run(key).directory)
            self._raise_if_stopped()
            time.sleep(WATCH_SECONDS)
        try:
            workdir.take(
                store,
                self.attempt,
                definition.to_record(),
                self.spec.to_come,
                self.spec.links,
            )
        except Damaged as damaged:
            damaged.next = self._again()
            raise

    def _context(self, stage: Stage, definition: RunDefinition) -> StageContext:
        files = dict(stage.parameters(self.attempt.work))
        for file in definition.params if not definition.commands else ():
            if file not in files and file != VERSIONS_FILE:
                files[file] = parameter_files.read(self.attempt.work / file)
        parent = self.attempt.parent if definition.parent else None
        taken = Taken(bool(definition.parent.get("weights_only")))
        if definition.phase is not None:
            if (before := self.attempt.work / PHASE_BEFORE).is_dir():
                parent = before
                taken = stage.of_phase_before(files, definition.phase)
            files = dict(stage.in_phase(files, definition.phase))
        return StageContext(
            work=self.attempt.work,
            scratch=self.attempt.scratch,
            params=files,
            experiment=self.spec.experiment,
            resume_from=self._resume(stage, parent, taken),
            parent=parent,
            of_other_runs=other_parts.found(self._run, definition, stage),
            weights_only=taken.weights_only,
            phase=definition.phase,
            smoke=self.spec.smoke,
            nodes=self.spec.nodes,
            devices=self.spec.devices,
            environment=self._environment(),
        )

    def _archives(self, stage: Stage) -> dict[str, dict[str, Any]]:
        """Return the identity of the data archives outside of the repository, as far as they can be reached."""
        from mllam_exps import stages

        found: dict[str, dict[str, Any]] = {}
        for preflight in stages.preflights(self.attempt.work, stage):
            found |= preflight.archives(self.attempt.work)[0]
        return found

    def _prepare_tracking(
        self, asked: Tracking | None, context: StageContext
    ) -> StageContext:
        """Start sending what the program logs, or prepare the tracking database; return what the program is told."""
        if asked is None or asked.logger not in {"mlflow", "wandb"}:
            return context
        if asked.kept:
            definition = self.spec.of_run(self.attempt.run.key)
            self._tracked = Tracked(
                self.attempt, asked.logger, definition, context.experiment
            )
            environment = {**context.environment, **self._tracked.variables}
            if asked.logger == "wandb":
                environment |= self._tracked.wandb(environment)
            else:
                self._tracked.send(environment)
            return replace(context, environment=environment)
        if asked.logger != "mlflow":
            return context
        from mllam_exps.stages import tracking

        python = [sys.executable, "-P"]
        try:
            tracking.prepare(
                python, Path(self.spec.origin), context.environment, asked.project
            )
        except MllamError as error:
            if asked.needed:
                raise
            print(f"warning: not tracked: {error}", flush=True)
        return context

    def _resume(self, stage: Stage, parent: Path | None, taken: Taken) -> Path | None:
        """Copy the newest checkpoint: of an earlier attempt, or else of the phase before, or of another experiment.

        A copy, so that nothing which still writes there matters.
        """
        for earlier in reversed(self._run.attempts()):
            if earlier.number < self.attempt.number:
                if link := earlier.others_link:
                    what = f"nothing of attempt {earlier.number} is taken: {link} is a link"
                    print(f"note: {what} of {earlier.maker}'s", flush=True)
                    continue
                carried = stage.carry(earlier.scratch, self.attempt.scratch)
                if carried is not None:
                    print(
                        f"going on from {carried.name} of attempt {earlier.number}",
                        flush=True,
                    )
                    return carried
        if stage.goes_on is None or parent is None:
            return None
        return stage.goes_on.begin(parent, self.attempt.scratch, taken)

    def _environment(self) -> dict[str, str]:
        spec, scheduler = self.spec, self.scheduler()
        ours = {
            "SCRATCH": str(self.attempt.scratch),
            "STAGE": self.attempt.run.stage,
            "KEY": self.attempt.run.key,
            "EXPERIMENT": spec.experiment,
            "MACHINE": spec.machine,
            "COMMIT": spec.commit,
            "JOB": scheduler.job_id(),
            "CORES": str(scheduler.cores() or ""),
            "ATTEMPT": str(self.attempt.directory),
            "ENDS_WITH": json.dumps([str(path) for path in self.attempt.ends_with]),
            "SMOKE": "1" if spec.smoke else "",
        }
        environment = {**os.environ, **scheduler.inside(), **spec.environment}
        environment.pop(NAME_VARIABLE, None)
        # A stalled Python program is sent SIGABRT, and prints where it stands.
        environment.setdefault("PYTHONFAULTHANDLER", "1")
        environment = self._redirected(environment)
        return environment | {
            f"MLLAM_EXPS_{name}": value for name, value in ours.items() if value
        }

    def _redirected(self, environment: dict[str, str]) -> dict[str, str]:
        """Lead variables into the attempt's copy: of the whole git repository, where it has that."""
        origin, copy = Path(self.spec.origin), self.attempt.work.resolve()
        below = Path()
        if os.path.lexists(self.attempt.tree):
            tree = self.attempt.tree.resolve()
            below = copy.relative_to(tree)
            origin, copy = origin.parents[len(below.parts) - 1], tree
        made = self.spec.of_run(self.attempt.run.key).outputs
        of_stages = {output.path for output in made}
        if (self.attempt.top / lockfile.DRAFT).exists():
            draft = lockfile.read(self.attempt.top)
            of_stages |= {*draft.made, *draft.read}
        redirection = variables.Redirection(
            origin,
            copy,
            [below / path for path in of_stages],
            note=lambda note: print(f"note: {note}", flush=True),
        )
        return redirection.of(environment)

    def _run_program(self, argv: list[str], context: StageContext) -> None:
        argv = [
            *self.spec.launch,
            *programs.words(self.spec, self.attempt.run.key, argv),
        ]
        limit = self.spec.time_limit
        self._deadline = time.monotonic() + limit if limit else None
        kills = reasons.oom_kills()
        print("$", shlex.join(argv), flush=True)
        begin = self.log_begin = _size(self.attempt.log)
        self._task_failed = None
        self._raise_if_stopped()
        try:
            program = subprocess.Popen(
                argv,
                cwd=context.work,
                env=dict(context.environment),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_before_the_program,  # noqa: PLW1509 - the watching thread beside it takes no lock
            )
        except subprocess.SubprocessError as error:
            raise MllamError(
                "others can write to the work directory", str(context.work)
            ) from error
        self._has_started(program)
        code = program.wait()
        log.info("the program ended with exit code %d", code)
        # What it left behind must not write any more: the outputs are about to be
        # hashed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGKILL)
        self._raise_if_stopped()
        if code == ENDED_IN_TIME and self.warned:
            self.cause = Cause.TIME_LIMIT
            raise MllamError("its time limit is near: it saved what it had done")
        if code != 0:
            said = reasons.read(self.attempt.log, begin)
            why, self.cause = reasons.of_exit(code, said, reasons.oom_kills() - kills)
            if self.cause is Cause.FULL_DISK:
                full = disks.full_disks(self._places(context))
                why = f"{why} ({full})" if full else why
            raise MllamError(why, next=reasons.way_out(said))

    def _places(self, context: StageContext) -> list[str]:
        """Return where a program writes to, as far as that is known."""
        temporary = context.environment.get("TMPDIR", "/tmp")  # noqa: S108 - it is only looked at
        return [
            str(self.attempt.directory),
            str(context.scratch.resolve()),
            temporary,
            "/dev/shm",  # noqa: S108
        ]


def _size(path: Path) -> int:
    """Return how long a file is; one that is not there has no bytes."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
