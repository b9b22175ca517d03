"""`mllam-exps submit` on this host: what becomes an experiment, what is shared, what is refused, and what goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml
from support.experiment import PATIENCE, Experiment, eventually
from support.submissions import rows, settled, shown, submit

from mllam_exps.base.errors import MllamError
from mllam_exps.dvc.parameters import overrides


def watchers(toy: Experiment) -> list[psutil.Process]:
    """Return the processes of ours that live for this test's store."""
    store = str(toy.root / ".dvc/cache/mllam-exps")
    return [
        p
        for p in psutil.process_iter()
        if any(word.startswith(store) for word in _cmdline(p))
    ]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_sweep_becomes_experiments_and_shares_what_it_can(toy: Experiment):
    said = submit(
        toy,
        "-n",
        "lr",
        "-m",
        "Three rates",
        "-S",
        "toy.yaml:grow.seconds=0.01,0.02,0.03",
    )
    assert [one["name"] for one in said] == ["lr-1", "lr-2", "lr-3"]
    settled(toy, "lr-1", "lr-2", "lr-3")
    assert list((toy.root / "logs").glob("*.log"))
    assert "logs" not in toy.ok("git", "status", "--short", "--untracked-files=all")
    assert len(toy.runs("make")) == 1
    assert toy.starts() == 3
    found = shown(toy)
    assert {
        name: data["params"]["toy.yaml"]["data"]["grow"]["seconds"]
        for name, data in found.items()
    } == {
        "lr-1": 0.01,
        "lr-2": 0.02,
        "lr-3": 0.03,
    }
    assert {
        data["metrics"]["grown.json"]["data"]["epochs"] for data in found.values()
    } == {3}
    assert "Three rates" in toy.ok(
        "git", "log", "-1", "--format=%B", rows(toy)["lr-1"]["commit"]
    )
    # The same once more: everything is known, and nothing is made.
    assert [
        one["state"]
        for one in submit(toy, "-n", "lr", "-S", "toy.yaml:grow.seconds=0.01,0.02,0.03")
    ] == ["done"] * 3
    assert toy.starts() == 3
    eventually(lambda: not watchers(toy), 30, "nothing of ours lives on")


def test_a_submitted_experiment_is_one_of_dvc_s(toy: Experiment):
    submit(toy, "-n", "one", "-S", "toy.yaml:grow.epochs=4")
    settled(toy, "one")
    toy.ok("dvc", "exp", "apply", "one")
    assert json.loads((toy.root / "grown/state.json").read_text())["epochs"] == 4
    assert "changed" not in toy.ok("dvc", "status", "make", "grow").replace(
        "always changed", ""
    )
    assert "/grown" in (toy.root / ".gitignore").read_text()
    before = toy.starts()
    toy.ok("dvc", "repro")
    assert toy.starts() == before, "DVC finds nothing stale"
    assert "one" in toy.ok("dvc", "exp", "list")
    toy.ok("dvc", "exp", "branch", "one", "kept")
    toy.ok("git", "init", "-q", "--bare", "-b", "main", str(toy.root.parent / "shared"))
    toy.ok(
        "dvc",
        "remote",
        "add",
        "--local",
        "-d",
        "share",
        str(toy.root.parent / "shared"),
    )
    toy.ok("dvc", "exp", "push", str(toy.root.parent / "shared"), "one")
    assert "one" in toy.ok("dvc", "exp", "list", str(toy.root.parent / "shared"))


def test_what_runs_is_what_was_there(toy: Experiment):
    toy.set("toy.yaml", grow__epochs=2, grow__seconds=0.3)
    new = toy.root / "notes.txt"
    new.write_text("staged\n")
    toy.ok("git", "add", "notes.txt")
    before = toy.ok("git", "status", "--short")
    submit(toy, "-n", "frozen")
    toy.set("toy.yaml", grow__epochs=9)
    assert toy.ok("git", "status", "--short").split() == before.split(), (
        "submitting changes nothing"
    )
    settled(toy, "frozen")
    assert shown(toy)["frozen"]["metrics"]["grown.json"]["data"]["epochs"] == 2
    assert (
        toy.ok("git", "show", f"{rows(toy)['frozen']['commit']}:notes.txt")
        == "staged\n"
    )


