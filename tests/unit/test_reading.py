"""What the commands that read tell of a store that several experiments use: all of them, each in the same words."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mllam_exps.base import records
from mllam_exps.base.endings.causes import Cause
from mllam_exps.base.errors import Exit, MllamError, Problem, UsageError
from mllam_exps.commands.housekeeping import clean
from mllam_exps.commands.reading import show, status, why
from mllam_exps.commands.running import cancel, retry
from mllam_exps.dvc.saved.experiment_refs import ref_of
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs import askers, layout
from mllam_exps.runs.continuation import Rules
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import cancelling, experiments
from mllam_exps.submission.experiment import Experiment, Step
from mllam_exps.views import gathering, looking, sentences
from mllam_exps.views.context import Context
from mllam_exps.views.rows import Cell, Row
from mllam_exps.views.saved import Results, Told

BASELINE = "0" * 40


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A repository without anything, and its run store."""
    root = tmp_path / "here"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").touch()
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    monkeypatch.setattr(Context, "store", RunStore(tmp_path / "store"))
    return Context(Workspace(root, root, "workspace", ""), None)  # type: ignore[arg-type]


def run_of(
    here: Context,
    stage: str = "grow",
    digit: str = "0",
    *,
    asked_by: str = "",
    outcome: str = "",
) -> Run:
    """Return a run, tried once by an experiment of `dvc exp run` if one is named, with that outcome."""
    run = here.store.run(f"{stage}-{digit * 32}")
    run.begin(cast(RunDefinition, SimpleNamespace(to_record=lambda: {"stage": stage})))
    if asked_by:
        attempt = run.claim(
            1,
            scheduler="local",
            experiment=asked_by,
            workspace=here.workspace.root,
            working_directory=None,
        )
        assert attempt is not None
        if outcome:
            records.replace(
                attempt.directory / "end.json",
                {"outcome": outcome, "reason": outcome, "time": 0.0},
            )
    return run


def submitted(
    here: Context,
    name: str,
    *runs: Run,
    created: float = 1.0,
    baseline: str = BASELINE,
    end: str = "",
) -> Experiment:
    """Return a submitted experiment of the repository that has these runs."""
    facts = {"name": name, "created": created, "baseline": baseline}
    place = here.store.directory / "experiments" / experiments.identity(facts)
    place.mkdir(parents=True)
    more = {
        "prefix": "",
        "overrides": {},
        "command": ["mllam-exps", "submit"],
        "message": "",
        "machine": "local",
    }
    steps = tuple(Step(run.stage, run.key) for run in runs)
    origin = str(here.workspace.origin)
    experiment = Experiment(
        place, origin=origin, uid=place.stat().st_uid, steps=steps, **facts, **more
    )
    records.replace(place / "run.json", experiment.to_record())
    (place / "attempts").mkdir()
    if end:
        assert experiments.call_off(experiment, end, Outcome(end))
    return experiment


def shown(here: Context, *names: str, everything: bool = False) -> dict[str, list[str]]:
    """Return the stages of each row, by name."""
    return {
        row.name: list(row.cells)
        for row in gathering.gather(here, [*names], everything=everything)
    }


def test_all_who_use_a_run_are_shown(here: Context):
    make = run_of(here, "make", asked_by="first")
    grow = run_of(here, "grow", asked_by="first", outcome="failed")
    for run in (make, grow):
        askers.note(run, "attached", here.workspace.origin)
        askers.note(run, "workspace", here.workspace.origin)
        askers.note(run, "foreign", here.workspace.origin / "elsewhere")
    submitted(here, "sub", make, grow)
    both = ["make", "grow"]
    assert {name: sorted(stages) for name, stages in shown(here).items()} == {
        name: sorted(both) for name in ("first", "attached", "workspace", "sub")
    }
    assert set(shown(here, "attached")) == {"attached"}
    assert "foreign" in shown(here, everything=True)
    assert set(here.asked_for_by("attached")) == set(both)
    assert set(here.asked_for_by("first")) == set(both)


def test_a_repository_that_was_moved_with_its_store_shows_what_it_showed(
    here: Context, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        Context, "store", RunStore(here.workspace.origin / ".dvc/cache/mllam-exps")
    )
    askers.note(run_of(here), "workspace", Path("/old place"))
    askers.note(run_of(here, "make"), "workspace", here.workspace.origin)
    assert {name: sorted(stages) for name, stages in shown(here).items()} == {
        "workspace": ["grow", "make"]
    }


def test_of_what_was_asked_for_twice_the_newest_is_shown(here: Context):
    old, new = run_of(here, digit="1"), run_of(here, digit="2")
    for number, run in enumerate((new, old, new)):
        askers.note(run, "workspace", here.workspace.origin)
        for path in (run.directory / layout.ASKED).iterdir():
            os.utime(path, (number, number))
    [row] = gathering.gather(here, [], everything=True)
    assert row.cells["grow"].run.key == new.key


