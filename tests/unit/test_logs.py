"""The log: who asked for it gets it, and it stops no work."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mllam_exps import cli
from mllam_exps.base import logs
from mllam_exps.runs.locks import lock
from mllam_exps.runs.store import RunStore

log = logging.getLogger("mllam_exps.some.module")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    ours = logging.getLogger(logs.NAME)
    before = (ours.level, ours.propagate, list(ours.handlers))
    yield
    ours.setLevel(before[0])
    ours.propagate = before[1]
    ours.handlers[:] = before[2]


def test_an_attempt_keeps_it_in_a_file_that_nobody_else_writes(tmp_path: Path) -> None:
    place = tmp_path / "debug.log"
    logs.to_file(place)
    log.debug("chose %s", "a\x1b[2Jb")
    text = place.read_text()
    assert "mllam_exps.some.module: chose a\\x1b[2Jb" in text
    assert not stat.S_IMODE(place.stat().st_mode) & 0o022


def test_a_full_disk_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    place = Path("/dev/full")
    logs._add(logs._Handler(place.open("a", buffering=1)), logging.DEBUG)
    log.info("no room for this")
    assert capfd.readouterr() == ("", "")


def test_no_file_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "debug.log").symlink_to(tmp_path / "elsewhere")
    logs.to_file(tmp_path / "debug.log")
    log.info("nobody hears this")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("verbosity", "told"), [(0, []), (1, ["decided"]), (2, ["decided", "asked"])]
)
def test_it_is_shown_to_who_asked_and_on_standard_error(
    verbosity: int, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.to_terminal(verbosity)
    log.info("decided")
    log.debug("asked")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.rsplit(" ", 1)[-1] for line in err.splitlines()] == told


@pytest.mark.parametrize(
    ("options", "environ", "verbosity"),
    [(["-v"], {}, 1), (["-vv"], {}, 2), ([], {"MLLAM_EXPS_VERBOSE": "1"}, 1)],
)
def test_the_option_and_the_variable_say_how_much(
    options: list[str],
    environ: dict[str, str],
    verbosity: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(logs, "to_terminal", asked.append)
    # It is looked at before the command is, which fails.
    words = [*options, "machine", "show", "no-such-machine"]
    CliRunner().invoke(cli.app, words, env=environ)
    assert asked == [verbosity]


def test_a_lock_that_another_has_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = RunStore(tmp_path)
    with (
        caplog.at_level(logging.INFO, "mllam_exps"),
        lock(store, "submit") as mine,
        lock(store, "submit") as other,
    ):
        assert mine
        assert other is None
    assert "another process has the lock submit" in caplog.text
