"""The container of a machine: how it is started, which image it is, and what is refused of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.machines import container, environment
from mllam_exps.machines.machine_files import load
from mllam_exps.machines.model import Container
from mllam_exps.preflight import inside_container

NAMED = f"docker://example.org/nl@sha256:{'a' * 64}"
START = """\
environment:
  container:
    image: {image}
    start: [{start}]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def test_no_word_is_read_by_a_shell_and_the_folder_is_that_of_the_start(tmp_path: Path):
    here = tmp_path / "a b; $(touch bad)"
    here.mkdir()
    words = (
        "printf",
        "%s|",
        "{image}",
        "--pwd={directory}/x",
        "a  b, c*",
        "{directory}",
    )
    given = Container(image="/images/n l.sif", start=words)
    command = [*container.start(given), "python3", "$x 'y'"]
    said = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    expected = [
        "/images/n l.sif",
        f"--pwd={here}/x",
        "a  b, c*",
        str(here),
        "python3",
        "$x 'y'",
        "",
    ]
    assert said.stdout.split("|") == expected
    assert not list(tmp_path.glob("**/bad"))


def test_a_file_starts_its_python_for_whoever_takes_a_path():
    given = Container(
        image="/nl.sif", start=("env", "IMAGE={image}"), python="printenv"
    )
    words = container.python(given)
    place = container.launcher(words)
    assert place == container.launcher(words)
    assert subprocess.check_output([place, "IMAGE"], text=True) == "/nl.sif\n"
    assert place.stat().st_mode & 0o077 == 0
    other = Container(image="/other.sif", start=("env", "IMAGE={image}"))
    assert container.launcher(container.python(other)) != place


def test_which_image_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert container.digest(NAMED) == f"sha256:{'a' * 64}"
    image = tmp_path / "nl.sif"
    image.write_bytes(b"one")
    first = container.digest(str(image))
    assert len(first) == len("sha256:") + 64
    with monkeypatch.context() as patch:
        patch.setattr(container.hashlib, "file_digest", None)  # it is remembered
        assert container.digest(str(image)) == first
    image.write_bytes(b"two")
    assert container.digest(str(image)) != first
    image.write_bytes(b"six")
    os.utime(image, ns=(1, 1))
    third = container.digest(str(image))
    image.write_bytes(b"ten")
    os.utime(image, ns=(1, 1))
    assert container.digest(str(image)) != third
    image.unlink()
    with pytest.raises(UsageError, match="there is no such image: No such file"):
        container.digest(str(image))


def test_whether_it_was_written_to(tmp_path: Path):
    image = tmp_path / "nl.sif"
    assert not container.is_written(container.state(NAMED), container.state(NAMED))
    image.write_bytes(b"one")
    before = container.state(str(image))
    (tmp_path / "new").write_bytes(b"another")
    (tmp_path / "new").replace(image)
    assert not container.is_written(before, container.state(str(image)))
    before = container.state(str(image))
    image.write_bytes(b"more")
    assert container.is_written(before, container.state(str(image)))


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        ("Willkommen in M\\374nchen", 1, "Willkommen in M\ufffdnchen"),
        ("", 7, "exit code 7"),
    ],
)
def test_a_container_that_starts_nothing_is_told(
    tmp_path: Path, said: str, code: int, told: str
):
    (tmp_path / "machines").mkdir()
    start = START.replace("{image}", "/nl.sif").replace("{start}", '"{image}"')
    (tmp_path / "machines/x.yaml").write_text("scheduler: local\n" + start)
    python = ["bash", "-c", f"printf '{said}\n'; exit {code}"]
    with pytest.raises(UsageError, match="no program of ours can be started") as caught:
        inside_container._ask(load(tmp_path, "x"), python, tmp_path, {})
    assert caught.value.problem.why == told


@pytest.mark.parametrize(
    ("image", "start", "told"),
    [
        ("docker://example.org/nl:1.0", '"{image}"', "may mean another image tomorrow"),
        ("nl:latest", '"{image}"', "may mean another image tomorrow"),
        ("images/nl.sif", '"{image}"', "is relative"),
        ("/nl.sif", "apptainer, exec", "does not say where the image stands"),
        (NAMED, 'podman, run, "{image}"', None),
        ("/nl.sif", 'apptainer, exec, "{image}"', None),
    ],
)
def test_what_a_machine_file_may_say(
    tmp_path: Path, image: str, start: str, told: str | None
):
    (tmp_path / "machines").mkdir()
    text = "scheduler: local\n" + START.replace("{start}", start).replace(
        "{image}", image, 1
    )
    (tmp_path / "machines/x.yaml").write_text(text)
    if told is None:
        machine = load(tmp_path, "x")
        assert machine.programs == image
        return
    with pytest.raises(MllamError, match=told):
        load(tmp_path, "x")


SEEN: dict[str, Any] = {
    "mllam-exps": "0.1.0",
    "recipes": {"train": 3},
    "user": 7,
    "directory": "/here",
    "variable": "1",
    "paths": {"/store": [5, 1], "/read": [6, 0], "/gone": None},
}


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ({}, ""),
        ({"user": 0}, "its programs would be those of user 0, not yours"),
        ({"variable": ""}, "variables do not reach its programs"),
        ({"directory": "/"}, "its programs would start in /, not where they are to"),
        ({"paths": {"/read": [6, 0]}}, "/store is not seen in it"),
        ({"paths": SEEN["paths"] | {"/store": [9, 1]}}, "/store is not seen in it"),
        (
            {"paths": SEEN["paths"] | {"/store": [5, 0]}},
            "/store cannot be written in it",
        ),
        ({"mllam-exps": "0.0.9"}, "it has mllam-exps 0.0.9 in it, and here is 0.1.0"),
        (
            {"recipes": {}},
            "its mllam-exps makes results in another way than the one here",
        ),
    ],
)
def test_programs_see_in_it_what_they_see_outside(inside: dict[str, Any], told: str):
    found = list(inside_container.wrong(SEEN, SEEN | inside, "/here"))
    assert [one.what for one in found] == ([told] if told else [])
    assert all(one.next for one in found)


def test_a_script_may_bring_the_command_that_starts_containers(tmp_path: Path):
    (tmp_path / "machines").mkdir()
    (tmp_path / "bin").mkdir()
    site = tmp_path / "bin/site-run"
    site.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    site.chmod(0o755)
    (tmp_path / "machines/site.sh").write_text(f"PATH={tmp_path}/bin:$PATH\n")
    text = START.replace("{start}", 'site-run, "{image}"').replace(
        "{image}", "/nl.sif", 1
    )
    text = text.replace("environment:\n", "environment:\n  source: site.sh\n")
    (tmp_path / "machines/x.yaml").write_text(
        f"scheduler: local\n{text}    python: printf\n"
    )
    place = environment.program_file(load(tmp_path, "x"), tmp_path)
    assert subprocess.check_output([place, "ready"], text=True) == "ready"