def test_what_dvc_knows_is_not_made_again(made: Experiment):
    """The dataset came with a colleague's `dvc push`: there is no run of it in this store."""
    shutil.rmtree(made.store)
    [said] = submit(made, "-n", "known")
    assert {s["stage"]: s["state"] for s in said["stages"]}["make"] == "known"
    settled(made, "known")
    assert not made.runs("make")
    made.ok("dvc", "exp", "apply", "known")
    assert "changed" not in made.ok("dvc", "status", "make", "grow").replace(
        "always changed", ""
    )


def test_dvc_s_digest_ignores_a_parameter_called_size_and_we_do_not(made: Experiment):
    shutil.rmtree(made.store)
    [said] = submit(made, "-n", "other", "-S", "toy.yaml:make.size=3")
    assert {s["stage"]: s["state"] for s in said["stages"]}["make"] == "submitted"
    settled(made, "other")


def test_a_failure_is_told_kept_and_gone_on_from(made: Experiment):
    submit(
        made, "-n", "bad", "-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=2"
    )
    row = settled(made, "bad")["bad"]
    assert row["state"] == "failed"
    table = made.ok("mllam-exps", "status")
    assert "grow failed: exit code 1: ValueError: the weather is bad" in " ".join(
        table.split()
    )
    assert "mllam-exps retry bad" in table
    assert "the weather is bad" in made.ok("mllam-exps", "logs", "bad")
    assert "bad" not in shown(made)
    made.ok("mllam-exps", "status")
    time.sleep(1)
    assert made.starts() == 1, "nobody tries it again by himself"
    assert "bad: failed already" in made.ok("mllam-exps", "cancel", "bad")
    made.ok("mllam-exps", "retry", "--failed")
    assert settled(made, "bad")["bad"]["state"] == "done"
    assert made.starts() == 2
    made.ok("dvc", "exp", "apply", "bad")
    assert (
        len(json.loads((made.root / "grown/state.json").read_text())["starts"]) == 2
    ), "from the checkpoint"
    refused = made.command("mllam-exps", "retry", "bad")
    assert (refused.returncode, "is done" in refused.stdout) == (2, True)


def test_cancel_stops_what_nobody_else_wants(made: Experiment):
    made.environ["MLLAM_MACHINE_OPTIONS"] = "max_jobs=3"
    slow = ("-S", "toy.yaml:grow.seconds=30")
    submit(made, "-n", "a", *slow)
    submit(made, "-n", "b", *slow)
    eventually(lambda: made.starts() == 1, 60, "the run works")
    said = made.ok("mllam-exps", "cancel", "a")
    assert "grow goes on: experiment b waits for it" in said
    assert rows(made)["a"]["saving"]["state"] == "cancelled"
    assert rows(made)["b"]["state"] == "running"
    made.ok("mllam-exps", "cancel", "b")
    assert {row["state"] for row in rows(made, "a", "b").values()} == {"cancelled"}
    assert made.ok("mllam-exps", "status", "b").count("cancelled") >= 2, "grow, and b"
    assert made.starts() == 1
    eventually(lambda: not watchers(made), 30, "nothing of ours lives on")