def test_what_a_deleted_submission_left_is_shown_under_its_name_once(here: Context):
    grow = run_of(here)
    gone = here.store.directory / "experiments/save-0/clone"
    assert grow.claim(
        1, scheduler="local", experiment="gone", workspace=gone, working_directory=None
    )
    assert set(shown(here)) == {"gone"}
    submitted(here, "sub", grow)
    assert set(shown(here)) == {"sub"}


def test_a_submission_that_was_refused_is_no_experiment_of_dvc_s(here: Context):
    """Its `dvc exp run -n` would run what lies in the workspace."""
    attempt = run_of(here).claim(
        1,
        scheduler="local",
        experiment="refused",
        workspace=here.store.directory / "experiments/save-0/clone",
        working_directory=None,
    )
    assert attempt is not None
    attempt.end(Outcome.FAILED, Problem("an input is damaged"))
    assert gathering.gather(here, [], everything=True) == []


def test_a_former_run_of_an_experiment_is_not_shown_beside_it(here: Context):
    """What a link leads to has changed since: submitted again, the experiment has another run."""
    old, new = run_of(here, digit="1"), run_of(here, digit="2")
    one = submitted(here, "one", new)
    attempt = old.claim(
        1,
        scheduler="local",
        experiment="one",
        workspace=one.clone,
        working_directory=None,
    )
    assert attempt is not None
    old.want(one.identity)
    rows = gathering.gather(here, [], everything=True)
    assert len(rows) == 2, "it may be at work still"
    attempt.end(Outcome.FAILED, Problem("its input changed"))
    [row] = gathering.gather(here, [], everything=True)
    assert row.cells["grow"].run.key == new.key


def test_a_name_that_was_taken_over_leads_nowhere_wrong(here: Context):
    grow = run_of(here)
    old = submitted(here, "exp", grow, end="failed")
    submitted(here, "exp", grow, created=2.0, baseline="1" * 40)
    [row] = gathering.gather(here, [], everything=False)
    assert row.experiment is not None
    assert row.experiment.created == 2.0
    everything = gathering.gather(here, [], everything=True)
    texts = [str(text) for text in status._sentences(everything)]
    assert [line for text in texts for line in text.splitlines() if "→" in line] == [
        f"  → mllam-exps clean {old.identity}",
        "  → mllam-exps advance",
    ]
    assert here.submitted(old.identity).created == 1.0


@pytest.mark.parametrize(("end", "word"), [("", "waits"), ("cancelled", "not run")])
def test_show_and_status_say_the_same_words(here: Context, end: str, word: str):
    experiment = submitted(here, "exp", run_of(here), end=end)
    row = looking.of_experiment(experiment)
    assert row.word("grow") == word
    lines = list(show._results(row, show.to_record(row, "")))
    assert lines[0].split("  ")[-1].strip() == word
    first = next(show._lines(row, show.to_record(row, "")))
    assert first == f"experiment  exp  ({end or 'waits'})"


def test_an_unknown_name_gets_the_same_words_everywhere(here: Context):
    submitted(here, "lr-1", run_of(here))
    with pytest.raises(MllamError) as caught:
        here.submitted("nix")
    assert (
        str(caught.value)
        == "no experiment is called 'nix': there are lr-1\n  → mllam-exps status --all"
    )
    with pytest.raises(MllamError) as caught:
        status._rows(here, ["nix"], everything=False)
    assert "no experiment and no stage is called 'nix': there are lr-1, grow" in str(
        caught.value
    )
    for name, meant in (("lr", "'lr-*'"), ("lr-2", "lr-1")):
        with pytest.raises(MllamError) as caught:
            here.submitted(name)
        assert caught.value.next == f"did you mean {meant}?"


def test_several_stale_stages_make_a_sentence():
    assert why._before(["a"]) == "stage a is stale, and runs before it"
    assert (
        why._before(["a", "b", "c"]) == "stages a, b and c are stale, and run before it"
    )


def test_cancelling_outlasts_a_look_at_what_waits(
    here: Context, monkeypatch: pytest.MonkeyPatch, capsys
):
    """The process that submits what waits claims an attempt in the same moment, and gives it up."""
    experiment = submitted(here, "exp", run_of(here))
    call_off, calls = experiments.call_off, []

    def second_time(*given: Any) -> bool:
        calls.append(given)
        return len(calls) > 1 and call_off(*given)

    monkeypatch.setattr(experiments, "call_off", second_time)
    cancelling._note_the_end(experiment)
    assert assess(experiment.saving).state == "cancelled"
    assert capsys.readouterr().err == ""


