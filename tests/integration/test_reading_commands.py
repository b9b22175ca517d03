"""Commands that read change nothing in the run store, and submit nothing; `advance` does."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from support.experiment import Experiment
from support.slurm_cluster import on, write_machine
from support.slurm_double import Double
from support.submissions import submit

from mllam_exps.base.errors import UsageError
from mllam_exps.commands.reading import logs, scores, show, status, verify, why
from mllam_exps.commands.team import listing


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Double]:
    double = Double(tmp_path / "double")
    yield double
    double.down()


@pytest.fixture
def waiting(
    double: Double, made: Experiment, monkeypatch: pytest.MonkeyPatch
) -> Experiment:
    """Two experiments: one whose jobs are pending, and one that would fit by now, but was not submitted."""
    made.environ["PATH"] = f"{double.bin}{os.pathsep}{made.environ['PATH']}"
    toy = on(double, made, max_jobs=1)
    double.pend("Priority")
    submit(toy, "-n", "lr", "-S", "toy.yaml:grow.seconds=0.1,0.2")
    write_machine(toy, max_jobs=3)
    for name, value in toy.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(toy.root)
    return toy


def snapshot(toy: Experiment, double: Double) -> dict[str, object]:
    """Return every file of the run store with its content, and the scheduler's jobs."""
    found: dict[str, object] = {}
    for folder in (toy.store.parent, double.folder / "jobs"):
        for path in folder.rglob("*"):
            name = str(path.relative_to(folder.parent))
            # squeue's last answer, which all processes of a user share, is asked for anew
            # when it is old.
            if "/slurm/" not in name and path.is_file():
                found[name] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Return the names of what was made, removed or written."""
    return [
        name
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch for three rounds."""
    rounds = iter(range(3))

    def pause(_seconds: float) -> None:
        if next(rounds, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        status, "time", SimpleNamespace(sleep=pause, strftime=time.strftime)
    )
    with contextlib.suppress(KeyboardInterrupt):
        status.show([], everything=False, as_json=False, watch=True)


def nothing_printed() -> None:
    with contextlib.suppress(UsageError):
        logs.show("lr-1", None, follow=False, number=None, lines=None)


def no_scores() -> None:
    with contextlib.suppress(UsageError):
        scores.show(as_json=False)


READING: dict[str, Callable[[], object]] = {
    "status": lambda: status.show([], everything=False, as_json=False, watch=False),
    "status --all --json": lambda: status.show(
        [], everything=True, as_json=True, watch=False
    ),
    "list": lambda: listing.show(
        "", sort="date", turned=False, columns="", limit=None, as_json=False
    ),
    "show lr-2": lambda: show.show("lr-2", as_json=False),
    "show lr-2 --json": lambda: show.show("lr-2", as_json=True),
    "logs lr-1": nothing_printed,
    "why grow": lambda: why.show("grow", as_json=True),
    "scores": no_scores,
    "verify": lambda: verify.verify([], as_json=True),
}


def test_commands_that_read_change_nothing_and_submit_nothing(
    waiting: Experiment, double: Double, monkeypatch: pytest.MonkeyPatch
):
    before = snapshot(waiting, double)
    for name, command in READING.items():
        command()
        assert changed(before, snapshot(waiting, double)) == [], name
    watched(monkeypatch)
    assert changed(before, snapshot(waiting, double)) == [], "status --watch"
    # It fits by now, and none of these has submitted it.
    said = json.loads(waiting.ok("mllam-exps", "advance", "--json"))
    assert said == {"submitted": {"lr-2": ["grow", "save"]}, "waits": [], "refused": []}
    after = snapshot(waiting, double)
    assert any(name.startswith("jobs/") for name in changed(before, after))
    assert waiting.ok("mllam-exps", "advance", "--watch") == "", "cron would send it"
    assert changed(after, snapshot(waiting, double)) == [], "nothing waits any more"


def test_an_experiment_of_one_stage_has_no_results_of_a_later_one(made: Experiment):
    """`dvc exp run TARGET` (3.67) leaves what ``dvc.lock`` has of the others as it was."""
    lock = yaml.safe_load((made.root / "dvc.lock").read_text())
    made_by_make = lock["stages"]["make"]["outs"]
    grown = [{"path": "grown.json", "hash": "md5", "md5": "1" * 32}]
    command = "mllam-exps run grow"
    lock["stages"]["grow"] = {"cmd": command, "deps": made_by_make, "outs": grown}
    (made.root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    made.ok("git", "commit", "-qam", "All")
    target = ("-S", "toy.yaml:+make.mark=other", "make")
    made.ok("dvc", "exp", "run", "-q", "-n", "part", *target)
    said = made.ok("mllam-exps", "show", "part").splitlines()
    assert [line.split(",")[0] for line in said if line[:4] in {"make", "grow"}] == [
        "make        done",
        "grow        not run: its result in dvc.lock was made with other inputs (made",
    ]
    made.ok("mllam-exps", "tag", "part", "half")
    [one] = json.loads(made.ok("mllam-exps", "list", "tag=half", "--json"))
    assert (one["name"], one["state"]) == ("part", "incomplete")
    assert one["values"]["toy.yaml:make.mark"] == "other"
    assert [tag["tag"] for tag in one["tags"]] == ["half"]
