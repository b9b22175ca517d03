"""What is refused of a sweep, and what is told of it; what is frozen of DVC's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import MllamError, Problems, UsageError
from mllam_exps.dvc.parameters.overrides import Variant
from mllam_exps.preflight.here import Here
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import planning
from mllam_exps.submission.experiment import Step
from mllam_exps.submission.names import Names
from mllam_exps.submission.planning import Planner, Typed


def refused(*whats: str) -> list[MllamError]:
    return [UsageError(what) for what in whats]


@pytest.mark.parametrize(
    ("problems", "told"),
    [
        ([["a"]], ["a"]),
        ([["a", "b"], ["b", "c"]], ["a", "b", "c"]),
        ([["a"], ["b"], ["c"], ["a"]], ["a", "b", "c"]),
        (
            [["a"], ["b"], ["c"], ["d"], ["e", "a"]],
            [
                "a",
                "b",
                "c",
                "… and 2 more of these experiments are refused, each for a value of its own",
            ],
        ),
    ],
)
def test_of_many_refused_experiments_three_are_told(
    problems: list[list[str]], told: list[str]
):
    found = planning._told([refused(*whats) for whats in problems])
    assert [one.what for one in found] == told


@pytest.fixture
def planner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Planner:
    """A planner of which only names are real; git is not asked."""
    state = SimpleNamespace(baseline="b" * 40, checkout=None)
    monkeypatch.setattr(planning.clones, "state", lambda _: state)
    monkeypatch.setattr(planning.checkouts, "hidden_changes", lambda _: ["a.py"])
    monkeypatch.setattr(planning.checkouts, "embedded", lambda _: [])
    monkeypatch.setattr(planning.experiments, "of_store", lambda _: [])
    monkeypatch.setattr(planning.experiment_names, "saved_in_git", lambda *_: {})
    here: Any = SimpleNamespace(root=tmp_path, origin=tmp_path)
    none: Any = None
    return Planner(Here(here, none, none, none))


def test_all_that_is_wrong_is_told_and_nothing_is_left_behind(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def plan(_self: Planner, variant: Variant, _names: Any) -> Any:
        site = tmp_path / variant.name
        site.mkdir()
        planner._sites.append(site)
        if variant.name == "one":
            raise UsageError("wrong")
        if variant.name == "several":
            raise Problems(problems=refused("wrong", "worse"))
        return variant.name

    monkeypatch.setattr(Planner, "_plan", plan)
    with planner as inside:
        assert inside.plan([Variant({}, "good")]) == ["good"]
        variants = [Variant({}, name) for name in ("fine", "one", "several")]
        with pytest.raises(Problems) as caught:
            inside.plan(variants)
    assert [one.what for one in caught.value.problems] == ["wrong", "worse"]
    assert list(tmp_path.iterdir()) == []


def test_a_note_is_told_once(planner: Planner):
    planner.note(["slow", "slow"])
    planner.note(["slow"])
    told = "a.py was changed, but git is told to overlook that: experiments take it as it is committed"
    assert planner.notes == [told, "slow"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {}),
        ({"type": "symlink"}, {"type": "symlink"}),
        ({"type": ["reflink", "copy"]}, {"type": ["reflink", "copy"]}),
        ({"shared": "group", "dir": "elsewhere"}, {"shared": "group"}),
        ({"shared": None}, {}),
    ],
)
def test_a_clone_has_the_cache_of_its_origin(
    planner: Planner, given: dict[str, Any], kept: dict[str, Any]
):
    repo: Any = SimpleNamespace(
        settings={"cache": given, "parsing": {}}.get, cache_directory=Path("/cache")
    )
    planner.here = replace(planner.here, repo=repo)
    assert planner._settings() == {"cache": {"dir": "/cache"} | kept}


def test_a_clone_writes_options_of_commands_as_its_origin(planner: Planner):
    """DVC makes `--no-x` of `x: false` in `${options}`, or nothing, as it is set to."""
    given = {"cache": {}, "parsing": {"bool": "boolean_optional", "list": "append"}}
    repo: Any = SimpleNamespace(settings=given.get, cache_directory=Path("/cache"))
    planner.here = replace(planner.here, repo=repo)
    assert planner._settings() == given | {"cache": {"dir": "/cache"}}


def test_data_that_were_changed_since_they_were_added_are_refused(planner: Planner):
    asked: list[set[str]] = []

    def changed_since_added(paths: set[str]) -> list[str]:
        asked.append(paths)
        return ["data/a"]

    pipeline: Any = SimpleNamespace(
        stage_names=["x", "y"], added_inputs=lambda stage: ["data/a", f"data/{stage}"]
    )
    repo: Any = SimpleNamespace(
        changed_since_added=changed_since_added, root=Path("/nowhere")
    )
    planner.here = replace(planner.here, repo=repo)
    with pytest.raises(UsageError, match="was changed since `dvc add`"):
        planner._refuse_changed_data(pipeline)
    assert asked == [{"data/a", "data/x", "data/y"}]
    repo.changed_since_added = lambda _: []
    planner._refuse_changed_data(pipeline)


@pytest.mark.parametrize(
    ("result", "known"), [(None, {"out": {"digest": "d"}}), (object(), {})]
)
def test_what_the_store_has_is_not_taken_from_dvc(
    planner: Planner, result: Any, known: dict[str, Any]
):
    made, given = SimpleNamespace(run="make-1"), SimpleNamespace(run=None)
    answer = SimpleNamespace(outputs={"out": {"digest": "d"}}, inputs={"a": "i"})
    pipeline: Any = SimpleNamespace(
        definition=lambda _: SimpleNamespace(key="k-1", inputs=(made, given)),
        answer_of_dvc=lambda _: answer,
    )
    store: Any = SimpleNamespace(run=lambda _: SimpleNamespace(result=result))
    planner.here = replace(planner.here, store=store)
    planner.typed = Typed(force=True)  # which needs no notes
    step = planner._step(pipeline, "grow")
    assert (step.stage, step.key, step.needs) == ("grow", "k-1", ("make-1",))
    assert dict(step.known) == known


def test_what_was_saved_is_another_experiment_where_only_its_runs_differ(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """git keeps nothing of what lies behind a link that leads out of the repository."""
    there: dict[Path, Any] = {}
    monkeypatch.setattr(planning.experiments, "read", there.get)
    here: Any = SimpleNamespace(
        baseline="b" * 40, tree="t", prefix="", edited=(), name="local"
    )
    planner.state = here
    planner.here = replace(planner.here, store=RunStore(tmp_path), machine=here)

    def place(key: str) -> Path:
        none: Any = None
        frozen = planning._Frozen(none, ["a"], {}, (Step("a", key),), {})
        names = Names([], dict, force=False)
        return planner._experiment(Variant({}, "x"), "", frozen, names).directory

    saved = SimpleNamespace(name="x", commit="c", created=1.0, steps=(Step("a", "1"),))
    there[place("1")] = saved
    assert place("1") in there
    assert place("2") not in there
    assert place("2") != place("3")
    saved.commit = ""  # it failed, say: it is tried again with what is there now
    assert place("2") in there