def test_no_more_at_once_than_the_machine_allows(made: Experiment):
    made.environ["MLLAM_MACHINE_OPTIONS"] = "max_jobs=2"
    submit(made, "-n", "s", "-S", "toy.yaml:grow.seconds=0.3,0.31,0.32,0.33")
    found = settled(made, "s-1", "s-2", "s-3", "s-4")
    assert not any(found[f"s-{number}"]["waits"] for number in range(1, 5))
    # By what they wrote down: `status` looks at one after the other, and may count one
    # that has made room for another.
    spans = [
        [
            json.loads((run / f"attempts/1/{word}.json").read_text())["time"]
            for word in ("started", "end")
        ]
        for run in made.runs("grow")
    ]
    assert max(sum(begin <= now < end for begin, end in spans) for now, _ in spans) <= 2
    assert made.starts() == 4
    assert {found[f"s-{number}"]["state"] for number in range(1, 5)} == {"done"}


def test_a_watcher_that_was_killed_is_replaced_by_advance(made: Experiment):
    made.environ["MLLAM_MACHINE_OPTIONS"] = "max_jobs=1"
    made.set("toy.yaml", grow__epochs=10)
    submit(made, "-n", "w", "-S", "toy.yaml:grow.seconds=0.2,0.21")
    eventually(lambda: made.starts() == 1, 60, "the first works")
    [watcher] = [
        p for p in watchers(made) if "mllam_exps.submission.backlog" in _cmdline(p)
    ]
    watcher.kill()
    eventually(
        lambda: len(list(made.store.glob("grow-*/result.json"))) == 1,
        60,
        "what runs is done",
    )
    # On a busy host the first is being saved for a while.
    eventually(lambda: rows(made)["w-2"]["needs_advance"], 60, "nobody goes on")
    assert made.starts() == 1, "nobody goes on"
    assert made.command("mllam-exps", "advance").returncode in {0, 75}
    assert {
        row["state"] for row in settled(made, "w-1", "w-2").values() if row["user"]
    } == {"done"}
    assert made.starts() == 2


def test_ctrl_c_elsewhere_leaves_what_was_submitted(made: Experiment):
    made.environ["MLLAM_MACHINE_OPTIONS"] = "max_jobs=1"
    submit(made, "-n", "a", "-S", "toy.yaml:grow.seconds=300")
    submit(made, "-n", "b", "-S", "toy.yaml:grow.seconds=301")
    assert (
        "1 of your jobs at once (max_jobs in the machine file), and there"
        in rows(made)["b"]["waits"]
    )
    assert "b: waits in the run store: 1 of your jobs at once" in made.ok(
        "mllam-exps", "status"
    )
    made.ok("mllam-exps", "cancel", "b")
    made.set("toy.yaml", grow__seconds=300)
    driver = made.start("mllam-exps", "run", "grow")
    eventually(
        lambda: list(made.store.glob("grow-*/waiters/*.json")), 60, "the driver waits"
    )
    eventually(
        lambda: rows(made)["a"]["stages"][-1]["state"] == "running",
        60,
        "the run works",
    )
    os.killpg(driver.pid, signal.SIGINT)
    said, _ = driver.communicate(timeout=PATIENCE)
    assert "the run goes on: somebody else waits for it: experiment a" in said
    refused = made.command("mllam-exps", "cancel", "grow")
    assert refused.returncode == 2
    assert "mllam-exps cancel a" in refused.stdout
    assert rows(made)["a"]["state"] == "running"
    assert "a: " in made.ok("mllam-exps", "cancel", "a")
    eventually(
        lambda: "a: cancelled already" in made.ok("mllam-exps", "cancel", "a"),
        120,
        "it is cancelled, and told so",
    )
    watched = made.command("mllam-exps", "status", "--watch", "a")
    assert (watched.returncode, "not done: a" in watched.stdout) == (1, True)