def test_cancelling_a_stage_that_is_not_at_work_says_what_is(here: Context):
    run = run_of(here, asked_by="first", outcome="failed")
    with pytest.raises(MllamError) as caught:
        cancel._cancel_run(here, run, force=False)
    assert (
        caught.value.what
        == "nothing to cancel: the run of stage grow for the files as they are here is failed"
    )


def killed(here: Context, *, asked_by: str) -> Run:
    """Return a run whose program was killed, and is followed by another one as its machine file says."""
    run = run_of(here, asked_by=asked_by)
    attempt = run.last_attempt()
    assert attempt is not None
    again = Rules(frozenset({Cause.KILLED}), max_attempts=3).to_record()
    records.replace(attempt.directory / layout.SPEC, {"rules": again})
    attempt.start(None)
    problem = Problem("the program was killed")
    attempt.end(Outcome.FAILED, problem, cause=Cause.KILLED)
    return run


def told(here: Context) -> str:
    """Return what `mllam-exps status` says of the experiments, and `--json` of their stages."""
    rows = gathering.gather(here, [], everything=True)
    records = [row.to_record() for row in rows]
    return json.dumps(records) + "\n".join(map(str, sentences.sentences(rows)))


def cancelled(here: Context, *wanted: Experiment) -> None:
    """Cancel experiments."""
    cancelling.Cancellation(
        here.store, [*wanted], force=False, tell=lambda _line: None
    ).stop()


def test_nothing_follows_in_an_experiment_that_was_cancelled(here: Context):
    run = killed(here, asked_by="a")
    first, second = submitted(here, "a", run), submitted(here, "b", run)
    assert "another one is to follow" in told(here)
    cancelled(here, first)
    assert assess(run).another_follows, "b waits for it"
    cancelled(here, second)
    now = assess(run)
    assert (now.state, now.another_follows) == (RunState.CANCELLED, False)
    assert "is to follow" not in told(here)
    assert looking.of_experiment(second).state is RunState.CANCELLED


def test_a_run_that_nobody_waits_for_promises_nothing(here: Context):
    run = killed(here, asked_by="gone")
    said = told(here)
    assert "grow failed: the program was killed" in said
    assert "is to follow" not in said
    cancel._cancel_run(here, run, force=False)
    assert assess(run).state is RunState.CANCELLED


def test_what_waited_for_room_waits_no_more_once_it_was_cancelled(here: Context):
    run = run_of(here, asked_by="a")
    attempt = run.last_attempt()
    assert attempt is not None
    attempt.end(Outcome.REFUSED, Problem("1 of your jobs at once"))
    experiment = submitted(here, "a", run)
    assert "1 of your jobs at once" in told(here)
    cancelled(here, experiment)
    assert "1 of your jobs at once" not in told(here)


