"""Paths into the user's repository lead into an attempt's copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllam_exps.attempts.work.variables import Redirection
from mllam_exps.base.git import git


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Return a repository in which git ignores some files, with a copy, ``work``, and links to it beside it."""
    found = tmp_path / "my exps"
    files = ("src/m.py", ".venv/bin/python", "out/o.txt", "loose/f.py", "data/d.nc")
    for file in files:
        (found / file).parent.mkdir(parents=True)
        (found / file).touch()
    (tmp_path / "work/src").mkdir(parents=True)
    (tmp_path / "work/src/m.py").touch()
    (tmp_path / "link").symlink_to(found)
    (tmp_path / "linked source").symlink_to(found / "src")
    (tmp_path / "my exps old/src").mkdir(parents=True)
    (tmp_path / "sub" / str(found)[1:] / "src").mkdir(parents=True)
    (found / "scratch").symlink_to("/tmp")
    (found / ".gitignore").write_text("/.venv/\n/.cache/\n/out\n/data\n/scratch\n")
    git(found, "init", "--quiet")
    return found


def redirected(origin: Path, value: str, name: str = "X") -> tuple[str, list[str]]:
    """Return what becomes of a variable, with the copy's path as ``WORK``, and what is noted."""
    notes: list[str] = []
    stages = [Path("out/r.txt"), Path("data/d.nc")]
    copy = origin.parent / "work"
    found = Redirection(origin, copy, stages, notes.append).of({name: value})[name]
    return found.replace(str(copy), "WORK"), notes


@pytest.mark.parametrize(
    "value",
    [
        "{R}/src:/site:{R}/src/m.py",
        "{R}",
        "{R}/",
        "{R}//src/./m.py",
        "{{{R}/src/m.py}}",
        "({R}/src/m.py)",
        "@{R}/src/m.py",
        "-O2 -I{R}/src -isystem{R}/src --conf={R}/src,{R}/src",
        "-ffile-prefix-map={R}=/src",
        '{{"a": "{R}/src", "b": ["{R}/src/m.py"]}}',
        "sqlite:///{R}/src/s.db?mode=ro",
        "sqlite:////{R}/src/s.db",
        "file://{R}/src/m.py#part",
        "file://localhost{R}/src/m.py",
        "cp '{R}/src/m.py' {R}/new/x 2>{R}/log; true",
        "{R}/src and {R}",
        "{R}/out:{R}/out/r.txt:{R}/data",
        "{R}/new/{{name}}.nc",
        "/usr/bin:{R}/src",
    ],
)
def test_only_the_path_of_the_repository_is_replaced(origin: Path, value: str):
    found, notes = redirected(origin, value.format(R=origin))
    assert (found, notes) == (value.format(R="WORK"), [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{P}/link/src:/site", "WORK/src:/site"),
        ("{{{P}/linked source/m.py}}", "{{WORK/src/m.py}}"),
        ("{R}/src/../src/m.py", "WORK/src/m.py"),
        ("{P}/work/../my exps/src", "WORK/src"),
        ("file://{U}/src/m.py", "file://WORK/src/m.py"),
    ],
)
def test_a_path_that_leads_there_by_another_name(
    origin: Path, value: str, expected: str
):
    url = str(origin).replace(" ", "%20")
    given = value.format(P=origin.parent, R=origin, U=url)
    assert redirected(origin, given) == (expected.format(), [])


@pytest.mark.parametrize(
    "value",
    [
        "{R}/.venv/bin:/usr/bin",
        "{R}/.cache/models",
        "{R}/.cache",
        "{R}/scratch/new",
        "{R}-old/src",
        "{R} old/src",
        "{R}.bak/src {R}2",
        "{R}/../sub/src",
        "{P}/sub{R}/src",
        "a: b",
        "/",
        "",
    ],
)
def test_what_git_ignores_and_what_lies_elsewhere_stays(origin: Path, value: str):
    given = value.format(R=origin, P=origin.parent)
    assert redirected(origin, given) == (given, [])


def test_what_still_leads_to_the_user_is_named(origin: Path):
    given = f"{origin}/loose/f.py"
    found, notes = redirected(origin, given)
    assert found == given
    assert notes == [
        f"X leads to {given}, which the attempt's copy of the repository lacks: it is "
        "read there, where it may be edited meanwhile"
    ]
    given = f"sftp://host{origin}/src"
    found, notes = redirected(origin, given)
    assert found == given
    assert notes == [
        f"X names {origin} in a form that cannot be read: it is left as it is"
    ]


def test_a_home_and_a_tracking_database_stay(origin: Path):
    for name in ("HOME", "MLFLOW_TRACKING_URI"):
        assert redirected(origin, f"{origin}/src", name) == (f"{origin}/src", [])
    assert redirected(origin, f"{origin}/src", "HOME_CONF") == ("WORK/src", [])


def test_a_file_of_which_git_says_nothing_hides_no_other(origin: Path):
    """Git (2.39) fails as a whole where one of the files that it is asked for lies in a submodule."""
    head = ("-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "-m", "x")
    git(origin, "init", "-q", "module")
    git(origin / "module", *head, "--allow-empty")
    git(origin, "-c", "advice.addEmbeddedRepo=false", "add", "module")
    given = f"{origin}/.cache/models:{origin}/module/x"
    expected = f"{origin}/.cache/models:WORK/module/x"
    assert redirected(origin, given) == (expected, [])
