"""``mllam-exps submit``: experiments as chains of jobs, after which nothing of ours runs on this host."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps import schedulers
from mllam_exps import stages as programs
from mllam_exps.attempts.job_quota import Quota
from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.dvc import experiment_names
from mllam_exps.dvc.parameters import overrides
from mllam_exps.dvc.repository import Repository
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import Workspace, refuse_other_stages
from mllam_exps.preflight import checks
from mllam_exps.preflight.here import Here
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.outputs import Damaged
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import Assessment, RunState, judge
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import entering
from mllam_exps.submission.applying import BROUGHT_BACK, bring_back
from mllam_exps.submission.entering import Plan
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.job_chain import Chain
from mllam_exps.submission.names import refuse_what_was_taken
from mllam_exps.submission.planning import Planner, Typed
from mllam_exps.submission.standing import Standing, look

OTHERS_PATIENCE = 90.0
"""Seconds for another submitter's claim; longer than it takes to know that one which was killed left no sbatch."""
AT_ONCE = 4
"""How many sbatch of ours the controller has to answer at the same time."""


@dataclass
class Submitted:
    """What became of one experiment.

    Parameters
    ----------
    experiment : Experiment
        The one.
    standing : Standing
        Its runs.
    saving : Assessment
        Its saving.
    """

    experiment: Experiment
    standing: Standing
    saving: Assessment

    def word(self, stage: str) -> str:
        """Say in a word what became of a stage."""
        now = self.standing.states.get(stage)
        if now is None or now.state is RunState.DONE:
            return "known"
        if stage in self.standing.started:
            return "submitted"
        if self.experiment.key_of(stage) in self.standing.claimed_by_others:
            return "waits"
        if now.state.living and now.state is not RunState.UNKNOWN:
            return "attached"
        return "waits" if now.state is RunState.NEW else str(now.state)

    def to_record(self) -> dict[str, Any]:
        """Return the JSON-able record for programs."""
        return {
            "name": self.experiment.name,
            "identity": self.experiment.identity,
            "overrides": self.experiment.overrides,
            "state": str(self.saving.state),
            "waits": self.standing.waits,
            "stages": [
                {
                    "stage": step.stage,
                    "key": step.key,
                    "state": self.word(step.stage),
                    "job": self._job(step.key),
                }
                for step in self.experiment.steps
            ],
        }

    def _job(self, key: str) -> str | None:
        job = self.standing.jobs.get(key)
        return job.label if job else None


@dataclass
class Submission:
    """One call of ``mllam-exps submit``.

    Parameters
    ----------
    here : Here
        Where it is typed, and where it runs.
    force : bool
        Make known results again.
    tell : callable
        Is given what is worth knowing, and stops nothing.
    """

    here: Here
    force: bool
    tell: Callable[[str], None]
    _made_again: set[str] = field(default_factory=set)

    def submit(self, plans: Sequence[Plan], quota: Quota) -> list[Submitted]:
        """Enter all experiments into the store, then submit one after the other."""
        entering.retire(self.here.store, plans)
        places = [plan.experiment.directory for plan in plans]
        new = [place for place in places if not place.exists()]
        chains = self._enter_all(plans, quota)
        # All is laid out before the first job starts: on a busy host their own work
        # would slow down ours.
        try:
            standings = self._prepare(chains)
        except BaseException:
            for directory in new:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        try:
            self._send(chains, standings)
        except BaseException:
            _give_up_prepared(chains)
            raise
        self._wait_for_others(chains, standings, quota)
        return [
            Submitted(chain.experiment, standing, assess(chain.experiment.saving))
            for chain, standing in zip(chains, standings, strict=True)
        ]

    def _enter_all(self, plans: Sequence[Plan], quota: Quota) -> list[Chain]:
        """Put the experiments into the store, but for those that git has, and that lack nothing."""
        if not plans:
            return []
        baseline = plans[0].experiment.baseline
        # Before git is asked: one that is saved in between would seem removed from it.
        saved_before = [plan.experiment.saving.result is not None for plan in plans]
        in_git = experiment_names.saved_in_git(self.here.workspace.root, baseline)
        scheduler = schedulers.get(
            self.here.machine.scheduler, self.here.store.directory
        )
        room = quota.room(self.here.machine, scheduler, self.here.workspace.origin)
        chains = []
        for plan, saved in zip(plans, saved_before, strict=True):
            experiment = plan.experiment
            commit = in_git.get(experiment.name, "")
            # A damaged result may have been set aside since it was saved.
            complete = saved and all(run.result for run in experiment.runs.values())
            if commit and complete and not self.force:
                complete = self._is_whole(experiment)
            if self.force or not (commit and complete):
                replaces = commit if self.force or saved else ""
                experiment = entering.enter(plan, force=self.force, replaces=replaces)
            definitions = plan.definitions
            chain = Chain(
                experiment, self.here.machine, room, self.here.repo, definitions
            )
            chains.append(chain)
        return chains

    def _is_whole(self, experiment: Experiment) -> bool:
        """Give DVC's cache again what it has lost of a saved experiment; False where the run store cannot."""
        try:
            if bring_back(self.here.repo.cache, experiment):
                self.tell(f"{experiment.name}: {BROUGHT_BACK}")
        except Damaged:
            return False
        return True

    def _prepare(self, chains: Sequence[Chain]) -> list[Standing]:
        standings: list[Standing] = []
        try:
            for chain in chains:
                if assess(chain.experiment.saving).state is RunState.DONE:
                    standings.append(look(chain.experiment))
                    continue
                if self.force:
                    self._set_results_aside(chain.experiment)
                standings.append(chain.prepare(retry=True))
                for note in standings[-1].notes:
                    self.tell(note)
        except BaseException as error:
            _give_up_prepared(chains)
            if isinstance(error, MllamError) and error.exit is Exit.FAILED:
                # No run has failed: an input was found damaged, say.
                error.exit = Exit.USAGE
            raise
        return standings

    @staticmethod
    def _send(chains: Sequence[Chain], standings: Sequence[Standing]) -> None:
        """Submit what is prepared: first what several experiments need, then some experiments at a time."""
        uses = Counter(step.key for chain in chains for step in chain.experiment.steps)
        shared = {key for key, count in uses.items() if count > 1}

        def send(one: tuple[Chain, Standing]) -> None:
            chain, standing = one
            chain.send(standing)
            chain.submit_last_job(standing)

        unsaved = []
        for chain, standing in zip(chains, standings, strict=True):
            chain.send(standing, shared)
            if assess(chain.experiment.saving).state is not RunState.DONE:
                unsaved.append((chain, standing))
        # The first by itself: where the cluster takes few jobs, one experiment at least
        # has its last, which goes on.
        for one in unsaved[:1]:
            send(one)
        # sbatch spends most of its time waiting.
        with ThreadPoolExecutor(AT_ONCE, "submit") as pool:
            list(pool.map(send, unsaved[1:]))  # raises what one of them raised

    @staticmethod
    def _wait_for_others(
        chains: Sequence[Chain], standings: list[Standing], quota: Quota
    ) -> None:
        """Wait for moments where another submitter has claimed what ours need, and not submitted it yet."""
        until = time.monotonic() + OTHERS_PATIENCE
        while any(standing.claimed_by_others for standing in standings):
            if time.monotonic() > until:
                return
            quota.release()  # it may be what the other submitter waits for
            time.sleep(0.5)
            for number, chain in enumerate(chains):
                if standings[number].claimed_by_others:
                    standings[number] = chain.advance(retry=False)
                    chain.submit_last_job(standings[number])

    def _set_results_aside(self, experiment: Experiment) -> None:
        for run in experiment.runs.values():
            if run.key not in self._made_again and run.result is not None:
                run.set_aside()
            self._made_again.add(run.key)


