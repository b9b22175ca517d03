"""An experiment's stages as jobs, one behind the other, and its saving behind them all.

A run belongs to nobody: experiments share it, and so its job. What an experiment has of
its own is the job that saves it, which starts when the others have ended, however they
did. `advance` does whatever can be done now, and may be called at any time, by anybody,
as often as they like: what is done is found, what runs is attached to, what fits is
submitted, the rest waits in the store.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from mllam_exps import schedulers
from mllam_exps.attempts import job_request
from mllam_exps.attempts.job_quota import Quota, Room
from mllam_exps.attempts.launch import Prepared, Starter, give_up
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.machines.machine_files import Machine
from mllam_exps.runs import outputs
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.spec import Spec
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import Run
from mllam_exps.schedulers import Job, NoRoom, Uncertain
from mllam_exps.submission import experiments, opening
from mllam_exps.submission.experiment import Experiment, Step
from mllam_exps.submission.standing import Standing

TRIES = 3
"""How often a saving is begun by itself that dies without a word."""


log = logging.getLogger(__name__)


@dataclass
class Chain:
    """Submits what an experiment lacks.

    Parameters
    ----------
    experiment, machine, room
        What, where, and how much of it at once.
    repo, definitions
        A repository with the same cache, and what defines each stage's run, where they
        are known already; else the clone is opened when something is to be submitted.
    """

    experiment: Experiment
    machine: Machine
    room: Room
    repo: Repository | None = None
    definitions: Mapping[str, RunDefinition] = field(default_factory=dict)
    _prepared: dict[Step, Prepared] = field(init=False, default_factory=dict)
    """The attempts that are about to be submitted."""

    def __post_init__(self) -> None:
        self.environ = opening.environ_of(self.experiment)
        self.scheduler = schedulers.get(
            self.machine.scheduler, self.experiment.store.directory
        )

    @classmethod
    def of(cls, experiment: Experiment, quota: Quota) -> Chain:
        """Return the chain of one experiment alone, on its machine as that is now."""
        machine = opening.machine_of(experiment)
        scheduler = schedulers.get(machine.scheduler, experiment.store.directory)
        room = quota.room(machine, scheduler, experiment.origin)
        return cls(experiment, machine, room)

    def advance(self, *, retry: bool) -> Standing:
        """Submit what can be submitted now.

        Parameters
        ----------
        retry : bool
            Whether what has failed is tried once more; else it is the end of the
            experiment.
        """
        standing = self.prepare(retry=retry)
        self.send(standing)
        return standing

    def prepare(self, *, retry: bool) -> Standing:
        """Find out how the experiment stands, and claim and lay out what can be submitted now."""
        standing = Standing()
        try:
            for step in self.experiment.steps:
                if step.known:
                    standing.made.add(step.key)
                else:
                    self._prepare_step(step, standing, retry=retry)
        except BaseException:
            self.give_up_prepared()
            raise
        return standing

    def give_up_prepared(self) -> None:
        """Give up what is prepared and will not be submitted: else others would wait for it."""
        while self._prepared:
            _, prepared = self._prepared.popitem()
            why = "the submission ended before"
            give_up(prepared.attempt, NoRoom("it was not submitted", why=why))

    def _prepare_step(self, step: Step, standing: Standing, *, retry: bool) -> None:
        now = assess(self.experiment.store.run(step.key))
        if now.state is RunState.DONE:
            now = self._hold_to_what_was_made(now, step, standing, retry=retry)
        if self._should_submit(now, retry=retry):
            now = self._prepare_attempt(step, now, standing)
        standing.states[step.stage] = now
        if now.state is RunState.DONE:
            # While an input is to be made again nobody knows whether it becomes
            # another: what reads this result waits until that is known.
            if standing.made.issuperset(step.needs):
                standing.made.add(step.key)
        elif now.state.living and self._can_be_waited_for(now):
            standing.to_come.add(step.key)
        elif self._is_claimed_by_another(now):
            standing.claimed_by_others.add(step.key)
            after = "mllam-exps advance goes on, once that is over"
            standing.waits = standing.waits or f"{step.stage}: {now.reason}; {after}"
        why = f": {now.reason}" if now.reason else ""
        log.info("%s: %s is %s%s", self.experiment.name, step.key, now.state, why)

    def _hold_to_what_was_made(
        self, now: Assessment, step: Step, standing: Standing, *, retry: bool
    ) -> Assessment:
        """Take a result as none that is damaged, or was made from another input than there is now.

        Parameters
        ----------
        retry : bool
            Whether somebody has asked for it, and its files are looked at, too; else
            the records tell whether an input was made again and became another.
        """
        run = self.experiment.store.run(step.key)
        try:
            if retry:
                outputs.hold_to_what_was_made(run, self.experiment.holds)
            else:
                outputs.hold_to_its_inputs(run)
        except outputs.Damaged as damaged:
            if run.result is None:
                note = f"{damaged.where}: {damaged.what}; it is made again"
                standing.notes.append(note)
                return assess(run)
            if retry:
                raise
            # It is another's to set aside.
        return now

    @staticmethod
    def _should_submit(now: Assessment, *, retry: bool) -> bool:
        return now.starts_unasked or (retry and now.state.stopped)

    def _prepare_attempt(
        self, step: Step, now: Assessment, standing: Standing
    ) -> Assessment:
        """Claim a stage's next attempt; where that cannot be now, one that failed is marked to be tried again."""
        missing = [need for need in step.needs if need not in standing.made]
        if missing and not self._can_be_put_behind(missing, standing):
            return self._later(step, now)
        if not self.room.look():
            standing.waits = self.room.full
            return self._later(step, now)
        run = self.experiment.store.run(step.key)
        repo, definition = self._definition(step)
        run.begin(definition)
        workspace, store = opening.workspace_of(self.experiment), self.experiment.store
        starter = Starter(workspace, self.machine, repo, store, self.environ)
        prepared = starter.prepare(run, definition, now, to_come=missing)
        if prepared is None:
            return assess(run)
        claim = prepared.attempt.claim
        name = claim.job_name if claim else ""
        self.room.take(name, prepared.attempt.directory)
        self._prepared[step] = prepared
        state = RunState.PENDING if missing else RunState.STARTING
        return Assessment(state, attempt=prepared.attempt)

    def _can_be_put_behind(self, missing: Sequence[str], standing: Standing) -> bool:
        """Tell whether a job can wait for all runs that make its missing inputs."""
        return self.scheduler.chains and standing.to_come.issuperset(missing)

    def _later(self, step: Step, now: Assessment) -> Assessment:
        """Leave a stage for another time."""
        if now.starts_unasked:
            return now
        return self._mark_for_retry(self.experiment.store.run(step.key))

    def _mark_for_retry(self, run: Run) -> Assessment:
        """Mark a failed run for retry: the next `advance` submits it."""
        self._claim_for_later(run, self.room.full or "waits for its inputs")
        return assess(run)

    def _claim_for_later(self, run: Run, why: str) -> None:
        attempt = run.claim(
            run.next_number,
            scheduler=self.scheduler.name,
            experiment=self.experiment.name,
            workspace=self.experiment.root,
            working_directory=None,
        )
        if attempt is not None:
            give_up(attempt, NoRoom(why))

    def _can_be_waited_for(self, now: Assessment) -> bool:
        """Tell whether jobs can be put behind a living run: it has a job, or gets one from this very process."""
        attempt = now.attempt
        claim = attempt.claim if attempt else None
        if attempt is None or claim is None or claim.scheduler != self.scheduler.name:
            return False
        mine = claim.claimed_by == ProcessIdentity.of()
        return attempt.has_job or (mine and not attempt.doubt)

    def _is_claimed_by_another(self, now: Assessment) -> bool:
        """Tell whether another process is about to submit a run, or was, and it is not known yet whether it has."""
        if now.state is RunState.STARTING:
            return True
        attempt = now.attempt
        if now.state is not RunState.UNKNOWN or attempt is None or attempt.has_job:
            return False
        if attempt.hidden:
            return False  # however long one waits, nobody can tell from here
        return not self.room.shut and self.scheduler.answers()

    def send(self, standing: Standing, only: AbstractSet[str] | None = None) -> None:
        """Submit what is prepared, each job behind those that make its inputs.

        Parameters
        ----------
        only : set of str
            Keys of runs; the others are left for another call.
        """
        for step in list(self._prepared):
            if only is None or step.key in only:
                self._send_or_give_up(step, standing)
        for stage, now in standing.states.items():
            key = self.experiment.key_of(stage)
            if now.state.living and key not in standing.jobs:
                job = self._job(now.attempt)
                if job is not None:
                    standing.jobs[key] = job
        self._put_behind(standing)

    def _put_behind(self, standing: Standing) -> None:
        """Have jobs that still wait wait for what was started just now, in the place of an attempt that has ended."""
        new = {self.experiment.key_of(stage) for stage in standing.started}
        for step in self.experiment.steps:
            now, job = standing.states.get(step.stage), standing.jobs.get(step.key)
            if now is None or now.state is not RunState.PENDING or job is None:
                continue
            if step.stage in standing.started or new.isdisjoint(step.needs):
                continue
            if after := self._jobs_before(step, standing):
                # Else Slurm cancels it with the job that it waited for, and the
                # experiment's last job has it submitted again.
                with contextlib.suppress(MllamError):
                    self.scheduler.put_behind(job, after)
                    log.info("%s waits for %s now", job.label, after)

    def _send_or_give_up(self, step: Step, standing: Standing) -> None:
        """Submit one attempt; give it up if it cannot be submitted now."""
        prepared = self._prepared.pop(step)
        if self._send(step, prepared, standing):
            return
        why = self.room.full or "its inputs have no job"
        give_up(prepared.attempt, NoRoom("it was not submitted", why=why))
        run = self.experiment.store.run(step.key)
        standing.states[step.stage] = assess(run)

    def _send(self, step: Step, prepared: Prepared, standing: Standing) -> bool:
        """Submit one attempt; False if it cannot be now."""
        after = self._jobs_before(step, standing)
        if after is None:
            return False
        if self.room.shut:
            standing.waits = self.room.full
            return False
        try:
            job = prepared.submit(after)
        except NoRoom as refused:
            self.room.close(f"{refused.what} ({refused.why})")
            standing.waits = self.room.full
            return False
        standing.started[step.stage] = prepared.attempt
        if job is None:
            # Submit nothing more where the scheduler did not answer: each try would
            # wait for it, and be in doubt.
            doubt = prepared.attempt.doubt
            self.room.close(f"{doubt}; mllam-exps advance goes on, once it answers")
            standing.waits = self.room.full
        else:
            standing.jobs[step.key] = job
        return True

    def _jobs_before(self, step: Step, standing: Standing) -> tuple[Job, ...] | None:
        """Return the jobs that make what a stage lacks; None if one of them has no job."""
        after = []
        for need in step.needs:
            run = self.experiment.store.run(need)
            if run.result is not None or self.experiment.is_known(need):
                continue
            job = standing.jobs.get(need) or self._job(run.last_attempt())
            if job is None:
                return None
            after.append(job)
        return tuple(after)

    def _definition(self, step: Step) -> tuple[Repository, RunDefinition]:
        """Return what defines the run of a stage.

        Raises
        ------
        MllamError
            If the experiment's clone defines another run by now.
        """
        if self.repo is None:
            pipeline = opening.pipeline_of(self.experiment)
            self.repo = pipeline.repository
            self.definitions = {
                step.stage: pipeline.definition(step.stage)
                for step in self.experiment.steps
            }
        definition = self.definitions[step.stage]
        if definition.key != step.key:
            raise MllamError(
                "the experiment's clone was changed",
                str(self.experiment.root),
                f"its run key is {definition.key} now, not {step.key}",
                self.experiment.submit_again,
            )
        return self.repo, definition

    def _job(self, attempt: Attempt | None) -> Job | None:
        """Return the job of an attempt, where jobs of this machine can wait for it."""
        claim = attempt.claim if attempt else None
        if attempt is None or claim is None or claim.scheduler != self.scheduler.name:
            return None
        try:
            return verdict.job_of(attempt, self.scheduler)
        except Uncertain:
            return None

    def submit_last_job(self, standing: Standing) -> Attempt | None:
        """Submit the job that saves the experiment when the others have ended, unless a living one waits for them.

        One that wakes up too early sees what is still to come, and is followed by the
        next. What the experiment waits for is written down; one whose last job died
        again and again is called off.
        """
        self.experiment.note_waits(standing.waits)
        saving = self.experiment.saving
        now = assess(saving)
        if now.state.living or now.state is RunState.DONE:
            return None
        if now.state is RunState.LOST and self._is_lost_again():
            why = f"saving it died {TRIES} times: {now.problem}"
            experiments.call_off(self.experiment, why, Outcome.FAILED)
            return None
        if standing.over:
            return self._have_it_saved(standing, ())
        if standing.jobs and self.scheduler.chains:
            return self._have_it_saved(standing, tuple(standing.jobs.values()))
        if now.state in {RunState.FAILED, RunState.CANCELLED}:
            # It is one that waits again: whoever submits next goes on with it.
            why = standing.waits or "its stages are at work"
            self._claim_for_later(saving, why)
        return None

    def _have_it_saved(
        self, standing: Standing, after: tuple[Job, ...]
    ) -> Attempt | None:
        """Submit the job that saves it; where there is no room for that, the stages' jobs submit it when they end."""
        attempt = self.start_saving(after)
        if attempt is not None or not self.room.shut:
            return attempt
        for now in standing.states.values():
            if now.state.living and now.attempt is not None:
                # A colleague's own commands see to what is behind their job.
                with contextlib.suppress(OSError):
                    now.attempt.have_it_submit_what_waits()
        return None

    def _is_lost_again(self) -> bool:
        """Tell whether the last attempts at saving all ended without a word: the next would, too."""
        last = self.experiment.saving.attempts()[-TRIES:]
        return len(last) == TRIES and all(attempt.ended is None for attempt in last)

    def start_saving(self, after: tuple[Job, ...]) -> Attempt | None:
        """Submit the next attempt at saving the experiment, behind the jobs that it waits for."""
        saving = self.experiment.saving
        workspace = opening.workspace_of(self.experiment)
        number = saving.next_number
        name = self.experiment.name
        attempt = saving.claim(
            number,
            scheduler=self.scheduler.name,
            experiment=name,
            workspace=workspace.root,
            working_directory=None,
        )
        if attempt is None:
            return None
        try:
            claim = attempt.claim
            assert claim is not None
            request = job_request.request(
                workspace,
                self.machine,
                SAVE,
                name=claim.job_name,
                run=saving.directory,
                number=number,
                comment=f"saves experiment {name}",
                environ=self.environ,
            )
            origin, commit = self.experiment.origin, self.experiment.baseline
            mail = self.machine.resources_for(SAVE).mail
            news = self.machine.notify.anybody or bool(mail)
            Spec(
                self.machine.name,
                origin,
                name,
                commit,
                versions={},
                environment={},
                news=news,
            ).write(attempt)
            Prepared(attempt, request, self.scheduler).submit(after)
        except NoRoom as refused:
            self.room.close(f"{refused.what} ({refused.why})")
            return None
        except BaseException as error:
            give_up(attempt, error, is_sent=True)
            raise
        return attempt
