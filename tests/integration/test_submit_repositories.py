"""`mllam-exps submit` from all kinds of repositories: what is frozen, and saved, is what was there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml
from support.experiment import Experiment, eventually
from support.submissions import rows, settled, shown, submit


def commit(toy: Experiment) -> None:
    toy.ok("git", "add", "-A")
    toy.ok("git", "commit", "-qm", "Changed")


def add_input(toy: Experiment, stage: str, path: str) -> None:
    """Let a stage depend on one more file or folder."""
    file = toy.root / "dvc.yaml"
    pipeline = yaml.safe_load(file.read_text())
    pipeline["stages"][stage]["deps"].append(path)
    file.write_text(yaml.safe_dump(pipeline, sort_keys=False))


def saved(toy: Experiment, name: str, path: str) -> str:
    """Return a file of a saved experiment."""
    return toy.ok("git", "show", f"{rows(toy)[name]['commit']}:{path}")


def clean_after_apply(toy: Experiment, name: str) -> None:
    toy.ok("dvc", "exp", "apply", name)
    assert "changed" not in toy.ok("dvc", "status", "make", "grow").replace(
        "always changed", ""
    )


def test_large_parameter_files_are_each_experiment_s_own(made: Experiment):
    """Large files of the clones are hard links to one another."""
    file = made.root / "toy.yaml"
    file.write_text(file.read_text() + "".join(f"# {n:060d}\n" for n in range(1000)))
    commit(made)
    submit(made, "-n", "big", "-S", "toy.yaml:grow.epochs=2,4")
    settled(made, "big-1", "big-2")
    for name, epochs in (("big-1", 2), ("big-2", 4)):
        assert yaml.safe_load(saved(made, name, "toy.yaml"))["grow"]["epochs"] == epochs
        assert shown(made)[name]["metrics"]["grown.json"]["data"]["epochs"] == epochs
    clean_after_apply(made, "big-2")


def test_a_folder_that_holds_a_changed_parameter_is_another_input(made: Experiment):
    add_input(made, "grow", "data")
    commit(made)
    submit(made, "-n", "dir", "-S", "data/training_params.yaml:lr=0.001,0.003")
    settled(made, "dir-1", "dir-2")
    assert made.starts() == 2
    clean_after_apply(made, "dir-2")


def test_data_that_dvc_tracks_are_inputs_and_changed_ones_are_refused(made: Experiment):
    (made.root / "extra.txt").write_text("one\n")
    made.ok("dvc", "add", "-q", "extra.txt")
    add_input(made, "grow", "extra.txt")
    commit(made)
    submit(made, "-n", "added")
    settled(made, "added")
    clean_after_apply(made, "added")
    (made.root / "extra.txt").unlink()
    (made.root / "extra.txt").write_text("two\n")
    refused = made.command("mllam-exps", "submit", "-n", "changed")
    assert (refused.returncode, "was changed since `dvc add`" in refused.stdout) == (
        2,
        True,
    ), refused.stdout


def test_a_dvc_repository_in_a_folder_of_a_git_repository(
    made: Experiment, tmp_path: Path
):
    top = tmp_path / "top"
    shutil.copytree(
        made.root, top / "inner", ignore=shutil.ignore_patterns(".git", ".dvc", "cache")
    )
    inner = Experiment(top / "inner", made.environ)
    subprocess.run(["git", "init", "-q", "-b", "main", str(top)], check=True)
    inner.ok("dvc", "init", "-q", "--subdir")
    commit(inner)
    submit(inner, "-n", "below", "-S", "toy.yaml:grow.epochs=2")
    assert settled(inner, "below")["below"]["state"] == "done"
    assert shown(inner)["below"]["metrics"]["grown.json"]["data"]["epochs"] == 2
    clean_after_apply(inner, "below")


def test_two_spellings_of_a_file_are_one_file(made: Experiment):
    submit(
        made,
        "-n",
        "two",
        "-S",
        "toy.yaml:grow.epochs=2",
        "-S",
        "./toy.yaml:grow.seconds=0.05",
    )
    settled(made, "two")
    values = yaml.safe_load(saved(made, "two", "toy.yaml"))["grow"]
    assert (values["epochs"], values["seconds"]) == (2, 0.05)


def test_a_parameter_file_may_be_a_link(made: Experiment):
    (made.root / "toy.yaml").rename(made.root / "real.yaml")
    (made.root / "toy.yaml").symlink_to("real.yaml")
    commit(made)
    submit(made, "-n", "linked", "-S", "toy.yaml:grow.epochs=2")
    assert settled(made, "linked")["linked"]["state"] == "done"
    assert yaml.safe_load(saved(made, "linked", "real.yaml"))["grow"]["epochs"] == 2
    assert "120000" in made.ok(
        "git", "ls-tree", rows(made)["linked"]["commit"], "toy.yaml"
    )


def test_what_git_ignores_stays_out_of_the_commit(made: Experiment):
    made.ok("dvc", "exp", "run", "-n", "waited", "-S", "toy.yaml:grow.epochs=2")
    made.ok("git", "restore", "toy.yaml")
    submit(made, "-n", "submitted", "-S", "toy.yaml:grow.epochs=2")
    settled(made, "submitted")
    refs = {
        line.rsplit("/", 1)[1]: line
        for line in made.ok(
            "git", "for-each-ref", "--format=%(refname)", "refs/exps"
        ).split()
    }
    assert made.ok("git", "diff", "--stat", refs["waited"], refs["submitted"]) == ""


def test_a_repository_with_templates_and_a_matrix(made: Experiment):
    file = made.root / "dvc.yaml"
    pipeline = yaml.safe_load(file.read_text())
    pipeline["stages"]["grow"]["deps"] = ["${grow.input}"]
    pipeline["vars"] = ["toy.yaml"]
    file.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    made.set("toy.yaml", grow__input="made")
    commit(made)
    submit(made, "-n", "t", "-S", "toy.yaml:grow.epochs=1,2")
    found = settled(made, "t-1", "t-2")
    assert {row["state"] for row in found.values() if row["user"]} == {"done"}
    clean_after_apply(made, "t-1")


REPORT = {
    "cmd": [
        "python tools/report.py > report.txt",
        "git rev-parse HEAD >> report.txt; echo $DVC_STAGE >> report.txt",
    ],
    "deps": ["../grown.json"],
    "wdir": "reports",
    "params": [{"../toy.yaml": ["grow.epochs"]}],
    "outs": ["report.txt"],
    "metrics": [{"lines.json": {"cache": False}}],
}
SCRIPT = """
import json, pathlib
print(json.load(open("../grown.json"))["epochs"], "epochs")
assert not pathlib.Path("lines.json").exists(), "what it made before is gone"
pathlib.Path("lines.json").write_text('{"lines": 1}')
"""


def add_report(toy: Experiment, **changes) -> None:
    """Add a stage with a command of its own, and a script that nothing depends on."""
    file = toy.root / "dvc.yaml"
    pipeline = yaml.safe_load(file.read_text())
    pipeline["stages"]["report"] = REPORT | changes
    file.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (toy.root / "reports/tools").mkdir(parents=True, exist_ok=True)
    (toy.root / "reports/tools/report.py").write_text(SCRIPT)
    (toy.root / "reports/lines.json").write_text("{}")
    commit(toy)


def test_a_stage_with_a_command_of_its_own_is_a_job_like_any_other(made: Experiment):
    add_report(made)
    baseline = made.ok("git", "rev-parse", "HEAD").strip()
    said = submit(made, "-n", "r", "-S", "toy.yaml:grow.epochs=1,2")
    assert [s["state"] for s in said[0]["stages"]] == ["known", "submitted", "waits"]
    settled(made, "r-1", "r-2")
    for name, epochs in (("r-1", 1), ("r-2", 2)):
        assert shown(made)[name]["metrics"]["reports/lines.json"]["data"] == {
            "lines": 1
        }
        clean_after_apply(made, name)
        assert (
            made.root / "reports/report.txt"
        ).read_text() == f"{epochs} epochs\n{baseline}\nreport\n"
        assert "changed" not in made.ok("dvc", "status", "report")
    assert said[0]["stages"][2]["key"] in made.ok("mllam-exps", "show", "r-1")
    again = submit(made, "-n", "again", "-S", "toy.yaml:grow.epochs=2")
    assert {s["state"] for s in again[0]["stages"]} == {"known"}


def test_a_part_of_a_folder_may_be_named_before_the_folder(made: Experiment):
    add_report(made, deps=["../made/sub", "../raw/1", "../raw", "../made"])
    (made.root / "raw").mkdir()
    for name in ("1", "2"):
        (made.root / "raw" / name).write_text(name)
    made.ok("dvc", "add", "-q", "raw")
    (made.root / "reports/tools/report.py").write_text(
        "import os; print(sorted(os.listdir('../raw')), os.listdir('../made'))\n"
        "open('lines.json', 'w').write('{}')\n"
    )
    commit(made)
    submit(made, "-n", "r")
    assert settled(made, "r")["r"]["state"] == "done"
    clean_after_apply(made, "r")
    assert "['1', '2']" in (made.root / "reports/report.txt").read_text()


def test_a_command_that_fails_is_a_failed_stage(made: Experiment):
    add_report(made, cmd="echo it rains >&2\nexit 3\necho no > report.txt")
    submit(made, "-n", "r")
    row = settled(made, "r")["r"]
    assert (row["state"], row["stages"][-1]["state"]) == ("failed", "failed")
    assert "exit code 3" in row["stages"][-1]["reason"]
    add_report(made, cmd="true", always_changed=True)
    done = made.command("mllam-exps", "submit", "-n", "nothing")
    assert "report has no dependencies, or is always_changed" in done.stdout
    row = settled(made, "nothing")["nothing"]
    assert "did not make its output reports/" in row["stages"][-1]["reason"]


def write_stages(toy: Experiment, text: str) -> None:
    """Put stages with commands of their own beside those of the toy."""
    file = toy.root / "dvc.yaml"
    pipeline = yaml.safe_load(file.read_text())
    pipeline["stages"] |= yaml.safe_load(text)
    file.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    commit(toy)


ODD = """
piece-of:
  matrix: {at: ["00:00", "a b", "xy-z"]}
  cmd: echo "${item.at}" > "res/${item.at}.txt"
  deps: [toy.yaml]
  outs: ["res/${item.at}.txt"]
