"""`mllam-exps status`: what a window shows when there is more than fits it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError, Problem
from mllam_exps.commands.reading import status
from mllam_exps.identity.definition import Input, RunDefinition
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.schedulers import Job, JobPhase, JobState
from mllam_exps.submission.retrying import again
from mllam_exps.views.rows import Cell, Row, stages_in_order


def row(name: str, state: RunState) -> Row:
    """Return what status knows of an experiment of one stage."""
    run = Run(Path(f"grow-{name}"))
    return Row(
        name,
        {
            "grow": Cell(
                run,
                Assessment(
                    state,
                    Problem("out of memory" if state is RunState.FAILED else ""),
                ),
            )
        },
    )


def test_what_is_under_way_is_seen_in_a_window_that_failures_would_fill():
    rows = [row(f"bad{n}", RunState.FAILED) for n in range(9)]
    for number, broken in enumerate(rows):
        object.__setattr__(
            broken.cells["grow"].now, "problem", Problem(f"reason {number}")
        )
    rows += [row(f"alive{n}", RunState.PENDING) for n in range(4)]
    console = Console(width=80, height=16, color_system=None)
    with console.capture() as captured:
        console.print(status._frame(rows, console))
    shown = captured.get()
    assert len(shown.splitlines()) <= 16
    assert all(f"alive{n}" in shown for n in range(4))
    assert "what is over: mllam-exps status" in shown


@pytest.mark.parametrize("height", [24, 60])
def test_a_watched_table_fits_its_window(height: int):
    rows = [row(f"done{n}", RunState.DONE) for n in range(60)]
    rows[3:3] = [row("broken", RunState.FAILED), row("alive", RunState.PENDING)]
    console = Console(width=80, height=height, color_system=None, record=True)
    with console.capture() as captured:
        console.print(status._frame(rows, console))
    shown = captured.get()
    assert height - 3 <= len(shown.splitlines()) <= height
    assert "alive" in shown
    assert "broken: grow failed: out of memory" in shown
    assert "done59" in shown
    assert "mllam-exps status --all" in shown


def test_stages_stand_in_the_order_of_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    definitions: dict[Path, RunDefinition] = {}
    defined_by = property(lambda run: definitions.get(run.directory))
    monkeypatch.setattr(Run, "definition", defined_by)

    def key(stage: str, digit: str) -> str:
        return f"{stage}-{digit * 32}"

    def cell(stage: str, digit: str, *needs: str) -> Cell:
        run = Run(tmp_path / key(stage, digit))
        inputs = [Input(f"{need}.txt", need, None, True) for need in needs]
        defined = RunDefinition(
            stage, {}, (*inputs, Input("a.txt", None, "1", True)), ()
        )
        definitions[run.directory] = defined
        return Cell(run, Assessment(RunState.DONE))

    evaluate = cell("evaluate", "a", key("train", "b"), key("prepare@x", "c"))
    workspace = Row("workspace", {"evaluate": evaluate})
    train = cell("train", "b", key("prepare@x", "c"), key("create_graph", "d"))
    other = Row("other", {"create_graph": cell("create_graph", "d"), "train": train})
    assert stages_in_order([workspace, other]) == ["create_graph", "train", "evaluate"]
    # Two repositories may call stages the other way round: the table stands all the
    # same.
    turned = Row(
        "turned",
        {
            "train": cell("train", "e", key("evaluate", "f")),
            "evaluate": cell("evaluate", "f"),
        },
    )
    assert sorted(stages_in_order([turned, workspace, other])) == [
        "create_graph",
        "evaluate",
        "train",
    ]


def proposed(rows: list[Row]) -> list[str]:
    """Return the commands that are proposed for experiments."""
    texts = [str(text) for text in status._sentences(rows)]
    return [
        line.removeprefix("  → ")
        for text in texts
        for line in text.splitlines()
        if line.startswith("  → ")
    ]


def test_what_is_proposed_for_many_experiments_can_be_typed(
    monkeypatch: pytest.MonkeyPatch,
):
    names = [f"lr-{n}" for n in range(5)]

    def submitted(name: str, state: RunState, *, hopeless: bool = False) -> Row:
        found = row(name, state)
        now = Assessment(state, Problem("why"), hopeless=hopeless)
        saving = Cell(found.cells["grow"].run, Assessment(RunState.NEW))
        return Row(
            name,
            {"grow": Cell(found.cells["grow"].run, now)},
            SimpleNamespace(is_mine=True, root=Path()),
            saving,
        )

    monkeypatch.setattr(Row, "waits", "")
    # `cancel` has no --failed, and what was cancelled has not failed.
    hopeless = [submitted(name, RunState.PENDING, hopeless=True) for name in names]
    assert proposed(hopeless) == [f"mllam-exps cancel {' '.join(names)}"]
    cancelled = [submitted(name, RunState.CANCELLED) for name in names]
    assert proposed(cancelled)[0] == f"mllam-exps retry {' '.join(names)}"
    failed = [submitted(name, RunState.FAILED) for name in names]
    assert proposed(failed) == [
        "mllam-exps retry --failed",
        "mllam-exps logs lr-0 grow",
    ]
    assert proposed([row("workspace", RunState.FAILED)])[0] == "dvc exp run"


def test_a_saved_experiment_is_applied_to_get_a_result_back_that_was_set_aside():
    """Where `dvc exp run` saved it, its name is taken; where it was submitted, `retry` says that it is done."""
    one = row("a b", RunState.FAILED)
    done = Cell(one.cells["grow"].run, Assessment(RunState.DONE))
    submitted = replace(one, saving=done, experiment=SimpleNamespace(commit="1234"))
    way_out = "dvc exp apply 'a b'; dvc repro makes again what is missing"
    assert proposed([submitted])[0] == way_out
    run_by_dvc = replace(one, commit="1234")
    assert proposed([run_by_dvc])[0] == way_out
    with pytest.raises(MllamError) as caught:
        status._tell_end([run_by_dvc])
    assert caught.value.next == way_out


def test_the_end_of_watching_proposes_what_goes_on():
    with pytest.raises(MllamError) as caught:
        status._tell_end([row("workspace", RunState.FAILED)])
    assert caught.value.next == "dvc exp run"


def test_the_end_of_watching_proposes_no_retry_where_something_else_helps():
    """`retry` works in the clone, where what is to be corrected stays as it was."""
    problem = Problem("git does not take it", next="correct it, and submit it again")
    stopped = Assessment(RunState.FAILED, problem)
    one = row_of(grow=Assessment(RunState.DONE))
    assert one.saving is not None
    failed = replace(one, saving=Cell(one.saving.run, stopped))
    with pytest.raises(MllamError) as caught:
        status._tell_end([failed])
    assert (caught.value.what, caught.value.next) == ("not done: exp", "")
    grown = Cell(one.cells["grow"].run, Assessment(RunState.FAILED, Problem("why")))
    with pytest.raises(MllamError) as caught:
        status._tell_end([replace(failed, cells={"grow": grown})])
    assert caught.value.next == "mllam-exps retry exp"


STEPS = (("make", ()), ("grow", ("make",)), ("draw", ("grow",)), ("other", ("make",)))


def row_of(**states: Assessment) -> Row:
    """Return what status knows of an experiment in which `draw` needs `grow`, and both and `other` need `make`."""
    keys = {stage: f"{stage}-{'0' * 32}" for stage, _ in STEPS}
    steps = [
        SimpleNamespace(key=keys[stage], needs=[keys[need] for need in needs])
        for stage, needs in STEPS
    ]
    cells = {stage: Cell(Run(Path(keys[stage])), now) for stage, now in states.items()}
    saving = Cell(Run(Path("save")), Assessment(RunState.PENDING))
    experiment: Any = SimpleNamespace(steps=steps)
    return Row("exp", cells, experiment, saving)


NEVER = Assessment(RunState.PENDING, Problem("will never run: because"), hopeless=True)
WAITS = Assessment(RunState.PENDING, Problem("waiting for the jobs that it depends on"))
DONE = Assessment(RunState.DONE)


@pytest.mark.parametrize(
    ("states", "stuck"),
    [
        ({"make": DONE, "grow": NEVER, "draw": WAITS, "other": DONE}, True),
        ({"make": NEVER, "grow": WAITS, "draw": WAITS, "other": WAITS}, True),
        (
            {
                "make": DONE,
                "grow": NEVER,
                "draw": WAITS,
                "other": Assessment(RunState.RUNNING),
            },
            False,
        ),
        ({"make": DONE, "grow": NEVER, "draw": WAITS, "other": WAITS}, False),
        ({"make": DONE, "grow": WAITS, "draw": WAITS, "other": DONE}, False),
    ],
)
def test_watching_ends_where_what_is_left_will_never_run(
    states: dict[str, Assessment], stuck: bool
):
    found = row_of(**states)
    assert not found.over
    assert found.stuck is stuck
    if stuck:
        with pytest.raises(
            MllamError, match="will never be done as it is: exp"
        ) as error:
            status._tell_end([found])
        assert error.value.exit == 1
        assert error.value.next.startswith("mllam-exps cancel exp,")
    else:
        status._tell_end([found])


def attempt_of(folder: Path, stage: str = "grow") -> Attempt:
    """Return a claimed attempt in a run store."""
    run = RunStore(folder).run(f"{stage}-{'0' * 32}")
    run.begin(RunDefinition(stage, {}, (), ()))
    attempt = run.claim(
        1, scheduler="slurm", experiment="exp", workspace=folder, working_directory=None
    )
    assert attempt is not None
    records.replace(
        attempt.directory / "job.json", {"id": "7", "name": "a", "submitted": 0.0}
    )
    return attempt


def start(attempt: Attempt, ago: float, heard: float, clock_off: float = 0.0) -> None:
    """Let it have started some seconds ago on a node whose clock is off, and have been heard of later."""
    now = time.time()
    attempt.heartbeat.touch()
    process = {"host": "n1", "boot": "b", "pid": 7, "started": 0.0}
    records.replace(
        attempt.directory / "started.json",
        process | {"time": now - ago + clock_off, "node": "n1"},
    )
    os.utime(attempt.directory / "started.json", (now - ago, now - ago))
    os.utime(attempt.heartbeat, (now - heard, now - heard))


def said_by_slurm(phase: JobPhase, reason: str = "") -> Any:
    """Return a scheduler that says this of every job."""
    scheduler = SimpleNamespace(
        job=lambda record: Job(record, "job 7"), state=lambda _: JobState(phase, reason)
    )
    return lambda *_: scheduler


@pytest.mark.parametrize("clock_off", [-3600.0, 0.0, 3600.0])
def test_elapsed_time_is_that_of_one_clock(tmp_path: Path, clock_off: float):
    attempt = attempt_of(tmp_path)
    start(attempt, ago=100, heard=2, clock_off=clock_off)
    cell = Cell(
        attempt.run, assess(attempt.run, said_by_slurm(JobPhase.RUNNING, "on n1"))
    )
    assert cell.elapsed == pytest.approx(98, abs=1)
    records.replace(
        attempt.directory / "end.json",
        {"outcome": Outcome.FAILED, "reason": "x", "time": 0.0},
    )
    ended = Cell(attempt.run, Assessment(RunState.FAILED, attempt=attempt))
    assert ended.elapsed == pytest.approx(100, abs=2)
    assert ended.to_record()["ended"] - ended.to_record()["started"] == pytest.approx(
        100, abs=2
    )


@pytest.mark.parametrize(
    ("reason", "heard", "silent"),
    [("on n1", 600, True), ("on n1", 30, False), ("suspended", 600, False)],
)
def test_a_running_job_that_nothing_is_heard_of_is_told(
    tmp_path: Path, reason: str, heard: float, silent: bool
):
    attempt = attempt_of(tmp_path)
    start(attempt, ago=1000, heard=heard)
    now = assess(attempt.run, said_by_slurm(JobPhase.RUNNING, reason))
    assert now.state is RunState.RUNNING
    assert now.silent is silent
    told = "\n".join(
        map(str, status._sentences([Row("exp", {"grow": Cell(attempt.run, now)})]))
    )
    assert ("nothing has been heard of it for 10 min" in told) is silent
    assert ("mllam-exps cancel grow, then dvc exp run" in told) is silent


@pytest.mark.parametrize(
    ("stage", "saving", "failed"),
    [
        ("failed", None, True),
        ("cancelled", None, False),
        ("failed", "cancelled", False),
        (None, "failed", True),
    ],
)
def test_an_experiment_has_failed_though_its_saving_waits(
    tmp_path: Path, stage: str | None, saving: str | None, failed: bool
):
    runs = {name: attempt_of(tmp_path / name, name) for name in ("grow", "save")}
    for attempt, outcome in ((runs["grow"], stage), (runs["save"], saving)):
        if outcome:
            records.replace(
                attempt.directory / "end.json",
                {"outcome": outcome, "reason": "x", "time": 0.0},
            )
    experiment: Any = SimpleNamespace(
        saving=runs["save"].run, runs={"grow": runs["grow"].run}
    )
    assert again.has_failed(experiment) is failed


def test_what_only_advance_goes_on_with_is_told():
    found = row("lr-1", RunState.NEW)
    experiment: Any = SimpleNamespace(waits="no room")
    saving = Cell(found.cells["grow"].run, Assessment(RunState.NEW))
    waits = Row("lr-1", found.cells, experiment, saving)
    assert proposed([waits]) == []
    alone = replace(waits, needs_advance=True)
    assert proposed([alone]) == ["mllam-exps advance"]
