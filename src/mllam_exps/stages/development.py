"""Which files of a folder are the code of a package that is used from there, as a development install."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

BUILT_WITH = ("pyproject.toml", "setup.py", "setup.cfg")
CODE = (".py", ".pyi", ".pyx", ".pxd", ".c", ".cc", ".cpp", ".cu", ".h")
"""What counts where a package is not in a folder of its own."""


def code(distribution: metadata.Distribution, folder: Path) -> list[str]:
    """Return what git takes for the paths of a package's code, as seen from its folder.

    The folder may be an experiment's own repository, in which a run writes ``dvc.lock``,
    metrics and more. So the whole folder is not the package, but what Python has of it: the
    folders that the install puts on Python's path. Where that is the folder itself nothing
    tells the package's other files from the experiment's, so that only program text counts.
    """
    home = folder.resolve()
    places = [place.resolve() for place in _on_path(distribution)]
    below = [one for one in places if one != home and one.is_relative_to(home)]
    build = [f":(literal){name}" for name in BUILT_WITH]
    if below and home not in places:
        names = sorted({str(one.relative_to(home)) for one in below})
        return [*(f":(literal){name}" for name in names), *build]
    return [*(f":(glob)**/*{suffix}" for suffix in CODE), *build]


def _on_path(distribution: metadata.Distribution) -> Iterator[Path]:
    """Yield the folders and modules that an install adds, as its own files name them."""
    for file in distribution.files or ():
        is_finder = re.fullmatch(r"__editable___.*_finder\.py", file.name)
        if file.suffix != ".pth" and not is_finder:
            continue
        try:
            text = Path(str(file.locate())).read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        if is_finder:
            yield from _in_finder(text)
        else:
            lines = map(str.strip, text.splitlines())
            yield from (Path(line) for line in lines if line.startswith("/"))


def _in_finder(text: str) -> Iterator[Path]:
    """Yield where the modules are that setuptools (64 to 80) has found by a module of its own."""
    found = re.search(r"^MAPPING\b[^=]*= *(\{.*\}) *$", text, re.MULTILINE)
    try:
        mapping = ast.literal_eval(found[1]) if found else {}
    except (ValueError, SyntaxError):
        return
    for place in mapping.values():
        # A module that is one file is named without its suffix.
        file = Path(f"{place}.py")
        yield file if file.is_file() else Path(str(place))