all:
  cmd: find made res -type f | sort > all.txt && sh tool.sh >> all.txt && cat res/.gitignore res/* >> all.txt
  deps: [made, res, tool.sh]
  outs: [all.txt]
tool:
  cmd: (echo '#!/bin/sh'; echo 'echo tool') > tool.sh && chmod +x tool.sh && mkdir d && touch d/kept d/x.tmp
  deps: [data/config.yaml]
  outs: [tool.sh, d]
use:
  cmd: ./tool.sh > use.txt && mkdir made/__pycache__ && touch made/__pycache__/new.pyc
  deps: [tool.sh, made]
  outs: [use.txt]
"""


def _made(toy: Experiment) -> dict[Path, bytes]:
    files = (
        path
        for path in toy.store.glob("make-*/attempts/*/outputs/**/*")
        if path.is_file()
    )
    return {path: path.read_bytes() for path in files}


def test_commands_find_what_dvc_would_give_them_and_the_lock_is_dvc_s(made: Experiment):
    (made.root / ".dvcignore").write_text("*.tmp\n")
    (made.root / "res").mkdir()
    (made.root / "res/readme").write_text("read\n")
    write_stages(made, ODD)
    before = _made(made)
    submit(made, "-n", "odd")
    row = settled(made, "odd")["odd"]
    assert row["state"] == "done", [(s["stage"], s["reason"]) for s in row["stages"]]
    assert _made(made) == before, "nobody writes to what was made"
    by_us = yaml.safe_load(saved(made, "odd", "dvc.lock"))["stages"]
    # `use` leaves what Python keeps of modules: in a shared workspace, that is not ours
    # to repeat.
    made.ok("dvc", "repro", "all", "tool")
    by_dvc = yaml.safe_load((made.root / "dvc.lock").read_text())["stages"]
    for stage in ("all", "tool", "piece-of@a b", "piece-of@00:00"):
        assert by_us[stage] == by_dvc[stage]


