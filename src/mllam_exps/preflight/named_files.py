"""What a stage's own command names: files that git does not track are not in the copy that its job works in."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

REDIRECTIONS = {">", ">>", ">|", ">&", "&>", "&>>", "<>"}
"""What stands behind one of these is written."""

_HISTORY = re.compile(
    r"\bgit\s+(?:-C\s+\S+\s+)?(blame|describe|log|name-rev|rev-list|shortlog|tag)\b"
)
"""What git answers from commits before this one, or from tags."""


def named(commands: Iterable[str], folder: Path) -> list[Path]:
    """Return the files that commands name, and that are there, each once.

    Commands are the shell's to read: a name that it would put together (``$FILE``,
    ``*.py``) is not found here, nor is one behind a ``cd``.

    Parameters
    ----------
    commands : iterable of str
        As ``dvc.yaml`` has them.
    folder : Path
        Where they are called.
    """
    found = (folder / name for command in commands for name in _names(_words(command)))
    return [
        Path(os.path.normpath(path)) for path in dict.fromkeys(found) if path.is_file()
    ]


def by_whole_path(commands: Iterable[str], root: Path) -> list[tuple[str, str]]:
    """Return what commands name of a repository by a path that begins at `/`, and where it lies in there, each once.

    Parameters
    ----------
    commands : iterable of str
        As ``dvc.yaml`` has them.
    root : Path
        Of the repository.
    """
    found: dict[str, str] = {}
    real = os.path.realpath(root)
    for command in commands:
        for word in _words(command):
            # PYTHONPATH=/a:/b and --file=/a, too.
            for name in re.split("[=:,]", word):
                if not name.startswith("/"):
                    continue
                inside = os.path.relpath(os.path.realpath(name), real)
                if inside.partition("/")[0] != "..":
                    found[name] = inside
    return list(found.items())


def history_asked(commands: Iterable[str]) -> str:
    """Return the first command of git's that is called for a repository's history; empty where none is."""
    for command in commands:
        if found := _HISTORY.search(command):
            return f"git {found[1]}"
    return ""


def _words(command: str) -> list[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a quote that a later line ends, say
        return command.split()


def _names(words: list[str]) -> Iterator[str]:
    """Yield what may be names of files; a module behind ``python -m`` counts as its file."""
    for before, word in itertools.pairwise(["", *words]):
        if before in REDIRECTIONS:
            continue
        if before == "-m" and "/" not in word:
            yield f"{word.replace('.', '/')}.py"
        yield word
        if word.startswith("-") and "=" in word:
            yield word.partition("=")[2]