def test_a_machine_file_that_was_edited_makes_no_other_experiment(made: Experiment):
    file = made.root / "machines/here.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text("scheduler: local\n")
    made.ok("git", "add", "-A")
    made.ok("git", "commit", "-qm", "A machine")
    made.environ["MLLAM_MACHINE"] = "here"
    first = submit(made, "-n", "m", "-S", "toy.yaml:grow.epochs=2")
    file.write_text("scheduler: local\nmax_jobs: 3\n")
    assert [
        one["identity"]
        for one in submit(made, "-n", "m", "-S", "toy.yaml:grow.epochs=2")
    ] == [one["identity"] for one in first]
    (made.root / ".dvcignore").write_text("*.tmp\n")
    made.ok("git", "add", "-A")
    refused = made.command(
        "mllam-exps", "submit", "-n", "m", "-S", "toy.yaml:grow.epochs=2"
    )
    assert refused.returncode == 2
    assert "files that it reads have changed since" in refused.stdout
    settled(made, "m")


def test_dry_run_says_and_does_nothing(toy: Experiment):
    said = toy.ok(
        "mllam-exps", "submit", "--dry-run", "-n", "d", "-S", "toy.yaml:grow.epochs=1,2"
    )
    assert "2 experiments; would run: 1 × make, 2 × grow; nothing was submitted" in said
    assert not list((toy.root / ".dvc/cache/mllam-exps/experiments").iterdir())
    assert not toy.store.exists()


BAD = {
    "-S toy.yaml:grow.epoch=3": "grow.epoch",
    "-S ../../etc/passwd:a=1": "lies outside of the repository",
    "-S no.yaml:a=1": "no.yaml",
    "-S toy.yaml:grow.epochs=1,2,[": "cannot be read",
    "-n ../up": "cannot be an experiment's name",
    "-n a/b": "cannot be an experiment's name",
    "-n a..b": "cannot be an experiment's name",
    "-S data/training_params.yaml:hidden_dim=none": "hidden_dim",
    "-S grow.epochs=1": "did you mean -S toy.yaml:grow.epochs=1?",
    "-S toy.yaml:grow.epochs=range(5,1)": "means no value",
    "-S toy.yaml:+grow.epochs=1": "-S toy.yaml:grow.epochs=1: the file has that key",
    "-S toy.yaml:make.nothing=1,2,3,4,5": "and 2 more of these experiments",
    "nostage": "no stage 'nostage'",
}


@pytest.mark.parametrize("options", BAD)
def test_what_is_wrong_is_refused_before_anything_is_submitted(
    toy: Experiment, options: str
):
    done = toy.command("mllam-exps", "submit", *options.split())
    assert done.returncode == 2, done.stdout
    assert BAD[options] in done.stdout
    assert "Traceback" not in done.stdout
    folder = toy.root / ".dvc/cache/mllam-exps/experiments"
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize(
    "name",
    ["a b", "a;b", "a'b", 'a"b', "a\nb", "$(touch x)", "-n", ".hidden", "x.lock", "ü"],
)
def test_odd_names_are_refused_or_harmless(made: Experiment, name: str):
    done = made.command(
        "mllam-exps", "submit", "-S", "toy.yaml:grow.seconds=0.01", f"--name={name}"
    )
    assert "Traceback" not in done.stdout
    if done.returncode == 0:
        assert settled(made, name)[name]["state"] == "done"
        assert name in shown(made)
    else:
        assert "cannot be an experiment's name" in done.stdout
    assert not (made.root / "x").exists()


def test_odd_values_travel_as_they_are(made: Experiment):
    value = "a b;'c'$(touch x)`touch x`../\\é"
    quoted = value.replace("'", "\\'")
    submit(
        made,
        "-n",
        "odd",
        "-S",
        f"toy.yaml:grow.do='{quoted}'",
        "-m",
        "quotes ' and \" and $(touch x)\nlines",
    )
    assert settled(made, "odd")["odd"]["state"] == "done"
    commit = rows(made)["odd"]["commit"]
    assert (
        yaml.safe_load(made.ok("git", "show", f"{commit}:toy.yaml"))["grow"]["do"]
        == value
    )
    assert not list(made.root.rglob("x"))


