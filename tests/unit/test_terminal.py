"""What a run store says reaches a terminal without doing anything to it."""

from __future__ import annotations

import io

import pytest

from mllam_exps import cli
from mllam_exps.base import terminal
from mllam_exps.base.errors import UsageError
from mllam_exps.dvc import experiment_names

TITLE = "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    "text", [TITLE, "\x1b[2J", "a\rb", "\x9b31m", "\u202egnp.exe", "\x7f", "a\x00b"]
)
def test_control_characters_become_visible(text: str):
    shown = terminal.plain(f"{text}\n\tü")
    assert shown.endswith("\n\tü")
    assert all(sign.isprintable() for sign in shown.replace("\n", "").replace("\t", ""))
    out = io.StringIO()
    terminal.say(text, out)
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column(Text(text))
    table.add_row(Text(text))
    terminal.console(file=out, force_terminal=True, no_color=True, width=60).print(
        table
    )
    assert (
        not set(text.replace("a", "").replace("b", ""))
        & {"\x07", "\x9b", "\u202e", "\x7f", "\x00", "\r"}
        & {*out.getvalue()}
    )
    assert "\x1b]0" not in out.getvalue() and "\x1b[2J" not in out.getvalue()


def test_what_an_encoding_cannot_say_is_replaced(monkeypatch: pytest.MonkeyPatch):
    """As with ``PYTHONIOENCODING=ascii``; a name that is not UTF-8 is no text anywhere."""
    for encoding, size, more in (("ascii", "gr??e", "..."), ("utf-8", "größe", "…")):
        written = io.BytesIO()
        out = io.TextIOWrapper(written, encoding)
        monkeypatch.setattr("sys.stdout", out)
        terminal.print_anything()
        terminal.say("größe \udcff …")
        assert written.getvalue().decode(encoding) == f"{size} ? {more}\n"


def test_a_word_that_no_encoding_can_say_ends_a_command_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(cli, "app", "gr\udcff".encode)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: '\\udcff' in a name or value cannot be written")
    with pytest.raises(UsageError, match="is not UTF-8"):
        experiment_names.check_name("gr\udcff")


def test_a_log_keeps_its_colours_and_progress_bars():
    assert (
        terminal.harmless("\x1b[32mok\x1b[0m\r50%\r100%\n")
        == "\x1b[32mok\x1b[0m\r50%\r100%\n"
    )
    assert "\x1b" not in terminal.harmless(TITLE + "\x1b[2J")


@pytest.mark.parametrize("at_work", [True, False])
def test_nobody_is_told_to_start_a_second_dvc_exp_run_beside_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at_work: bool
):
    def fail() -> None:
        raise UsageError(
            "there are no scores", next="dvc exp run, or dvc exp apply EXP"
        )

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(cli, "_is_dvc_at_work", lambda: at_work)
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert ("a second one would lose its experiment" in said) is at_work