def test_clean_says_what_would_become_free_and_that_nothing_was_deleted(
    here: Context, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(Context, "open", lambda: here)
    experiment = submitted(here, "exp", end="failed")
    clean.clean([], failed=False, older_than="", dry_run=True, yes=False, as_json=False)
    said = capsys.readouterr().out
    assert "would become free; nothing was deleted (--dry-run)" in said.splitlines()[-1]
    assert experiment.directory.is_dir()


def test_clean_takes_what_one_of_dvc_exp_run_has_left_and_nobody_needs(
    here: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def typed(*names: str) -> None:
        clean.clean(
            list(names),
            failed=False,
            older_than="",
            dry_run=False,
            yes=True,
            as_json=False,
        )

    monkeypatch.setattr(Context, "open", lambda: here)
    root = here.workspace.origin
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    stopped = run_of(here, asked_by="ctrlc", outcome="cancelled")
    shared = run_of(here, "make", asked_by="ctrlc", outcome="cancelled")
    submitted(here, "needs", shared)
    others = run_of(here, digit="1", asked_by="other", outcome="cancelled")
    typed("ctrlc")
    assert not stopped.directory.exists()
    assert shared.directory.exists() and others.directory.exists()
    typed("ctrlc")
    assert "nothing to clean of ctrlc: what `dvc" in capsys.readouterr().out
    ref = ref_of(BASELINE, "other")
    subprocess.run([*git, "update-ref", ref, "HEAD"], check=True)
    with pytest.raises(UsageError, match="dvc exp remove other"):
        typed("other")
    assert others.directory.exists()


def test_one_of_dvc_exp_run_that_is_not_saved_yet_is_among_the_near_names(
    here: Context,
):
    run_of(here, asked_by="skint-pond")
    assert here.unknown("skint-pnd").next == "did you mean skint-pond?"


def test_what_ended_with_nan_is_not_tried_again_unasked(
    here: Context, capsys: pytest.CaptureFixture[str]
):
    runs = [run_of(here, digit=digit, asked_by="x", outcome="failed") for digit in "12"]
    for name, run in zip(("exp-1", "exp-2"), runs, strict=True):
        submitted(here, name, run)
    attempt = runs[1].last_attempt()
    assert attempt is not None
    end = {"outcome": "failed", "reason": "NaN", "cause": "not_finite", "time": 0.0}
    records.replace(attempt.directory / "end.json", end)

    def wanted(*names: str, failed: bool = True) -> list[str]:
        return [e.name for e in retry._wanted(here, [*names], failed=failed)]

    assert wanted() == ["exp-1"]
    note = "note: exp-2: it ended with NaN, and would end the same way again; --failed leaves that as it is"
    way_out = "mllam-exps status exp-2 says what helps; mllam-exps retry exp-2 tries it as it was"
    assert capsys.readouterr().err == f"{note}\n  → {way_out}\n"
    with pytest.raises(MllamError, match="nothing else has failed") as caught:
        wanted("exp-2")
    assert caught.value.exit is Exit.OK
    assert wanted("exp-2", failed=False) == ["exp-2"]
    rows = [
        row for row in gathering.gather(here, [], everything=True) if row.experiment
    ]
    assert status._ways_out(rows) == "mllam-exps retry exp-1"


def test_an_attempt_that_had_to_wait_is_none(here: Context):
    run = run_of(here, asked_by="exp", outcome="failed")
    for number, outcome in ((2, "refused"), (3, "refused")):
        attempt = run.claim(
            number,
            scheduler="local",
            experiment="exp",
            workspace=here.workspace.root,
            working_directory=None,
        )
        assert attempt is not None
        end = {"outcome": outcome, "reason": "max_jobs are at work", "time": 0.0}
        records.replace(attempt.directory / "end.json", end)
    waits = [*show._look(here, "exp")[1]][1:]
    assert waits == [
        "grow        not run",
        "            attempt 1: failed",
    ]
    attempt = run.claim(
        4,
        scheduler="local",
        experiment="exp",
        workspace=here.workspace.root,
        working_directory=None,
    )
    assert attempt is not None
    records.replace(
        attempt.directory / "end.json", end | {"outcome": "failed", "reason": "x"}
    )
    failed = [*show._look(here, "exp")[1]][1:]
    assert failed[0].startswith("grow        failed, attempt 4 (try 1): x\n")
    assert failed[1:] == ["            attempt 1: failed"]


def test_what_is_just_saved_or_submitted_stands_there_once(
    here: Context, monkeypatch: pytest.MonkeyPatch
):
    """Its ref is there before the run store says that it is saved; its runs may be there before it is read."""
    root = here.workspace.origin
    who = {
        f"GIT_{role}_{what}": "a@b"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    for words in (
        "commit -q --allow-empty -m E",
        f"update-ref {ref_of(BASELINE, 'x')} HEAD",
    ):
        subprocess.run(
            ["git", "-C", str(root), *words.split()], check=True, env=os.environ | who
        )
    monkeypatch.setattr(Results, "told", lambda *_: Told({"grow": grow}))
    grow = run_of(here)
    x = submitted(here, "x", grow)
    rows = gathering.gather(here, [], everything=True)
    assert [(row.name, row.experiment is not None) for row in rows] == [("x", True)]
    assert grow.claim(
        1, scheduler="local", experiment="x", workspace=x.clone, working_directory=None
    )
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "of_store", lambda _: iter(()))
        patch.setattr(gathering.experiment_refs, "saved_if_there", lambda _: [])
        assert gathering.gather(here, [], everything=True) == []


def test_who_watches_in_a_pipe_is_told_each_change_once(
    here: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def rows(*states: RunState) -> list[Row]:
        found = []
        for number, state in enumerate(states, start=1):
            cell = Cell(run_of(here, digit=str(number)), Assessment(state))
            found.append(Row(f"exp-{number}", {"grow": cell}))
        return found

    later = [
        rows(RunState.DONE, RunState.RUNNING, RunState.PENDING),
        rows(RunState.DONE, RunState.RUNNING, RunState.RUNNING),
        rows(RunState.DONE, RunState.DONE, RunState.FAILED),
    ]
    monkeypatch.setattr(status, "gather", lambda *_, **__: later.pop(0))
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    first = later.pop(0)
    status._wait(here, [], first, everything=False)
    assert [line[9:] for line in capsys.readouterr().out.splitlines()] == [
        "exp-2: grow running",
        "exp-3: grow pending",
        "exp-3: grow running",
        "exp-2: grow done",
        "exp-3: grow failed",
    ]
