"""What is submitted of an experiment and behind what, by how its runs stand: real records, a double of a scheduler."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps import schedulers
from mllam_exps.attempts import job_request
from mllam_exps.attempts.job_quota import Quota
from mllam_exps.attempts.launch import Prepared
from mllam_exps.base import records
from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import MllamError
from mllam_exps.base.processes import ProcessIdentity
from mllam_exps.machines.machine_files import Machine
from mllam_exps.runs import giving, outputs
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.continuation import Rules
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.results import Output, Read, Result
from mllam_exps.runs.spec import Spec, to_come
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import Job, JobPhase, JobRequest, JobState, NoRoom, Uncertain
from mllam_exps.submission import experiments, job_chain, opening
from mllam_exps.submission.experiment import Experiment, Step
from mllam_exps.submission.job_chain import Chain
from mllam_exps.submission.standing import Standing

KEYS = {
    stage: f"{stage}-{digit * 32}" for stage, digit in zip("gte", "abc", strict=True)
}
"""Stages that make a graph, train and evaluate: each reads what the one before it made."""
GRAPH, TRAIN, EVALUATE = KEYS
MENDED = Cause.NODE_FAILURE
"""What is followed by another attempt, by the rules of the machine file here."""


@dataclass
class Site:
    """A scheduler: what it was asked to submit, and what it says."""

    name: str = "slurm"
    limits: bool = True
    chains: bool = True
    requests: list[JobRequest] = field(default_factory=list)
    folders: dict[str, str] = field(default_factory=dict)
    moved: list[tuple[str, list[str]]] = field(default_factory=list)
    """The jobs that were put behind others than before."""
    phases: dict[str, JobState] = field(default_factory=dict)
    down: str = ""
    refuses: Callable[[JobRequest], Exception | None] = lambda _: None
    deaf: bool = False

    def outage(self) -> str:
        return self.down

    def answers(self, *, now: bool = False) -> bool:
        return not (self.down or self.deaf)

    def names(self) -> dict[str, str]:
        living = [name for name in self.folders if not self.phases[name].phase.ended]
        return {name: self.folders[name] for name in living}

    def submit(self, request: JobRequest) -> Job:
        if refusal := self.refuses(request):
            raise refusal
        self.requests.append(request)
        self.folders[request.name] = str(request.directory)
        self.phases[request.name] = JobState(JobPhase.PENDING)
        return self.job({"id": request.name})

    def job(self, record: dict[str, Any]) -> Job:
        return Job(record, f"job {record['id']}")

    def find(self, name: str, _written: float) -> Job | None:
        if not self.answers():
            raise Uncertain("Slurm does not answer")
        return self.job({"id": name}) if name in self.phases else None

    def state(self, job: Job) -> JobState:
        return self.phases[job.record["id"]]

    verdict = state

    def put_behind(self, job: Job, after: tuple[Job, ...]) -> None:
        self.moved.append((stage_of(job.record["id"]), [one.label for one in after]))

    @property
    def submitted(self) -> list[tuple[str, list[str]]]:
        """The stages whose jobs were submitted, and those whose jobs they wait for."""
        told = []
        for request in self.requests:
            before = [stage_of(job.record["id"]) for job in request.after]
            told.append((stage_of(request.name), before))
        return told


def stage_of(name: str) -> str:
    """Return the stage that a job's name tells."""
    return name.rpartition("/")[2].rpartition("-")[0]


@dataclass(frozen=True)
class Starter:
    """Claims and submits attempts as the real one does; lays nothing out."""

    workspace: Any
    machine: Machine
    repo: Any
    store: RunStore
    environ: dict[str, str]

    def prepare(
        self,
        run: Run,
        definition: Any,
        after: Assessment,
        *,
        to_come: Sequence[str] = (),
    ) -> Prepared | None:
        number = after.attempt.number + 1 if after.attempt else 1
        attempt = claim(run, number)
        if attempt is None:
            return None
        rules = Rules(again=frozenset({MENDED}), max_attempts=3)
        lacks = {"in": definition.before} if to_come else {}
        spec = Spec("m", "/here", "exp", "b", {}, {}, to_come=lacks, rules=rules)
        spec.write(attempt)
        request = job_request.request(
            self.workspace,
            self.machine,
            definition.stage,
            name=attempt.claim.job_name,  # type: ignore[union-attr]
            run=run.directory,
            number=number,
            comment="",
            environ=self.environ,
        )
        return Prepared(attempt, request, schedulers.get("slurm", self.store.directory))


