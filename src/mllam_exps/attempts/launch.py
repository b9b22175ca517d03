"""Starts an attempt: claims it, lays out its work directory and hands it to the scheduler."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mllam_exps import schedulers, stages
from mllam_exps.attempts import follow_up, job_request, workdir
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.machines import environment
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Claim, Outcome
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.state.judge import Assessment
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import Job, JobRequest, NoRoom, Scheduler, Uncertain
from mllam_exps.stages import tracking
from mllam_exps.stages.contract import Size

log = logging.getLogger(__name__)

_LINKS = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9]*.log"
"""How git is told of the links to logs (`Starter.log_link`)."""


@dataclass(frozen=True)
class Starter:
    """Starts attempts of a workspace's runs on a machine."""

    workspace: Workspace
    machine: Machine
    repo: Repository
    store: RunStore
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def start(
        self, run: Run, definition: RunDefinition, after: Assessment
    ) -> Attempt | None:
        """Claim the next attempt and start it; None if another driver has claimed it.

        Raises
        ------
        NoRoom
            If the scheduler takes no more jobs for now; the attempt counts as not
            tried.
        MllamError
            If it could not be started; the reason stands in the attempt's end record,
            too.
        """
        prepared = self.prepare(run, definition, after)
        if prepared is None:
            return None
        prepared.submit(())
        return prepared.attempt

    def prepare(
        self,
        run: Run,
        definition: RunDefinition,
        after: Assessment,
        *,
        to_come: Container[str] = (),
    ) -> Prepared | None:
        """Claim the next attempt, and lay out all that it needs; None if another driver has claimed it.

        Parameters
        ----------
        after : Assessment
            How the run stands, by which it was decided to start one.
        to_come : container of str
            Keys of the runs that are still to make inputs of it.
        """
        scheduler = schedulers.get(self.machine.scheduler, self.store.directory)
        number = after.attempt.number + 1 if after.attempt else 1
        attempt = run.claim(
            number,
            scheduler=scheduler.name,
            experiment=self.workspace.experiment,
            workspace=self.workspace.root,
            working_directory=self.machine.working_directory,
        )
        if attempt is None:
            log.info("attempt %d at %s is another process's", number, run.key)
            return None
        log.info("claimed attempt %d at %s", number, run.key)
        try:
            root, stage = self.workspace.root, stages.of(definition)
            # Its directory is nobody else's to write to, and what is laid out for its
            # program nobody else's to see.
            taken_later = workdir.lay_out(
                self.repo,
                root,
                self.store,
                attempt,
                definition,
                stage.preflight.files,
                to_come=to_come,
            )
            rules = follow_up.rules(
                self.machine, definition.stage, stage, number, after
            )
            request = job_request.request(
                self.workspace,
                self.machine,
                definition.stage,
                memory=rules.memory,
                warned=stage.has_checkpoints,
                name=self._claim_of(attempt).job_name,
                run=run.directory,
                number=number,
                size=_size(stage, root, definition.phase),
                comment=f"attempt {number} at run {run.key}, for experiment {self._claim_of(attempt).experiment}",
                environ=self.environ,
            )
            spec = self._spec(definition, scheduler, request, taken_later)
            replace(spec, rules=rules).write(attempt)
        except BaseException as error:
            give_up(attempt, error)
            raise
        self._link_log(attempt)
        return Prepared(attempt, request, scheduler)

    @staticmethod
    def _claim_of(attempt: Attempt) -> Claim:
        claim = attempt.claim
        if claim is None:
            what = "its claim was replaced, or cannot be read"
            raise MllamError(what, str(attempt.claim_file), next="start it again")
        return claim

    def _spec(
        self,
        definition: RunDefinition,
        scheduler: Scheduler,
        request: JobRequest,
        to_come: dict[str, str],
    ) -> Spec:
        limits = scheduler.limits
        # As for every other variable: what the machine file sets goes before what was
        # inherited.
        user = {**self.environ, **environment.variables(self.machine)}
        container = self.machine.environment.container
        return Spec(
            machine=self.machine.name,
            origin=str(self.workspace.origin),
            experiment=self.workspace.experiment,
            commit=self.workspace.commit,
            versions=_of_programs(definition.versions),
            environment=tracking.environment(
                self.workspace.origin, user, self._project(definition)
            ),
            time_limit=None if limits else request.resources.time_seconds,
            warning=request.warning,
            stall_timeout=self.machine.retry.stall_timeout,
            slots=None if limits else self.machine.max_jobs,
            smoke=definition.smoke,
            nodes=request.nodes,
            devices=request.tasks,
            launch=scheduler.launch(request),
            python=environment.program(self.machine) if container else [],
            image=container.image if container else "",
            to_come=to_come,
            links=self.repo.cache_types,
            definition=definition.to_record(),
        )

    def _project(self, definition: RunDefinition) -> str:
        """Return what runs are listed under: the stage's word; for a command of one's own that of any other stage."""
        root = self.workspace.root
        for stage in (stages.of(definition), *stages.used(root).values()):
            if tracked := stage.tracking(root):
                return tracked.project
        return ""

    def log_link(self, attempt: Attempt) -> Path:
        """Return where a person finds the attempt's log first: its name sorts by time and tells what it is."""
        claim = self._claim_of(attempt)
        when = time.strftime("%Y-%m-%dT%H%M%S", time.localtime(claim.time))
        key = attempt.run.key.rsplit("-", 1)[1][:8]
        name = f"{when}-{attempt.run.stage}-{claim.experiment[:100]}-{key}-{attempt.number}.log"
        # A file's name has 255 bytes at most.
        return self.workspace.origin / self.machine.paths.logs / name.replace("/", "_")

    def _link_log(self, attempt: Attempt) -> None:
        """Let people find the log where they look first; the log itself stays with the run."""
        link = self.log_link(attempt)
        with contextlib.suppress(OSError):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(attempt.log)
        if link.is_relative_to(self.workspace.origin):
            # In whatever repository, our links are nobody's untracked files.
            with (
                contextlib.suppress(OSError),
                (link.parent / ".gitignore").open("x") as file,
            ):
                file.write(f"{_LINKS}\n/.gitignore\n")


