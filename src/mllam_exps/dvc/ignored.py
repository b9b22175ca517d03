"""The lines by which DVC has git ignore what its cache holds.

DVC (3.67) writes them when a stage has run, into the ``.gitignore`` beside each output
that git does not ignore yet. In a folder that another stage reads, that file counts
like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mllam_exps.base import symlinks
from mllam_exps.base.git import run_git

FILE = ".gitignore"


def by_git(
    root: Path, files: Iterable[str], *, by_rules_alone: bool = False
) -> set[str]:
    """Return which of these files git ignores.

    Parameters
    ----------
    by_rules_alone : bool
        Whether a file counts as ignored that a rule names although git tracks it.
    """
    files = list(files)
    asked = "".join(f"{file}\0" for file in files)
    words = ["--no-index"] if by_rules_alone else []
    done = run_git(root, "check-ignore", *words, "--stdin", "-z", input=asked)
    # 1: git ignores none. For one file in a submodule, say, git (2.39) answers for none
    # of them (128).
    if done.returncode not in {0, 1} and len(files) > 1:
        each = (by_git(root, [file], by_rules_alone=by_rules_alone) for file in files)
        return set().union(*each)
    return set(done.stdout.split("\0")) - {""}


def after(root: Path, outs: Iterable[str]) -> dict[str, bytes]:
    """Return what becomes of the ``.gitignore`` files when DVC's cache holds these outputs.

    Parameters
    ----------
    outs : iterable of str
        The outputs, seen from the root, in the order in which they are made.

    Returns
    -------
    dict of bytes
        The content of each file that becomes another one, by its path.
    """
    outs = list(dict.fromkeys(outs))
    # DVC (3.67), too, looks at the rules alone.
    ignored = by_git(root, outs, by_rules_alone=True) if outs else set()
    found: dict[str, bytes] = {}
    for out in outs:
        if out in ignored:
            continue
        path = Path(out).with_name(FILE).as_posix()
        if path not in found:
            place = root / path
            found[path] = place.read_bytes() if place.exists() else b""
        if found[path] and not found[path].endswith(b"\n"):
            found[path] += b"\n"
        name = re.sub(r"([][?*\\!#])", r"\\\1", Path(out).name)
        found[path] += f"/{name}\n".encode()
    return found


def write(root: Path, contents: Mapping[str, bytes]) -> None:
    """Give ``.gitignore`` files what `after` says."""
    for path, content in contents.items():
        place = symlinks.in_folder(symlinks.top_of(root), root / path)
        # Where the program makes the folder of its output itself, nobody has done so
        # here.
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # may be another clone's hard link
        place.write_bytes(content)