def claim(run: Run, number: int, scheduler: str = "slurm") -> Attempt | None:
    """Claim an attempt for this very process."""
    return run.claim(
        number,
        scheduler=scheduler,
        experiment="exp",
        workspace=Path("/clone"),
        working_directory=None,
    )


class World:
    """An experiment in a store, its machine and its scheduler."""

    def __init__(self, store: Path, site: Site) -> None:
        self.site = site
        self.store = RunStore(store)
        self.quota = Quota()
        self.max_jobs: int | None = None
        directory = experiments.folder(self.store) / f"save-{'0' * 32}"
        directory.mkdir(parents=True)
        needs: dict[str, tuple[str, ...]] = {
            GRAPH: (),
            TRAIN: (KEYS[GRAPH],),
            EVALUATE: (KEYS[TRAIN],),
        }
        steps = tuple(Step(stage, KEYS[stage], needs[stage]) for stage in needs)
        self.experiment = Experiment(
            directory=directory,
            name="exp",
            origin="/here",
            prefix="",
            baseline="b" * 40,
            overrides={},
            command=["mllam-exps", "submit"],
            message="",
            machine="m",
            uid=os.getuid(),
            created=0.0,
            steps=steps,
        )

    def known(self, stage: str) -> None:
        """Let DVC know the result of a stage."""
        steps = []
        for step in self.experiment.steps:
            made = {"out": {"digest": "f" * 32}} if step.stage == stage else step.known
            steps.append(replace(step, known=made))
        self.experiment = replace(self.experiment, steps=tuple(steps))

    def chain(self) -> Chain:
        """Return its chain, with what defines its runs."""
        machine = Machine(
            name="m",
            file=None,
            origins={},
            scheduler="slurm",
            max_jobs=self.max_jobs,  # type: ignore[arg-type]
        )
        self.quota.release()
        room = self.quota.room(machine, self.site, self.experiment.origin)  # type: ignore[arg-type]
        repo: Any = object()
        chain = Chain(self.experiment, machine, room, repo)
        chain.definitions = {stage: definition(stage) for stage in KEYS}
        return chain

    def advance(self, *, retry: bool = False) -> Standing:
        """Submit what can be submitted now, and forget what was submitted before."""
        self.site.requests.clear()
        return self.chain().advance(retry=retry)

    def run(self, stage: str) -> Run:
        return self.store.run(KEYS[stage])

    def last(self, stage: str) -> Attempt:
        attempt = self.run(stage).last_attempt()
        assert attempt is not None
        return attempt

    def state(self, stage: str) -> RunState:
        return assess(self.run(stage)).state

    def phase(self, stage: str, phase: JobPhase) -> None:
        """Have the scheduler say that of a stage's job."""
        said = self.last(stage).claim
        assert said is not None
        self.site.phases[said.job_name] = JobState(phase)

    def make(self, stage: str, text: str = "1", read: dict[str, str] | None = None):
        """Have a stage's newest attempt make its output, from outputs of others."""
        run = self.run(stage)
        if run.last_attempt() is None:
            claim(run, 1)
        attempt, path = self.last(stage), f"{stage}.txt"
        attempt.outputs.mkdir()
        (attempt.outputs / path).write_text(text)
        digest = hashlib.md5(text.encode()).hexdigest()
        described = {"digest": digest, "size": len(text), "files": None}
        records.replace(attempt.directory / "manifest.json", {path: described})
        inputs = {}
        for before, content in (read or {}).items():
            md5 = hashlib.md5(content.encode()).hexdigest()
            inputs[f"{before}.txt"] = Read(md5, KEYS[before])
        result = Result(attempt.number, {path: Output(digest, len(text))}, inputs)
        assert run.settle(result)
        attempt.end(Outcome.SUCCEEDED)
        self.phase(stage, JobPhase.SUCCEEDED)

    def fail(self, stage: str, cause: Cause = Cause.ERROR) -> None:
        """Have a stage's newest attempt end without a result."""
        self.last(stage).end(Outcome.FAILED, cause=cause)
        self.phase(stage, JobPhase.FAILED)