def _size(stage: stages.Stage, root: Path, phase: int | None) -> Size:
    # A stage of another package may know of no phases.
    return stage.size(root) if phase is None else stage.size(root, phase)


@dataclass(frozen=True)
class Prepared:
    """An attempt that is claimed, and about to be submitted."""

    attempt: Attempt
    request: JobRequest
    scheduler: Scheduler

    def submit(self, after: tuple[Job, ...]) -> Job | None:
        """Hand it to the scheduler, behind the jobs that it waits for, and write down what that answered.

        Returns
        -------
        Job or None
            None where the scheduler did not answer, and the job may exist all the same.

        Raises
        ------
        MllamError
            If it could not be started; the reason stands in the attempt's end record,
            too.
        """
        with _signals_held():
            try:
                job = self.scheduler.submit(replace(self.request, after=after))
                self.attempt.note_job(job, flush=False)
            except Uncertain as doubt:
                log.info("%s may be submitted, or not: %s", self.request.name, doubt)
                self.attempt.note_doubt(str(doubt))
                return None
            except (MllamError, OSError) as error:
                # One of the operating system's: what is submitted cannot be written
                # down.
                give_up(self.attempt, error, is_sent=isinstance(error, OSError))
                raise
            behind = (
                f", behind {', '.join(one.label for one in after)}" if after else ""
            )
            log.info("submitted %s as %s%s", self.request.name, job.label, behind)
            return job


def give_up(attempt: Attempt, error: BaseException, *, is_sent: bool = False) -> None:
    """Write down why nothing was started, so that nobody waits for this attempt; where there was no room, none failed.

    On a full disk that may be impossible. Then this process, which may live for long,
    is at least no reason to wait for it.

    Parameters
    ----------
    is_sent : bool
        Whether its job may be there all the same.

    Raises
    ------
    MllamError
        In the place of an error of the operating system.
    """
    outcome, problem = Outcome.FAILED, _problem_of(error)
    log.info("attempt %d at %s: %s", attempt.number, attempt.run.key, problem)
    if isinstance(error, NoRoom):
        outcome = Outcome.REFUSED
        why = f" ({error.why})" if error.why else ""
        problem = Problem(f"{error.what}{why}")
    try:
        attempt.end(outcome, problem)
    except OSError:
        if not is_sent:
            attempt.clear_what_was_laid_out()
            with contextlib.suppress(OSError):
                attempt.end(outcome, problem)
    attempt.let_go()
    if isinstance(error, OSError):
        raise MllamError(
            f"attempt {attempt.number} could not be started",
            str(attempt.directory),
            problem.what,
        ) from error


def _problem_of(error: BaseException) -> Problem:
    """Return what can be kept of whatever kept an attempt from being submitted."""
    if isinstance(error, MllamError):
        return error.problem
    if isinstance(error, OSError):
        return Problem(reasons.of_os_error(error))
    # Ctrl-C says nothing.
    return Problem(str(error) or "interrupted before it was submitted")


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back between a submission and its record, so that no job is ever unrecorded by a Ctrl-C."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _of_programs(versions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of programs, which an attempt is held to: not those of archives, nor of parts of ours."""
    found = {}
    for name, version in versions.items():
        if "." not in name and not isinstance(version, Mapping):
            found[name] = version
    return found