def test_a_name_that_is_taken_is_refused_and_taken_over_with_force(made: Experiment):
    slowly = ("-S", "toy.yaml:grow.epochs=2", "-S", "toy.yaml:grow.seconds=1")
    submit(made, "-n", "same", *slowly)
    settled(made, "same")
    refused = made.command(
        "mllam-exps", "submit", "-n", "same", "-S", "toy.yaml:grow.epochs=1"
    )
    assert refused.returncode == 2
    assert "is the name of another experiment" in refused.stdout
    before = rows(made)["same"]["commit"]
    foreseen = made.ok(
        "mllam-exps", "submit", "-n", "same", "--force", "--dry-run", *slowly
    )
    assert "would run: 1 × make, 1 × grow" in foreseen
    made.ok("mllam-exps", "submit", "-n", "same", "--force", *slowly)
    eventually(lambda: made.starts() == 2, 30, "grow has started again")
    said = json.loads(made.ok("mllam-exps", "status", "--json", "same"))
    assert len(said) == 1, "the one that it takes over stands beside it"
    assert said[0]["commit"] != before
    settled(made, "same")
    assert made.starts() == 2, "made again"
    assert rows(made)["same"]["commit"] != before
    assert list(shown(made)) == ["same"]


def test_a_lock_that_a_killed_saving_left_is_in_nobody_s_way(made: Experiment):
    submit(made, "-n", "l", "-S", "toy.yaml:grow.seconds=0.5")
    [clone] = made.store.parent.glob("experiments/save-*/clone")
    (clone / ".git/index.lock").touch()
    assert settled(made, "l")["l"]["state"] == "done"


def test_an_experiment_that_was_removed_is_saved_again(made: Experiment):
    submit(made, "-n", "gone")
    settled(made, "gone")
    made.ok("dvc", "exp", "remove", "gone")
    refused = made.command("mllam-exps", "retry", "gone", stderr=subprocess.PIPE)
    assert "submit it again: mllam-exps submit" in refused.stderr
    assert "has it no more" in made.ok("mllam-exps", "show", "gone")
    submit(made, "-n", "gone")
    settled(made, "gone")
    assert "gone" in shown(made)
    assert made.starts() == 1
    made.ok("dvc", "exp", "rename", "gone", "back")
    refused = made.command("mllam-exps", "retry", "back", stderr=subprocess.PIPE)
    assert "gone: is done\n  → dvc exp apply back" in refused.stderr
    assert rows(made, "back")["gone"]["saved_as"] == "back"


def test_clean_deletes_what_failed_and_nothing_that_is_needed(made: Experiment):
    submit(made, "-n", "good")
    submit(
        made, "-n", "bad", "-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=1"
    )
    settled(made, "good", "bad")
    assert (
        made.command("mllam-exps", "clean", stdin=subprocess.DEVNULL).returncode == 2
    ), "nobody to be asked"
    listed = made.ok("mllam-exps", "clean", "--dry-run")
    assert "experiment bad" in listed
    assert "experiment good" not in listed
    assert "nothing to clean" in made.ok(
        "mllam-exps", "clean", "--dry-run", "--older-than", "1h"
    )
    made.ok("mllam-exps", "clean", "--yes")
    assert "bad" not in rows(made)
    assert len(made.runs("grow")) == 1
    made.ok("dvc", "exp", "remove", "good")
    assert "experiment good" in made.ok("mllam-exps", "clean", "--dry-run")
    assert "experiment good" not in made.ok(
        "mllam-exps", "clean", "--dry-run", "--failed"
    )
    made.ok("mllam-exps", "clean", "--yes")
    assert not made.runs("grow")
    assert made.runs("make"), "the workspace's own lock names what it made"