LOOK = """
stages:
  look:
    cmd: find . -name .git -prune -o -name .dvc -prune -o -type f -print -o -type d -empty -print > /tmp/$$ &&
      mkdir nest && mv /tmp/$$ nest/found
    deps: [toy.yaml]
    outs: [nest/found]
"""


def test_a_command_finds_what_git_keeps_and_nothing_of_ours(made: Experiment):
    made.ok("git", "rm", "-rq", "--ignore-unmatch", "version.mllam.txt", "dvc.lock")
    (made.root / "dvc.yaml").write_text(LOOK)
    commit(made)
    submit(made, "-n", "l")
    assert settled(made, "l")["l"]["state"] == "done"
    [found] = made.store.glob("look-*/attempts/1/outputs/nest/found")
    tracked = made.ok("git", "ls-files").splitlines()
    kept = [f"./{path}" for path in tracked if not path.startswith(".dvc/")]
    assert sorted(found.read_text().splitlines()) == sorted(kept)


LEFT_BEHIND = """
leaves:
  cmd:
  - (setsid sh -c 'echo $$ > {place}; sleep 300; echo late >> out.txt' &)
  - until [ -s {place} ]; do sleep 0.1; done; echo soon > out.txt
  deps: [toy.yaml]
  outs: [out.txt]
"""


