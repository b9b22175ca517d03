"""Every command that a message proposes exists, with its options, and is given the arguments that it needs."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from dvc.cli.parser import get_main_parser

import mllam_exps
from mllam_exps.cli import app

SOURCES = Path(mllam_exps.__file__).parent
PROPOSED = re.compile(r"(?<![\w./-])(mllam-exps|dvc) (?=[a-z-])([^`\n]*)")
OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")
# Where the program is what a sentence is about, the word behind its name is none of its
# commands.
NO_COMMAND = re.compile(r"[a-z]+s|command|dvc|has|in|there|to|wrote")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module that are no docstrings, with X for what is put into them, and their lines."""
    tree = ast.parse(source)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            left_out.update(
                map(id, ast.walk(node.value))
                if isinstance(node.value, ast.Constant)
                else ()
            )
        if isinstance(node, ast.JoinedStr) and id(node) not in left_out:
            left_out.update(map(id, node.values))
            yield (
                node.lineno,
                "".join(
                    str(v.value) if isinstance(v, ast.Constant) else "X"
                    for v in node.values
                ),
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in left_out
        ):
            yield node.lineno, re.sub(r"\{+\w*\}+", "X", node.value)


def proposals(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the programs and the words behind them, of each command in a text."""
    for match in PROPOSED.finditer(text):
        rest = re.split(r"(?<![\w./-])(?:mllam-exps|dvc) ", match[2])[0]
        yield match[1], rest.split()


def wrong_with(program: str, words: list[str]) -> str:
    """Say what is wrong with a proposed command; nothing if it can be typed."""
    if program == "dvc":
        return _wrong_with_dvc(words)
    command: Any = typer.main.get_command(app)
    place = list(words)
    while hasattr(command, "commands"):
        name = re.sub(r"\W+$", "", place.pop(0)) if place else ""
        if name not in command.commands:
            return "" if NO_COMMAND.fullmatch(name) else f"there is no command {name!r}"
        command = command.commands[name]
    known = {option for param in command.params for option in param.opts} | {
        "-h",
        "--help",
    }
    if unknown := [
        option for option in OPTION.findall(" ".join(place)) if option not in known
    ]:
        return f"{command.name} has no option {unknown[0]}"
    # What stands behind a comma or a colon is said of the command, and is none of its
    # words.
    said = re.split(r"[,;:)]|$", " ".join(place))[0].split()
    needs = [
        p for p in command.params if p.param_type_name == "argument" and p.required
    ]
    bare = (bool(words) and words[-1].startswith(str(command.name))) or any(
        word == "|" for word in words
    )
    if needs and not bare and not [word for word in said if not word.startswith("-")]:
        return f"{command.name} needs {needs[0].name}"
    return ""


def _wrong_with_dvc(words: list[str]) -> str:
    parser: argparse.ArgumentParser = get_main_parser()
    place = list(words)
    while choices := next(
        (
            a.choices
            for a in parser._actions
            if isinstance(a, argparse._SubParsersAction)
        ),
        None,
    ):
        name = re.sub(r"\W+$", "", place.pop(0)) if place else ""
        if name not in choices:
            return (
                ""
                if NO_COMMAND.fullmatch(name)
                else f"there is no command dvc … {name!r}"
            )
        parser = choices[name]
    unknown = [
        option
        for option in OPTION.findall(" ".join(place))
        if option not in parser._option_string_actions
    ]
    return f"{parser.prog} has no option {unknown[0]}" if unknown else ""


def test_what_is_proposed_can_be_typed():
    wrong = []
    for file in sorted(SOURCES.rglob("*.py")):
        for line, text in texts(file.read_text(encoding="utf-8")):
            for program, words in proposals(text):
                if why := wrong_with(program, words):
                    wrong.append(
                        f"{file.relative_to(SOURCES)}:{line}: {program} {' '.join(words)[:60]}: {why}"
                    )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("use `mllam-exps sweep`", "no command 'sweep'"),
        ("mllam-exps run work --again makes it", "no option --again"),
        ("mllam-exps cancel --force", "needs"),
        ("mllam-exps machine shew", "no command 'shew'"),
        ("dvc exp runn", "no command"),
        ("mllam-exps retry a, or --failing", "no option --failing"),
        ("dvc exp remove --every", "no option --every"),
    ],
)
def test_what_cannot_be_typed_is_found(text: str, why: str):
    [(program, words)] = proposals(text)
    assert why in wrong_with(program, words)