def _give_up_prepared(chains: Sequence[Chain]) -> None:
    for chain in chains:
        chain.give_up_prepared()


def submit(
    stages: Sequence[str],
    *,
    set_params: Sequence[str],
    name: str,
    message: str,
    force: bool,
    dry_run: bool,
    command: list[str],
    go_on_before: Callable[[RunStore, Quota, Container[str]], None],
    tell: Callable[[str], None],
) -> list[Submitted]:
    """Submit the experiments that the options mean.

    Parameters
    ----------
    command : list of str
        What was typed.
    go_on_before : callable
        Submits first what has waited longer: `backlog.go_on_before`, which is handed in,
        as it stands on what this module stands on, and one floor higher.
    tell : callable
        Is given what is worth knowing, and stops nothing.

    Raises
    ------
    MllamError
        If anything is wrong with any of them: then none is submitted.
    """
    workspace = Workspace.here()
    if workspace.root != workspace.origin:
        raise UsageError(
            "experiments are submitted from a repository of yours", str(workspace.root)
        )
    refuse_other_stages(workspace.root)
    machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
    checks.check_environment(machine, workspace.origin)
    inside = Path.cwd().resolve().relative_to(workspace.root)
    variants = overrides.variants(set_params, name, inside)
    for variant in variants:
        if variant.name:
            experiment_names.check_name(variant.name)
    here = Here.of(workspace, machine, Repository.open(workspace.root))
    typed = Typed(stages, command, message, force, inside)
    with Planner(here, typed) as planner:
        plans = planner.plan(variants)
        planned = [plan.experiment for plan in plans]
        check(planner, plans)
        for note in planner.notes:
            tell(note)
        if dry_run:
            refuse_what_was_taken(here.store, planned, force=force)
            return [_preview(experiment, force=force) for experiment in planned]
        with lock(here.store, SUBMISSIONS, wait=True), Quota() as quota:
            refuse_what_was_taken(here.store, planned, force=force)
            go_on_before(here.store, quota, {one.identity for one in planned})
            return Submission(here, force, tell).submit(plans, quota)


def _preview(experiment: Experiment, *, force: bool) -> Submitted:
    """Say what would become of an experiment: what failed is tried again, with `force` what is done is made again."""
    standing = look(experiment)
    for stage, now in standing.states.items():
        if now.state.stopped or (force and now.state is RunState.DONE):
            standing.states[stage] = Assessment(RunState.NEW)
    return Submitted(experiment, standing, judge(observe(experiment.saving)))


def check(planner: Planner, plans: Sequence[Plan], *, known_too: bool = False) -> None:
    """Ask the scheduler, and look into the archives, before the first job; kinds that are alike once.

    Parameters
    ----------
    known_too : bool
        Whether the archives of datasets that are known are looked into as well.

    Raises
    ------
    MllamError
        With what is wrong. What is worth knowing, and stops nothing, is added to the
        planner's notes.
    """
    origin, machine = planner.here.workspace.origin, planner.here.machine
    kinds: set[str] = set()
    looked_at: set[str] = set()
    for plan in plans:
        there = Workspace(plan.root, origin, plan.experiment.name, "")
        checks.check_in_environment(there, machine)
        kind = checks.kind_of_jobs(there)
        if kind not in kinds:
            kinds.add(kind)
            planner.note(checks.check_jobs(there, machine, plan.own_commands))
        for step in plan.experiment.steps:
            known = step.known or planner.here.store.run(step.key).result is not None
            if step.key in looked_at or (known and not known_too):
                continue
            looked_at.add(step.key)
            definition = plan.definitions[step.stage]
            program, inputs = programs.of(definition), definition.inputs
            planner.note(checks.check_sources(there, machine, program, inputs))
