"""The program of every stage: ``python digest.py [--in PATH]… [--param FILE:KEY]… [--out PATH]…``.

What it writes is a digest of all that it read, of its own arguments, and of the
output's name. An output that ends in a slash is a folder of three files. It is copied
into the repositories that it works in, and knows nothing of them.

``--read`` says what else it reads, ``--make`` what else it makes: see `READ`, `MAKE`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

READ = {
    "modes": "which of its input files may be executed",
    "folders": "the folders in its inputs, empty ones, too",
    "all": "also what DVC does not count of its inputs",
    "ls": "the names of all files in its folder, and of the empty folders",
    "cat": "the texts of all `*.txt` in its folder",
}
MAKE = {
    "exec": "files that may be executed",
    "hard": "two names of one file",
    "link": "a relative link to a file",
    "empty": "empty folders in its output",
    "nothing": "an output that is an empty folder",
    "names": "files with awkward names",
    "git": "a folder .git in its output, which DVC leaves out",
    "repo": "a folder with a .dvc in its output, which DVC leaves out",
    "tmp": "files in its output that .dvcignore names",
    "folder-link": "a link to a folder in its output, which DVC leaves out",
}
LEAVES = ("git", "repo", "tmp", "folder-link")
"""What of `MAKE` DVC does not keep."""
IGNORED = "*.tmp\nskip*\n"
"""The ``.dvcignore`` of the repositories."""
AWKWARD = [
    "-dash",
    "[a].txt",
    "star*",
    "two  words",
    "größe é",
    "#hash",
    "!not",
    "quote'\"",
    "$HOME",
    "back\\slash",
    "%s{}",
    "~",
]


def counts(path: Path) -> bool:
    """Tell whether DVC counts a file of a folder, by its path in it."""
    if path.suffix == ".tmp" or "repo" in path.parts:
        return False
    return not any(
        part in {".git", ".hg", ".dvc"} or part.startswith("skip")
        for part in path.parts
    )


def executable(path: Path) -> bool:
    """Tell whether its owner may execute a file."""
    return bool(path.stat().st_mode & stat.S_IXUSR)


def of_path(path: Path, read: frozenset[str] = frozenset()) -> Any:
    """Return what is read of a file, or of a folder: the names and contents of its files."""
    if path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return [digest, executable(path)] if "modes" in read else digest
    if not path.is_dir():
        raise SystemExit(f"no input {path}")
    listed = []
    for place in sorted(path.rglob("*")):
        name = place.relative_to(path)
        if name.name == ".gitignore" or not ("all" in read or counts(name)):
            continue
        if place.is_symlink() and place.is_dir():
            listed += [[str(name), "a link"]] if "all" in read else []
        elif place.is_dir():
            listed += [[str(name), "a folder"]] if "folders" in read else []
        else:
            listed.append([str(name), of_path(place, read)])
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def around(folder: Path, read: frozenset[str]) -> list[Any]:
    """Return what is read of the folder that it works in: as a shell does, nothing hidden."""
    found: list[Any] = []
    if "cat" in read:
        texts = (place for place in folder.glob("*.txt") if place.name[0] != ".")
        found += [[place.name, of_path(place)] for place in sorted(texts)]
    for place in sorted(folder.rglob("*")) if "ls" in read else []:
        name = place.relative_to(folder)
        hidden = any(part[0] == "." for part in name.parts)
        # dvc.lock is there only after something has run; what Python keeps is its own.
        if hidden or name.name == "dvc.lock" or "__pycache__" in name.parts:
            continue
        if place.is_file() or not any(place.iterdir()):
            found.append(str(name))
    return found


def value(root: Path, file: str, key: str) -> object:
    """Return one value of a parameter file, with its type."""
    text = (root / file).read_text(encoding="utf-8")
    found: Any
    if file.endswith(".toml"):
        found = tomllib.loads(text)
    elif file.endswith(".json"):
        found = json.loads(text)
    elif file.endswith(".py"):
        exec(text, found := {})
    else:
        from ruamel.yaml import YAML

        found = YAML(typ="safe").load(text)
    for part in key.split("."):
        found = found[part]
    return repr(found)


def main(arguments: list[str], folder: Path = Path()) -> None:
    """Read, and write."""
    parser = argparse.ArgumentParser()
    for name in ("in", "param", "out"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--read", action="append", default=[], choices=READ)
    parser.add_argument("--make", action="append", default=[], choices=MAKE)
    parser.add_argument("--salt", help="make something else for another one")
    parser.add_argument(
        "--nonce", action="store_true", help="make something else each time"
    )
    given = vars(parser.parse_args(arguments))
    how = frozenset(given["read"])
    read = [[path, of_path(folder / path, how)] for path in given["in"]]
    values = [[name, value(folder, *name.split(":"))] for name in given["param"]]
    nonce = os.urandom(8).hex() if given["nonce"] else ""
    told = json.dumps([arguments, read, around(folder, how), values, nonce])
    for out in given["out"]:
        _write(folder / out, out, told, given["make"])
    _join([folder / out for out in given["out"]], given["make"])


def _write(path: Path, out: str, told: str, make: list[str]) -> None:
    names = ["one.txt", "sub/two.txt", "sub/three.json"] if out.endswith("/") else [""]
    if out.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
        names += AWKWARD if "names" in make else []
        names += [".git/HEAD", "sub/.git/config"] if "git" in make else []
        names += ["repo/.dvc/config", "repo/x.txt"] if "repo" in make else []
        names += ["x.tmp", "sub/skip/y"] if "tmp" in make else []
        names = [] if "nothing" in make else names
    for name in names:
        place = path / name if name else path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # it may be a link to what it was
        digest = hashlib.sha256(f"{told} {out} {name}".encode()).hexdigest()
        place.write_text(json.dumps({"digest": digest}) + "\n")
        if "exec" in make and name in {"", "one.txt", "-dash"}:
            place.chmod(0o755)
    if out.endswith("/") and "nothing" not in make:
        for name in ("void", "sub/void/deep") if "empty" in make else ():
            (path / name).mkdir(parents=True, exist_ok=True)
        if "link" in make:
            _again(path / "best.txt").symlink_to("one.txt")
        if "folder-link" in make:
            _again(path / "latest").symlink_to("sub")
        if "hard" in make:
            _again(path / "sub/same.txt").hardlink_to(path / "one.txt")


def _join(outs: list[Path], make: list[str]) -> None:
    """Make one output, in the same folder, a name of the one before, or a link to it."""
    files = [out for out in outs if out.is_file() and out.suffix != ".json"]
    for one, other in itertools.pairwise(files):
        if one.parent == other.parent and "hard" in make:
            _again(other).hardlink_to(one)
        elif one.parent == other.parent and "link" in make:
            _again(other).symlink_to(one.name)


def _again(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