def definition(stage: str) -> Any:
    """Return what defines the run of a stage."""
    keys = list(KEYS.values())
    before = keys[max(keys.index(KEYS[stage]) - 1, 0)]
    return SimpleNamespace(
        stage=stage, key=KEYS[stage], before=before, to_record=lambda: {"stage": stage}
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[World]:
    site = Site()
    module: Any = SimpleNamespace(
        make=lambda _: site, RECORD={}, TRACES=(), SETTINGS=()
    )
    monkeypatch.setitem(schedulers._modules, "slurm", module)
    monkeypatch.setattr(job_chain, "Starter", Starter)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    schedulers.get.cache_clear()
    made = World(tmp_path / "store", site)
    yield made
    made.quota.release()
    schedulers.get.cache_clear()


ALL = [(GRAPH, []), (TRAIN, [GRAPH]), (EVALUATE, [TRAIN])]


def test_each_stage_is_submitted_behind_the_one_that_it_needs(world: World):
    standing = world.advance()
    assert world.site.submitted == ALL
    assert list(standing.started) == list(KEYS)
    assert set(standing.jobs) == set(KEYS.values())
    assert standing.states[GRAPH].state is RunState.STARTING
    assert standing.states[TRAIN].state is RunState.PENDING
    assert not standing.waits
    assert [list(to_come(world.last(stage))) for stage in KEYS] == [
        [],
        [KEYS[GRAPH]],
        [KEYS[TRAIN]],
    ], "each is told what is not made yet"
    again = world.advance()
    assert world.site.submitted == []
    assert set(again.jobs) == set(KEYS.values()), "the last job waits for them all"


def test_what_is_made_is_neither_made_again_nor_waited_for(world: World):
    world.make(GRAPH)
    standing = world.advance()
    assert world.site.submitted == [(TRAIN, []), (EVALUATE, [TRAIN])]
    assert standing.states[GRAPH].state is RunState.DONE


def test_what_dvc_knows_has_no_run_and_no_job(world: World):
    world.known(GRAPH)
    standing = world.advance()
    assert world.site.submitted == [(TRAIN, []), (EVALUATE, [TRAIN])]
    assert GRAPH not in standing.states
    assert not world.run(GRAPH).directory.exists()


def test_where_jobs_cannot_wait_only_what_can_begin_is_submitted(world: World):
    world.site.chains = False
    standing = world.advance()
    assert world.site.submitted == [(GRAPH, [])]
    assert standing.states[TRAIN].state is RunState.NEW
    assert world.run(TRAIN).last_attempt() is None
    world.make(GRAPH)
    world.advance()
    assert world.site.submitted == [(TRAIN, [])]


def test_what_does_not_fit_waits_and_is_claimed_by_nobody(world: World):
    world.max_jobs = 2
    standing = world.advance()
    assert world.site.submitted == ALL[:2]
    assert "2 of your jobs at once" in standing.waits
    assert world.run(EVALUATE).last_attempt() is None
    world.make(GRAPH)
    standing = world.advance()
    assert world.site.submitted == ALL[2:]
    assert not standing.waits


def test_nothing_is_claimed_while_the_scheduler_is_away(world: World):
    world.site.down = "Slurm's controller is down"
    standing = world.advance()
    assert world.site.submitted == []
    assert "controller is down; mllam-exps advance goes on" in standing.waits
    assert world.run(GRAPH).last_attempt() is None


def no_room_for(stage: str) -> Callable[[JobRequest], Exception | None]:
    """Return what refuses the jobs of a stage: the scheduler takes no more."""
    full = NoRoom("Slurm takes no more jobs", why="MaxSubmitJobs")
    return lambda request: full if stage_of(request.name) == stage else None


def test_where_the_scheduler_takes_no_more_nothing_more_is_tried(world: World):
    world.site.refuses = no_room_for(TRAIN)
    standing = world.advance()
    assert world.site.submitted == ALL[:1]
    assert standing.waits == "Slurm takes no more jobs (MaxSubmitJobs)"
    assert list(standing.started) == [GRAPH]
    assert standing.states[TRAIN].untried
    assert standing.states[EVALUATE].untried
    world.site.refuses = lambda _: None
    world.advance()
    assert world.site.submitted == ALL[1:], "who had no room has not failed"


def test_once_the_scheduler_takes_no_more_no_other_stage_is_tried(world: World):
    world.known(TRAIN)
    world.site.refuses = no_room_for(GRAPH)
    standing = world.advance()
    assert world.site.submitted == []
    assert standing.states[EVALUATE].untried


def silence(request: JobRequest) -> Exception | None:
    """Take no job of a stage, and say nothing."""
    return Uncertain("sbatch did not answer") if request.after_success else None


def test_where_the_scheduler_does_not_answer_only_one_job_is_in_doubt(world: World):
    world.site.refuses, world.site.deaf = silence, True
    standing = world.advance()
    assert list(standing.started) == [GRAPH]
    assert world.last(GRAPH).doubt == "sbatch did not answer"
    assert not standing.jobs
    assert standing.waits == (
        "sbatch did not answer; mllam-exps advance goes on, once it answers"
    )
    assert standing.states[TRAIN].untried
    world.site.refuses = lambda _: None
    standing = world.advance()
    assert world.site.submitted == [], "it may run: nothing is submitted beside it"
    assert standing.states[GRAPH].state is RunState.UNKNOWN
    assert not standing.claimed_by_others, "that is not known"
    assert world.run(TRAIN).next_number == 2, "nothing can be put behind it"
    world.site.deaf = False
    world.advance()
    assert world.site.submitted == ALL, "there is no such job, says the scheduler"


def test_a_failure_ends_the_experiment_until_somebody_asks(world: World):
    world.advance()
    world.fail(GRAPH)
    world.phase(TRAIN, JobPhase.CANCELLED)
    world.phase(EVALUATE, JobPhase.CANCELLED)
    standing = world.advance()
    assert world.run(GRAPH).next_number == 2
    assert standing.failure
    assert standing.failure[0] == GRAPH
    asked = world.advance(retry=True)
    assert world.site.submitted == ALL
    assert not asked.failure


def test_a_retry_that_does_not_fit_is_made_later_though_nobody_asks_again(world: World):
    world.advance()
    world.fail(GRAPH)
    world.max_jobs = 1
    standing = world.advance(retry=True)
    assert world.site.submitted == []
    assert standing.states[GRAPH].untried
    assert standing.waits.startswith("1 of your jobs")
    world.max_jobs = None
    world.advance()
    assert (GRAPH, []) in world.site.submitted


def test_a_retry_waits_for_its_inputs_where_jobs_cannot(world: World):
    world.make(GRAPH)
    world.advance()
    world.fail(TRAIN)
    world.run(GRAPH).set_aside()
    world.site.chains = False
    standing = world.advance(retry=True)
    assert world.site.submitted == [(GRAPH, [])]
    assert standing.states[TRAIN].reason == "waits for its inputs"
    world.make(GRAPH)
    world.advance()
    assert (TRAIN, []) in world.site.submitted


def test_what_goes_on_by_itself_takes_the_place_before_those_that_wait(world: World):
    world.advance()
    world.make(GRAPH)
    world.fail(TRAIN, MENDED)
    standing = world.advance()
    assert world.site.submitted == [(TRAIN, [])]
    job = standing.jobs[KEYS[TRAIN]].label
    assert world.site.moved == [(EVALUATE, [job])]
    assert world.run(TRAIN).next_number == 3
    assert not standing.over


def test_what_does_not_need_what_goes_on_stays_where_it_is(world: World):
    world.advance()
    world.fail(GRAPH, MENDED)
    world.advance()
    assert [stage for stage, _ in world.site.moved] == [TRAIN]


def test_a_job_that_runs_is_not_moved(world: World):
    world.advance()
    world.fail(TRAIN, MENDED)
    world.make(GRAPH)
    world.phase(EVALUATE, JobPhase.RUNNING)
    world.advance()
    assert world.site.moved == []


def test_where_the_scheduler_refuses_to_move_a_job_the_rest_goes_on(world: World):
    world.advance()
    world.make(GRAPH)
    world.fail(TRAIN, MENDED)
    world.site.put_behind = refuse  # type: ignore[method-assign]
    standing = world.advance()
    assert list(standing.started) == [TRAIN]


def refuse(*_: object) -> None:
    raise MllamError("Slurm refuses")


def claim_elsewhere(world: World, stage: str) -> None:
    """Have another process of ours be about to submit a stage."""
    attempt = claim(world.run(stage), 1)
    assert attempt is not None
    record = records.read(attempt.claim_file)
    assert record is not None
    process = ProcessIdentity.of(os.getppid())
    records.replace(attempt.claim_file, record | {"claimed_by": process.to_record()})


def test_behind_what_another_process_is_about_to_submit_nothing_is_put(world: World):
    claim_elsewhere(world, GRAPH)
    standing = world.advance()
    assert world.site.submitted == []
    assert standing.claimed_by_others == {KEYS[GRAPH]}
    assert f"g: being started by {world.last(GRAPH).owner}'s" in standing.waits
    assert standing.waits.endswith("mllam-exps advance goes on, once that is over")


def test_who_is_overtaken_submits_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    def be_late(*_: object, **__: object) -> None:
        claim_elsewhere(world, GRAPH)

    monkeypatch.setattr(Starter, "prepare", be_late)
    standing = world.advance()
    assert standing.claimed_by_others == {KEYS[GRAPH]}
    assert not standing.started


def test_the_jobs_of_another_scheduler_are_not_waited_for(world: World):
    attempt = claim(world.run(GRAPH), 1, "local")
    assert attempt is not None
    chain = world.chain()
    now = Assessment(RunState.RUNNING, attempt=attempt)
    assert not chain._can_be_waited_for(now)
    assert not chain._can_be_waited_for(Assessment(RunState.UNKNOWN))
    assert chain._job(attempt) is None
    assert chain._job(None) is None


def test_a_result_whose_input_became_another_is_made_again(world: World):
    world.make(GRAPH, "1")
    world.make(TRAIN, read={GRAPH: "0"})
    standing = world.advance()
    assert world.site.submitted == [(TRAIN, []), (EVALUATE, [TRAIN])]
    [note] = standing.notes
    assert note.endswith("than there is now; it is made again")


def test_a_damaged_file_is_found_by_who_asks(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(giving, "_looked_at", {})
    world.make(GRAPH)
    (world.last(GRAPH).outputs / "g.txt").write_text("another")
    world.advance()
    assert world.site.submitted == [(TRAIN, []), (EVALUATE, [TRAIN])]
    standing = world.advance(retry=True)
    assert [stage for stage, _ in world.site.submitted] == [GRAPH]
    assert "g.txt" in standing.notes[0]


@pytest.mark.parametrize("retry", [True, False])
def test_damage_that_cannot_be_set_aside_stops_who_asked(
    world: World, monkeypatch: pytest.MonkeyPatch, retry: bool
):
    def find(*_: object) -> None:
        raise outputs.Damaged("is damaged", "/store")

    monkeypatch.setattr(outputs, "hold_to_what_was_made", find)
    monkeypatch.setattr(outputs, "hold_to_its_inputs", find)
    world.make(GRAPH)
    if retry:
        with pytest.raises(outputs.Damaged):
            world.advance(retry=True)
    else:
        assert world.advance().states[GRAPH].state is RunState.DONE


def test_a_result_counts_only_once_it_is_known_what_its_inputs_become(world: World):
    world.make(GRAPH)
    world.make(TRAIN, read={GRAPH: "1"})
    world.run(GRAPH).set_aside()
    standing = world.advance()
    assert world.site.submitted == [(GRAPH, [])]
    assert standing.states[EVALUATE].state is RunState.NEW
    world.make(GRAPH, "1")
    world.advance()
    assert world.site.submitted == [(EVALUATE, [])]


def test_a_clone_that_was_changed_is_refused_and_nothing_stays_claimed(world: World):
    chain = world.chain()
    chain.definitions = {**chain.definitions, TRAIN: definition(EVALUATE)}
    with pytest.raises(MllamError, match="clone was changed") as caught:
        chain.advance(retry=False)
    assert "mllam-exps submit" in str(caught.value)
    assert world.site.submitted == []
    assert assess(world.run(GRAPH)).untried
    assert world.run(TRAIN).last_attempt() is None


def test_the_clone_is_opened_once_and_only_if_something_is_submitted(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    opened = []

    def open_it(_experiment: Experiment) -> Any:
        opened.append(1)
        return SimpleNamespace(repository=object(), definition=definition)

    monkeypatch.setattr(opening, "pipeline_of", open_it)
    for expected in (ALL, []):
        chain = world.chain()
        chain.repo, chain.definitions = None, {}
        world.site.requests.clear()
        chain.advance(retry=False)
        assert world.site.submitted == expected
    assert opened == [1]


def test_only_what_is_named_is_sent(world: World):
    chain = world.chain()
    standing = chain.prepare(retry=False)
    chain.send(standing, {KEYS[GRAPH]})
    assert world.site.submitted == ALL[:1]
    chain.send(standing)
    assert world.site.submitted == ALL


def test_what_is_given_up_is_left_to_others(world: World):
    chain = world.chain()
    chain.prepare(retry=False)
    chain.give_up_prepared()
    assert all(assess(world.run(stage)).untried for stage in KEYS)
    world.advance()
    assert world.site.submitted == ALL


# The last job, which saves the experiment.


def follow(world: World) -> tuple[Attempt | None, list[tuple[str, list[str]]]]:
    """Have it saved, and return what was submitted for that."""
    chain = world.chain()
    standing = chain.advance(retry=False)
    world.site.requests.clear()
    return chain.submit_last_job(standing), world.site.submitted


def test_it_is_saved_by_one_job_behind_all_others(world: World):
    attempt, submitted = follow(world)
    assert attempt is not None
    assert submitted == [("save", list(KEYS))]
    assert follow(world) == (None, [])


def test_it_is_saved_at_once_where_all_is_made(world: World):
    for stage in KEYS:
        world.make(stage)
    attempt, submitted = follow(world)
    assert submitted == [("save", [])]
    assert attempt is not None
    made = Result(attempt.number, commit="1a2b3c4")
    world.experiment.saving.settle(made)
    assert follow(world) == (None, [])


def test_what_stopped_it_is_told_by_its_last_job(world: World):
    world.advance()
    for stage in KEYS:
        world.fail(stage)
    assert follow(world)[1] == [("save", [])]


def test_where_jobs_cannot_wait_none_saves_while_others_work(world: World):
    world.site.chains = False
    assert follow(world) == (None, [])
    assert world.experiment.saving.last_attempt() is None
    assert assess(world.experiment.saving).state is RunState.NEW


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_one_that_had_ended_waits_again_once_it_is_at_work(
    world: World, outcome: Outcome
):
    world.site.chains = False
    experiments.call_off(world.experiment, "it failed", outcome)
    assert follow(world) == (None, [])
    saving = assess(world.experiment.saving)
    assert saving.untried
    assert saving.reason == "its stages are at work"


def test_why_it_waits_is_written_down_for_those_who_ask(world: World):
    world.max_jobs = 1
    follow(world)
    assert "1 of your jobs" in world.experiment.waits
    world.max_jobs = None
    follow(world)
    assert not world.experiment.waits


def die_while_saving(world: World) -> None:
    """Have the next attempt at saving submitted, and die without a word."""
    attempt, submitted = follow(world)
    assert submitted == [("save", [])]
    assert attempt is not None
    attempt.start(None)
    claimed = attempt.claim
    assert claimed is not None
    world.site.phases[claimed.job_name] = JobState(JobPhase.GONE)


def test_a_saving_that_dies_again_and_again_is_given_up(world: World):
    for stage in KEYS:
        world.make(stage)
    die_while_saving(world)
    experiments.call_off(world.experiment, "cancelled", Outcome.REFUSED)
    for _ in range(job_chain.TRIES):
        die_while_saving(world)
    assert follow(world) == (None, [])
    saving = assess(world.experiment.saving)
    assert saving.state is RunState.FAILED
    assert saving.reason.startswith(f"saving it died {job_chain.TRIES} times: ")


def test_where_there_is_no_room_for_its_last_job_the_stages_submit_it(world: World):
    world.make(GRAPH)
    world.site.refuses = no_room_for("save")
    assert follow(world)[0] is None
    told = [stage for stage in KEYS if world.last(stage).submits_what_waits.exists()]
    assert told == [TRAIN, EVALUATE], "the others are over"
    assert assess(world.experiment.saving).untried
    world.site.refuses = lambda _: None
    assert follow(world)[1] == [("save", [TRAIN, EVALUATE])]


def test_who_is_overtaken_at_saving_submits_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    running = claim(world.run(GRAPH), 1)
    assert running is not None
    monkeypatch.setattr(Run, "claim", lambda *_, **__: None)
    chain = world.chain()
    stages = Standing({GRAPH: Assessment(RunState.RUNNING, attempt=running)})
    assert chain._have_it_saved(stages, ()) is None
    assert world.site.submitted == []
    assert not running.submits_what_waits.exists(), "a job waits for it: another's"


def test_a_saving_that_cannot_be_submitted_is_claimed_by_nobody(world: World):
    world.site.refuses = lambda _: MllamError("Slurm refuses: no such account")
    with pytest.raises(MllamError, match="no such account"):
        world.chain().start_saving(())
    saving = assess(world.experiment.saving)
    assert saving.state is RunState.FAILED
    assert "no such account" in saving.reason


def test_a_saving_that_is_interrupted_before_its_submission_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job_chain.job_request, "request", interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.chain().start_saving(())
    saving = assess(world.experiment.saving)
    assert saving.reason == "interrupted before it was submitted"


def test_a_chain_takes_the_machine_as_it_is_now(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    machine = world.chain().machine
    monkeypatch.setattr(opening, "machine_of", lambda _: machine)
    chain = Chain.of(world.experiment, Quota())
    assert chain.machine is machine
    assert chain.room.look()
