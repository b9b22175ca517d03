"""Stages whose programs run in a container: a site's way to start it is any command that stands before another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from support.experiment import Experiment
from support.submissions import rows, settled, submit

ENTER = """\
#!/bin/bash
# Stands for a site's own: enter IMAGE COMMAND…
echo "$@" >> "$HOME/entered"
read -r IN_CONTAINER < "$1" && export IN_CONTAINER
case "$*" in *"toy_program.py grow"*) [ ! -e "$HOME/write" ] || echo three > "$1";; esac
shift
exec "$@"
"""


@pytest.fixture
def boxed(made: Experiment) -> Experiment:
    """A toy experiment whose programs run in a container, and whose second stage counts its image."""
    home = Path(made.environ["HOME"])
    (home / "enter").write_text(ENTER)
    (home / "enter").chmod(0o755)
    (home / "image").write_text("one\n")
    box = {
        "image": str(home / "image"),
        "start": [str(home / "enter"), "{image}"],
        "python": sys.executable,
    }
    (made.root / "machines").mkdir()
    machine = {"scheduler": "local", "environment": {"container": box}}
    (made.root / "machines/box.yaml").write_text(yaml.safe_dump(machine))
    pipeline = yaml.safe_load((made.root / "dvc.yaml").read_text())
    pipeline["stages"]["grow"]["params"][1]["version.mllam.txt"].append("container")
    own = {"cmd": 'echo "$IN_CONTAINER." > own.txt', "outs": ["own.txt"]}
    pipeline["stages"]["own"] = own
    (made.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    made.environ["MLLAM_MACHINE"] = "box"
    made.ok("git", "add", "-A")
    made.ok("git", "commit", "-qm", "In a container")
    return made


def test_programs_run_in_the_container_and_commands_of_one_s_own_beside_it(
    boxed: Experiment,
):
    home = Path(boxed.environ["HOME"])
    submit(boxed, "-n", "x")
    assert settled(boxed, "x")["x"]["state"] == "done"
    entered = (home / "entered").read_text()
    assert "toy_program.py grow" in entered
    assert "programs.shell" not in entered
    boxed.ok("dvc", "exp", "apply", "x")
    assert (boxed.root / "own.txt").read_text() == ".\n"
    told = yaml.safe_load((boxed.root / "version.mllam.txt").read_text())
    [record] = boxed.store.glob("grow-*/attempts/1/environment.json")
    assert json.loads(record.read_text())["container"] == told["container"]
    assert told["container"].startswith("sha256:")
    assert "changed" not in boxed.ok("dvc", "status", "grow", "own")

    (home / "image").write_text("two\n")
    boxed.ok("mllam-exps", "run", "check_for_venv_path")
    boxed.ok("mllam-exps", "run", "mllam_version")
    stale = boxed.ok("mllam-exps", "why", "grow")
    assert "grow: the version of container was sha256:" in stale


def test_an_image_that_was_replaced_while_a_job_waited_is_refused(boxed: Experiment):
    boxed.set("toy.yaml", make__seconds=3)
    submit(boxed, "-n", "x")
    Path(boxed.environ["HOME"], "image").write_text("two\n")
    row = settled(boxed, "x")["x"]
    assert row["state"] == "failed"
    assert "container sha256:" in json.dumps(rows(boxed, "x"))


def test_an_image_that_is_written_to_while_its_program_works_is_refused(
    boxed: Experiment,
):
    Path(boxed.environ["HOME"], "write").touch()
    said = boxed.command("dvc", "repro", "grow")
    assert said.returncode
    assert "the image was replaced while this attempt was at work" in said.stdout
