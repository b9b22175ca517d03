"""One attempt at a run: what a job does. ``python -m mllam_exps.attempt RUN_DIRECTORY NUMBER``.

It runs in the environment of the stages, as a detached process or inside a Slurm job, and needs nobody: it starts the
stage's program, stops it when told to or when the run was taken from it, proves what came out, freezes it and writes
``result.json`` and its own ``end.json``. What is not written there did not happen.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

from mllam_exps import dvc_index, freezing, ownership, ready, reasons, records, schedulers, workdir
from mllam_exps.assess import silent_seconds
from mllam_exps.definition import VERSIONS_FILE, RunDefinition
from mllam_exps.errors import MllamError
from mllam_exps.experiments import SAVE
from mllam_exps.inputs import Inputs
from mllam_exps.outputs import Damaged
from mllam_exps.processes import ProcessIdentity
from mllam_exps.schedulers.local import NAME_VARIABLE
from mllam_exps.spec import Spec
from mllam_exps.stages.base import Stage, StageContext
from mllam_exps.store import Attempt, Outcome, Run, RunStore

HEARTBEAT_SECONDS = 5.0
WATCH_SECONDS = 0.5
SILENCE = 3 * HEARTBEAT_SECONDS
"""Seconds without a heartbeat after which an attempt that lost its run is taken to have stopped."""
PREDECESSOR_PATIENCE = 180.0
INPUT_PATIENCE = 5.0
"""Seconds until a network file system tells of a result that was there when this job was let go."""
GRACE_SECONDS = 15.0
RESERVE_BYTES = 256 * 1024
PR_SET_PDEATHSIG = 1
OURSELVES = "the attempt"
"""Who wrote an end record: after its own, an attempt writes no more."""

TRACKED = {"prepare_dataset", "train", "evaluate"}
"""The stages whose programs log to MLflow."""


class Stopped(Exception):
    """The attempt was told to stop, or has lost the run."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def _before_the_program() -> None:
    """Have the kernel kill the program when this process dies, and start it in no folder that others may write to."""
    here = Path().stat()
    if here.st_uid != os.getuid() or here.st_mode & ownership.OTHERS:
        raise PermissionError
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Supervisor:
    """Runs one attempt from its start to its end record.

    Parameters
    ----------
    attempt : Attempt
        Claimed, its work directory laid out, its ``spec.json`` written by the driver.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.spec = Spec.read(attempt)
        self._place = attempt.directory.stat()
        self.program: subprocess.Popen[bytes] | None = None
        self.stopped: Stopped | None = None
        self._deadline: float | None = None
        self._slot: IO[str] | None = None

    def run(self) -> int:
        """Run the attempt; returns the exit code of the process: 0 only with a result."""
        node = os.environ.get("SLURM_JOB_NODELIST") or None
        identity = ProcessIdentity.of().to_record() | {"time": time.time(), "node": node}
        if not records.create(self.attempt.directory / "started.json", identity):
            print("this attempt was started before", flush=True)
            return 1
        self._name_the_job()
        # Slurm makes it with the submitter's umask; what it says of the end is believed.
        with contextlib.suppress(OSError), os.fdopen(records.open_file(self.attempt.log), "rb") as log:
            os.fchmod(log.fileno(), ownership.OWN & 0o666)
        reserve = self.attempt.directory / "reserve"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        # The submitter holds signals back while it submits, and a child inherits that.
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        threading.Thread(target=self._watch, daemon=True).start()
        outcome, reason = self._outcome(reserve)
        # On a full disk these are the blocks that the record of the failure is written to.
        reserve.unlink(missing_ok=True)
        end = {"outcome": outcome, "reason": reason, "time": time.time(), "by": OURSELVES}
        with contextlib.suppress(OSError):  # the log lies on the same disk, and matters less than the record
            print(f"{outcome}: {reason}" if reason else str(outcome), flush=True)
        self._end(end)
        # Jobs wait for the result, whoever made it.
        return 0 if outcome is Outcome.SUCCEEDED or self.attempt.run.result is not None else 1

    def afterwards(self) -> None:
        """Save experiments that have all they need now; submit what waits, where no job is there that would."""
        store = RunStore(self.attempt.run.store)
        try:
            if self._scheduler().chains and self.attempt.run.result is not None:
                by = f"job {os.environ.get('SLURM_JOB_ID', '')}, of {self.attempt.run.key}"
                ready.save_ready(store, self.attempt.run, self.spec.machine, by, lambda: self.stopped is not None)
        except Exception as error:
            print(f"what is ready could not be saved from here: {error}", flush=True)
        if self.attempt.alone.exists():
            self._dispatch()

    def _dispatch(self) -> None:
        from mllam_exps import dispatch

        dispatch.forget_settings()
        try:
            # Nobody else may come who would.
            dispatch.dispatch(RunStore(self.attempt.run.store), wait=True)
        except Exception as error:
            print(f"what waits in the run store could not be gone on with: {error}", flush=True)

    def _scheduler(self) -> schedulers.Scheduler:
        return schedulers.get((self.attempt.claim or {}).get("scheduler", "local"), self.attempt.run.store)

    def _name_the_job(self) -> None:
        """Write down which job this is: its submitter may have died before, or somebody submitted the script again."""
        scheduler = self._scheduler()
        with contextlib.suppress(MllamError, OSError):
            ours, known = scheduler.current(), self.attempt.job
            if known is not None and scheduler.job(known).label == ours.label:
                return
            records.replace(self.attempt.directory / "job.json", ours.record)
            if known is not None:
                scheduler.cancel(scheduler.job(known))

    def _end(self, end: dict[str, Any]) -> None:
        if self.attempt.end is not None:
            return  # it was given up, with a reason, while we had not noticed
        try:
            records.replace(self.attempt.directory / "end.json", end)
        except OSError:
            # Somebody else took the freed blocks. A failure needs no scratch but its checkpoints; logs stay.
            for temporary in self.attempt.work.rglob("*.tmp"):
                temporary.unlink(missing_ok=True)
            records.replace(self.attempt.directory / "end.json", end)

    def _outcome(self, reserve: Path) -> tuple[Outcome, str]:
        """Do the work; return how it ended, and why."""
        try:
            reserve.write_bytes(b"\0" * RESERVE_BYTES)
            self._work()
        except Stopped as stop:
            return stop.outcome, stop.reason
        except MllamError as error:
            if error.where.startswith(str(self.attempt.work)):
                error.where = ""  # it says nothing more, and tells equal failures apart
            return Outcome.FAILED, str(error)
        except OSError as error:
            traceback.print_exc()
            return Outcome.FAILED, reasons.of_os_error(error, self.attempt.directory)
        except Exception as error:
            traceback.print_exc()
            return Outcome.FAILED, f"{type(error).__name__}: {error}"
        return Outcome.SUCCEEDED, ""

    def _take_slot(self) -> None:
        """Wait until fewer than ``max_jobs`` attempts run on this host; the kernel gives a dead one's slot back."""
        number = self.spec.slots
        if not number:
            return
        directory = self.attempt.run.directory.parents[1] / "slots"
        records.folder(directory)
        while True:
            for slot in range(number):
                path = directory / f"{socket.gethostname()}.{slot}"
                file = os.fdopen(records.open_file(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                else:
                    self._slot = file
                    return
            self._progress(f"waiting: {number} at once on this host (max_jobs in the machine file)")
            self._raise_if_stopped()
            time.sleep(WATCH_SECONDS)

    def _work(self) -> None:
        from mllam_exps import stages

        self._take_slot()
        self._await_predecessor()
        if self.attempt.run.result is not None:
            raise Stopped(Outcome.SUPERSEDED, "another attempt has made the result")
        definition = self.spec.of_run(self.attempt.run.key)
        with records.for_nobody_else_to_write():
            made, read = self._make(stages.of(definition), definition)
        # A result must not outlive the outputs that it names when the power fails.
        os.sync()
        result = {"attempt": self.attempt.number, "outputs": made, "inputs": read, "time": time.time()}
        path = self.attempt.run.directory / "result.json"
        if not records.create(path, result):
            if self.attempt.run.result is not None:
                raise Stopped(Outcome.SUPERSEDED, "another attempt has made the result")
            # One that cannot be read any more is none.
            records.replace(path, result)
        self._tidy()

    def _make(self, stage: Stage, definition: RunDefinition) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Run the program, prove what it made, and freeze that; return what is known of outputs and inputs."""
        self._check_versions()
        self._take_inputs(definition)
        read = Inputs(self.attempt, definition.to_record(), self._again())
        self._progress("checking its inputs")
        read.check()
        context = self._context(stage, definition)
        stage.inputs(context)
        self._prepare_tracking(context)
        try:
            self._run_program(stage.command(context), context)
        except MllamError:
            # Its own reason counts; but what it did to its inputs must not be anybody's.
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
        made = freezing.freeze(self.attempt, paths, self.spec.ignored)
        self._raise_if_stopped()
        return made, read.to_record()

    def _again(self) -> str:
        """Return the command that makes what it needs again, for whoever asked for this attempt."""
        name = self.spec.experiment
        submitted = self.attempt.run.wanted
        return f"mllam-exps retry {name}" if submitted else "dvc exp run"

    def _tidy(self) -> None:
        """Remove what a finished run needs no more; its outputs, logs and records stay."""
        for attempt in self.attempt.run.attempts():
            attempt.tidy()

    def _await_predecessor(self) -> None:
        """Wait until the attempt before this one has stopped, where it may live on.

        A node that its cluster has lost may go on computing. That attempt finds out by itself that the run was taken
        from it; two never write at once.
        """
        before = Attempt(self.attempt.run, self.attempt.number - 1)
        if not before.number or before.started is None:
            return
        until = time.monotonic() + PREDECESSOR_PATIENCE
        while (before.end or {}).get("by") != OURSELVES and ProcessIdentity.from_record(
            before.started
        ).alive() is not False:
            silent = silent_seconds(before)
            if silent is None or silent > SILENCE:
                return
            if time.monotonic() > until:
                raise MllamError(f"attempt {before.number} does not stop, and its run was taken from it")
            self._progress(f"waiting until attempt {before.number}, which gives signs of life, has stopped")
            self._raise_if_stopped()
            time.sleep(WATCH_SECONDS)

    def _take_inputs(self, definition: RunDefinition) -> None:
        """Take the inputs that other runs were to make, looking afresh where the file system is slow to tell."""
        store = RunStore(self.attempt.run.store)
        until = time.monotonic() + INPUT_PATIENCE
        while any(store.run(key).result is None for key in self.spec.to_come.values()) and time.monotonic() < until:
            for key in self.spec.to_come.values():
                records.look_afresh(store.run(key).directory)
            self._raise_if_stopped()
            time.sleep(WATCH_SECONDS)
        try:
            workdir.take(store, self.attempt, definition.to_record(), self.spec.to_come, self.spec.links)
        except Damaged as damaged:
            damaged.next = self._again()
            raise

    def _check_versions(self) -> None:
        """Refuse to make numbers with other programs than the key says."""
        from mllam_exps import versions

        expected = self.spec.versions
        wrong = versions.differences(expected, versions.installed())
        if wrong:
            raise MllamError(
                "the installed programs are not those that this run is defined by",
                why="; ".join(wrong),
                next="dvc exp run again: it takes the versions as they are now",
            )

    def _context(self, stage: Stage, definition: RunDefinition) -> StageContext:
        from mllam_exps import params

        files = dict(params.load(self.attempt.work).files)
        for file in definition.params if not definition.commands else ():
            if file not in params.FILES and file != VERSIONS_FILE:
                files[file] = dvc_index.read_parameter_file(self.attempt.work / file)
        return StageContext(
            work=self.attempt.work,
            scratch=self.attempt.scratch,
            params=files,
            experiment=self.spec.experiment,
            resume_from=self._resume(stage),
            smoke=self.spec.smoke,
            nodes=self.spec.nodes,
            devices=self.spec.devices,
            environment=self._environment(),
        )

    def _prepare_tracking(self, context: StageContext) -> None:
        """Make the place that the program logs to, before any number of programs find it missing at once."""
        settings = context.params["params.yaml"]
        if self.attempt.run.stage not in TRACKED or settings.get("logger") != "mlflow":
            return
        from mllam_exps import tracking

        python = [sys.executable, "-P"]
        project = context.environment["MLFLOW_EXPERIMENT_NAME"]
        try:
            tracking.prepare(python, Path(self.spec.origin), context.environment, project)
        except MllamError as error:
            # neural-lam stops without its logger; a dataset is as good without one.
            if self.attempt.run.stage != "prepare_dataset":
                raise
            print(f"warning: not tracked: {error}", flush=True)

    def _resume(self, stage: Stage) -> Path | None:
        """Copy the newest checkpoint of an earlier attempt, so that nothing which still writes there matters."""
        for earlier in reversed(self.attempt.run.attempts()):
            if earlier.number < self.attempt.number:
                carried = stage.carry(earlier.scratch, self.attempt.scratch)
                if carried is not None:
                    print(f"going on from {carried.name} of attempt {earlier.number}", flush=True)
                    return carried
        return None

    def _environment(self) -> dict[str, str]:
        spec = self.spec
        ours = {
            "SCRATCH": str(self.attempt.scratch),
            "STAGE": self.attempt.run.stage,
            "KEY": self.attempt.run.key,
            "EXPERIMENT": spec.experiment,
            "MACHINE": spec.machine,
            "COMMIT": spec.commit,
            "JOB": os.environ.get("SLURM_JOB_ID", ""),
            "ATTEMPT": str(self.attempt.directory),
            "SMOKE": "1" if spec.smoke else "",
        }
        environment = {**os.environ, **self._scheduler().inside(), **spec.environment}
        environment.pop(NAME_VARIABLE, None)
        return environment | {f"MLLAM_EXPS_{name}": value for name, value in ours.items() if value}

    def _run_program(self, argv: list[str], context: StageContext) -> None:
        argv = [*self.spec.launch, *([sys.executable, "-P", *argv[1:]] if argv[0] == "python" else argv)]
        limit = self.spec.time_limit
        self._deadline = time.monotonic() + limit if limit else None
        kills = reasons.oom_kills()
        print("$", *argv, flush=True)
        begin = _size(self.attempt.log)
        self._raise_if_stopped()
        try:
            self.program = subprocess.Popen(
                argv,
                cwd=context.work,
                env=dict(context.environment),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_before_the_program,  # noqa: PLW1509 - the watching thread beside it takes no lock
            )
        except subprocess.SubprocessError as error:
            raise MllamError("others can write to the work directory", str(context.work)) from error
        code = self.program.wait()
        # What it left behind must not write any more: the outputs are about to be hashed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.program.pid, signal.SIGKILL)
        self._raise_if_stopped()
        if code != 0:
            said = reasons.read(self.attempt.log, begin)
            why = reasons.of_exit(code, said, reasons.oom_kills() - kills)
            if reasons.is_of_full_disk(why) and (full := reasons.full_disks(self._places(context))):
                why = f"{why} ({full})"
            raise MllamError(why, next=reasons.way_out(said))

    def _places(self, context: StageContext) -> list[str]:
        """Return where a program writes to, as far as that is known."""
        temporary = context.environment.get("TMPDIR", "/tmp")  # noqa: S108 - it is only looked at
        return [str(self.attempt.directory), str(context.scratch.resolve()), temporary, "/dev/shm"]  # noqa: S108

    def _raise_if_stopped(self) -> None:
        found = self.attempt.directory.stat()
        if (found.st_dev, found.st_ino) != (self._place.st_dev, self._place.st_ino):
            # Who owns the folder above can put another one in its place.
            raise MllamError("the attempt's directory was replaced by another", str(self.attempt.directory))
        if self.stopped:
            raise self.stopped

    def _progress(self, text: str) -> None:
        records.replace(self.attempt.scratch / "progress.json", {"text": text})

    def _on_signal(self, number: int, _frame: object) -> None:
        if self.attempt.cancel_requested:
            self._stop(Outcome.CANCELLED, "cancelled")
        else:
            self._stop(Outcome.FAILED, f"stopped by {signal.Signals(number).name}, which nobody asked us for")

    def _stop(self, outcome: Outcome, reason: str) -> None:
        if self.stopped is None:
            self.stopped = Stopped(outcome, reason)
            # Not in the signal handler's own frame: it must not wait.
            threading.Thread(target=self._kill_program, daemon=True).start()

    def _kill_program(self) -> None:
        program = self.program
        if program is None:
            return
        for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            try:
                os.killpg(program.pid, number)
            except (ProcessLookupError, PermissionError):
                return
            end = time.monotonic() + seconds
            while time.monotonic() < end and program.returncode is None:
                time.sleep(0.1)

    def _watch(self) -> None:
        """Beat, and look whether we were cancelled, superseded or out of time."""
        beaten = 0.0
        while True:
            now = time.monotonic()
            if now - beaten > HEARTBEAT_SECONDS:
                beaten = now
                with contextlib.suppress(OSError):
                    records.touch(self.attempt.heartbeat)
            if not self.attempt.is_current:
                self._stop(Outcome.SUPERSEDED, f"attempt {self.attempt.number + 1} has taken the run")
            elif self.attempt.cancel_requested:
                self._stop(Outcome.CANCELLED, "cancelled")
            elif (end := self.attempt.end) and end.get("by") != OURSELVES:
                self._stop(Outcome.FAILED, "it was given up")
            elif self._deadline and now > self._deadline:
                self._stop(Outcome.FAILED, f"time limit: it took longer than {self.spec.time_limit:.0f} s")
            time.sleep(WATCH_SECONDS)


def main(arguments: list[str]) -> int:
    """Run the attempt that the arguments name; where nothing can be written down, the exit code tells."""
    try:
        return _main(arguments)
    except OSError as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return reasons.STORE_IS_FULL if reasons.is_full(error) else reasons.STORE_FAILS


def _main(arguments: list[str]) -> int:
    records.keep_others_out()
    directory, number = arguments
    attempt = Attempt(Run(Path(directory)), int(number))
    begun = attempt.started is not None or attempt.end is not None
    try:
        if begun:
            from mllam_exps import again

            attempt = again.take(attempt)
        supervisor = _supervisor(attempt)
    except MllamError as error:
        print(error, flush=True)
        if not begun:
            end = {"outcome": Outcome.FAILED, "reason": str(error), "time": time.time()}
            with contextlib.suppress(OSError):  # a directory that is not ours
                records.replace(attempt.directory / "end.json", end)
        return int(error.exit)
    code = supervisor.run()
    supervisor.afterwards()
    return code


def _size(path: Path) -> int:
    """Return how long a file is; one that is not there has no bytes."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _supervisor(attempt: Attempt) -> Supervisor:
    if attempt.run.stage != SAVE:
        return Supervisor(attempt)
    from mllam_exps.finishing import Finisher

    return Finisher(attempt)


def _leave(code: int) -> None:
    """End this process with an exit code of ours: on a full disk Python 3.11 would make 120 of it."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(code)
    raise SystemExit(code)


if __name__ == "__main__":
    _leave(main(sys.argv[1:]))