def test_what_a_command_leaves_running_ends_with_it(made: Experiment, tmp_path: Path):
    place = tmp_path / "pid"
    write_stages(made, LEFT_BEHIND.format(place=place))
    submit(made, "-n", "l", "leaves")
    settled(made, "l")
    left = int(place.read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == "zombie"
    [out] = made.store.glob("leaves-*/attempts/1/outputs/out.txt")
    assert out.read_text() == "soon\n"


STUBBORN = """
stubborn:
  cmd: "trap '' TERM; echo $$ > {place}; while true; do sleep 0.1; done"
  deps: [toy.yaml]
  outs: [out.txt]
"""


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_command_that_does_not_listen_ends_with_its_attempt(
    made: Experiment, tmp_path: Path, how: str
):
    place = tmp_path / "pid"
    write_stages(made, STUBBORN.format(place=place))
    submit(made, "-n", "s", "stubborn")
    eventually(
        lambda: place.exists() and place.read_text().strip().isdigit(), 60, "it works"
    )
    command = psutil.Process(int(place.read_text()))
    if how == "cancel":
        made.ok("mllam-exps", "cancel", "s")
        assert rows(made)["s"]["state"] == "cancelled"
    else:
        [started] = made.store.glob("stubborn-*/attempts/1/started.json")
        os.kill(json.loads(started.read_text())["pid"], signal.SIGKILL)
    eventually(lambda: not command.is_running(), 30, "it has ended")
    made.command("mllam-exps", "cancel", "s")


def test_a_cache_behind_a_link(made: Experiment):
    elsewhere = made.root.parent / "elsewhere"
    (made.root / ".dvc/cache").rename(elsewhere)
    (made.root / ".dvc/cache").symlink_to(elsewhere)
    submit(made, "-n", "linked", "-S", "toy.yaml:grow.seconds=0.01")
    assert settled(made, "linked")["linked"]["state"] == "done"


WRONG = {
    "save: {cmd: 'true', deps: [toy.yaml], outs: [o]}": "is what the last job of every experiment is called",
    "f: {cmd: echo > o, deps: [toy.yaml], outs: [o], frozen: true}": "is frozen",
    "k: {cmd: echo >> o, deps: [toy.yaml], outs: [{o: {persist: true}}]}": "keeps what an earlier run left in o",
    "o: {cmd: echo > o, deps: [../outside.txt], outs: [o]}": "lies outside of the repository",
    "u: {cmd: cat u.py > o, deps: [u.py], outs: [o]}": "git add u.py",
    "t: {cmd: echo, deps: [toy.yaml], outs: [data/config.yaml]}": "git rm -r --cached data/config.yaml",
    "d: {cmd: echo, outs: [data]}": "in its output data git tracks data/",
    "l: {cmd: [ls, true], deps: [toy.yaml], outs: [o]}": "its command True is no text that a shell could run",
    "n: {cmd: python u.py > o, deps: [a.txt, b.txt], outs: [o]}": "its command names u.py, which git does not track",
}


@pytest.mark.parametrize("stage", WRONG)
def test_stages_that_no_job_can_run_are_refused(made: Experiment, stage: str):
    (made.root.parent / "outside.txt").touch()
    write_stages(made, stage)
    (made.root / "u.py").touch()
    refused = made.command("mllam-exps", "submit", "-n", "w")
    assert (refused.returncode, WRONG[stage] in " ".join(refused.stdout.split())) == (
        2,
        True,
    ), refused.stdout
    checked = made.command("mllam-exps", "check")
    assert (checked.returncode, checked.stdout) == (2, refused.stdout), (
        "check looks at all that submit looks at"
    )


def test_a_failed_experiment_s_name_is_free_for_what_was_mended(made: Experiment):
    add_report(made, cmd="exit 3")
    submit(made, "-n", "again")
    assert settled(made, "again")["again"]["state"] == "failed"
    add_report(made)
    (made.root / "helper.py").touch()
    made.ok("git", "add", "helper.py")
    done = made.command("mllam-exps", "retry", "again")
    told = "changed since: dvc.yaml; new since: helper.py"
    assert told in done.stdout, done.stdout
    settled(made, "again")
    [said] = submit(made, "-n", "again")
    assert {s["stage"]: s["state"] for s in said["stages"]}["grow"] == "known"
    assert settled(made, "again")["again"]["state"] == "done"
    assert made.starts() == 1


def test_a_script_that_was_mended_is_submitted_and_not_tried_again(made: Experiment):
    add_report(made)
    script = made.root / "reports/tools/report.py"
    good = script.read_text()
    script.write_text("raise KeyError('lead')")
    commit(made)
    submit(made, "-n", "own")
    assert settled(made, "own")["own"]["state"] == "failed"
    assert "→ mend that, then mllam-exps submit" in made.ok("mllam-exps", "status")
    script.write_text(good)
    refused = made.command("mllam-exps", "retry", "own")
    assert refused.returncode == 2
    assert "reports/tools/report.py, which it reads, was changed" in refused.stdout
    # What the script is not to blame for is tried again as it was submitted.
    [end] = made.store.glob("report-*/attempts/1/end.json")
    end.write_text(json.dumps(json.loads(end.read_text()) | {"cause": "full_disk"}))
    assert "mend that" not in made.ok("mllam-exps", "status")
    again = made.ok("mllam-exps", "retry", "own")
    assert "own goes on with the files as they were" in again
    assert settled(made, "own")["own"]["state"] == "failed"
    submit(made, "-n", "own")
    assert settled(made, "own")["own"]["state"] == "done"


def test_no_file_of_the_store_is_for_everybody_to_write(made: Experiment):
    submitted = made.command(
        "bash",
        "-c",
        "umask 0; exec mllam-exps submit -n open -S toy.yaml:grow.epochs=1",
    )
    assert submitted.returncode == 0, submitted.stdout
    settled(made, "open")
    found = subprocess.run(
        ["find", str(made.store.parent), "-perm", "-o+w", "!", "-type", "l"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == ""


def test_uncommitted_changes_are_shown(made: Experiment):
    made.set("toy.yaml", grow__epochs=2)
    submit(made, "-n", "edited")
    assert "edited      toy.yaml" in made.ok("mllam-exps", "show", "edited")
    settled(made, "edited")


def test_a_parameter_may_change_what_a_stage_is(made: Experiment):
    """As with `dvc exp run -S`; a file of `dvc.yaml`'s own is read again for each experiment."""
    for name in ("a", "b"):
        (made.root / f"{name}.txt").write_text(f"{name}\n")
    kept = "outs: [{m.txt: {cache: false}}]"
    write_stages(made, f"c: {{cmd: cp a.txt m.txt, deps: [a.txt, b.txt], {kept}}}")
    submit(made, "-n", "x", "c")
    settled(made, "x")
    submit(made, "-n", "y", "-S", "dvc.yaml:stages.c.cmd=cp b.txt m.txt", "c")
    settled(made, "y")
    made.ok("dvc", "exp", "branch", "y", "kept")
    assert made.ok("git", "show", "kept:m.txt") == "b\n"


def test_what_git_does_not_take_says_what_helps(made: Experiment):
    (made.root / ".gitattributes").write_text("*.csv working-tree-encoding=UTF-16\n")
    write_stages(
        made,
        "m: {cmd: cp toy.yaml m.csv, deps: [toy.yaml], outs: [{m.csv: {cache: false}}]}",
    )
    submit(made, "-n", "odd", "m")
    settled(made, "odd")
    said = made.command("mllam-exps", "status", "--watch", "odd")
    assert said.returncode == 1
    told = " ".join(said.stdout.split())
    assert "correct what .gitattributes says of that file" in told
    assert "submit it again: mllam-exps submit --json -n odd m" in told
    made.ok("git", "rm", "-q", "-f", ".gitattributes")
    made.ok("git", "commit", "-qm", "Without")
    submit(made, "-n", "odd", "m")
    assert settled(made, "odd")["odd"]["state"] == "done"


def test_retry_of_a_pattern_leaves_what_is_done_and_goes_on_beyond_max_jobs(
    made: Experiment,
):
    submit(
        made, "-n", "r", "-S", "toy.yaml:grow.do=raise", "-S", "toy.yaml:grow.at=1,2"
    )
    settled(made, "r-1", "r-2")
    made.environ["MLLAM_MACHINE_OPTIONS"] = "max_jobs=1"
    made.ok("mllam-exps", "retry", "r-1")
    settled(made, "r-1")
    said = made.command("mllam-exps", "retry", "r-*")
    assert "note: r-1: it is done, and left as it is\n" in said.stdout
    found = settled(made, "r-1", "r-2")
    assert {row["state"] for row in found.values() if row["user"]} == {"done"}
    assert made.starts() == 4
    said = made.command("mllam-exps", "retry", "r-*")
    told = "r-1, r-2: they are done: there is nothing to retry\n"
    assert (said.returncode, said.stdout) == (0, told)


def test_a_cancelled_experiment_is_no_failed_one(made: Experiment):
    submit(made, "-n", "c", "-S", "toy.yaml:grow.seconds=30")
    made.ok("mllam-exps", "cancel", "c")
    said = made.command("mllam-exps", "retry", "--failed")
    assert (said.returncode, said.stdout) == (
        0,
        "no experiment has failed: there is nothing to retry\n",
    )


def test_a_result_that_another_experiment_needs_is_not_made_again(toy: Experiment):
    slow = ("-S", "toy.yaml:grow.seconds=5")
    submit(toy, "-n", "a", "-S", "toy.yaml:grow.seconds=0.01")
    settled(toy, "a")
    submit(toy, "-n", "b", *slow)
    refused = toy.command(
        "mllam-exps", "submit", "-n", "d", "--force", "-S", "toy.yaml:grow.seconds=6"
    )
    assert (
        refused.returncode,
        "experiment b, which is at work, needs make" in refused.stdout,
    ) == (2, True)
    toy.ok("mllam-exps", "cancel", "b")


@pytest.mark.parametrize("where", ["detached", "worktree"])
def test_other_checkouts(made: Experiment, tmp_path: Path, where: str):
    there = made
    if where == "detached":
        made.ok("git", "switch", "-q", "--detach")
    else:
        made.ok("git", "worktree", "add", "-q", str(tmp_path / "tree"))
        there = Experiment(tmp_path / "tree", made.environ)
        there.ok("dvc", "config", "--local", "cache.dir", str(made.root / ".dvc/cache"))
    submit(there, "-n", "other", "-S", "toy.yaml:grow.epochs=1")
    assert settled(there, "other")["other"]["state"] == "done"
    assert "other" in shown(there)
    assert os.path.lexists(there.root / "dvc.yaml")


def test_an_experiment_is_what_git_here_would_have_made_of_it(
    made: Experiment, tmp_path: Path
):
    """With its own filters, a new commit of a submodule, a hook, a folder that the program makes, a lost baseline."""
    library = tmp_path / "library"
    subprocess.run(["git", "init", "-q", str(library)], check=True)
    (library / "f.txt").write_text("one\n")
    Experiment(library, made.environ).ok("git", "add", "-A")
    Experiment(library, made.environ).ok("git", "commit", "-qm", "One")
    made.ok(
        "git",
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(library),
        "library",
    )
    (made.root / ".gitattributes").write_text("*.up filter=up\n")
    made.ok("git", "config", "filter.up.smudge", "tr a-z A-Z")
    made.ok("git", "config", "filter.up.clean", "tr A-Z a-z")
    (made.root / "in.up").write_text("HELLO\n")
    lines = (
        "sleep 2; mkdir -p by/program; cat in.up library/f.txt > by/program/out.txt",
        "cp in.up out.up",
    )
    write_stages(
        made,
        f"loud: {{cmd: '{'; '.join(lines)}', deps: [in.up], outs: [by/program/out.txt, {{out.up: {{cache: false}}}}]}}",
    )
    (made.root / "library" / "f.txt").write_text("two\n")
    Experiment(made.root / "library", made.environ).ok("git", "commit", "-qam", "Two")
    new = (
        Experiment(made.root / "library", made.environ)
        .ok("git", "rev-parse", "HEAD")
        .strip()
    )
    hook = made.root / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    submit(made, "-n", "loud")
    hook.unlink()
    # Whoever may write to the store has nothing executed by whoever saves.
    planted = (
        f"[core]\nfsmonitor = {hook}.planted\n[filter.up]\nclean = {hook}.planted\n"
    )
    hook.with_name(f"{hook.name}.planted").write_text(
        f"#!/bin/sh\ntouch {tmp_path}/executed\n"
    )
    hook.with_name(f"{hook.name}.planted").chmod(0o755)
    [clone] = made.store.parent.glob("experiments/*/clone")
    for place in (clone, clone / "library"):
        (place / ".git/config").write_text(
            (place / ".git/config").read_text() + planted
        )
        (place / ".git/info").mkdir(exist_ok=True)
        (place / ".git/info/attributes").write_text("f.txt filter=up\n")
    os.utime(clone / "library/f.txt", (0, 0))
    made.ok("git", "commit", "-q", "--amend", "-m", "Amended")
    made.ok("git", "reflog", "expire", "--expire=now", "--all")
    made.ok("git", "gc", "-q", "--prune=now")
    assert settled(made, "loud")["loud"]["state"] == "done"
    commit = rows(made)["loud"]["commit"]
    assert new in made.ok("git", "ls-tree", commit, "library")
    assert not (tmp_path / "executed").exists()
    assert (saved(made, "loud", "in.up"), saved(made, "loud", "out.up")) == (
        "hello\n",
        "hello\n",
    )
    assert saved(made, "loud", "by/program/.gitignore") == "/out.txt\n"
    assert made.ok("git", "for-each-ref", "refs/mllam-exps") == ""
    made.ok("dvc", "exp", "apply", "loud")
    assert (made.root / "by/program/out.txt").read_text() == "HELLO\ntwo\n"


REFUSED = {
    "echo '# nothing' > dvc.yaml": "dvc.yaml: has no stages",
    "echo dvc.yaml > .gitignore": "dvc.yaml: has no stages: git ignores it",
    "git rm -q --cached dvc.yaml": "git add dvc.yaml",
    "git rm -q --cached dvc.yaml; echo '*.yaml' > .git/info/exclude": ".git/info/exclude:1:*.yaml ignores it",
    "rm params.yaml; mkfifo params.yaml": "params.yaml: is a pipe, and no file",
    "rm -f toy.yaml; mkfifo toy.yaml": "git restore toy.yaml",
    "mkdir d; touch d/$(printf '\\377'); sed -i 's:- data/datastore.yaml:- d:' dvc.yaml; git add d": "is not UTF-8",
}


@pytest.mark.parametrize("change", REFUSED)
def test_repositories_that_nothing_can_be_submitted_from(made: Experiment, change: str):
    made.ok("bash", "-c", change)
    refused = made.command("mllam-exps", "submit", "-n", "none")
    assert (
        refused.returncode,
        REFUSED[change] in " ".join(refused.stdout.split()),
    ) == (2, True), refused.stdout


def test_what_is_being_made_counts_and_not_what_dvc_had(
    toy: Experiment, tmp_path: Path
):
    """Not every program makes the same twice: whoever comes while a result is made again shares what will come."""
    held = tmp_path / "held"
    chain = {
        "a": {
            "cmd": f"while test -e {held}; do sleep 0.1; done; cat /proc/sys/kernel/random/uuid > a.txt",
            "deps": ["in.txt"],
            "outs": ["a.txt"],
        },
        "b": {"cmd": "cp a.txt b.txt", "deps": ["a.txt"], "outs": ["b.txt"]},
        "c": {
            "cmd": "cat a.txt b.txt > c.txt",
            "deps": ["a.txt", "b.txt"],
            "outs": ["c.txt"],
        },
    }
    (toy.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": chain}))
    (toy.root / "in.txt").write_text("1\n")
    toy.ok("git", "add", "-A")
    toy.ok("git", "commit", "-qm", "A chain")
    toy.ok("dvc", "repro", "a")
    held.touch()
    submit(toy, "-n", "forced", "--force")
    [later] = submit(toy, "-n", "later", "-S", "toy.yaml:grow.epochs=9")
    assert later["stages"][0]["state"] != "known"
    held.unlink()
    settled(toy, "forced", "later")
    for name in ("forced", "later"):
        toy.ok("dvc", "exp", "apply", name)
        made = (toy.root / "a.txt").read_text()
        assert (toy.root / "c.txt").read_text() == made * 2