def test_people_are_told(made: Experiment):
    told = made.root.parent / "told"
    script = made.root.parent / "tell.sh"
    script.write_text(f"#!/bin/sh\ncat >> {told}; echo >> {told}\n")
    script.chmod(0o755)
    (made.root / "machines").mkdir()
    settings = {"scheduler": "local", "notify": {"command": [str(script)]}}
    (made.root / "machines/local.yaml").write_text(yaml.safe_dump(settings))
    submit(made, "-n", "good")
    submit(
        made, "-n", "bad", "-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=1"
    )
    settled(made, "good", "bad")
    eventually(
        lambda: told.exists() and len(told.read_text().splitlines()) == 2,
        20,
        "both are told",
    )
    states = {
        m["experiment"]: (m["state"], m["reason"])
        for m in map(json.loads, told.read_text().splitlines())
    }
    assert states["good"] == ("done", "")
    assert states["bad"][0] == "failed"
    assert "the weather is bad" in states["bad"][1]


def test_show_tells_all(made: Experiment):
    made.set("toy.yaml", grow__epochs=2)
    submit(made, "-n", "seen", "-S", "toy.yaml:grow.seconds=0.02")
    settled(made, "seen")
    said = made.ok("mllam-exps", "show", "seen")
    for words in (
        "toy.yaml: grow.seconds=0.02",
        "grown.json: epochs = 2",
        "submit",
        "dvc exp apply seen",
        "log ",
    ):
        assert words in said
    record = json.loads(made.ok("mllam-exps", "show", "seen", "--json"))
    assert record["metrics"] == {"grown.json": {"epochs": 2}}
    near = made.command("mllam-exps", "show", "sen")
    assert (near.returncode, "did you mean seen?" in near.stdout) == (2, True)


def test_dvc_exp_run_shares_work_with_what_was_submitted(made: Experiment):
    submit(made, "-n", "s", "-S", "toy.yaml:grow.seconds=0.5")
    out = made.ok("dvc", "exp", "run", "-n", "r", "-S", "toy.yaml:grow.seconds=0.5")
    assert "grow: attached" in out or "grow: known: collected" in out
    settled(made, "s")
    made.ok(
        "dvc", "exp", "run", "--queue", "-S", "toy.yaml:grow.seconds=0.5", "-n", "q"
    )
    made.ok("dvc", "queue", "start")
    eventually(
        lambda: "Success" in made.ok("dvc", "queue", "status"), 60, "the queue is done"
    )
    assert made.starts() == 1
    assert set(shown(made)) == {"s", "r", "q"}


GRAMMAR = {
    ("a=1",): [{"params.yaml": ["a=1"]}],
    ("a=1,2", "x.yaml:b=3,4"): [
        {"params.yaml": [a], "x.yaml": [b]}
        for a in ("a=1", "a=2")
        for b in ("b=3", "b=4")
    ],
    ("x.yaml:a=range(1,4)",): [{"x.yaml": [f"a={n}"]} for n in (1, 2, 3)],
    ("x.yaml:a=choice(u,v)",): [{"x.yaml": ["a=u"]}, {"x.yaml": ["a=v"]}],
    ("x.yaml:+a=1", "x.yaml:~b"): [{"x.yaml": ["+a=1", "~b"]}],
    ("x.yaml:a=[1,2]",): [{"x.yaml": ["a=[1,2]"]}],
}


@pytest.mark.parametrize("words", GRAMMAR)
def test_the_grammar_of_set_param_is_that_of_dvc(words: tuple[str, ...]):
    found = overrides.variants(words, "n", Path())
    assert [one.overrides for one in found] == GRAMMAR[words]
    several = len(found) > 1
    assert [one.name for one in found] == [
        f"n-{i}" if several else "n" for i in range(1, len(found) + 1)
    ]


def test_a_path_in_set_param_starts_where_it_is_typed():
    [one] = overrides.variants(["training.yaml:a=1"], "", Path("data"))
    assert one.overrides == {"data/training.yaml": ["a=1"]}
    with pytest.raises(MllamError, match="outside"):
        overrides.variants(["../../a.yaml:a=1"], "", Path("data"))
